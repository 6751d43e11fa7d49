"""Means over recordings with their confidence limits, and paired differences of methods.

Frames of one recording are not independent, so the recording is the unit: its frames are averaged
first, and limits follow from the spread between recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats


class Mean(NamedTuple):
    """Mean over recordings and half the width of its 95 % confidence interval (Student's t)."""

    mean: float
    half_width_95: float
    """NaN for a single recording."""
    recordings: int

    def as_json(self) -> dict[str, Any]:
        """JSON types; None where there is no interval."""
        half = None if np.isnan(self.half_width_95) else self.half_width_95
        return {"mean": self.mean, "half_width_95": half, "recordings": self.recordings}


def mean_with_limits(values: Float[np.ndarray, " recordings"]) -> Mean:
    """Mean and 95 % limits of one value per recording."""
    count = len(values)
    half = float("nan")
    if count > 1:
        half = float(stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return Mean(float(values.mean()), half, count)


def paired_difference(first: Mapping[str, float], second: Mapping[str, float]) -> Mean | None:
    """Mean of first - second over the recordings both have; None where they share none."""
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    return mean_with_limits(np.array([first[name] - second[name] for name in shared]))
