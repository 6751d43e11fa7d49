"""Post-hoc recalibration: a monotone map from stated to observed confidence.

Independent of the fine-tuning and reported apart from it.  It changes neither mean nor scale, only
the number shown as confidence, and is fitted on validation recordings alone by isotonic
regression: the least-squares rising curve through the accuracies of the confidence bins.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from scipy.optimize import isotonic_regression
from torch import Tensor

from tisr_scope.confidence.expected_calibration_error import Reliability
from tisr_scope.errors import CalibrationError
from tisr_scope.profiles.schema import Frozen

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class RecalibrationMap(Frozen):
    """Rising curve, linear between its points and constant beyond them."""

    stated: Annotated[tuple[Probability, ...], Field(min_length=1)]
    """Confidence as computed, rising strictly."""
    observed: tuple[Probability, ...]
    """Accuracy that belongs to it, rising."""

    @model_validator(mode="after")
    def _rising(self) -> RecalibrationMap:
        if len(self.stated) != len(self.observed):
            raise ValueError("the two columns of a recalibration map have the same length")
        if (np.diff(self.stated) <= 0).any() or (np.diff(self.observed) < 0).any():
            raise ValueError("a recalibration map rises")
        return self

    def apply(self, confidence: Float[Tensor, "*pixels"]) -> Float[Tensor, "*pixels"]:
        """Recalibrated confidence, same shape and type."""
        stated = torch.tensor(self.stated, dtype=confidence.dtype, device=confidence.device)
        observed = torch.tensor(self.observed, dtype=confidence.dtype, device=confidence.device)
        if len(stated) == 1:
            return observed.expand_as(confidence).clone()
        right = torch.bucketize(confidence, stated).clamp(1, len(stated) - 1)
        left = right - 1
        part = (confidence - stated[left]) / (stated[right] - stated[left])
        return torch.lerp(observed[left], observed[right], part.clamp(0, 1))


def fit_recalibration(counts: Reliability, minimum_pixels: float = 200) -> RecalibrationMap:
    """Isotonic regression of accuracy on confidence, weighted by the pixels of each bin.

    Parameters
    ----------
    counts : Reliability
        Counts of validation recordings in fine bins (100 or more).
    minimum_pixels : float
        Neighbouring bins are joined until each holds this many, so that a point of the curve is
        never the accident of a few pixels.

    Raises
    ------
    CalibrationError
        If there are fewer pixels than that altogether.
    """
    if counts.total < minimum_pixels:
        raise CalibrationError(
            f"{counts.total:.0f} pixels are too few to fit a recalibration map",
            remedy="give more validation recordings",
        )
    groups: list[list[float]] = []
    joined = np.zeros(3)
    for row in zip(counts.pixels, counts.confidence_sum, counts.inside_sum, strict=True):
        joined = joined + row
        if joined[0] >= minimum_pixels:
            groups.append(joined.tolist())
            joined = np.zeros(3)
    if joined[0]:
        groups[-1] = (np.array(groups[-1]) + joined).tolist()
    pixels, confidence_sum, inside_sum = np.array(groups).T
    rising = isotonic_regression(inside_sum / pixels, weights=pixels).x
    return RecalibrationMap(
        stated=tuple(float(v) for v in confidence_sum / pixels),
        observed=tuple(float(v) for v in np.clip(rising, 0, 1)),
    )
