"""SIM stacks with known parameters, in plain NumPy: shares no code with the package.

The sample lies on a grid four times finer than the camera and wider than its field.  It is
multiplied by the stripes, filtered with the OTF and Fourier-cropped to camera pixels, whose
centres lie between the fine samples, so the spectrum is shifted by 1.5 of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

PIXEL_UM = 0.0626
NA, EMISSION_UM = 1.49, 0.525
CUTOFF = 2 * NA / EMISSION_UM
OVER = 4
MARGIN = 16


@dataclass(frozen=True)
class Stack:
    mean: np.ndarray  # (orientation, phase, y, x), noiseless, brightest 0.5 % at 1
    carrier: np.ndarray  # (orientation, 2), kx ky in cycles/um
    phase: np.ndarray  # (orientation,), at the centre of the field
    sample: np.ndarray  # fine grid, with the margin
    ratio: float
    orders: int = 1

    def frames(self, photons: float, seed: int = 0, read_noise: float = 1.6) -> np.ndarray:
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, read_noise, self.mean.shape)
        return rng.poisson(photons * self.mean) + noise

    def truth(self, photons: float = 1.0) -> np.ndarray:
        """Sample with 1 + orders pixels per camera pixel, cosine apodisation up to the support.

        In photons per camera pixel, so that its mean is that of the wide field.
        """
        edge = CUTOFF * (1 + self.orders * self.ratio)
        radius = _radius(self.sample.shape[0], PIXEL_UM / OVER)
        transfer = np.cos(np.pi / 2 * np.clip(radius / edge, 0, 1))
        upscale = 1 + self.orders
        return photons * upscale**2 * _camera(self.sample, transfer, upscale)

    def carrier_error_px(self, found: np.ndarray) -> np.ndarray:
        return np.hypot(*(found - self.carrier).T) * self.mean.shape[-1] * PIXEL_UM

    def phase_error_deg(self, found: np.ndarray, order: int = 1) -> np.ndarray:
        return np.degrees(np.angle(np.exp(1j * (found - order * self.phase))))


def _radius(n: int, pixel: float) -> np.ndarray:
    f = np.fft.fftfreq(n, pixel)
    return np.hypot(f[:, None], f[None, :])


def _otf(n: int) -> np.ndarray:
    s = np.clip(_radius(n, PIXEL_UM / OVER) / CUTOFF, 0, 1)
    return 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))


def _camera(fine: np.ndarray, transfer: np.ndarray, upscale: int = 1) -> np.ndarray:
    """Image with upscale x upscale pixels per camera pixel, without the margin."""
    n, step = fine.shape[0], OVER / upscale
    small = n * upscale // OVER
    f = np.fft.fftfreq(n)
    shift = np.exp(2j * np.pi * f * (step - 1) / 2)
    spectrum = fft.fft2(fine) * transfer * shift[:, None] * shift[None, :]
    kept = np.r_[0 : small // 2, n - small // 2 : n]
    image = fft.ifft2(spectrum[np.ix_(kept, kept)]).real
    margin = MARGIN * upscale
    return image[margin:-margin, margin:-margin]


def filaments(n: int, rng: np.random.Generator) -> np.ndarray:
    """Gently curved lines of points on the fine grid, and a little haze."""
    size = (n + 2 * MARGIN) * OVER
    sample = np.full((size, size), 2e-3)
    for _ in range(n // 8):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.01, 2 * size))
        line = np.cumsum(np.stack([np.sin(heading), np.cos(heading)]), axis=1)
        line += rng.uniform(0, size, 2)[:, None] - line[:, size, None]
        y, x = np.rint(line).astype(int)
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        np.add.at(sample, (y[inside], x[inside]), 1.0)
    return sample


def make_stack(
    n: int = 128,
    ratio: float = 0.975,
    modulation: float = 0.8,
    seed: int = 0,
    orientations: int = 3,
    phases: int = 3,
    sample: np.ndarray | None = None,
    harmonics: tuple[float, ...] = (),
    step_errors_rad: np.ndarray | None = None,
) -> Stack:
    """Pattern ``1 + m cos(a) + sum of harmonics h_n cos(n a)``, n from 2.

    Step errors, shape (orientation, phase), come on top of the even phase steps.
    """
    rng = np.random.default_rng(seed)
    sample = filaments(n, rng) if sample is None else sample
    size = sample.shape[0]
    otf = _otf(size)
    sample = sample / np.percentile(_camera(sample, otf), 99.5)
    angles = rng.uniform(0, 0.5) + np.pi * np.arange(orientations) / orientations
    carrier = ratio * CUTOFF * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    start = rng.uniform(-np.pi, np.pi, orientations)
    axis = 2 * np.pi * (np.arange(size) - (size - 1) / 2) * PIXEL_UM / OVER
    mean = np.empty((orientations, phases, n, n))
    steps = np.tile(2 * np.pi * np.arange(phases) / phases, (orientations, 1))
    if step_errors_rad is not None:
        steps += step_errors_rad
    for o, (kx, ky) in enumerate(carrier):
        wave = np.exp(1j * (ky * axis[:, None] + kx * axis[None, :] + start[o]))
        mean[o] = _camera(sample, otf)
        for order, depth in enumerate((modulation, *harmonics), 1):
            parts = (wave**order).real, (wave**order).imag
            cosine, sine = (_camera(sample * part, otf) for part in parts)
            for p in range(phases):
                step = order * steps[o, p]
                mean[o, p] += depth * (np.cos(step) * cosine - np.sin(step) * sine)
    return Stack(mean.clip(min=0), carrier, start, sample, ratio, 1 + len(harmonics))


def psnr(image: np.ndarray, truth: np.ndarray, border: int = 8) -> float:
    """After the best linear intensity scale; in decibels of the truth's maximum."""
    inner = (slice(border, -border), slice(border, -border))
    a, b = image[inner].ravel(), truth[inner].ravel()
    slope, offset = np.polyfit(a, b, 1)
    return float(20 * np.log10(b.max() / np.sqrt(np.mean((slope * a + offset - b) ** 2))))
