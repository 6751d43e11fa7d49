"""Verbs at the microscope: profiles, acquire, live, demo, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from tisr_scope.cli.common import (
    DeviceOption,
    ModeOption,
    ProfileArg,
    SetOption,
    ThreadsOption,
    cancellable,
    out,
    parsed_settings,
    progress_bar,
    show_table,
)

TimePointsOption = Annotated[int | None, typer.Option(min=1, help="Instead of the profile's.")]

profiles_app = typer.Typer(
    help="List, show, check and explain acquisition profiles.", no_args_is_help=True
)


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
    from tisr_scope.profiles.library import load_profile
    from tisr_scope.running_order.explain import explain

    loaded = load_profile(profile)
    modes = [mode] if mode else [m for m in ("paired", "timelapse") if getattr(loaded, m)]
    typer.echo("\n\n".join(explain(loaded, m) for m in modes))


@profiles_app.command("check")
def profiles_check(profile: ProfileArg, settings: SetOption = None) -> None:
    """Load the microscope a profile names and compare the two, without any light."""
    from tisr_scope.acquisition.preflight import check_profile
    from tisr_scope.profiles.library import find_profile, load_profile

    findings = check_profile(
        load_profile(profile), find_profile(profile), parsed_settings(settings)
    )
    for finding in findings:
        shown = "[red]problem[/red]" if finding.error is not None else "[yellow]note[/yellow]"
        out.print(f"{shown} {escape(str(finding).removeprefix('note: '))}")
    if any(finding.error is not None for finding in findings):
        raise typer.Exit(1)
    out.print("[green]ok[/green] the microscope has everything the profile asks for")


def acquire(
    profile: ProfileArg,
    folder: Annotated[Path | None, typer.Argument(help="New folder for the recording.")] = None,
    mode: ModeOption = "paired",
    time_points: TimePointsOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a stopped recording.")
    ] = False,
    bursts: Annotated[
        bool,
        typer.Option("--bursts/--no-bursts", help="Let devices step by the camera's trigger."),
    ] = True,
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
    with cancellable() as cancel, progress_bar(f"recording to {target}") as progress:
        summary = run(
            loaded,
            target,
            mode,
            profile_path=path,
            settings=parsed_settings(settings),
            cancel=cancel,
            progress=progress,
            time_points=time_points,
            resume=resume,
            bursts=bursts,
        )
    hidden = {"out", "wrong_order", "wrong_time_points"}
    show_table(f"Recording {target}", summary.model_dump(exclude=hidden, exclude_none=True))
    wrong = len(summary.wrong_time_points)
    if wrong:
        first = f"time point {summary.wrong_time_points[0] + 1}: {summary.wrong_order}"
        out.print(
            f"[red]wrong[/red] the images of {wrong} time point(s) contradict what was commanded; "
            f"{escape(first)}; 'tisr verify {escape(str(target))}' lists them all"
        )
    if summary.reason == "failed" or 2 * wrong > summary.time_points_complete:
        raise typer.Exit(1)


def live(
    profile: ProfileArg,
    folder: Annotated[Path | None, typer.Argument(help="New folder for the recording.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Bundle, or CHANNEL=BUNDLE for each [default: the profile's]."),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No window.")] = False,
    start: Annotated[
        bool, typer.Option("--start", help="Record at once; else the window opens dark.")
    ] = False,
    time_points: TimePointsOption = None,
    passes: Annotated[int, typer.Option(min=1, help="Monte Carlo passes.")] = 6,
    close: Annotated[
        bool, typer.Option("--close", help="Close the window when the run has ended.")
    ] = False,
    screenshot: Annotated[
        Path | None, typer.Option(help="PNG of the window when the run has ended.")
    ] = None,
    sim: Annotated[
        bool,
        typer.Option(
            "--sim/--no-sim",
            help="Conventional SIM beside the network, where the time-lapse exposes patterns.",
        ),
    ] = True,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    settings: SetOption = None,
) -> None:
    """Record a low-light time-lapse and super-resolve it while it is recorded.

    Recording never waits for the network: frames it cannot follow are counted as skipped, and
    every frame is on disk. Where patterns are exposed, the window also shows conventional SIM of
    the same frames and says whether its stripes were found; it has the lowest priority.

    The window opens dark: no light is on until Record is pressed. Without a window, or with
    --start, the recording begins at once.

    Examples
    --------
    `tisr live simulated_microtubules recordings/live_01`

    `tisr live my_scope.yaml --model microtubules_small --device cuda --headless`
    """
    from tisr_scope.acquisition.folder import default_folder
    from tisr_scope.live.run_live import LiveOptions, run_live
    from tisr_scope.profiles.library import find_profile, load_profile

    loaded = load_profile(profile)
    with cancellable() as cancel, progress_bar("live") as progress:
        display = None
        if not headless:
            from tisr_scope.preview.window_process import in_own_process

            display = in_own_process(autostart=start, close_when_done=close, picture=screenshot)
        summary = run_live(
            loaded,
            folder or default_folder(loaded, "timelapse"),
            _models(model),
            options=LiveOptions(device=device, passes=passes, threads=threads, sim=sim),
            display=display,
            profile_path=find_profile(profile),
            settings=parsed_settings(settings),
            time_points=time_points,
            cancel=cancel,
            progress=progress,
            notice=lambda text: out.print(f"[yellow]note[/yellow] {escape(text)}"),
        )
    show_table(f"Live {summary.folder}", summary.as_dict())
    if summary.inference_error:
        raise typer.Exit(1)


def follow(
    recording: Annotated[Path, typer.Argument(help="Folder of a recording, growing or finished.")],
    model: Annotated[list[str], typer.Option(help="Bundle, or CHANNEL=BUNDLE for each.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Results [default: in the recording].")
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="Monte Carlo passes.")] = 6,
    quiet: Annotated[
        float, typer.Option(min=1, help="Seconds without a new frame before giving up.")
    ] = 60.0,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Super-resolve a recording that another process writes, from here or over a network drive.

    The newest time point comes first while it grows; what was passed over is served afterwards.
    Started again it goes on with what is missing.

    Example: `tisr follow /mnt/scope/cell_01 --model microtubules_small --device cuda`
    """
    from tisr_scope.live.follow import follow as run
    from tisr_scope.live.live_records import LiveOptions

    models = _models(model)
    assert models is not None
    options = LiveOptions(device=device, passes=passes, threads=threads, complete=True)
    with cancellable() as cancel, progress_bar("following") as progress:
        status = run(
            recording,
            models,
            folder,
            options=options,
            quiet_s=quiet,
            cancel=cancel,
            progress=progress,
        )
    rows = {"super resolved": status.predicted, "passed over": status.skipped}
    show_table(f"Following {recording}", rows)


