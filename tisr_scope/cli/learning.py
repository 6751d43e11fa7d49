"""Verbs of the networks: train, calibrate, evaluate, infer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from tisr_scope.cli.common import (
    DeviceOption,
    ShowOption,
    ThreadsOption,
    cancellable,
    err,
    out,
    progress_bar,
    show_table,
    tell_findings,
    tell_pair_quality,
    use_threads,
)

if TYPE_CHECKING:
    from tisr_scope.metrics.statistics import Mean
    from tisr_scope.networks.config import DpaTisrConfig

StackOption = Annotated[float | None, typer.Option(help="Of a stack that does not say.")]


def train(
    source: Annotated[
        Path, typer.Argument(help="Pairs of 'tisr prepare', recordings, or a BioTISR folder.")
    ],
    folder: Annotated[Path, typer.Argument(help="Checkpoints, history, figures and the bundle.")],
    preset: Annotated[
        str | None,
        typer.Option(help="Architecture [default: the recipe's, or small]; 'help' lists all."),
    ] = None,
    bayesian: Annotated[
        bool, typer.Option("--bayesian/--plain", help="With a confidence, or the mean alone.")
    ] = True,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="BUNDLE", help="Fine-tune this model instead."),
    ] = None,
    flow: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Pretrained SPyNet to start from [default: at random]."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="YAML of training settings, or shipped: paper, released, fine_tune."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="End after this time.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Patches of a step, over all processes.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and patches.")] = None,
    precision: Annotated[
        Literal["fp32", "bf16"] | None, typer.Option(help="Of the products.")
    ] = None,
    recompute: Annotated[
        bool | None,
        typer.Option("--recompute/--keep", help="A third of the memory, a fifth more time."),
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Use torch.compile.")
    ] = None,
    freeze_flow: Annotated[
        bool, typer.Option("--freeze-flow", help="Keep the optical flow network as it is.")
    ] = False,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    allow_mixed: Annotated[
        bool,
        typer.Option("--allow-mixed", help="Mix pixel sizes, optics and kinds of target."),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    name: Annotated[str, typer.Option(help="Name of the model.")] = "bundle",
    device: DeviceOption = "cpu",
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="On this computer, one a GPU; torchrun and SLURM say it instead."),
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Train a network. Ctrl-C or SIGTERM keeps a checkpoint that --resume goes on from.

    Examples
    --------
    `tisr train pairs runs/first --steps 1500`

    `tisr train recordings runs/full --recipe paper --device cuda --precision bf16 --processes 4`

    `tisr train new_pairs runs/actin --from microtubules_small --freeze-flow`

    `torchrun --nproc-per-node 4 -m tisr_scope train pairs runs/full --device cuda`
    """
    from tisr_scope.exchange.training_source import SPLIT, find_pairs
    from tisr_scope.pairs.pair_folder import load_pair, pair_folders
    from tisr_scope.training.processes import first_process, launched
    from tisr_scope.training.recipe import FINE_TUNE, load_recipe
    from tisr_scope.training.train import train as run

    use_threads(threads)
    named, settings = load_recipe(
        recipe or (FINE_TUNE if start else None),
        steps=steps,
        max_minutes=minutes,
        batch=batch,
        seed=seed,
        precision=precision,
        recompute=recompute,
        compile=compiled,
        flow_rate_factor=0.0 if freeze_flow else None,
    )
    wanted = preset or (None if start else named or "small")
    if wanted is not None:
        _architecture(wanted, bayesian)  # a wrong name must not come to light after the preparation
    with launched(device, processes=processes, precision=settings.precision) as fabric:
        speaks = fabric.is_global_zero
        prepared = (source / SPLIT).is_file()
        with progress_bar("preparing", shown=speaks and not prepared) as progress:
            cache = folder / "pairs"
            pairs = first_process(
                fabric, lambda: find_pairs(source, cache, device=device, progress=progress)
            )
        if speaks and not prepared:
            tell_pair_quality(pairs)
        architecture = None
        if wanted is not None:
            upscale = load_pair(pair_folders(pairs, "train")[0]).upscale
            architecture = _architecture(wanted, bayesian, upscale)
        with (
            cancellable(quiet=not speaks) as cancel,
            progress_bar("training", shown=speaks) as progress,
        ):
            summary = run(
                pairs,
                architecture,
                settings,
                folder,
                start=start,
                flow=flow,
                resume=resume,
                progress=progress,
                cancel=cancel,
                fabric=fabric,
                channel=channel,
                mixed=allow_mixed,
                name=name,
            )
    if not speaks:
        return
    show_table(f"Training {folder}", asdict(summary))
    if summary.ended == "cancelled":
        err.print("stopped; the same command with --resume goes on")


