"""The command line: each verb parses, calls one function, and reports what it returned.

Heavy packages are imported inside the verbs, so that ``tisr --help`` is immediate and the
microscope PC needs no more than it uses.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tisr_scope.errors import TisrScopeError

app = typer.Typer(
    name="tisr",
    help="Live super-resolution with calibrated confidence for SIM microscopes.",
    epilog="Start with: tisr demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
profiles_app = typer.Typer(
    help="List, show, check and explain acquisition profiles.", no_args_is_help=True
)
models_app = typer.Typer(help="List, show and check trained models.", no_args_is_help=True)
app.add_typer(profiles_app, name="profiles")
app.add_typer(models_app, name="models")

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
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Progress bar with elapsed and remaining time, as a ``(done, total)`` callback."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _cancellable() -> Iterator[threading.Event]:
    """Event set by the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once."""
    cancel = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        err.print("stopping cleanly; press Ctrl-C again to stop at once")
        cancel.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(assignments: list[str] | None) -> tuple[Any, ...]:
    from tisr_scope.profiles.schema import DeviceSetting

    settings = []
    for text in assignments or []:
        target, equals, value = text.partition("=")
        device, dot, prop = target.partition(".")
        if not (equals and dot and device and prop):
            raise typer.BadParameter(f"{text!r} is not DEVICE.PROPERTY=VALUE", param_hint="--set")
        settings.append(DeviceSetting(device=device, property=prop, value=value))
    return tuple(settings)


def _threads(count: int | None) -> None:
    if count is not None:
        import torch

        torch.set_num_threads(count)


def _table(title: str, rows: dict[str, Any]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in rows.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), escape(shown))
    out.print(table)


# ---------------------------------------------------------------------------------- profiles


@profiles_app.command("list")
def profiles_list() -> None:
    """List the shipped profiles."""
    from tisr_scope.profiles.library import load_profile, profile_names

    for name in profile_names():
        summary = load_profile(name).description.strip().partition("\n")[0]
        out.print(f"[bold]{name}[/bold]  {escape(summary)}")


@profiles_app.command("show")
def profiles_show(profile: ProfileArg) -> None:
    """Print a profile as it is written, comments included."""
    from tisr_scope.profiles.library import find_profile

    typer.echo(find_profile(profile).read_text(encoding="utf-8"), nl=False)


@profiles_app.command("explain")
def profiles_explain(
    profile: ProfileArg,
    mode: Annotated[Literal["paired", "timelapse"] | None, typer.Option()] = None,
) -> None:
    """Say in words what would be exposed: order, exposures, duration, light dose, bytes.

    Example: `tisr profiles explain simulated_microtubules --mode paired`
    """
    from tisr_scope.acquisition.running_order import explain
    from tisr_scope.profiles.library import load_profile

    loaded = load_profile(profile)
    modes = [mode] if mode else [m for m in ("paired", "timelapse") if getattr(loaded, m)]
    typer.echo("\n\n".join(explain(loaded, m) for m in modes))


@profiles_app.command("check")
def profiles_check(profile: ProfileArg, settings: SetOption = None) -> None:
    """Load the microscope a profile names and compare the two, without any light."""
    from tisr_scope.acquisition.microscope import check_profile
    from tisr_scope.profiles.library import find_profile, load_profile

    findings = check_profile(load_profile(profile), find_profile(profile), _settings(settings))
    for finding in findings:
        out.print(f"[red]problem[/red] {escape(str(finding))}")
    if findings:
        raise typer.Exit(1)
    out.print("[green]ok[/green] the microscope has everything the profile asks for")


# ------------------------------------------------------------------------------- acquisition


@app.command()
def acquire(
    profile: ProfileArg,
    folder: Annotated[Path | None, typer.Argument(help="New folder for the recording.")] = None,
    mode: ModeOption = "paired",
    time_points: Annotated[
        int | None, typer.Option(min=1, help="Instead of the profile's.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a stopped recording.")
    ] = False,
    settings: SetOption = None,
) -> None:
    """Record a profile. Ctrl-C stops cleanly: light off, everything exposed is kept.

    Examples:

    `tisr acquire simulated_microtubules recordings/cell_01`

    `tisr acquire my_scope.yaml recordings/cell_02 --mode timelapse --time-points 500`
    """
    from tisr_scope.acquisition.acquire import acquire as run
    from tisr_scope.acquisition.acquire import default_folder
    from tisr_scope.profiles.library import find_profile, load_profile

    loaded, path = load_profile(profile), find_profile(profile)
    target = folder or default_folder(loaded, mode)
    with _cancellable() as cancel, _progress(f"recording to {target}") as progress:
        summary = run(
            loaded,
            target,
            mode,
            profile_path=path,
            settings=_settings(settings),
            cancel=cancel,
            progress=progress,
            time_points=time_points,
            resume=resume,
        )
    _table(f"Recording {target}", summary.as_dict())
