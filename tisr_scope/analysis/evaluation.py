"""Results of an evaluation: per stack, per recording, and as files."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tisr_scope.analysis.figures import MontageRow, box_figure, montage_figure
from tisr_scope.analysis.statistics import Mean, mean_with_limits, paired_difference
from tisr_scope.confidence.fine_tuning import Interval
from tisr_scope.confidence.reliability import Reliability, merged
from tisr_scope.confidence.reliability_figure import reliability_figure
from tisr_scope.provenance import provenance, write_json

INTERVALS = (Interval(), Interval(gamma=None))
"""Credible intervals whose calibration error is measured."""


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


def write_evaluation(
    evaluation: Evaluation,
    settings: dict[str, Any],
    montage: list[MontageRow],
    pixel_um: float,
) -> None:
    """Write tables (CSV, JSON), box plots, montage and reliability diagrams of an evaluation."""
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
