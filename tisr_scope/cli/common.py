"""What the verbs share: options, progress bars, clean cancelling, tables."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
DeviceOption = Annotated[str, typer.Option(help="Where the network runs: cpu, cuda, cuda:1.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of the network [default: all].")
]


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


@contextmanager
def cancellable(*, quiet: bool = False) -> Iterator[threading.Event]:
    """Event set by the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once."""
    cancel = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if cancel.is_set():
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return  # launchers repeat SIGTERM while a checkpoint is being written
        if not quiet:
            err.print("stopping cleanly; press Ctrl-C again to stop at once")
        cancel.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
