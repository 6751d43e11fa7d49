"""Verbs from raw frames to training pairs: import, export, prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
    tell_pair_quality,
)


def prepare(
    recordings: Annotated[Path, typer.Argument(help="A recording, or a folder of recordings.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the pairs; finished pairs are kept.")],
    report: Annotated[
        bool, typer.Option("--report", help="Draw a page for each recording, and one of all.")
    ] = False,
    max_motion_nm: Annotated[
        float, typer.Option(min=1, help="Time points that moved more are dropped.")
    ] = 100.0,
    max_offset_nm: Annotated[
        float, typer.Option(min=1, help="Largest distance of input and target.")
    ] = 40.0,
    least_frames: Annotated[
        int, typer.Option(min=1, help="Good time points in a row that a pair needs.")
    ] = 7,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Only tell, drop nothing.")] = False,
    split_by_name: Annotated[
        bool,
        typer.Option(help="Recordings are named training_..., validation_... or test_..."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random split by recording.")] = 0,
    orders: OrdersOption = 1,
    refine_phases: RefinePhasesOption = False,
    correct_drift: CorrectDriftOption = None,
    wiener: WienerOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Make wide-field inputs and SIM targets of paired recordings, split by recording.

    Every time point is checked for motion while it was recorded, saturation, light and
    registration. Those that fail are dropped, and what is left becomes pairs without gaps in time.

    Examples
    --------
    `tisr prepare recordings pairs --report`

    `tisr prepare recordings pairs --max-motion-nm 60 --least-frames 5`

    `tisr prepare nonlinear_recordings pairs --orders 2`
    """
    from tisr_scope.errors import DataError
    from tisr_scope.pairs.pair_quality import Limits
    from tisr_scope.pairs.pair_records import FOLDER
    from tisr_scope.pairs.prepare import prepare as run
    from tisr_scope.pairs.recording_split import Split
    from tisr_scope.sim.parameters.estimation_settings import Estimation
    from tisr_scope.sim.reconstruction.reconstruct import WienerSettings

    marker = "profile.yaml"
    found = [recordings] if (recordings / marker).exists() else []
    found = found or sorted(p.parent for p in recordings.glob(f"*/{marker}"))
    if not found:
        raise DataError(
            "there are no recordings", where=str(recordings), remedy="make some: tisr acquire"
        )
    with progress_bar("checking and reconstructing time points") as progress:
        pairs = run(
            found,
            folder,
            split=Split(by_name=split_by_name, seed=seed),
            estimation=Estimation(orders, refine_phases=refine_phases, correct_drift=correct_drift),
            wiener=WienerSettings(parameter=wiener),
            limits=Limits(
                motion_nm=max_motion_nm,
                offset_nm=max_offset_nm,
                least_frames=least_frames,
                keep_all=keep_all,
            ),
            report=report,
            device=device,
            progress=progress,
        )
    tell_pair_quality(folder, kept=keep_all)
    out.print(f"{len(pairs)} pairs in {folder}")
    if report:
        out.print(f"report in {folder / FOLDER / 'summary.png'}")


