"""Means of a study with their limits, over seeds and over sequences, and paired differences.

Two different questions.  Over seeds (of weights and patches): would the order hold if the networks
were trained again?  Each seed's value is a mean over sequences.  Over sequences: would it hold for
other samples, given these trained networks?  Each sequence's value is a mean over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.tisr_simulated.models import DPA, SINGLE, SIX
from benchmarks.tisr_simulated.sequences import CONDITIONS
from benchmarks.tisr_simulated.study import METRICS
from tisr_scope.metrics.statistics import Mean, mean_with_limits, paired_difference

Rows = Sequence[Mapping[str, Any]]
"""One row for each model, seed, condition and sequence, with the metrics."""


def flat(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of all results; a result holds those of one model and seed."""
    return [
        {"model": r["model"], "seed": r["seed"], **row} for r in results for row in r["sequences"]
    ]


def by(rows: Rows, key: str, model: str, condition: str | None, metric: str) -> dict[str, float]:
    """Mean of a metric for each value of ``key`` ("seed" or "sequence")."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["model"] == model and condition in (None, row["condition"]):
            found.setdefault(str(row[key]), []).append(row[metric])
    return {name: float(np.mean(values)) for name, values in found.items()}


def mean(rows: Rows, key: str, model: str, condition: str | None, metric: str) -> Mean:
    """Mean with 95 % limits over seeds or sequences; all conditions where None."""
    return mean_with_limits(np.array(list(by(rows, key, model, condition, metric).values())))


def difference(
    rows: Rows, key: str, model: str, other: str, condition: str | None, metric: str
) -> Mean | None:
    """Paired difference model - other, over the seeds that both were trained with."""
    seeds = [{row["seed"] for row in rows if row["model"] == name} for name in (model, other)]
    rows = [row for row in rows if row["seed"] in seeds[0] & seeds[1]]
    return paired_difference(
        by(rows, key, model, condition, metric), by(rows, key, other, condition, metric)
    )


def names(rows: Rows) -> list[str]:
    """Models in the order of their results."""
    return list(dict.fromkeys(row["model"] for row in rows))


def order_of_six(rows: Rows, metric: str = METRICS[0]) -> list[str]:
    """The six combinations that were trained, best mean over all conditions first."""
    there = [model for model in SIX if model in names(rows)]
    return sorted(there, key=lambda model: -mean(rows, "seed", model, None, metric).mean)


def summary(rows: Rows) -> dict[str, Any]:
    """All means and paired differences as JSON types."""
    conditions: list[str | None] = [None, *map(str, CONDITIONS)]
    models = names(rows)
    content: dict[str, Any] = {}
    for condition in conditions:
        part: dict[str, Any] = {}
        for model in models:
            values: dict[str, Any] = {}
            for metric in METRICS:
                entry: dict[str, Any] = {
                    f"over_{key}s": mean(rows, key, model, condition, metric).as_json()
                    for key in ("seed", "sequence")
                }
                for other in (SINGLE, DPA):
                    for key in ("seed", "sequence"):
                        paired = difference(rows, key, model, other, condition, metric)
                        if model != other and paired is not None:
                            entry[f"minus_{other}_over_{key}s"] = paired.as_json()
                values[metric] = entry
            part[model] = values
        content[condition or "all conditions"] = part
    return content
