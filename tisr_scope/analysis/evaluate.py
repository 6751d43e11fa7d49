"""Models against each other, against enlarged wide field, and against the truth.

Every centre frame of every stack is predicted exactly as live inference does it.  The references
are the simulator's noiseless sample (where there is one) and the SIM reconstruction of the
highest laser level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import interpolate

from tisr_scope.analysis.evaluation import INTERVALS, Evaluation, StackResult, write_evaluation
from tisr_scope.analysis.figures import MontageRow
from tisr_scope.analysis.metrics import (
    fitted,
    normalised_reference,
    psnr,
    ssim,
)
from tisr_scope.analysis.temporal import neighbour_correlation
from tisr_scope.confidence.calibration import (
    Calibration,
    Use,
    apply_calibration,
    parse_calibration,
)
from tisr_scope.confidence.confidence_map import half_width
from tisr_scope.confidence.fine_tuning import FINE_BINS
from tisr_scope.confidence.reliability import Reliability, inside_interval
from tisr_scope.data.pairs import load_pair, load_truth, pair_folders
from tisr_scope.errors import DataError
from tisr_scope.inference.window import WINDOW, SlidingWindow
from tisr_scope.networks.bundle import Bundle, load_bundle
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.types import PairedStack

WIDEFIELD, SIM = "wide field", "SIM"
"""Baselines: bilinearly enlarged wide field of the same level; SIM of the highest level."""

Progress = Callable[[int, int], None]


@dataclass
class _Frames:
    """What a method gives for the centre frames of a stack."""

    results: list[Float[np.ndarray, "y x"]] = field(default_factory=list)
    counts: list[Reliability] = field(
        default_factory=lambda: [Reliability.empty(FINE_BINS) for _ in INTERVALS]
    )
    confidence: Float[np.ndarray, "y x"] | None = None
    uncalibrated: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Model:
    """A bundle ready to predict."""

    name: str
    bundle: Bundle
    network: DpaTisr
    calibration: Calibration | None


def evaluate(
    models: Sequence[str | Path],
    pairs: Path,
    out: Path,
    *,
    subset: Literal["train", "validation", "test"] = "test",
    level: int = 0,
    passes: int = 6,
    channel: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate bundles and baselines on prepared pairs.

    Writes ``evaluation.json``, ``evaluation.csv`` (one row per stack and method),
    ``evaluation.png`` (box plots over frames), ``montage.png`` and, where a model has a
    confidence, ``reliability.png``.

    Parameters
    ----------
    models : sequence of str or Path
        Names or folders of bundles.
    pairs : Path
        Folder written by ``tisr prepare``.
    out : Path
        Folder of the results.
    subset : {"train", "validation", "test"}
        Recordings to use; only ``test`` decided nothing before.
    level : int
        Laser level of the input, from 0 (lowest).
    passes : int
        Monte Carlo passes of Bayesian models.
    channel : str, optional
        Only stacks of this channel.
    device : str
    seed : int
        Of the dropout masks.
    progress : callable, optional
        Called with (done, total) stacks times models.

    Raises
    ------
    DataError
        If no stack is left, a stack has no such level, or it is shorter than a window.
    BundleError
        If a model cannot be read.
    """
    folders = pair_folders(pairs, subset)
    loaded = [_load(model, torch.device(device)) for model in models]
    _unique([m.name for m in loaded])
    results: list[StackResult] = []
    montage: list[MontageRow] = []
    pixel_um, total, done = 0.0, len(folders) * len(loaded), 0
    for folder in folders:
        stack = load_pair(folder)
        if channel not in (None, stack.channel):
            done += len(loaded)
            continue
        _check(stack, level, folder)
        chosen = slice(WINDOW // 2, stack.target.shape[0] - WINDOW // 2)
        truth = load_truth(folder)
        references = {"SIM": normalised_reference(stack.target[chosen])}
        if truth is not None:
            references["truth"] = normalised_reference(truth[chosen], blur_sigma_px=0)
        enlarged = enlarge(stack.widefield[level][chosen], stack.upscale)
        results.append(_measure(WIDEFIELD, stack, folder, enlarged, references))
        if truth is not None:
            only_truth = {"truth": references["truth"]}
            results.append(_measure(SIM, stack, folder, stack.target[chosen], only_truth))
        first = not montage
        for model in loaded:
            frames = _predict(model, stack, level, passes, seed)
            predicted = np.stack(frames.results)
            results.append(_measure(model.name, stack, folder, predicted, references, frames))
            if first:
                pixel_um = stack.pixel_size_um / stack.upscale
                montage.append(_montage_row(model, predicted, frames, enlarged, references))
            done += 1
            if progress is not None:
                progress(done, total)
    if not results:
        raise DataError(
            f"no {subset} stack of channel {channel}",
            where=str(pairs),
            remedy="choose a channel of the pairs",
        )
    evaluation = Evaluation(tuple(results), out)
    settings = {
        "models": {m.name: m.bundle.weights_hash for m in loaded},
        "pairs": str(pairs),
        "subset": subset,
        "level": level,
        "passes": passes,
        "seed": seed,
        "window": WINDOW,
    }
    write_evaluation(evaluation, settings, montage, pixel_um)
    return evaluation


def enlarge(frames: Float[np.ndarray, "time y x"], upscale: int) -> Float[np.ndarray, "time fy fx"]:
    """Bilinear enlargement on the centre-aligned grid, the baseline of every comparison."""
    image = torch.from_numpy(np.ascontiguousarray(frames))[:, None]
    fine = interpolate(image, scale_factor=upscale, mode="bilinear", align_corners=False)
    return np.asarray(fine[:, 0].numpy())


def _load(model: str | Path, device: torch.device) -> _Model:
    bundle = load_bundle(model)
    calibration = None
    if bundle.calibration is not None:
        calibration = parse_calibration(bundle.calibration, str(bundle.path))
    return _Model(bundle.name, bundle, bundle.network(device), calibration)


def _unique(names: list[str]) -> None:
    doubled = sorted({name for name in [*names, WIDEFIELD, SIM] if names.count(name) > 1})
    if doubled:
        raise DataError(
            f"two models are called {', '.join(doubled)}",
            remedy="copy one of the bundles to a folder of another name",
        )


def _check(stack: PairedStack, level: int, folder: Path) -> None:
    levels, time_points = stack.widefield.shape[:2]
    if not 0 <= level < levels:
        raise DataError(
            f"there is no laser level {level}: the stack has {levels}",
            where=str(folder),
            remedy=f"choose a level from 0 (lowest) to {levels - 1}",
        )
    if time_points < WINDOW:
        raise DataError(
            f"{time_points} time points are less than a window of {WINDOW}",
            where=str(folder),
            remedy=f"record at least {WINDOW} time points",
        )


def _predict(model: _Model, stack: PairedStack, level: int, passes: int, seed: int) -> _Frames:
    """Every centre frame, with the reliability of its confidence against the SIM target."""
    rule, bayesian = model.bundle.normalisation, model.network.config.bayesian
    scale = rule.scale(stack.widefield[level], stack.name)
    frames = rule.normalise_input(stack.widefield[level], scale)
    target = rule.normalise_target(stack.target, rule.scale(stack.target, stack.name))
    found = _Frames()
    calibration = model.calibration if bayesian else None
    if bayesian:
        use = Use(
            weights=model.bundle.weights_hash,
            normalisation=rule,
            passes=passes,
            window=WINDOW,
            level=level,
            input_scale=(scale, scale),
        )
        reasons = (
            ["the model holds no calibration"] if not calibration else calibration.matches(use)
        )
        found.uncalibrated = tuple(reasons)
        calibration = None if reasons else calibration
    window = SlidingWindow(
        model.network, passes=passes if bayesian else 1, emit="centre", seed=seed
    )
    for frame in frames:
        for sample in window.push(frame):
            means, scales = sample.means, sample.scales
            centre = means.mean(dim=0)
            found.results.append(np.asarray(centre.cpu().numpy()))
            if not bayesian:
                continue
            truth = torch.from_numpy(target[sample.time_index]).to(centre.device)
            for place, interval in enumerate(INTERVALS):
                stated = apply_calibration(
                    means, scales, calibration, epsilon=interval.epsilon, gamma=interval.gamma
                )
                half = half_width(centre, interval.epsilon, interval.gamma)
                inside = inside_interval(truth, centre, half)
                found.counts[place] = found.counts[place] + Reliability.of(
                    stated, inside, FINE_BINS
                )
                if place == 0 and sample.time_index <= (len(frames) - 1) // 2:
                    found.confidence = np.asarray(stated.cpu().numpy())
    return found


def _measure(
    method: str,
    stack: PairedStack,
    folder: Path,
    result: Float[np.ndarray, "time y x"],
    references: dict[str, Float[np.ndarray, "time y x"]],
    frames: _Frames | None = None,
) -> StackResult:
    """All metrics of a stack, after its linear fit to each reference (Paper: eq. 19-20)."""
    per_frame: dict[str, list[float]] = {}
    metrics: dict[str, float] = {}
    for name, reference in references.items():
        shown = fitted(result, reference)
        per_frame[f"PSNR to {name} (dB)"] = [
            psnr(a, b) for a, b in zip(shown, reference, strict=True)
        ]
        per_frame[f"SSIM to {name}"] = [ssim(a, b) for a, b in zip(shown, reference, strict=True)]
    metrics.update({name: float(np.mean(values)) for name, values in per_frame.items()})
    if len(result) > 1:
        metrics["temporal correlation"] = neighbour_correlation(result)
    counts: tuple[Reliability, ...] = ()
    if frames is not None and frames.counts[0].total:
        counts = tuple(frames.counts)
        for interval, part in zip(INTERVALS, counts, strict=True):
            metrics[f"ECE, {interval.name}"] = part.coarser().ece
    return StackResult(
        method=method,
        recording=stack.name,
        stack=folder.name,
        frame_metrics=per_frame,
        metrics=metrics,
        reliability=counts,
        uncalibrated=frames.uncalibrated if frames is not None else (),
    )


def _montage_row(
    model: _Model,
    predicted: Float[np.ndarray, "time y x"],
    frames: _Frames,
    enlarged: Float[np.ndarray, "time y x"],
    references: dict[str, Float[np.ndarray, "time y x"]],
) -> MontageRow:
    middle = (len(predicted) - 1) // 2
    reference = references["SIM"]
    truth = references.get("truth")
    return MontageRow(
        label=model.name,
        widefield=enlarged[middle],
        result=fitted(predicted, reference)[middle],
        truth=None if truth is None else truth[middle],
        target=reference[middle],
        confidence=frames.confidence,
        calibrated=not frames.uncalibrated,
    )
