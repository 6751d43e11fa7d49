"""The verb that reconstructs SIM images of raw frames, of single planes and of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tisr_scope.cli.common import (
    CorrectDriftOption,
    DeviceOption,
    OrdersOption,
    RefinePhasesOption,
    WienerOption,
    out,
    progress_bar,
)


def reconstruct(
    source: Annotated[Path, typer.Argument(help="A recording, or a raw stack (.mrc, .tif).")],
    folder: Annotated[Path, typer.Argument(help="New folder for the images.")],
    report: Annotated[
        bool, typer.Option("--report", help="Measure the quality, as a page (PNG) and numbers.")
    ] = False,
    orders: OrdersOption = 1,
    refine_phases: RefinePhasesOption = False,
    allow_weak: Annotated[
        bool,
        typer.Option("--allow-weak", help="An orientation without stripes gives its wide field."),
    ] = False,
    correct_drift: CorrectDriftOption = False,
    background: Annotated[
        float | None,
        typer.Option(help="Taken off every frame [default: 1st percentile of a raw stack]."),
    ] = None,
    wiener: WienerOption = None,
    attenuation: Annotated[
        float, typer.Option(min=0, max=0.999, help="Against haze and honeycomb: 0 off, 0.9 strong.")
    ] = 0.0,
    attenuation_width: Annotated[
        float, typer.Option(min=0.01, help="Its sigma, as a fraction of the cut-off.")
    ] = 0.2,
    apodisation: Annotated[
        float, typer.Option(min=0, help="Power of the cosine at the edge: 0 sharp, 2 soft.")
    ] = 1.0,
    positivity: Annotated[
        int, typer.Option(min=0, help="Rounds that rule out negative light: 0 off, 10 usual.")
    ] = 0,
    otf: Annotated[Path | None, typer.Option(help="Measured radial OTF (.mrc, .csv).")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Layout, optics and stripes of a raw stack.")
    ] = None,
    channel: Annotated[int, typer.Option(min=1, help="Channel of that profile.")] = 1,
    orientations: Annotated[int, typer.Option(min=1, help="Of a raw stack.")] = 3,
    phases: Annotated[
        int | None, typer.Option(min=3, help="Of a raw stack [default: 3, or 5 with sections].")
    ] = None,
    sections: Annotated[
        int | None, typer.Option(min=1, help="Focal planes of a raw 3D stack (three beams).")
    ] = None,
    z_step_um: Annotated[
        float | None, typer.Option(min=0, help="Distance of sections [default: the file's].")
    ] = None,
    axes: Annotated[
        str, typer.Option(help="Order of the frames of a 3D stack, slowest first.")
    ] = "TOZPYX",
    refractive_index: Annotated[float, typer.Option(min=1, help="Of the immersion, 3D.")] = 1.515,
    excitation_nm: Annotated[float, typer.Option(min=1, help="Of a 3D stack.")] = 488.0,
    excitation_na: Annotated[
        float | None, typer.Option(help="Of the outer beams, 3D [default: from the stripes].")
    ] = None,
    psf: Annotated[
        Path | None, typer.Option(help="Focal series of one bead (TIFF, MRC) for a 3D stack.")
    ] = None,
    pixel_size_um: Annotated[float, typer.Option(help="Of a raw stack, in the sample.")] = 0.0626,
    numerical_aperture: Annotated[float, typer.Option(help="Detection NA of a raw stack.")] = 1.49,
    emission_nm: Annotated[float, typer.Option(help="Of a raw stack.")] = 525.0,
    interval_s: Annotated[float, typer.Option(help="Between time points of a raw stack.")] = 1.0,
    device: DeviceOption = "cpu",
) -> None:
    """Reconstruct SIM images beside the wide field, with a figure of what was estimated.

    Examples
    --------
    `tisr reconstruct recordings/cell_01 reconstructed/cell_01`

    `tisr reconstruct raw.mrc reconstructed/raw --emission-nm 525 --otf otf_488.mrc --report`

    `tisr reconstruct raw.tif out --orders 2 --orientations 5 --phases 5 --report`

    `tisr reconstruct thick.tif out --attenuation 0.9 --refine-phases --allow-weak`

    `tisr reconstruct series.tif out --sections 24 --z-step-um 0.125 --axes TOZPYX --report`
    """
    from tisr_scope.profiles.library import load_profile
    from tisr_scope.sim.parameters.estimation_settings import Estimation
    from tisr_scope.sim.reconstruction.reconstruct import WienerSettings
    from tisr_scope.sim.reconstruction.reconstruct_files import (
        reconstruct_raw_file,
        reconstruct_recording,
    )
    from tisr_scope.sim.reconstruction.reconstruct_volumes import (
        SeriesLayout,
        reconstruct_series_file,
    )

    settings = WienerSettings(wiener, apodisation, attenuation, attenuation_width, positivity)
    estimation = Estimation(orders, refine_phases, allow_weak, background, correct_drift)
    if sections is not None:
        _only_flat(source, orders > 1, refine_phases, allow_weak, correct_drift, otf, profile)
        layout = SeriesLayout(
            sections, axes, orientations, phases or 5, z_step_um, pixel_size_um, interval_s
        )
        with progress_bar("reconstructing") as progress:
            volume = reconstruct_series_file(
                source,
                folder,
                layout,
                numerical_aperture=numerical_aperture,
                emission_nm=emission_nm,
                excitation_nm=excitation_nm,
                immersion_index=refractive_index,
                excitation_na=excitation_na,
                psf=psf,
                background=background,
                settings=settings,
                device=device,
                report=report,
                progress=progress,
            )
        files = [volume]
    elif source.is_dir():
        with progress_bar("reconstructing") as progress:
            files = reconstruct_recording(
                source,
                folder,
                estimation=estimation,
                settings=settings,
                otf_file=otf,
                device=device,
                report=report,
                progress=progress,
            )
    else:
        with progress_bar("reconstructing") as progress:
            progress(0, 1)
            image = reconstruct_raw_file(
                source,
                folder,
                orientations=orientations,
                phases=phases or 3,
                pixel_size_um=pixel_size_um,
                numerical_aperture=numerical_aperture,
                emission_nm=emission_nm,
                interval_s=interval_s,
                profile=None if profile is None else load_profile(profile),
                channel=channel - 1,
                estimation=estimation,
                settings=settings,
                otf_file=otf,
                device=device,
                report=report,
            )
            progress(1, 1)
        files = [image]
    for file in files:
        out.print(f"wrote {file}")
        if report:
            _print_report(file)


def _only_flat(source: Path, *asked: object) -> None:
    """Say what there is for single planes only, rather than leave it out in silence."""
    names = ["orders", "refine-phases", "allow-weak", "correct-drift", "otf", "profile"]
    refused = [f"--{name}" for name, value in zip(names, asked, strict=True) if value]
    if refused:
        raise typer.BadParameter(f"not with --sections: {', '.join(refused)}")
    if source.is_dir():
        raise typer.BadParameter(f"{source} is a folder; --sections goes with a raw stack")


def _print_report(image: Path) -> None:
    """Say what the report of an image found, and where it is."""
    import json

    stem = image.name.removesuffix("_sim.ome.tif")
    content = json.loads((image.parent / f"{stem}_report.json").read_text())
    out.print(f"  [bold]{escape(content['verdict'])}[/bold]", highlight=False)
    for warning in content["warnings"]:
        out.print(f"  - {escape(warning)}", highlight=False)
    out.print(f"  report in {image.parent / f'{stem}_report.png'}", highlight=False)