def _models(names: list[str] | None) -> str | dict[str, str] | None:
    if not names:
        return None
    if len(names) == 1 and "=" not in names[0]:
        return names[0]
    pairs = [name.partition("=") for name in names]
    if any(not (channel and equals and bundle) for channel, equals, bundle in pairs):
        raise typer.BadParameter(
            "give one bundle, or CHANNEL=BUNDLE for each", param_hint="--model"
        )
    return {channel: bundle for channel, _, bundle in pairs}


def demo(
    folder: Annotated[Path | None, typer.Argument(help="New folder for everything.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No window.")] = False,
    close: Annotated[
        bool, typer.Option("--close", help="Close the window when the run has ended.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Another bundle.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another simulated sample.")] = None,
    threads: ThreadsOption = None,
) -> None:
    """Run the whole chain on the simulated microscope, without hardware, in under two minutes.

    Records a time-lapse, super-resolves it live, and compares the result with the truth.

    Example: `tisr demo`
    """
    from datetime import datetime

    from tisr_scope.demo.run_demo import SEED, run_demo
    from tisr_scope.live.run_live import LiveOptions

    target = folder or Path(f"tisr_demo_{datetime.now():%Y%m%d_%H%M%S}")
    with cancellable() as cancel, progress_bar("demo") as progress:
        summary = run_demo(
            target,
            display=False if headless else None,
            model=model,
            seed=SEED if seed is None else seed,
            close_when_done=close,
            options=LiveOptions(threads=threads),
            cancel=cancel,
            progress=progress,
        )
    content = summary.as_dict()
    show_table("Recording and live super-resolution", content.pop("live"))
    show_table("Against the truth of the simulated sample", content)


def doctor(
    folder: Annotated[Path, typer.Argument(help="Where recordings would go.")] = Path(),
) -> None:
    """Report whether this machine is ready: versions, adapters, GPU, display, disk speed."""
    from tisr_scope.doctor import examine

    colour = {"ok": "green", "note": "yellow", "problem": "red"}
    findings = examine(folder)
    for finding in findings:
        verdict = f"[{colour[finding.verdict]}]{finding.verdict:8}[/]"
        out.print(f"{verdict} {finding.topic}: {escape(finding.text)}")
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)
