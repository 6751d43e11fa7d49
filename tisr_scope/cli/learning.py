"""Verbs of the networks: train, calibrate, evaluate, infer."""

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

StackOption = Annotated[float | None, typer.Option(help="Of a stack that does not say.")]


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
