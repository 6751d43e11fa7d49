"""Metrics of one method on one time-lapse: fidelity, resolution, temporal consistency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError
from tisr_scope.metrics.decorrelation import EDGE_PX, decorrelation_analysis
from tisr_scope.metrics.fidelity import fitted, psnr, ssim
from tisr_scope.metrics.ring_correlation import MINIMUM_SIDE_PX, ring_correlation
from tisr_scope.metrics.temporal import correlation_matrix, excess_change, lag_correlation

TRUTH, SIM_TARGET = "truth", "SIM"
"""Names of the references."""

DECORRELATION = "resolution, decorrelation (um)"
SUCCESSIVE = "correlation of successive frames"
MOST_FRAMES = 5
"""Frames of a time-lapse whose resolution is measured, evenly spread."""

TRUTH_CORRELATION = 0.5
"""Correlation of an image with a noiseless truth where two halves of it would correlate by 1/7.

With a signal to noise ratio r in each half, r / (1 + r) = 1/7, and their sum correlates with the
truth by sqrt(2 r / (1 + 2 r)) = 1/2 (Rosenthal and Henderson 2003).
"""

Stack = Float[np.ndarray, "time y x"]


@dataclass(frozen=True)
class Judgement:
    """Metrics of a time-lapse.

    Attributes
    ----------
    per_frame : dict
        Fidelity: one value for each frame.
    metrics : dict
        One value for the whole; a metric that does not apply is absent.
    correlation : array, shape (time, time)
        Paper: eq. 21.
    """

    per_frame: dict[str, list[float]]
    metrics: dict[str, float]
    correlation: Float[np.ndarray, "time time"]


def judge(
    result: Stack,
    references: Mapping[str, Stack],
    pixel_um: float,
    *,
    independent: bool = True,
    recorded: tuple[Float[np.ndarray, "time camera_y camera_x"], float] | None = None,
) -> Judgement:
    """All metrics that a result allows.

    Parameters
    ----------
    result : array, shape (time, y, x)
    references : mapping
        ``truth`` or ``SIM`` -> normalised stack on the same grid (Paper: eq. 18).
    pixel_um : float
        Of the result, in micrometres.
    independent : bool
        Whether the noise of the SIM reference is another than that of the result; only then does
        their ring correlation measure resolution.
    recorded : (array of shape (time, y, x), float), optional
        Frames and pixel in micrometres that ``result`` was enlarged from by interpolation, which
        leaves its own traces in the spectrum: decorrelation looks at these instead.
    """
    per_frame: dict[str, list[float]] = {}
    metrics: dict[str, float] = {}
    for name, reference in references.items():
        shown = fitted(result, reference)
        pairs = list(zip(shown, reference, strict=True))
        per_frame[f"PSNR to {name} (dB)"] = [psnr(a, b) for a, b in pairs]
        per_frame[f"SSIM to {name}"] = [ssim(a, b) for a, b in pairs]
    metrics.update({name: float(np.mean(values)) for name, values in per_frame.items()})
    chosen = np.unique(np.linspace(0, len(result) - 1, MOST_FRAMES).round().astype(int))
    frames, size_um = recorded or (result, pixel_um)
    if min(frames.shape[1:]) >= 3 * EDGE_PX:
        found = [decorrelation_analysis(frames[t], size_um).resolution_um for t in chosen]
        _put(metrics, DECORRELATION, found)
    if min(result.shape[1:]) >= MINIMUM_SIDE_PX:
        for name, reference in references.items():
            if name == TRUTH:
                found = [agreement_um(result[t], reference[t], pixel_um) for t in chosen]
            elif independent:
                found = [
                    ring_correlation(result[t], reference[t], pixel_um).resolution().um
                    for t in chosen
                ]
            else:
                continue
            _put(metrics, f"resolution, FRC to {name} (um)", found)
    matrix = correlation_matrix(result)
    if len(result) > 1:
        metrics[SUCCESSIVE] = float(lag_correlation(matrix)[1])
        for name, reference in references.items():
            # A reference that stands still has no change to compare with.
            with suppress(DataError):
                metrics[f"change over that of {name}"] = excess_change(result, reference)
    return Judgement(per_frame, metrics, matrix)


def agreement_um(
    image: Float[np.ndarray, "y x"], truth: Float[np.ndarray, "y x"], pixel_um: float
) -> float | None:
    """Finest structure that an image shares with a noiseless truth, in micrometres.

    First frequency at which their ring correlation falls below :data:`TRUTH_CORRELATION`; twice
    the pixel where it never does.  None where it is below from the start.
    """
    rings = ring_correlation(image, truth, pixel_um)
    above = rings.smoothed() >= TRUTH_CORRELATION
    start = int(above.argmax())
    if not above.any() or start > max(2, len(above) // 4):
        return None
    below = np.flatnonzero(~above[start:])
    last = start + int(below[0]) - 1 if below.size else len(above) - 1
    return float(1 / rings.frequency[last])


def _put(metrics: dict[str, float], name: str, values: list[float | None]) -> None:
    found = [v for v in values if v is not None and math.isfinite(v)]
    if found:
        metrics[name] = float(np.mean(found))
