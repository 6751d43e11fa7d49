"""Noise of raw frames, measured where the optics pass nothing: no gain or offset must be known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.fft import fft2, ifft2
from scipy.ndimage import gaussian_filter

from tisr_scope.sim.optics.otf import DetectionOtf, edge_taper

SMOOTHING_PX = 1.5
"""Over which light and noise are averaged, so that the light hardly holds noise of its own."""
BORDER_PX = 12
"""Faded, and left out of the fit."""
BINS = 24
LEAST = 0.02
"""Of the mean variance: less is an error of the fit."""


@dataclass(frozen=True)
class CameraNoise:
    """Variance of a pixel as a straight line over its mean, for every orientation.

    Orientations are told apart because their background was taken off, or their brightness scaled,
    by different amounts.

    Attributes
    ----------
    floor : array, shape (orientation,)
        Variance where the frames are 0: read noise squared, and shot noise of background that was
        taken off; below 0 where an offset is left in the frames.
    slope : array, shape (orientation,)
        Added for each unit of light: 1 in photo-electrons, the gain in counts.
    """

    floor: Float[np.ndarray, " orientation"]
    slope: Float[np.ndarray, " orientation"]

    def variance(
        self, frames: Float[np.ndarray, "orientation phase y x"]
    ) -> Float[np.ndarray, "orientation phase y x"]:
        """Variance of every pixel of the frames, whose own noise is smoothed away first."""
        floor, slope = (part[:, None, None, None] for part in (self.floor, self.slope))
        variance: Float[np.ndarray, "orientation phase y x"] = floor + slope * _smoothed(frames)
        return variance.clip(min=LEAST * variance.mean())


def measure_noise(
    frames: Float[np.ndarray, "orientation phase y x"], otf: DetectionOtf, pixel_um: float
) -> CameraNoise:
    """Fit the noise of raw frames of one time point.

    What is left of a frame beyond the cut-off of the optics is noise alone.  Its square is fitted
    over the brightness.  Noise that is not white (frames that were filtered or compressed, or
    frames already averaged on a finer grid) is misjudged.

    Parameters
    ----------
    frames : array, shape (orientation, phase, y, x)
        Any unit.
    otf : DetectionOtf
        Gives the cut-off.  Pixels that are too coarse to leave anything beyond it use the highest
        20th of the frequencies, where the optics pass next to nothing.
    pixel_um : float
        Camera pixel in the sample.
    """
    fy, fx = (np.fft.fftfreq(n, pixel_um) for n in frames.shape[-2:])
    radius = np.hypot(fy[:, None], fx[None, :])
    outside = radius > 1.02 * otf.cutoff
    if outside.mean() < 0.05:  # too coarse pixels
        outside = radius > np.quantile(radius, 0.95)
    fits = np.array([_fit(one.astype(np.float64), outside) for one in frames])
    return CameraNoise(fits[:, 0], fits[:, 1])


def _fit(frames: Float[np.ndarray, "phase y x"], outside: Bool[np.ndarray, "y x"]) -> list[float]:
    """Floor and slope."""
    inner = (..., slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))
    # A field that ends abruptly has high frequencies of its own.
    spectrum = fft2((frames - frames.mean()) * edge_taper(frames.shape[-2:], BORDER_PX).numpy())
    square = ifft2(spectrum * outside).real ** 2 / outside.mean()
    # A pixel's noise spreads over its neighbours in the filter; the light is spread alike.
    spread = fft2(ifft2(outside).real ** 2 / outside.mean())
    bright = ifft2(spectrum * spread).real + frames.mean()
    square, bright = (_smoothed(part)[inner].ravel() for part in (square, bright))
    points = [
        (bright[part].mean(), square[part].mean(), np.sqrt(part.size) / square[part].std())
        for part in np.array_split(np.argsort(bright), BINS)
    ]
    light, variance, weight = np.array(points).T
    design = np.stack([np.ones(BINS), light], axis=1)
    (floor, slope), *_ = np.linalg.lstsq(design * weight[:, None], variance * weight)
    if slope < 0:  # noise that does not grow with the light
        floor, slope = np.average(variance, weights=weight**2), 0.0
    return [float(floor), float(slope)]


def _smoothed(frames: Float[np.ndarray, "*axes y x"]) -> Float[np.ndarray, "*axes y x"]:
    sigma = (0.0,) * (frames.ndim - 2) + (SMOOTHING_PX, SMOOTHING_PX)
    smooth: Float[np.ndarray, "*axes y x"] = gaussian_filter(frames, sigma, mode="nearest")
    return smooth
