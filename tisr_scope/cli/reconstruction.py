"""The verb that reconstructs SIM images of raw frames, of single planes and of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from tisr_scope.cli.common import (
    CorrectDriftOption,
    DeviceOption,
    OrdersOption,
    RefinePhasesOption,
    WienerOption,
    decimals,
    out,
    progress_bar,
    show_table,
)

FILE, OPTICS, STRIPES, IMAGE, VOLUME = (
    "What the file holds",
    "Optics [default: the file's]",
    "Stripes",
    "Image",
    "Volumes (three beams)",
)


def reconstruct(
    source: Annotated[
        Path,
        typer.Argument(help="A recording, a stack (.tif .mrc .dv .nd2 .czi), or single frames."),
    ],
    folder: Annotated[Path, typer.Argument(help="New folder for the images.")],
    report: Annotated[
        bool, typer.Option("--report", help="Measure the quality, as a page (PNG) and numbers.")
    ] = False,
    device: DeviceOption = "cpu",
    orders: OrdersOption = 1,
    angles_deg: Annotated[
        str | None,
        typer.Option(help="Direction of each carrier, searched around.", rich_help_panel=STRIPES),
    ] = None,
    period_um: Annotated[
        float | None, typer.Option(min=0, help="Of the stripes.", rich_help_panel=STRIPES)
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PROFILE",
            help="Stripes of a profile, a recording, or an earlier _parameters.json.",
            rich_help_panel=STRIPES,
        ),
    ] = None,
    refine_phases: RefinePhasesOption = False,
    correct_drift: CorrectDriftOption = None,
    allow_weak: Annotated[
        bool,
        typer.Option(
            "--allow-weak",
            help="An orientation without stripes gives its wide field.",
            rich_help_panel=STRIPES,
        ),
    ] = False,
    accept_doubtful: Annotated[
        bool,
        typer.Option(
            "--accept-doubtful",
            help="Go on with stripes that may be wrong; the files say so.",
            rich_help_panel=STRIPES,
        ),
    ] = False,
    wiener: WienerOption = None,
    background: Annotated[
        float | None,
        typer.Option(
            help="Taken off every frame [default: 1st percentile of a raw stack].",
            rich_help_panel=IMAGE,
        ),
    ] = None,
    attenuation: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.999,
            help="Of haze: 0 off, 0.9 strong.",
            rich_help_panel=IMAGE,
        ),
    ] = 0.0,
    attenuation_width: Annotated[
        float,
        typer.Option(min=0.01, help="Its sigma over the cut-off.", rich_help_panel=IMAGE),
    ] = 0.2,
    apodisation: Annotated[
        float,
        typer.Option(min=0, help="Power of the cosine: 0 sharp, 2 soft.", rich_help_panel=IMAGE),
    ] = 1.0,
    positivity: Annotated[
        int,
        typer.Option(
            min=0,
            help="Rounds without negative light: 0 off, 10 usual.",
            rich_help_panel=IMAGE,
        ),
    ] = 0,
    profile: Annotated[
        str | None,
        typer.Option(help="Layout, optics and stripes of a raw stack.", rich_help_panel=FILE),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="Order of the frames, slowest first: TOPYX; OYPX: side by side; TOZPYX: volumes.",
            rich_help_panel=FILE,
        ),
    ] = None,
    channel: Annotated[
        int | None, typer.Option(min=1, help="Of several.", rich_help_panel=FILE)
    ] = None,
    orientations: Annotated[
        int | None, typer.Option(min=1, help="[default: 3]", rich_help_panel=FILE)
    ] = None,
    phases: Annotated[
        int | None, typer.Option(min=3, help="[default: 3, volumes 5]", rich_help_panel=FILE)
    ] = None,
    extra_frames: Annotated[
        int,
        typer.Option(min=0, help="After every set, that show no pattern.", rich_help_panel=FILE),
    ] = 0,
    interval_s: Annotated[
        float | None, typer.Option(min=0, help="Between time points.", rich_help_panel=FILE)
    ] = None,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="In the sample.", rich_help_panel=OPTICS)
    ] = None,
    numerical_aperture: Annotated[
        float | None, typer.Option(help="Of the detection.", rich_help_panel=OPTICS)
    ] = None,
    emission_nm: Annotated[
        float | None, typer.Option(help="Of the channel.", rich_help_panel=OPTICS)
    ] = None,
    otf: Annotated[
        Path | None,
        typer.Option(help="Measured radial OTF (.mrc, .csv).", rich_help_panel=OPTICS),
    ] = None,
    otf_damping: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1,
            help="Left of the ideal at half the cut-off.",
            rich_help_panel=OPTICS,
        ),
    ] = 1.0,
    sections: Annotated[
        int | None, typer.Option(min=1, help="Focal planes.", rich_help_panel=VOLUME)
    ] = None,
    z_step_um: Annotated[
        float | None, typer.Option(min=0, help="[default: the file's]", rich_help_panel=VOLUME)
    ] = None,
    refractive_index: Annotated[
        float, typer.Option(min=1, help="Of the immersion.", rich_help_panel=VOLUME)
    ] = 1.515,
    excitation_nm: Annotated[
        float, typer.Option(min=1, help="Of the light.", rich_help_panel=VOLUME)
    ] = 488.0,
    excitation_na: Annotated[
        float | None,
        typer.Option(help="Of the outer beams [default: measured].", rich_help_panel=VOLUME),
    ] = None,
    psf: Annotated[
        Path | None,
        typer.Option(help="Focal series of one bead (TIFF, MRC).", rich_help_panel=VOLUME),
    ] = None,
) -> None:
    """Reconstruct SIM images beside the wide field, with a figure of what was estimated.

    What a file says of its axes and optics is used; what nobody says is assumed, and printed so.

    Examples
    --------
    `tisr reconstruct recordings/cell_01 reconstructed/cell_01`

    `tisr reconstruct raw.mrc reconstructed/raw --emission-nm 525 --otf otf_488.mrc --report`

    `tisr reconstruct two_colours.ome.tif out --channel 2 --angles-deg 5,65,125 --period-um 0.21`

    `tisr reconstruct dim.tif out --from out_of_a_bright_one/bright_parameters.json`

    `tisr reconstruct raw.tif out --orders 2 --orientations 5 --phases 5 --report`

    `tisr reconstruct series.dv out --sections 24 --axes TOZPYX --report`
    """
    from tisr_scope.formats.raw_stack import PatternLayout
    from tisr_scope.profiles.library import load_profile
    from tisr_scope.sim.parameters.estimation_settings import Estimation
    from tisr_scope.sim.reconstruction.raw_plan import (
        RawSettings,
        carriers_from,
        plan_raw,
        stated_carriers,
    )
    from tisr_scope.sim.reconstruction.reconstruct import WienerSettings
    from tisr_scope.sim.reconstruction.reconstruct_files import (
        Making,
        reconstruct_raw_file,
        reconstruct_recording,
    )

    settings = WienerSettings(wiener, apodisation, attenuation, attenuation_width, positivity)
    estimation = Estimation(
        orders, refine_phases, allow_weak, background, correct_drift, accept_doubtful
    )
    making = Making(estimation, settings, otf, device, report, otf_damping)
    nominal = stated_carriers(decimals(angles_deg, "--angles-deg"), period_um)
    if nominal is None and from_ is not None:
        nominal = carriers_from(from_, (channel or 1) - 1)
    if sections is not None:
        _only_flat(source, orders > 1, refine_phases, allow_weak, correct_drift, otf, profile)
        files = [
            _volume(
                source,
                folder,
                making,
                (sections, axes, orientations or 3, phases or 5),
                (z_step_um, pixel_size_um, interval_s),
                numerical_aperture=numerical_aperture,
                emission_nm=emission_nm,
                excitation_nm=excitation_nm,
                immersion_index=refractive_index,
                excitation_na=excitation_na,
                psf=psf,
            )
        ]
    elif (source / "profile.yaml").is_file():
        with progress_bar("reconstructing") as progress:
            files = reconstruct_recording(
                source, folder, making, nominal=nominal, progress=progress
            )
    else:
        known = None if profile is None else load_profile(profile)
        light = None if known is None else known.illumination
        raw = RawSettings(
            PatternLayout(
                orientations or (light.orientations if light else 3),
                phases or (light.phases if light else 3),
                axes,
                extra_frames=extra_frames,
            ),
            channel,
            pixel_size_um,
            numerical_aperture,
            emission_nm,
            interval_s,
            known,
            nominal,
        )
        plan = plan_raw(source, raw)
        show_table(f"{source.name}, read as", plan.told)
        with progress_bar("reconstructing") as progress:
            progress(0, 1)
            files = [reconstruct_raw_file(plan, folder, making=making)]
            progress(1, 1)
    for file in files:
        out.print(f"wrote {file}")
        if report:
            _print_report(file)


def _volume(
    source: Path,
    folder: Path,
    making: Any,
    layout: tuple[int, str | None, int, int],
    sizes: tuple[float | None, float | None, float | None],
    *,
    numerical_aperture: float | None,
    emission_nm: float | None,
    **optics: Any,
) -> Path:
    """Reconstruct focal series."""
    from tisr_scope.sim.reconstruction.raw_plan import ASSUMED_EMISSION_NM, ASSUMED_NA
    from tisr_scope.sim.reconstruction.reconstruct_volumes import (
        AXES,
        SeriesLayout,
        reconstruct_series_file,
    )

    sections, axes, orientations, phases = layout
    told = SeriesLayout(sections, axes or AXES, orientations, phases, *sizes[:2], sizes[2] or 1.0)
    assumed = {
        "axes": f"{AXES} (assumed)" if axes is None else None,
        "detection NA": f"{ASSUMED_NA} (assumed)" if numerical_aperture is None else None,
        "emission, nm": f"{ASSUMED_EMISSION_NM} (assumed)" if emission_nm is None else None,
    }
    show_table(f"{source.name}, read as", {k: v for k, v in assumed.items() if v})
    with progress_bar("reconstructing") as progress:
        return reconstruct_series_file(
            source,
            folder,
            told,
            numerical_aperture=numerical_aperture or ASSUMED_NA,
            emission_nm=emission_nm or ASSUMED_EMISSION_NM,
            background=making.estimation.background,
            settings=making.settings,
            device=making.device,
            report=making.report,
            progress=progress,
            **optics,
        )


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
