"""Does the confidence keep its word?  Accuracy against confidence, and the calibration error.

Counts are sums per confidence bin, so frames, stacks and recordings are merged by adding them and
memory does not grow with the amount of data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tisr_scope.errors import CalibrationError

BINS = 20
"""Groups K of a reported reliability diagram."""


@dataclass(frozen=True)
class Reliability:
    """Sums over the pixels of each confidence bin (tau_{k-1}, tau_k], k = 1 .. K.

    The bins divide 0 to 1 evenly; the lowest one holds confidence 0 as well, so that every pixel
    is counted.

    Attributes
    ----------
    pixels, confidence_sum, inside_sum : float64 arrays, shape (K,)
        Number of pixels, sum of their confidences, number of pixels whose truth lies inside the
        credible interval.
    """

    pixels: Float[np.ndarray, " bins"]
    confidence_sum: Float[np.ndarray, " bins"]
    inside_sum: Float[np.ndarray, " bins"]

    @classmethod
    def empty(cls, bins: int = BINS) -> Reliability:
        """No pixels yet."""
        return cls(np.zeros(bins), np.zeros(bins), np.zeros(bins))

    @classmethod
    def of(
        cls,
        confidence: Float[Tensor, "*pixels"],
        inside: Bool[Tensor, "*pixels"],
        bins: int = BINS,
    ) -> Reliability:
        """Counts of one image, or of any set of pixels.

        Parameters
        ----------
        confidence : tensor
            Predicted confidence of each pixel, 0 to 1.
        inside : boolean tensor, same shape
            Whether the truth lies inside the credible interval (Paper: eq. 31).
        bins : int
            Number of groups K.

        Raises
        ------
        CalibrationError
            If the shapes differ or a confidence is outside 0 to 1 or NaN.
        """
        if confidence.shape != inside.shape:
            raise CalibrationError(
                f"confidence {tuple(confidence.shape)} and truth {tuple(inside.shape)} differ",
                remedy="compare images of the same pixel grid",
            )
        value = confidence.detach().double().flatten()
        if not bool(((value >= 0) & (value <= 1)).all()):
            raise CalibrationError(
                "a confidence is NaN or outside 0 to 1",
                remedy="check the network's output for NaN",
            )
        index = confidence_bin(value, bins)

        def per_bin(weights: Float[Tensor, " pixels"]) -> Float[np.ndarray, " bins"]:
            counts: Float[np.ndarray, " bins"] = torch.bincount(index, weights, bins).cpu().numpy()
            return counts

        return cls(
            per_bin(torch.ones_like(value)), per_bin(value), per_bin(inside.flatten().double())
        )

    def __add__(self, other: Reliability) -> Reliability:
        """Counts of both sets of pixels together."""
        if self.bins != other.bins:
            raise CalibrationError(f"counts of {self.bins} and {other.bins} bins cannot be added")
        return Reliability(
            self.pixels + other.pixels,
            self.confidence_sum + other.confidence_sum,
            self.inside_sum + other.inside_sum,
        )

    def coarser(self, bins: int = BINS) -> Reliability:
        """The same pixels in fewer bins; ``bins`` must divide the present number."""
        if bins < 1 or self.bins % bins:
            raise CalibrationError(f"{self.bins} bins cannot be joined into {bins}")
        return Reliability(
            *(
                values.reshape(bins, -1).sum(axis=1)
                for values in (self.pixels, self.confidence_sum, self.inside_sum)
            )
        )

    @property
    def bins(self) -> int:
        """Number of groups K."""
        return len(self.pixels)

    @property
    def total(self) -> float:
        """Number of pixels N."""
        return float(self.pixels.sum())

    @property
    def edges(self) -> Float[np.ndarray, " edges"]:
        """Limits tau_0 .. tau_K of the bins."""
        return np.linspace(0, 1, self.bins + 1)

    @property
    def confidence(self) -> Float[np.ndarray, " bins"]:
        """Average confidence of each bin, NaN where there is no pixel (Paper: eq. 32)."""
        return _ratio(self.confidence_sum, self.pixels)

    @property
    def accuracy(self) -> Float[np.ndarray, " bins"]:
        """Part of the pixels of each bin whose truth is inside (Paper: eq. 31)."""
        return _ratio(self.inside_sum, self.pixels)

    @property
    def mean_confidence(self) -> float:
        """Average confidence of all pixels."""
        return float(self.confidence_sum.sum()) / self._counted()

    @property
    def mean_accuracy(self) -> float:
        """Part of all pixels whose truth is inside the credible interval."""
        return float(self.inside_sum.sum()) / self._counted()

    @property
    def ece(self) -> float:
        """Expected calibration error (Paper: eq. 33).

        |S_k| / N times |confidence - accuracy| is |sum of p - sum of hits| / N.
        """
        return float(np.abs(self.confidence_sum - self.inside_sum).sum()) / self._counted()

    @property
    def relative_ece(self) -> float:
        """Signed error, weighted by bin; positive means overconfident (Paper: eq. 36)."""
        return float((self.confidence_sum - self.inside_sum).sum()) / self._counted()

    def _counted(self) -> float:
        if not self.total:
            raise CalibrationError(
                "no pixel was counted, so there is no calibration error",
                remedy="give at least one image with its truth",
            )
        return self.total

    def table(self) -> list[dict[str, float]]:
        """One row per bin that holds pixels, for CSV."""
        edges = self.edges
        return [
            {
                "confidence_from": round(float(edges[k]), 6),
                "confidence_to": round(float(edges[k + 1]), 6),
                "pixels": float(self.pixels[k]),
                "confidence": float(self.confidence[k]),
                "accuracy": float(self.accuracy[k]),
            }
            for k in range(self.bins)
            if self.pixels[k]
        ]

    def summary(self) -> dict[str, Any]:
        """Errors and table, JSON types only."""
        return {
            "ece": self.ece,
            "relative_ece": self.relative_ece,
            "mean_confidence": self.mean_confidence,
            "mean_accuracy": self.mean_accuracy,
            "pixels": self.total,
            "bins": self.table(),
        }


def confidence_bin(confidence: Float[Tensor, "*pixels"], bins: int) -> torch.Tensor:
    """Index k - 1 of the bin (tau_{k-1}, tau_k] of each confidence; 0 belongs to the first."""
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)
    return torch.bucketize(confidence.contiguous(), edges[1:-1])


def inside_interval(
    truth: Float[Tensor, "*pixels"],
    centre: Float[Tensor, "*pixels"],
    half: Float[Tensor, "*pixels"] | float,
) -> Bool[Tensor, "*pixels"]:
    """Whether the truth lies in the closed credible interval (Paper: eq. 31)."""
    return (truth - centre).abs() <= half


def merged(parts: Iterable[Reliability]) -> Reliability:
    """All counts together.

    Raises
    ------
    CalibrationError
        If there is nothing to merge, or the bins differ.
    """
    found = list(parts)
    if not found:
        raise CalibrationError("there are no reliability counts to merge")
    return reduce(lambda a, b: a + b, found)


def _ratio(
    part: Float[np.ndarray, " bins"], whole: Float[np.ndarray, " bins"]
) -> Float[np.ndarray, " bins"]:
    ratio: Float[np.ndarray, " bins"] = np.full(len(whole), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
