"""SIM stacks with known parameters, in plain NumPy: shares no code with the package.

Point emitters (filaments of closely spaced points) anywhere in the plane; the image of each is
its exact Fourier series on the camera grid, so nothing depends on a sampling grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIXEL_UM = 0.0626
NA, EMISSION_UM = 1.49, 0.525
CUTOFF = 2 * NA / EMISSION_UM


@dataclass(frozen=True)
class Stack:
    frames: np.ndarray  # (orientation, phase, y, x), electrons
    carrier: np.ndarray  # (orientation, 2), kx ky in cycles/um
    phase: np.ndarray  # (orientation,), at the centre of the field
    points: np.ndarray  # (n, 2), x y in um from the centre
    weights: np.ndarray  # (n,), electrons

    def carrier_error_px(self, found: np.ndarray) -> np.ndarray:
        width_um = self.frames.shape[-1] * PIXEL_UM
        return np.hypot(*(found - self.carrier).T) * width_um

    def phase_error_deg(self, found: np.ndarray) -> np.ndarray:
        return np.degrees(np.angle(np.exp(1j * (found - self.phase))))

    def truth(self, ratio: float) -> np.ndarray:
        """Noiseless sample on the fine grid, cosine apodisation up to cut-off + carrier."""
        n = self.frames.shape[-1]
        edge = CUTOFF * (1 + ratio)
        fine = _image(
            self.points,
            4 * self.weights,
            2 * n,
            PIXEL_UM / 2,
            lambda f: np.cos(np.pi / 2 * np.clip(f / edge, 0, 1)),
        )
        return fine


def _otf(frequency: np.ndarray) -> np.ndarray:
    s = np.clip(frequency / CUTOFF, 0, 1)
    return 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))


def _image(points, weights, n, pixel, transfer) -> np.ndarray:
    """Periodic image on a field twice as wide, cropped: nothing wraps around the edges."""
    wide = 2 * n
    f = np.fft.fftfreq(wide, pixel)
    centre = (wide - 1) / 2 * pixel
    ramp_x = np.exp(-2j * np.pi * np.outer(f, points[:, 0] + centre))
    ramp_y = np.exp(-2j * np.pi * np.outer(f, points[:, 1] + centre))
    spectrum = (ramp_y * weights) @ ramp_x.T
    image = np.fft.ifft2(spectrum * transfer(np.hypot(f[:, None], f[None, :]))).real
    first = (wide - n) // 2
    return image[first : first + n, first : first + n]


def filaments(n: int, rng: np.random.Generator, number: int = 22) -> np.ndarray:
    """Points every 25 nm along gently curved lines that cross the field."""
    half = n * PIXEL_UM / 2
    lines = []
    for _ in range(number):
        length = int(3 * half / 0.025)
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.008, length))
        steps = 0.025 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        line = rng.uniform(-half, half, 2) + np.cumsum(steps, axis=0) - steps.sum(axis=0) / 2
        lines.append(line)
    points = np.concatenate(lines)
    return points[(np.abs(points) < 1.2 * half).all(axis=1)]


def make_stack(
    n: int = 256,
    photons: float = 100,
    ratio: float = 0.975,
    modulation: float = 0.8,
    seed: int = 0,
    orientations: int = 3,
    phases: int = 3,
    points: np.ndarray | None = None,
    read_noise: float = 1.6,
) -> Stack:
    rng = np.random.default_rng(seed)
    points = filaments(n, rng) if points is None else points
    weights = np.ones(len(points))
    even = _image(points, weights, n, PIXEL_UM, _otf)
    weights = weights * photons / np.percentile(even, 99.5)
    angles = rng.uniform(0, 0.5) + np.pi * np.arange(orientations) / orientations
    carrier = ratio * CUTOFF * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    start = rng.uniform(-np.pi, np.pi, orientations)
    frames = np.empty((orientations, phases, n, n))
    for o in range(orientations):
        for p in range(phases):
            argument = 2 * np.pi * points @ carrier[o] + start[o] + 2 * np.pi * p / phases
            light = 1 + modulation * np.cos(argument)
            mean = _image(points, weights * light, n, PIXEL_UM, _otf).clip(min=0)
            noise = rng.normal(0, read_noise, mean.shape) if read_noise else 0.0
            frames[o, p] = (rng.poisson(mean) if read_noise else mean) + noise
    return Stack(frames, carrier, start, points, weights)


def psnr(image: np.ndarray, truth: np.ndarray, border: int = 8) -> float:
    """After the best linear intensity scale; in decibels of the truth's maximum."""
    inner = (slice(border, -border), slice(border, -border))
    a, b = image[inner].ravel(), truth[inner].ravel()
    slope, offset = np.polyfit(a, b, 1)
    return float(20 * np.log10(b.max() / np.sqrt(np.mean((slope * a + offset - b) ** 2))))
