"""Verbs away from the microscope: reconstruct, prepare, train, calibrate, evaluate, infer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from tisr_scope.cli.common import (
    DeviceOption,
    ThreadsOption,
    cancellable,
    out,
    progress_bar,
    show_table,
    use_threads,
)

WienerOption = Annotated[
    float | None, typer.Option(min=0, help="Wiener parameter [default: from the light level].")
]
StackOption = Annotated[float | None, typer.Option(help="Of a stack that does not say.")]

models_app = typer.Typer(help="List, show and check trained models.", no_args_is_help=True)


def reconstruct(
    source: Annotated[Path, typer.Argument(help="A recording, or a raw stack (.mrc, .tif).")],
    folder: Annotated[Path, typer.Argument(help="New folder for the images.")],
    wiener: WienerOption = None,
    otf: Annotated[Path | None, typer.Option(help="Measured radial OTF (.mrc).")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Layout, optics and stripes of a raw stack.")
    ] = None,
    channel: Annotated[int, typer.Option(min=1, help="Channel of that profile.")] = 1,
    orientations: Annotated[int, typer.Option(min=1, help="Of a raw stack.")] = 3,
    phases: Annotated[int, typer.Option(min=3, help="Of a raw stack; they run fastest.")] = 3,
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

    `tisr reconstruct raw.mrc reconstructed/raw --emission-nm 525 --otf otf_488.mrc`
    """
    from tisr_scope.profiles.library import load_profile
    from tisr_scope.sim.files import reconstruct_raw_file, reconstruct_recording
    from tisr_scope.sim.reconstruct import WienerSettings

    settings = WienerSettings(parameter=wiener)
    if source.is_dir():
        with progress_bar("reconstructing") as progress:
            files = reconstruct_recording(
                source,
                folder,
                settings=settings,
                otf_file=otf,
                device=device,
                progress=progress,
            )
    else:
        files = [
            reconstruct_raw_file(
                source,
                folder,
                orientations=orientations,
                phases=phases,
                pixel_size_um=pixel_size_um,
                numerical_aperture=numerical_aperture,
                emission_nm=emission_nm,
                interval_s=interval_s,
                profile=None if profile is None else load_profile(profile),
                channel=channel - 1,
                settings=settings,
                otf_file=otf,
                device=device,
            )
        ]
    for file in files:
        out.print(f"wrote {file}")


