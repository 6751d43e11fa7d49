"""Results of an evaluation: per stack, per recording, and as files."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tisr_scope.confidence.expected_calibration_error import Reliability, merged
from tisr_scope.confidence.fine_tuning import Interval
from tisr_scope.confidence.reliability_figure import reliability_figure
from tisr_scope.evaluation.boxes import BoxStatistics
from tisr_scope.evaluation.evaluation_figures import (
    MontageRow,
    box_figure,
    matrix_figure,
    montage_figure,
)
from tisr_scope.metrics.statistics import Mean, mean_with_limits, paired_difference
from tisr_scope.provenance import provenance, write_json

INTERVALS = (Interval(), Interval(gamma=None))
"""Credible intervals whose calibration error is measured."""


@dataclass(frozen=True)
class StackResult:
    """Metrics of one method on one stack.

    ``frame_metrics`` holds one value per frame, ``metrics`` one per stack; ``correlation`` is that
    of every frame with every other (Paper: eq. 21); ``reliability`` has the counts of the
    intensity-aware and the fixed interval, where there is a confidence.
    """

    method: str
    recording: str
    stack: str
    channel: str
    frame_metrics: dict[str, list[float]]
    metrics: dict[str, float]
    correlation: Float[np.ndarray, "time time"]
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

    def correlation(self, method: str) -> Float[np.ndarray, "time time"]:
        """Mean correlation matrix of a method, of the first frames that all its stacks have."""
        found = [r.correlation for r in self.stacks if r.method == method]
        shared = min(len(matrix) for matrix in found)
        mean: Float[np.ndarray, "time time"]
        mean = np.mean([matrix[:shared, :shared] for matrix in found], axis=0)
        return mean

    def panels(self) -> dict[str, dict[str, list[float]]]:
        """Metric -> method -> what its box shows: fidelity of all frames, else one a stack."""
        found: dict[str, dict[str, list[float]]] = {name: {} for name in self.metrics}
        for result in self.stacks:
            for name, value in result.metrics.items():
                values = result.frame_metrics.get(name, [value])
                found[name].setdefault(result.method, []).extend(values)
        return found

    def reliability(self, method: str) -> tuple[Reliability, ...]:
        """Counts of all stacks of a method together, for each interval."""
        parts = [r.reliability for r in self.stacks if r.method == method and r.reliability]
        return tuple(merged(column) for column in zip(*parts, strict=True))


def write_evaluation(
    evaluation: Evaluation,
    settings: dict[str, Any],
    montage: list[MontageRow],
    pixel_um: float,
) -> None:
    """Write tables (CSV, JSON) and figures of an evaluation."""
    out = evaluation.folder
    out.mkdir(parents=True, exist_ok=True)
    _write_table(evaluation, out / "evaluation.csv")
    write_json(out / "evaluation.json", {**provenance(settings), **_summary(evaluation)})
    recordings = len({result.recording for result in evaluation.stacks})
    panels = {k: v for k, v in evaluation.panels().items() if not k.startswith("ECE")}
    box_figure(
        panels, title=f"{recordings} recording(s); PSNR and SSIM: every frame, others: every stack"
    ).savefig(out / "evaluation.png")
    matrices = {method: evaluation.correlation(method) for method in evaluation.methods}
    matrix_figure(matrices, title="mean over stacks").savefig(out / "correlation.png")
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
    """One row for each stack, method and metric."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["recording", "stack", "channel", "method", "metric", "value"])
        for r in evaluation.stacks:
            writer.writerows(
                [r.recording, r.stack, r.channel, r.method, name, value]
                for name, value in r.metrics.items()
            )


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
        "boxes": {
            metric: {m: BoxStatistics.of(values).as_json() for m, values in by_method.items()}
            for metric, by_method in evaluation.panels().items()
        },
        "correlation_matrices": {
            method: evaluation.correlation(method).round(5).tolist()
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
