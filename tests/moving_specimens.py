"""Specimens that move at a known velocity between raw frames, with code of their own.

The fine sample is shifted by its spectrum, which is exact for all frequencies that a camera sees.
"""

from __future__ import annotations

import numpy as np
from scipy import fft
from sim_truth import MARGIN, OVER, PIXEL_UM, Stack, _camera, _otf, filaments

PIXEL_NM = 1e3 * PIXEL_UM


def shifted(sample: np.ndarray, y_px: float, x_px: float) -> np.ndarray:
    """Sample moved by so many camera pixels."""
    f = np.fft.fftfreq(sample.shape[0])
    turn = np.exp(-2j * np.pi * OVER * (f[:, None] * y_px + f[None, :] * x_px))
    return np.asarray(fft.ifft2(fft.fft2(sample) * turn).real)


def sample_of(size: int, seed: int = 0) -> np.ndarray:
    """Filaments whose brightest half per cent is 1 in the camera image."""
    fine = filaments(size, np.random.default_rng(seed))
    return np.asarray(fine / np.percentile(_camera(fine, _otf(fine.shape[0])), 99.5))


def wide(sample: np.ndarray, y_px: float = 0, x_px: float = 0) -> np.ndarray:
    """Even light: camera image of the moved sample, brightest half per cent at 1."""
    return _camera(shifted(sample, y_px, x_px), _otf(sample.shape[0])).clip(min=0)


def noisy(image: np.ndarray, photons: float, frames: int = 3, seed: int = 0) -> np.ndarray:
    """Mean of so many raw frames, with photon and read noise."""
    rng = np.random.default_rng(seed)
    summed = rng.poisson(frames * photons * image) + rng.normal(0, 1.6 * frames**0.5, image.shape)
    return np.asarray(summed / frames)


def moving_frames(stack: Stack, y_px: float, x_px: float, modulation: float = 0.8) -> np.ndarray:
    """Noiseless striped frames, shape (orientation, phase, y, x).

    From each raw frame to the next one the sample, not the stripes, moves by (y_px, x_px).
    """
    size = stack.sample.shape[0]
    otf, phases = _otf(size), 3
    axis = 2 * np.pi * (np.arange(size) - (size - 1) / 2) * PIXEL_UM / OVER
    frames = []
    for o, (kx, ky) in enumerate(stack.carrier):
        for p in range(phases):
            step = 2 * np.pi * p / phases + stack.phase[o]
            stripes = 1 + modulation * np.cos(ky * axis[:, None] + kx * axis[None, :] + step)
            number = o * phases + p
            moved = shifted(stack.sample, number * y_px, number * x_px)
            frames.append(_camera(moved * stripes, otf).clip(min=0))
    n = size // OVER - 2 * MARGIN
    return np.array(frames).reshape(len(stack.carrier), phases, n, n)
