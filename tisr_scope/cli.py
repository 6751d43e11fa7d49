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
from dataclasses import asdict
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
    from tisr_scope.acquisition.preflight import check_profile
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

    Examples
    --------
    `tisr acquire simulated_microtubules recordings/cell_01`

    `tisr acquire my_scope.yaml recordings/cell_02 --mode timelapse --time-points 500`
    """
    from tisr_scope.acquisition.acquire import acquire as run
    from tisr_scope.acquisition.folder import default_folder
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
    _table(f"Recording {target}", summary.model_dump(exclude={"out"}, exclude_none=True))
    if summary.reason == "failed":
        raise typer.Exit(1)


# -------------------------------------------------------------- reconstruction, pairs, models


@app.command()
def prepare(
    recordings: Annotated[Path, typer.Argument(help="A recording, or a folder of recordings.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the pairs; finished pairs are kept.")],
    split_by_name: Annotated[
        bool,
        typer.Option(help="Recordings are named training_..., validation_... or test_..."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random split by recording.")] = 0,
    wiener: Annotated[
        float | None, typer.Option(min=0, help="Wiener parameter [default: from the light level].")
    ] = None,
    device: DeviceOption = "cpu",
) -> None:
    """Make wide-field inputs and SIM targets of paired recordings, split by recording.

    Example: `tisr prepare recordings pairs`
    """
    from tisr_scope.data.prepare import Split
    from tisr_scope.data.prepare import prepare as run
    from tisr_scope.errors import DataError
    from tisr_scope.sim.reconstruct import WienerSettings

    marker = "profile.yaml"
    found = [recordings] if (recordings / marker).exists() else []
    found = found or sorted(p.parent for p in recordings.glob(f"*/{marker}"))
    if not found:
        raise DataError(
            "there are no recordings", where=str(recordings), remedy="make some: tisr acquire"
        )
    settings = WienerSettings() if wiener is None else WienerSettings(parameter=wiener)
    with _progress("pairs") as progress:
        pairs = run(
            found,
            folder,
            split=Split(by_name=split_by_name, seed=seed),
            wiener=settings,
            device=device,
            progress=progress,
        )
    out.print(f"{len(pairs)} pairs in {folder}")


@app.command()
def train(
    pairs: Annotated[Path, typer.Argument(help="Folder of 'tisr prepare'.")],
    folder: Annotated[Path, typer.Argument(help="Checkpoints, history, figures and the bundle.")],
    preset: Annotated[
        Literal["small", "small_single_frame", "paper", "released"],
        typer.Option(help="Architecture; all but the single-frame one are DPA-TISR."),
    ] = "small",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="End after this time.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="YAML with any of the training settings.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and patches.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "bundle",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Train a network on pairs. Ctrl-C keeps a checkpoint that --resume goes on from.

    Examples
    --------
    `tisr train pairs runs/first --steps 1500`

    `tisr train pairs runs/full --preset released --device cuda --recipe recipe.yaml`
    """
    from tisr_scope.networks import config as presets
    from tisr_scope.networks.dpa_tisr import single_frame
    from tisr_scope.training.recipe import load_settings
    from tisr_scope.training.train import train as run

    _threads(threads)
    architecture = {
        "small": presets.small,
        "small_single_frame": lambda: single_frame(presets.small()),
        "paper": presets.paper,
        "released": presets.released,
    }[preset]()
    settings = load_settings(recipe, steps=steps, max_minutes=minutes, seed=seed)
    with _cancellable() as cancel, _progress("training") as progress:
        summary = run(
            pairs,
            architecture,
            settings,
            folder,
            resume=resume,
            progress=progress,
            cancel=cancel,
            device=device,
            name=name,
        )
    _table(f"Training {folder}", asdict(summary))


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="Bundle folder or name of a shipped model.")],
    pairs: Annotated[Path, typer.Argument(help="Folder of 'tisr prepare'.")],
    folder: Annotated[Path, typer.Argument(help="New folder: the calibrated bundle.")],
    level: Annotated[int, typer.Option(min=1, help="Laser level of the input, 1 is lowest.")] = 1,
    channel: Annotated[str | None, typer.Option(help="Where the pairs hold several.")] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Make the confidence mean what it says: fine-tune, choose k, test on untouched recordings.

    Example: `tisr calibrate runs/first/bundle pairs models/mine`
    """
    from tisr_scope.confidence.calibrate import calibrate as run

    _threads(threads)
    with _progress("calibrating") as progress:
        report = run(
            model, pairs, folder, level=level - 1, channel=channel, device=device, progress=progress
        )
    _table(f"Calibrated bundle {report.bundle}", report.summary())


@app.command()
def evaluate(
    pairs: Annotated[Path, typer.Argument(help="Folder of 'tisr prepare'.")],
    folder: Annotated[Path, typer.Argument(help="Folder for tables and figures.")],
    models: Annotated[list[str], typer.Argument(help="Bundles to compare.")],
    subset: Annotated[Literal["train", "validation", "test"], typer.Option()] = "test",
    level: Annotated[int, typer.Option(min=1, help="Laser level of the input, 1 is lowest.")] = 1,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Compare models with the enlarged wide field on untouched recordings.

    Example: `tisr evaluate pairs evaluation runs/first/bundle microtubules_small`
    """
    from tisr_scope.analysis.evaluate import evaluate as run

    _threads(threads)
    with _progress("evaluating") as progress:
        evaluation = run(
            models, pairs, folder, subset=subset, level=level - 1, device=device, progress=progress
        )
    for title, rows in evaluation.tables().items():
        _table(title, rows)
    out.print(f"Figures and tables are in {folder}")


@models_app.command("list")
def models_list() -> None:
    """List the shipped models."""
    from tisr_scope.networks.bundle import bundle_names, load_bundle

    for name in bundle_names():
        bundle = load_bundle(name)
        state = "calibrated" if bundle.calibration else "uncalibrated"
        out.print(f"[bold]{name}[/bold]  x{bundle.config.upscale}, {state}, {bundle.licence}")


@models_app.command("show")
def models_show(model: str) -> None:
    """Print the card of a model."""
    from tisr_scope.networks.bundle import CARD, find_bundle

    typer.echo((find_bundle(model) / CARD).read_text(encoding="utf-8"), nl=False)


@models_app.command("check")
def models_check(model: str, device: DeviceOption = "cpu") -> None:
    """Load a model and compare its output with the one recorded in the bundle."""
    from tisr_scope.networks.bundle import load_bundle

    bundle = load_bundle(model)
    difference = bundle.self_test(device)
    out.print(f"[green]ok[/green] {bundle.name}: output equals the recorded one ({difference:.1g})")


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="Where recordings would go.")] = Path(),
) -> None:
    """Report whether this machine is ready: versions, adapters, GPU, display, disk speed."""
    from tisr_scope.doctor import examine

    colour = {"ok": "green", "note": "yellow", "problem": "red"}
    findings = examine(folder)
    for finding in findings:
        out.print(
            f"[{colour[finding.verdict]}]{finding.verdict:8}[/] {finding.topic}: {escape(finding.text)}"
        )
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: deliberate errors are printed without a traceback."""
    try:
        app()
    except TisrScopeError as error:
        err.print(f"[bold red]error[/bold red] {escape(str(error))}", highlight=False)
        sys.exit(1)