def import_(
    source: Annotated[
        Path, typer.Argument(help="Published folder, a raw stack (.mrc .tif .dv .r3d), or several.")
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the recordings or pairs; finished are kept.")
    ] = None,
    to: Annotated[
        Literal["recordings", "pairs"],
        typer.Option(help="Raw frames, or wide field with the published SIM image."),
    ] = "recordings",
    only_list: Annotated[
        bool, typer.Option("--list", help="Show what is there, convert nothing.")
    ] = False,
    structure: Annotated[str | None, typer.Option(help="Only these, such as 'Micro*'.")] = None,
    cells: Annotated[str | None, typer.Option(help="Only these numbers, such as 1-5,8.")] = None,
    levels: Annotated[
        str | None, typer.Option(help="Light levels, such as 1,3 [default: all].")
    ] = None,
    levels_mw: Annotated[
        str | None, typer.Option(help="Laser power of each [default: ranks 1, 2, 3].")
    ] = None,
    interval_s: Annotated[
        float | None, typer.Option(min=0, help="Between time points, where files do not say.")
    ] = None,
    exposure_ms: Annotated[float | None, typer.Option(min=0, help="Of a raw frame.")] = None,
    orientations: Annotated[
        int | None, typer.Option(min=1, help="[default: 3, or 5 for nonlinear]")
    ] = None,
    phases: Annotated[
        int | None, typer.Option(min=1, help="[default: 3, or 5 for nonlinear]")
    ] = None,
    axes: Annotated[
        str | None, typer.Option(help="Order of the frames, slowest first: TOPYX, TPOYX, TOZPYX.")
    ] = None,
    sections: Annotated[int | None, typer.Option(min=1, help="Focal planes of a 3D stack.")] = None,
    plane: Annotated[int | None, typer.Option(min=1, help="Only this one of them.")] = None,
    channel: Annotated[int | None, typer.Option(min=1, help="Which one of several.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Layout, optics, stripes and camera from a profile.")
    ] = None,
    pixel_size_um: Annotated[float | None, typer.Option(help="[default: the file's]")] = None,
    numerical_aperture: Annotated[float | None, typer.Option(help="[default: 1.49]")] = None,
    excitation_nm: Annotated[float | None, typer.Option(help="[default: 488]")] = None,
    emission_nm: Annotated[float | None, typer.Option(help="[default: the file's, or 525]")] = None,
    angles_deg: Annotated[
        str | None, typer.Option(help="Direction of each carrier [default: measured].")
    ] = None,
    period_um: Annotated[
        float | None, typer.Option(help="Of the stripes [default: measured].")
    ] = None,
    offset_adu: Annotated[float | None, typer.Option(help="[default: 100]")] = None,
    electrons_per_adu: Annotated[float | None, typer.Option(help="[default: 0.46]")] = None,
    extra_frames: Annotated[
        int, typer.Option(min=0, help="Frames after every set that show no pattern; left out.")
    ] = 0,
    drop_incomplete: Annotated[
        bool,
        typer.Option("--drop-incomplete", help="Leave out a time point that was not finished."),
    ] = False,
    unsigned: Annotated[
        bool | None,
        typer.Option(
            "--unsigned/--signed", help="What negative counts are [default: only where clear]."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random split of pairs.")] = 0,
) -> None:
    """Turn published data (BioTISR, BioSR), DeltaVision files and raw stacks into recordings.

    Examples
    --------
    `tisr import BioTISR_Microtubules --list`

    `tisr import BioTISR_Microtubules recordings --interval-s 1 --cells 1-40`

    `tisr import BioTISR_F-actin_nonlinear pairs --to pairs --interval-s 3`
    """
    import math

    from tisr_scope.errors import DataError
    from tisr_scope.exchange.import_pairs import import_pairs, misplaced_targets
    from tisr_scope.exchange.import_plan import plan_region
    from tisr_scope.exchange.import_recordings import import_recordings
    from tisr_scope.exchange.import_settings import ImportSettings
    from tisr_scope.exchange.regions import find_regions
    from tisr_scope.pairs.recording_split import Split
    from tisr_scope.profiles.library import load_profile

    settings = ImportSettings(
        orientations=orientations,
        phases=phases,
        axes=axes,
        sections=sections,
        channel=channel,
        plane=plane,
        levels=tuple(_numbers(levels, "--levels")),
        levels_mw=decimals(levels_mw, "--levels-mw"),
        interval_s=interval_s,
        exposure_ms=exposure_ms,
        pixel_size_um=pixel_size_um,
        numerical_aperture=numerical_aperture,
        excitation_nm=excitation_nm,
        emission_nm=emission_nm,
        angles_rad=tuple(math.radians(a) for a in decimals(angles_deg, "--angles-deg")),
        period_um=period_um,
        offset_adu=offset_adu,
        electrons_per_adu=electrons_per_adu,
        extra_frames=extra_frames,
        drop_incomplete=drop_incomplete,
        unsigned=unsigned,
        profile=None if profile is None else load_profile(profile),
    )
    regions = find_regions(source, structure=structure, cells=_numbers(cells, "--cells"))
    if only_list:
        for region in regions:
            try:
                told = plan_region(region, settings).describe()
            except DataError as error:
                told = f"cannot be imported: {error}"
            out.print(f"[bold]{escape(region.name)}[/bold]  {escape(told)}", highlight=False)
        return
    if folder is None:
        raise typer.BadParameter("name a folder to import into", param_hint="FOLDER")
    plans = [plan_region(region, settings) for region in regions]
    for name, facts in {str(plan.told): plan.told for plan in plans}.items():
        show_table(f"read as ({sum(str(p.told) == name for p in plans)} regions)", facts)
    with progress_bar("importing frames") as progress:
        if to == "pairs":
            made = import_pairs(plans, folder, settings, split=Split(seed=seed), progress=progress)
        else:
            made = import_recordings(plans, folder, settings, progress=progress)
    if to == "pairs":
        for name, told in misplaced_targets(made).items():
            out.print(f"[yellow]{escape(name)}[/yellow]: {told}", highlight=False)
    out.print(f"{len(made)} {to} in {folder}")


def export(
    source: Annotated[Path, typer.Argument(help="A recording, a pair, or a folder of several.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write into; finished are kept.")],
    biotisr: Annotated[
        bool,
        typer.Option(
            "--biotisr/--tiff",
            help="Published MRC layout, or raw frames as OME-TIFF with angle and phase axes.",
        ),
    ] = True,
    hyperstack: Annotated[
        bool,
        typer.Option(
            "--hyperstack",
            help="One OME-TIFF (T, C, Z, Y, X) for each position: levels as channels, patterns "
            "along Z, plane times.",
        ),
    ] = False,
    structure: Annotated[str | None, typer.Option(help="Name of the structure.")] = None,
    sim_images: Annotated[
        Path | None, typer.Option(help="Pairs of these recordings, for their SIM_gt.mrc.")
    ] = None,
) -> None:
    """Write recordings or pairs in the published layout, or raw frames as OME-TIFF.

    Examples
    --------
    `tisr export recordings published --biotisr --structure Microtubules --sim-images pairs`

    `tisr export recordings/cell_01 stacks --tiff`

    `tisr export recordings/cell_01 for_fiji --hyperstack`
    """
    from tisr_scope.exchange.export import Layout
    from tisr_scope.exchange.export import export as run

    with progress_bar("exporting") as progress:
        layout: Layout = "hyperstack" if hyperstack else "biotisr" if biotisr else "tiff"
        written = run(
            source,
            folder,
            layout=layout,
            structure=structure,
            sim_images=sim_images,
            progress=progress,
        )
    for path in written:
        out.print(f"wrote {path}")


def _numbers(text: str | None, option: str) -> list[int]:
    """Whole numbers of a list such as ``1-5,8``."""
    numbers: list[int] = []
    for part in (text or "").replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if part and not (first.isdigit() and (last.isdigit() or not dash)):
            raise typer.BadParameter(f"{text!r} is no list like 1-5,8", param_hint=option)
        if part:
            numbers += range(int(first), int(last or first) + 1)
    return numbers
