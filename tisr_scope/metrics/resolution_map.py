"""The resolution of every part of an image, by rolling Fourier ring correlation (rFRC)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.fft import fft2

from tisr_scope.errors import DataError
from tisr_scope.metrics.ring_correlation import (
    MINIMUM_SIDE_PX,
    RingCorrelation,
    Threshold,
    check_pair,
    fade_window,
    independent_share,
    ring_numbers,
)


@dataclass(frozen=True)
class ResolutionMap:
    """Local resolution by rolling Fourier ring correlation.

    Attributes
    ----------
    resolution_um : array, shape (row, column)
        Of each block; NaN in the background and where the block's images do not agree.
    centre_y_px, centre_x_px : array, shape (row,), (column,)
        Centres of the blocks, in pixels of the image.
    step_px, block_px : int
        Distance and side of the blocks.
    threshold : str
    """

    resolution_um: Float[np.ndarray, "row column"]
    centre_y_px: Float[np.ndarray, " row"]
    centre_x_px: Float[np.ndarray, " column"]
    step_px: int
    block_px: int
    threshold: str

    @property
    def median_um(self) -> float:
        """Median over the blocks that have a resolution; NaN where none has."""
        known = self.resolution_um[np.isfinite(self.resolution_um)]
        return float(np.median(known)) if known.size else float("nan")


def resolution_map(
    first: Float[np.ndarray, "y x"],
    second: Float[np.ndarray, "y x"],
    pixel_um: float,
    *,
    block_px: int = 64,
    step_px: int = 16,
    threshold: Threshold = "3-sigma",
    background: float = 0.2,
) -> ResolutionMap:
    """Rolling Fourier ring correlation (rFRC): the resolution of every part of the image.

    Parameters
    ----------
    first, second : array, shape (y, x)
        Same object, independent noise.
    pixel_um : float
        Pixel in the sample, in micrometres.
    block_px, step_px : int
        Side of the square blocks and distance between them.  The finest period that is told apart
        from the next changes by ``resolution^2 / (block_px * pixel_um)``.
    threshold : {"3-sigma", "half-bit", "1/7"}
        Blocks have few pixels a ring, so the threshold should know their number.
    background : float
        Blocks whose structure (standard deviation of the mean of both images) is below this
        fraction of the 95th percentile over the blocks have no resolution.

    Raises
    ------
    DataError
        As :func:`ring_correlation`, or if the block does not fit.
    """
    check_pair(first, second, pixel_um)
    if not MINIMUM_SIDE_PX <= block_px <= min(first.shape) or step_px < 1:
        raise DataError(
            f"blocks of {block_px} px every {step_px} px do not fit an image of {first.shape}",
            remedy=f"{MINIMUM_SIDE_PX} px or more, not more than the image",
        )
    fade = fade_window((block_px, block_px), "hann")
    ring, count = ring_numbers((block_px, block_px), pixel_um)
    independent = independent_share(fade)
    samples = count * independent
    spread = np.zeros((block_px * block_px, count.size))
    inside = ring < count.size
    spread[np.flatnonzero(inside), ring[inside]] = 1
    frequency = (np.arange(count.size) + 1) / (block_px * pixel_um)
    starts = [np.arange(0, n - block_px + 1, step_px) for n in first.shape]
    views = [
        np.lib.stride_tricks.sliding_window_view(image, (block_px, block_px))
        for image in (first.astype(np.float64), second.astype(np.float64))
    ]
    curves = np.empty((len(starts[0]), len(starts[1]), count.size))
    structure = np.empty(curves.shape[:2])
    for row, y in enumerate(starts[0]):
        a, b = (view[y, starts[1]] for view in views)
        structure[row] = ((a + b) / 2).std(axis=(-2, -1))
        fa, fb = (
            fft2((block - block.mean(axis=(-2, -1), keepdims=True)) * fade).reshape(len(block), -1)
            for block in (a, b)
        )
        cross = (fa * fb.conj()).real @ spread
        power = ((np.abs(fa) ** 2) @ spread) * ((np.abs(fb) ** 2) @ spread)
        curves[row] = cross / np.sqrt(np.maximum(power, 1e-300))
    found = np.full(structure.shape, np.nan)
    level = background * np.percentile(structure, 95)
    for row, column in np.argwhere(structure >= level):
        curve = RingCorrelation(frequency, curves[row, column], samples, independent)
        here = curve.resolution(threshold)
        if here.um is not None:
            found[row, column] = here.um
        elif here.note.startswith("not reached"):
            found[row, column] = 1 / frequency[-1]
    centres = [start + (block_px - 1) / 2 for start in starts]
    return ResolutionMap(found, centres[0], centres[1], step_px, block_px, threshold)