def prepare(
    recordings: Annotated[Path, typer.Argument(help="A recording, or a folder of recordings.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the pairs; finished pairs are kept.")],
    split_by_name: Annotated[
        bool,
        typer.Option(help="Recordings are named training_..., validation_... or test_..."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random split by recording.")] = 0,
    wiener: WienerOption = None,
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
    settings = WienerSettings(parameter=wiener)
    with progress_bar("pairs") as progress:
        pairs = run(
            found,
            folder,
            split=Split(by_name=split_by_name, seed=seed),
            wiener=settings,
            device=device,
            progress=progress,
        )
    out.print(f"{len(pairs)} pairs in {folder}")


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

    use_threads(threads)
    architecture = {
        "small": presets.small,
        "small_single_frame": lambda: single_frame(presets.small()),
        "paper": presets.paper,
        "released": presets.released,
    }[preset]()
    settings = load_settings(recipe, steps=steps, max_minutes=minutes, seed=seed)
    with cancellable() as cancel, progress_bar("training") as progress:
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
    show_table(f"Training {folder}", asdict(summary))


def calibrate(
    model: Annotated[str, typer.Argument(help="Bundle folder or name of a shipped model.")],
    pairs: Annotated[Path, typer.Argument(help="Folder of 'tisr prepare'.")],
    folder: Annotated[Path, typer.Argument(help="New folder: the calibrated bundle.")],
    level: Annotated[int, typer.Option(min=1, help="Laser level of the input, 1 is lowest.")] = 1,
    channel: Annotated[str | None, typer.Option(help="Where the pairs hold several.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each fine-tuning.")] = 200,
    trials: Annotated[int, typer.Option(min=3, help="Most fine-tunings of the search for k.")] = 8,
    passes: Annotated[int, typer.Option(min=1, help="Monte Carlo passes.")] = 6,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Make the confidence mean what it says: fine-tune, choose k, test on untouched recordings.

    Example: `tisr calibrate runs/first/bundle pairs models/mine`
    """
    from tisr_scope.confidence.calibrate import calibrate as run
    from tisr_scope.confidence.fine_tuning import FineTuning
    from tisr_scope.confidence.iteration import CalibrationSettings

    use_threads(threads)
    with progress_bar("calibrating") as progress:
        report = run(
            model,
            pairs,
            folder,
            level=level - 1,
            channel=channel,
            settings=CalibrationSettings(
                passes=passes, fine_tuning=FineTuning(steps=steps), max_steps=trials
            ),
            device=device,
            progress=progress,
        )
    calibration = report.calibration
    untouched = calibration.psnr_test is not None
    before, after = calibration.psnr_test or calibration.psnr_validation
    rows: dict[str, object] = {
        "judged on": "test recordings" if untouched else "validation recordings only",
        "PSNR before, after": f"{before:.2f} dB, {after:.2f} dB",
        "k": f"{calibration.k} ({calibration.k_source})",
    }
    for entry in calibration.intervals:
        errors = entry.ece_test or entry.ece_validation
        text = f"before {errors[0]:.4f}, fine-tuned {errors[1]:.4f}"
        if entry.recalibration is not None:
            text += f", with the recalibration map {errors[2]:.4f}"
        rows[f"ECE, interval {entry.interval.name}"] = text
    show_table(f"Calibrated bundle {report.bundle}", rows)


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

    use_threads(threads)
    with progress_bar("evaluating") as progress:
        evaluation = run(
            models, pairs, folder, subset=subset, level=level - 1, device=device, progress=progress
        )
    for metric in evaluation.metrics:
        means = {m: evaluation.mean(m, metric) for m in evaluation.methods}
        shown = {
            method: f"{mean.mean:.3f} ± {mean.half_width_95:.3f}"
            for method, mean in means.items()
            if mean is not None
        }
        show_table(f"{metric}: mean over recordings ± 95 % limits", shown)
    for method in evaluation.methods:
        for counts in evaluation.reliability(method)[:1]:
            out.print(f"ECE of {method}, intensity-aware interval: {counts.coarser().ece:.4f}")
    out.print(f"Figures and tables are in {folder}")


def infer(
    model: Annotated[str, typer.Argument(help="Bundle folder or name of a shipped model.")],
    source: Annotated[Path, typer.Argument(help="A recording, or a stack (.tif, .mrc).")],
    folder: Annotated[Path, typer.Argument(help="New folder for the results.")],
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    level: Annotated[int, typer.Option(min=1, help="Laser level of a paired recording.")] = 1,
    passes: Annotated[int, typer.Option(min=1, help="Monte Carlo passes.")] = 6,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Of a stack that does not say.")
    ] = None,
    interval_s: StackOption = None,
    offset_adu: Annotated[float, typer.Option(help="Camera offset of a stack, in counts.")] = 0.0,
    electrons_per_adu: Annotated[float, typer.Option(help="Electrons per count of a stack.")] = 1.0,
    average: Annotated[int, typer.Option(min=1, help="Frames of a stack to average.")] = 1,
    repeat: Annotated[
        int | None, typer.Option(min=7, help="Repeat a single image as a still time-lapse.")
    ] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Super-resolve every frame of recordings and stacks, with confidence.

    Examples
    --------
    `tisr infer microtubules_small recordings/cell_01 results/cell_01`

    `tisr infer microtubules_small widefield.tif results/still --average 9 --repeat 7`
    """
    from tisr_scope.inference.offline import infer as run

    use_threads(threads)
    with progress_bar("frames") as progress:
        summaries = run(
            model,
            source,
            folder,
            channel=channel,
            device=device,
            passes=passes,
            level=level - 1,
            pixel_size_um=pixel_size_um,
            interval_s=interval_s,
            offset_adu=offset_adu,
            electrons_per_adu=electrons_per_adu,
            average=average,
            repeat=repeat,
            progress=progress,
        )
    for summary in summaries:
        show_table("Super-resolved", summary.as_dict())


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
