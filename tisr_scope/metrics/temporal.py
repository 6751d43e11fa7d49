"""Temporal consistency of time-lapses: the likeness of images a given time apart.

Pearson's correlation does not depend on brightness or offset, so bleaching does not lower it.
Motion of the sample lowers it as well as flicker of the method: compare with a reference of the
same sample (:func:`excess_change`) where there is one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError


def correlation_matrix(stack: Float[np.ndarray, "time y x"]) -> Float[np.ndarray, "time time"]:
    """Pearson correlation of every frame with every other (Paper: eq. 21).

    Raises
    ------
    DataError
        If a frame is constant or holds values that are not finite.
    """
    frames = stack.reshape(len(stack), -1).astype(np.float64)
    if not np.isfinite(frames).all() or (frames.std(axis=1) == 0).any():
        raise DataError(
            "a frame is constant or not finite, so it has no correlation",
            remedy="leave empty frames out of the comparison",
        )
    matrix: Float[np.ndarray, "time time"] = np.atleast_2d(np.corrcoef(frames))
    return matrix


def lag_correlation(matrix: Float[np.ndarray, "time time"]) -> Float[np.ndarray, " lag"]:
    """Mean correlation of frames 0, 1, 2, ... time points apart.

    Parameters
    ----------
    matrix : array, shape (time, time)
        From :func:`correlation_matrix`.
    """
    return np.array([np.diagonal(matrix, offset=lag).mean() for lag in range(len(matrix))])


def neighbour_correlation(stack: Float[np.ndarray, "time y x"]) -> float:
    """Mean Pearson correlation of successive frames; NaN for a single frame."""
    if len(stack) < 2:
        return float("nan")
    return float(lag_correlation(correlation_matrix(stack))[1])


def persistence_s(stack: Float[np.ndarray, "time y x"], interval_s: float) -> float | None:
    """Time in which the correlation falls to half of that of successive frames, in seconds.

    Counted from successive frames on, since noise lowers the correlation at every lag but 0 alike:
    where the correlation decays exponentially this is its half-life, whatever the noise.  Between
    the points of the lag curve by a straight line.

    Parameters
    ----------
    stack : array, shape (time, y, x)
        Three frames or more.
    interval_s : float
        Between frames, in seconds.

    Returns
    -------
    seconds : float or None
        None where the correlation stays above half for the whole time-lapse.

    Raises
    ------
    DataError
        As :func:`correlation_matrix`, or for fewer than three frames, or where successive frames
        have nothing in common.
    """
    if len(stack) < 3 or not interval_s > 0:
        raise DataError(
            f"{len(stack)} frames every {interval_s} s have no course in time",
            remedy="give three frames or more and the interval in seconds",
        )
    curve = lag_correlation(correlation_matrix(stack))
    if curve[1] <= 0:
        raise DataError(
            "successive frames have nothing in common",
            remedy="check the order of the frames and the light",
        )
    half = curve[1] / 2
    below = np.flatnonzero(curve[1:] < half)
    if below.size == 0:
        return None
    last = int(below[0]) + 1
    part = (curve[last - 1] - half) / (curve[last - 1] - curve[last])
    return float((last - 2 + part) * interval_s)


def excess_change(
    stack: Float[np.ndarray, "time y x"], reference: Float[np.ndarray, "time y x"]
) -> float:
    """Change between successive frames over that of the reference: 1 is as steady as the truth.

    ``(1 - r) / (1 - r_reference)`` with r the mean correlation of successive frames.  Above 1 the
    method flickers; below 1 it smooths over time what really moves.

    Raises
    ------
    DataError
        As :func:`correlation_matrix`, for unequal numbers of frames, fewer than two, or a
        reference that does not change.
    """
    if len(stack) != len(reference) or len(stack) < 2:
        raise DataError(
            f"{len(stack)} frames and {len(reference)} of the reference cannot be compared",
            remedy="give two time points or more of both",
        )
    still = 1 - neighbour_correlation(reference)
    if still < 1e-9:
        raise DataError(
            "the reference does not change, so there is nothing to compare with",
            remedy="compare the correlation of successive frames itself",
        )
    return (1 - neighbour_correlation(stack)) / still
