"""Models against each other, against enlarged wide field, and against the truth.

Every centre frame of every stack is predicted exactly as live inference does it.  The references
are the simulator's noiseless sample (where there is one) and the SIM reconstruction of the
highest laser level.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import interpolate

from tisr_scope.analysis.figures import MontageRow, box_figure, montage_figure
from tisr_scope.analysis.metrics import (
    fitted,
    neighbour_correlation,
    normalised_reference,
    psnr,
    ssim,
)
from tisr_scope.analysis.statistics import Mean, mean_with_limits, paired_difference
from tisr_scope.confidence.calibration import (
    Calibration,
    Use,
    apply_calibration,
    parse_calibration,
)
from tisr_scope.confidence.confidence_map import half_width
from tisr_scope.confidence.fine_tuning import FINE_BINS, Interval
from tisr_scope.confidence.reliability import Reliability, inside_interval, merged
from tisr_scope.confidence.reliability_figure import reliability_figure
from tisr_scope.data.pairs import load_pair, load_truth, pair_folders
from tisr_scope.errors import DataError
from tisr_scope.inference.window import WINDOW, SlidingWindow
from tisr_scope.networks.bundle import Bundle, load_bundle
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.provenance import provenance, write_json
from tisr_scope.types import PairedStack

WIDEFIELD, SIM = "wide field", "SIM"
"""Baselines: bilinearly enlarged wide field of the same level; SIM of the highest level."""
INTERVALS = (Interval(), Interval(gamma=None))

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StackResult:
    """Metrics of one method on one stack.

    ``frame_metrics`` holds one value per frame, ``metrics`` one per stack; ``reliability`` has
    the counts of the intensity-aware and the fixed interval, where there is a confidence.
    """

    method: str
    recording: str
    stack: str
    frame_metrics: dict[str, list[float]]
    metrics: dict[str, float]
    reliability: tuple[Reliability, ...] = ()
    uncalibrated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """All results, and where they were written."""

    stacks: tuple[StackResult, ...]
    folder: Path

    @property
    def methods(self) -> list[str]:
        """Methods in the order they were evaluated."""
        return list(dict.fromkeys(result.method for result in self.stacks))

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics."""
        return list(dict.fromkeys(name for result in self.stacks for name in result.metrics))

    def per_recording(self, method: str, metric: str) -> dict[str, float]:
        """Mean of a metric over the stacks of each recording."""
        found: dict[str, list[float]] = {}
        for result in self.stacks:
            if result.method == method and metric in result.metrics:
                found.setdefault(result.recording, []).append(result.metrics[metric])
        return {name: float(np.mean(values)) for name, values in found.items()}

    def mean(self, method: str, metric: str) -> Mean | None:
        """Mean over recordings with 95 % limits; None where the metric does not apply."""
        values = self.per_recording(method, metric)
        return mean_with_limits(np.array(list(values.values()))) if values else None

    def difference(self, method: str, other: str, metric: str) -> Mean | None:
        """Paired difference method - other over recordings."""
        return paired_difference(
            self.per_recording(method, metric), self.per_recording(other, metric)
        )

    def reliability(self, method: str) -> tuple[Reliability, ...]:
        """Counts of all stacks of a method together, for each interval."""
        parts = [r.reliability for r in self.stacks if r.method == method and r.reliability]
        return tuple(merged(column) for column in zip(*parts, strict=True))


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
    _write(evaluation, settings, montage, pixel_um)
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


def _write(
    evaluation: Evaluation,
    settings: dict[str, Any],
    montage: list[MontageRow],
    pixel_um: float,
) -> None:
    out = evaluation.folder
    out.mkdir(parents=True, exist_ok=True)
    _write_table(evaluation, out / "evaluation.csv")
    write_json(out / "evaluation.json", {**provenance(settings), **_summary(evaluation)})
    labels = [m for m in evaluation.metrics if m.startswith(("PSNR", "SSIM"))]
    panels: dict[str, dict[str, list[float]]] = {label: {} for label in labels}
    for result in evaluation.stacks:
        for label, values in result.frame_metrics.items():
            panels[label].setdefault(result.method, []).extend(values)
    recordings = len({result.recording for result in evaluation.stacks})
    box_figure(panels, title=f"all frames of {recordings} recordings").savefig(
        out / "evaluation.png"
    )
    if montage:
        montage_figure(montage, pixel_um).savefig(out / "montage.png")
    diagrams = {
        method: counts[0]
        for method in evaluation.methods
        if (counts := evaluation.reliability(method))
    }
    if diagrams:
        reliability_figure(diagrams, title="intensity-aware interval, truth: SIM").savefig(
            out / "reliability.png"
        )


def _write_table(evaluation: Evaluation, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["stack", "recording", "method", *evaluation.metrics])
        for result in evaluation.stacks:
            values = [result.metrics.get(name, "") for name in evaluation.metrics]
            writer.writerow([result.stack, result.recording, result.method, *values])


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    def both(method: str, metric: str) -> dict[str, Any] | None:
        mean = evaluation.mean(method, metric)
        return None if mean is None else mean.as_json()

    return {
        "methods": {
            method: {
                metric: value
                for metric in evaluation.metrics
                if (value := both(method, metric)) is not None
            }
            for method in evaluation.methods
        },
        "paired_differences": list(_differences(evaluation)),
        "reliability": {
            method: {
                interval.name: counts.coarser().summary()
                for interval, counts in zip(INTERVALS, evaluation.reliability(method), strict=True)
            }
            for method in evaluation.methods
            if evaluation.reliability(method)
        },
        "uncalibrated": {
            r.method: list(r.uncalibrated) for r in evaluation.stacks if r.uncalibrated
        },
    }


def _differences(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Every method minus every one listed before it."""
    for other, method in itertools.combinations(evaluation.methods, 2):
        for metric in evaluation.metrics:
            difference = evaluation.difference(method, other, metric)
            if difference is not None:
                yield {"method": method, "minus": other, "metric": metric, **difference.as_json()}
