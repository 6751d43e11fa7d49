"""Verbs about files that are there: verify, info."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tisr_scope.cli.common import MOST_LISTED, out, progress_bar

RecordingArg = Annotated[Path, typer.Argument(help="Folder of a recording.")]


def verify(
    recording: RecordingArg,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    dry: Annotated[
        bool, typer.Option("--no-marks", help="Only look: leave no marks in the recording.")
    ] = False,
) -> None:
    """Prove from the images that every frame shows the light and the pattern it should.

    Checks the stored frames against their checksums, ratios between levels against the commanded
    powers, the phase of every pattern against the others, repeated and cut-off frames, and the
    camera's own numbers and times. Frames are named, their time points are marked, and 'tisr
    prepare' and 'tisr reconstruct' leave them out. Exit code 1 where something is wrong.

    Example: `tisr verify recordings/cell_01`
    """
    from tisr_scope.recording.order_check import check_order
    from tisr_scope.recording.recording import Recording

    opened = Recording.open(recording)
    stored = opened.verify()
    with progress_bar("checking time points", shown=not as_json) as progress:
        report = check_order(opened, write=not dry, progress=progress)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1))
    else:
        out.print(f"{stored} frames are on disk as they were recorded")
        for mark in report.marks[:MOST_LISTED]:
            place = opened.plan.place_name(mark.channel or 0, mark.position or 0)
            colour = "red" if mark.bad else "yellow"
            told = f"time point {mark.t + 1}, {place}: {mark.text}"
            out.print(f"[{colour}]{'wrong' if mark.bad else 'note'}[/] {escape(told)}")
        if len(report.marks) > MOST_LISTED:
            out.print(
                f"and {len(report.marks) - MOST_LISTED} more in verify.json beside the frames"
            )
        wrong = len(report.wrong_time_points)
        out.print(
            f"{report.checked} time points of a channel and position checked, "
            f"{wrong} time point(s) wrong"
        )
        for seen, expected, what in (
            (report.light_seen, report.light_expected, "levels"),
            (report.pattern_seen, report.pattern_expected, "fringes"),
        ):
            if expected and seen < report.checked:
                out.print(
                    f"[yellow]note[/] {what} stand out at {seen} of {report.checked}: at the "
                    "others they are too faint to prove their order"
                )
    if report.wrong:
        raise typer.Exit(1)
