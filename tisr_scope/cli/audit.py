"""The verb that tells how much of a result is true, without a truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tisr_scope.cli.common import out, progress_bar


def audit(
    recording: Annotated[
        Path, typer.Argument(help="With patterns: a recording, or a raw stack (.mrc, .tif).")
    ],
    result: Annotated[Path, typer.Argument(help="Folder that 'tisr infer' or 'live' wrote.")],
    folder: Annotated[
        Path | None, typer.Argument(help="For the files [default: 'audit' in each result].")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=1, help="Of a paired recording [default: the highest].")
    ] = None,
    orientations: Annotated[int, typer.Option(min=1, help="Of a raw stack.")] = 3,
    phases: Annotated[int, typer.Option(min=3, help="Of a raw stack.")] = 3,
    numerical_aperture: Annotated[
        float | None, typer.Option(help="Detection NA of a raw stack.")
    ] = None,
    emission_nm: Annotated[float | None, typer.Option(help="Of a raw stack.")] = None,
    pixel_size_um: Annotated[float | None, typer.Option(help="Of a raw stack.")] = None,
    offset_adu: Annotated[float, typer.Option(help="Camera offset of a raw stack.")] = 0.0,
) -> None:
    """Measure how much of a result is true beyond the diffraction limit. No truth is needed.

    Patterned frames hold detail that the network never saw: their side bands. 1 means that all
    detail of the result is in the sample, 0 that none is. Written for every time point and region,
    with its uncertainty, as audit.csv, audit.json and audit.png.

    Examples
    --------
    `tisr audit recordings/live_01 recordings/live_01`

    `tisr audit recordings/cell_01 results/cell_01 audits/cell_01`

    `tisr audit raw.mrc results/still --numerical-aperture 1.49 --emission-nm 525
    --pixel-size-um 0.0626`
    """
    from tisr_scope.evaluation.audit import (
        audit_raw_stack,
        audit_recording,
        audit_result,
        place_of,
        result_folders,
    )
    from tisr_scope.recording.recording import Recording

    opened = Recording.open(recording) if recording.is_dir() else None
    for one in result_folders(result):
        if opened is not None:
            frames = audit_recording(
                opened, *place_of(opened, one), None if level is None else level - 1
            )
        else:
            if numerical_aperture is None or emission_nm is None or pixel_size_um is None:
                raise typer.BadParameter(
                    "a raw stack needs --numerical-aperture, --emission-nm and --pixel-size-um"
                )
            frames = audit_raw_stack(
                recording,
                orientations=orientations,
                phases=phases,
                numerical_aperture=numerical_aperture,
                emission_nm=emission_nm,
                pixel_size_um=pixel_size_um,
                offset_adu=offset_adu,
            )
        target = one / "audit" if folder is None else folder / one.name
        with progress_bar(f"auditing {one.name}") as progress:
            report = audit_result(frames, one, target, progress=progress)
        out.print(f"[bold]{escape(one.name)}[/bold] {report.verdict}", highlight=False)
        if report.alarm is not None:
            out.print(f"  [red]not to be believed[/red] {escape(report.alarm)}", highlight=False)
        out.print(f"  in {target}", highlight=False)
