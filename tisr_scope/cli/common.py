"""What the verbs share: options, progress bars, clean cancelling, tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from tisr_scope import cancel
from tisr_scope.profiles.schema import DeviceSetting

out = Console()
err = Console(stderr=True)

ProfileArg = Annotated[str, typer.Argument(help="Name of a shipped profile, or a .yaml file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="DEVICE.PROPERTY=VALUE", help="Set a device property before the run."
    ),
]
ModeOption = Annotated[
    Literal["paired", "timelapse"],
    typer.Option(help="Running order for pairs, or low-light time-lapse."),
]
ShowOption = Annotated[
    Literal["centre", "central-3", "central-5", "central-7", "newest"],
    typer.Option(
        help="Frames of each window that become results: the centre one (best), several central "
        "ones (faster), or the newest (no delay)."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Where the network runs: cpu, cuda, cuda:1.")]
WienerOption = Annotated[
    float | None, typer.Option(min=0, help="Wiener parameter [default: from the light level].")
]
OrdersOption = Annotated[
    int, typer.Option(min=1, max=4, help="Of the pattern: 1 linear, 2 nonlinear (5 phases).")
]
RefinePhasesOption = Annotated[
    bool, typer.Option("--refine-phases", help="Measure the phase of every frame.")
]
CorrectDriftOption = Annotated[
    bool | None,
    typer.Option(
        "--correct-drift/--no-correct-drift",
        help="Move the orientations back onto the first one [default: where it is beyond doubt].",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of the network [default: all].")
]

MOST_LISTED = 20
"""Time points that are named on the screen; a file has them all."""


@contextmanager
def progress_bar(label: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Progress bar with elapsed and remaining time, as a ``(done, total)`` callback."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not shown) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def cancellable(*, quiet: bool = False) -> AbstractContextManager[threading.Event]:
    """Event set by the first signal to stop, which is acknowledged unless ``quiet``."""
    return cancel.cancellable(tell=None if quiet else err.print)


def tell_pair_quality(pairs: Path, *, kept: bool = False) -> None:
    """Print which time points and recordings became no pair, and why.

    Parameters
    ----------
    pairs : Path
        Folder of pairs; nothing is printed where nobody checked them.
    kept : bool
        Time points that are not good were kept by choice.
    """
    from tisr_scope.pairs.pair_records import FOLDER, read_summary

    if not (pairs / FOLDER / "summary.json").is_file():
        return
    summary = read_summary(pairs)
    lost = {entry["source"] for entry in summary["rejected"]}
    listed = [entry for entry in summary["not_good"] if entry["source"] not in lost]
    for entry in listed[:MOST_LISTED]:
        action = "kept in spite of this" if kept else "dropped"
        told = f"{entry['source']}, time point {entry['time_point'] + 1}: {action}: "
        out.print(escape(told + "; ".join(entry["reasons"])), highlight=False)
    if len(listed) > MOST_LISTED:
        out.print(f"and {len(listed) - MOST_LISTED} more in {pairs / FOLDER / 'summary.json'}")
    for entry in summary["sources"]:
        if entry["remarks"]:
            out.print(escape(f"{entry['source']}: {entry['remarks']}"), highlight=False)
    for entry in summary["rejected"]:
        out.print(escape(f"{entry['source']}: no pair: {entry['reason']}"), highlight=False)


def tell_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """Print what was found wrong with frames."""
    for one in findings[:MOST_LISTED]:
        action = ", left out" if one["left_out"] else ""
        out.print(escape(f"time point {one['t'] + 1}: {one['text']}{action}"), highlight=False)
    if len(findings) > MOST_LISTED:
        out.print(f"and {len(findings) - MOST_LISTED} more in summary.json")


def parsed_settings(assignments: list[str] | None) -> tuple[DeviceSetting, ...]:
    """Device settings of ``--set DEVICE.PROPERTY=VALUE``."""
    settings = []
    for text in assignments or []:
        target, equals, value = text.partition("=")
        device, dot, prop = target.partition(".")
        if not (equals and dot and device and prop):
            raise typer.BadParameter(f"{text!r} is not DEVICE.PROPERTY=VALUE", param_hint="--set")
        settings.append(DeviceSetting(device=device, property=prop, value=value))
    return tuple(settings)


def use_threads(count: int | None) -> None:
    """Limit the processor threads of the network, if asked to."""
    if count is not None:
        import torch

        torch.set_num_threads(count)


def show_table(title: str, rows: Mapping[str, Any]) -> None:
    """Print names and values as a table."""
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in rows.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), escape(shown))
    out.print(table)


def decimals(text: str | None, option: str) -> tuple[float, ...]:
    """Numbers of a list such as ``1,5,25``."""
    try:
        return tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list like 1,5,25", param_hint=option) from error
