"""What a few wide-field frames show of light, background, noise, sharpness and specimen.

Measured alike on the recordings of a calibration and on those it is used for, from nothing but
the frames, the pixel size and the optics, whatever the model's own normalisation is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, median_filter

from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.normalise import Background

BLOCK = 7
"""Consecutive frames that are measured together."""
OUTSIDE = 1.02
TAPER_PX = 10
RINGS = (0.06, 0.2, 0.35, 0.5, 0.65)
"""Edges of the rings of the spectrum, in parts of the cut-off."""
HOT_SIGMAS = 3.0
HOT_RANK = 3
"""From the brightest: one cosmic ray or one noisy pixel says nothing about the camera."""
FLOOR = 0.05
"""Of the signal: a background far below it is none."""


@dataclass(frozen=True)
class Measure:
    """One number of the input, on a scale on which recordings scatter evenly.

    Attributes
    ----------
    words : str
        What it is, in words.
    shown : callable
        From its scale to the number that a reader knows.
    unit : str
    """

    words: str
    shown: Callable[[float], float]
    unit: str = ""


def _exp(value: float) -> float:
    return float(np.exp(value))


MEASURES: dict[str, Measure] = {
    "signal": Measure("the brightest structures above the background have", _exp, " electrons"),
    "background": Measure("background over signal is", lambda value: float(FLOOR * np.sinh(value))),
    "noise": Measure("variance of the noise over the light is", _exp),
    "repeats": Measure("noise that differs from frame to frame is a part of", _exp),
    "pattern_noise": Measure("noise that stays over time, over what chance leaves, is", _exp),
    "hot": Measure("single pixels stand out of their neighbours, over the signal, by", _exp),
    "spectrum_1": Measure("detail at 0.28 over that at 0.13 of the cut-off is", _exp),
    "spectrum_2": Measure("detail at 0.43 over that at 0.28 of the cut-off is", _exp),
    "spectrum_3": Measure("detail at 0.58 over that at 0.43 of the cut-off is", _exp),
    "peaks": Measure("brightest over bright pixels (99.9th over 95th percentile) is", _exp),
    "lines": Measure("structures are lines (1) or spots (0) by", float),
    "coverage": Measure("signal covers a part of", _exp),
}


def measure_input(
    frames: Float[np.ndarray, "time y x"], optics: KnownOptics
) -> dict[str, float] | None:
    """Measures of a block of frames; None where the optics are not known or there is no light.

    Parameters
    ----------
    frames : array, shape (time, y, x)
        Consecutive wide-field frames in photo-electrons, two or more.
    optics : KnownOptics
        Give the cut-off in pixels.
    """
    if optics.numerical_aperture is None or optics.emission_nm is None:
        return None
    if optics.pixel_size_um is None or len(frames) < 2:
        return None
    cutoff = 2 * optics.numerical_aperture / (optics.emission_nm * 1e-3)
    height, width = frames.shape[-2:]
    fy, fx = (np.fft.fftfreq(n, optics.pixel_size_um) for n in (height, width))
    radius = np.hypot(fy[:, None], fx[None, :]) / cutoff
    outside = radius > OUTSIDE
    if outside.mean() < 0.02:  # pixels too coarse to leave anything beyond the optics
        outside = radius > np.quantile(radius, 0.97)
    window = _taper(height)[:, None] * _taper(width)[None, :]
    mean = frames.mean(axis=0, dtype=np.float64)
    background = Background().of(mean.astype(np.float32)[None])[0].astype(np.float64)
    cleaned = median_filter(mean, 3)
    structure = gaussian_filter(cleaned - background, 1.0)
    signal = float(np.percentile(structure, 99.9))
    if not np.isfinite(frames).all() or signal <= 0:
        return None

    def power(image: Float[np.ndarray, "*axes y x"]) -> Float[np.ndarray, "*axes y x"]:
        level = image.mean(axis=(-2, -1), keepdims=True)
        spectrum = np.fft.fft2((image - level) * window)
        found: Float[np.ndarray, "*axes y x"] = np.abs(spectrum) ** 2 / (window**2).sum()
        return found

    # Hot pixels have a spectrum without an end; they are a measure of their own.
    excess = mean - cleaned
    third = float(np.partition(excess.ravel(), -HOT_RANK)[-HOT_RANK])
    hot = excess > HOT_SIGMAS * np.percentile(np.abs(excess), 99)
    mended = np.where(hot, cleaned, frames)
    single = float(power(mended)[:, outside].mean())
    changes = float(power(np.diff(mended, axis=0))[:, outside].mean()) / 2
    together = power(mended.mean(axis=0))
    stays = float(together[outside].mean()) * len(frames)
    rings = [
        max(float(together[(radius >= a) & (radius < b)].mean()) - stays / len(frames), 0.0)
        + 1e-4 * signal**2
        for a, b in pairwise(RINGS)
    ]
    light = max(float(mean.mean()), 1e-3 * signal)
    return {
        "signal": float(np.log(signal)),
        "background": float(np.arcsinh(np.median(background) / signal / FLOOR)),
        "noise": float(np.log(max(single, 1e-9) / light)),
        "repeats": float(np.log(changes / max(single, 1e-9) + 0.01)),
        "pattern_noise": float(np.log(stays / max(single, 1e-9) + 0.05)),
        "hot": float(np.log(max(third, 1e-3 * signal) / signal)),
        "spectrum_1": float(np.log(rings[1] / rings[0])),
        "spectrum_2": float(np.log(rings[2] / rings[1])),
        "spectrum_3": float(np.log(rings[3] / rings[2])),
        "peaks": float(np.log(signal / max(float(np.percentile(structure, 95)), 0.02 * signal))),
        "lines": _lines(structure),
        "coverage": float(np.log((structure > 0.25 * signal).mean() + 1e-3)),
    }


def _lines(structure: Float[np.ndarray, "y x"]) -> float:
    """Coherence of the structure tensor, weighted by its energy."""
    smooth = gaussian_filter(structure, 1.0)
    gy, gx = np.gradient(smooth)
    yy, xx, xy = (gaussian_filter(part, 3.0) for part in (gy * gy, gx * gx, gy * gx))
    energy = yy + xx
    coherence = np.hypot(yy - xx, 2 * xy) / np.maximum(energy, 1e-12)
    return float((coherence * energy).sum() / max(float(energy.sum()), 1e-12))


def _taper(n: int) -> Float[np.ndarray, " pixel"]:
    ramp = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / TAPER_PX
    taper: Float[np.ndarray, " pixel"] = np.sin(np.pi / 2 * np.clip(ramp, 0, 1)) ** 2
    return taper