def _architecture(name: str, bayesian: bool, upscale: int = 2) -> DpaTisrConfig:
    from tisr_scope.networks.config import DpaTisrConfig
    from tisr_scope.networks.presets import PRESETS, preset

    if upscale not in (2, 3):
        raise typer.BadParameter(f"targets of x{upscale}; networks enlarge x2 or x3")
    if name not in PRESETS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(PRESETS)}", param_hint="--preset")
    found = preset(name, upscale=2 if upscale == 2 else 3, bayesian=bayesian)
    if not isinstance(found, DpaTisrConfig):
        raise typer.BadParameter(
            f"{name!r} is a baseline of the benchmarks, of which no bundle is made",
            param_hint="--preset",
        )
    return found


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
    from tisr_scope.confidence.iterative_fine_tuning import CalibrationSettings

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
    source: Annotated[
        Path,
        typer.Argument(help="Folder of 'tisr prepare', a recording, a folder of them, or a stack."),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder for tables and figures.")],
    models: Annotated[list[str], typer.Argument(help="Bundles to compare.")],
    subset: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Of pairs.")
    ] = "test",
    level: Annotated[int, typer.Option(min=1, help="Laser level of the input, 1 is lowest.")] = 1,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    passes: Annotated[int, typer.Option(min=1, help="Monte Carlo passes.")] = 6,
    allow_mixed: Annotated[
        bool,
        typer.Option("--allow-mixed", help="Models of other optics or different normalisation."),
    ] = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Compare models with the enlarged wide field: fidelity, resolution, steadiness over time.

    Writes evaluation.csv (a row for each stack, method and metric), evaluation.json (means with
    95 % limits, paired differences, statistics of the boxes) and figures.

    Examples
    --------
    `tisr evaluate pairs evaluation runs/first/bundle microtubules_small`

    `tisr evaluate recordings/cell_01 evaluation microtubules_small --channel 488`
    """
    from tisr_scope.evaluation.evaluate import evaluate as run

    use_threads(threads)
    with progress_bar("evaluating") as progress:
        evaluation = run(
            models,
            source,
            folder,
            subset=subset,
            level=level - 1,
            channel=channel,
            passes=passes,
            mixed=allow_mixed,
            device=device,
            progress=progress,
        )
    table = Table(title="mean over recordings ± 95 % limits", title_justify="left")
    table.add_column("")
    for method in evaluation.methods:
        table.add_column(escape(method))
    for metric in evaluation.metrics:
        means = [evaluation.mean(method, metric) for method in evaluation.methods]
        table.add_row(metric.replace("(um)", "(µm)"), *map(_with_limits, means))
    out.print(table)
    for method in evaluation.methods:
        for counts in evaluation.reliability(method)[:1]:
            out.print(f"ECE of {method}, intensity-aware interval: {counts.coarser().ece:.4f}")
    out.print(f"Figures and tables are in {folder}")


def _with_limits(value: Mean | None) -> str:
    if value is None:
        return ""
    return f"{value.mean:.3f}" + (f" ± {value.half_width_95:.3f}" if value.recordings > 1 else "")


def infer(
    model: Annotated[str, typer.Argument(help="Bundle folder or name of a shipped model.")],
    source: Annotated[Path, typer.Argument(help="A recording, or an image file (.tif, .mrc, ...)")],
    folder: Annotated[Path, typer.Argument(help="New folder for the results.")],
    channel: Annotated[
        str | None, typer.Option(help="Only this channel: its name, or number in a file.")
    ] = None,
    level: Annotated[int, typer.Option(min=1, help="Laser level of a paired recording.")] = 1,
    show: ShowOption = "centre",
    passes: Annotated[int, typer.Option(min=1, help="Monte Carlo passes.")] = 6,
    scale: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            help="Electrons that become 1, for parts of one movie [default: from the frames].",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on; what is finished is left alone.")
    ] = False,
    axes: Annotated[
        str | None, typer.Option(help="Of a file that names them wrongly, slowest first: TYX.")
    ] = None,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Of a file that does not say.")
    ] = None,
    interval_s: StackOption = None,
    numerical_aperture: Annotated[
        float | None, typer.Option(help="With which a file was taken.")
    ] = None,
    emission_nm: Annotated[float | None, typer.Option(help="Of the light in a file.")] = None,
    offset_adu: Annotated[
        float | None, typer.Option(help="Camera offset of a file, in counts [default: unknown].")
    ] = None,
    electrons_per_adu: Annotated[float, typer.Option(help="Electrons per count of a file.")] = 1.0,
    average: Annotated[int, typer.Option(min=1, help="Frames of a file to average.")] = 1,
    repeat: Annotated[
        int | None, typer.Option(min=7, help="Repeat a single image as a still time-lapse.")
    ] = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Super-resolve every frame of recordings and image files, with confidence.

    Frames are read one at a time. Broken ones (black, frozen, torn, saturated) are named and left
    out, hot pixels are repaired. A run that was stopped, killed or ran out of disk goes on with
    the same command.

    Examples
    --------
    `tisr infer microtubules_small recordings/cell_01 results/cell_01`

    `tisr infer microtubules_small movie.ome.tif results/movie --show central-3`

    `tisr infer microtubules_small widefield.tif results/still --average 9 --repeat 7`
    """
    from tisr_scope.cancel import exit_code
    from tisr_scope.inference.offline import infer as run

    use_threads(threads)
    with cancellable() as cancel, progress_bar("frames") as progress:
        summaries = run(
            model,
            source,
            folder,
            channel=channel,
            device=device,
            passes=passes,
            level=level - 1,
            shown=show,
            scale=scale,
            resume=resume,
            axes=axes,
            pixel_size_um=pixel_size_um,
            interval_s=interval_s,
            numerical_aperture=numerical_aperture,
            emission_nm=emission_nm,
            offset_adu=offset_adu,
            electrons_per_adu=electrons_per_adu,
            average=average,
            repeat=repeat,
            progress=progress,
            cancel=cancel,
        )
        ended = exit_code()
    for summary in summaries:
        facts = summary.as_dict()
        health = facts.pop("input_health")
        facts["assumed"] = "; ".join(facts["assumed"]) or "nothing"
        facts["frames left out"] = len(health["frames_left_out"]) or "none"
        show_table("Super-resolved", facts)
        tell_findings(health["findings"])
    if not summaries[-1].finished:
        err.print(
            f"stopped after {summaries[-1].frames} frames of {summaries[-1].source}; "
            "the same command goes on"
        )
        raise typer.Exit(ended)
