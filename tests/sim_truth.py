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
        camera = _Camera(self.points, 2 * n, PIXEL_UM / 2)
        return camera(4 * self.weights, lambda f: np.cos(np.pi / 2 * np.clip(f / edge, 0, 1)))


def _otf(frequency: np.ndarray) -> np.ndarray:
    s = np.clip(frequency / CUTOFF, 0, 1)
    return 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))


class _Camera:
    """Exact images of points on a periodic field a quarter wider than what is kept of it."""

    def __init__(self, points: np.ndarray, n: int, pixel: float) -> None:
        self.n, self.wide = n, n + n // 4
        f = np.fft.fftfreq(self.wide, pixel)
        centre = (self.wide - 1) / 2 * pixel
        self.ramp_x = np.exp(-2j * np.pi * np.outer(points[:, 0] + centre, f))
        self.ramp_y = np.exp(-2j * np.pi * np.outer(f, points[:, 1] + centre))
        self.radius = np.hypot(f[:, None], f[None, :])

    def __call__(self, weights: np.ndarray, transfer) -> np.ndarray:
        spectrum = (self.ramp_y * weights) @ self.ramp_x
        image = np.fft.ifft2(spectrum * transfer(self.radius)).real
        first = (self.wide - self.n) // 2
        return image[first : first + self.n, first : first + self.n]


def filaments(n: int, rng: np.random.Generator, number: int = 16) -> np.ndarray:
    """Points every 50 nm along gently curved lines that cross the field."""
    half = n * PIXEL_UM / 2
    lines = []
    for _ in range(number):
        length = int(3 * half / 0.05)
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.016, length))
        steps = 0.05 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        line = rng.uniform(-half, half, 2) + np.cumsum(steps, axis=0) - steps.sum(axis=0) / 2
        lines.append(line)
    points = np.concatenate(lines)
    return points[(np.abs(points) < 1.15 * half).all(axis=1)]


def make_stack(
    n: int = 128,
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
    camera = _Camera(points, n, PIXEL_UM)
    even = camera(weights, _otf)
    weights = weights * photons / np.percentile(even, 99.5)
    angles = rng.uniform(0, 0.5) + np.pi * np.arange(orientations) / orientations
    carrier = ratio * CUTOFF * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    start = rng.uniform(-np.pi, np.pi, orientations)
    frames = np.empty((orientations, phases, n, n))
    for o in range(orientations):
        for p in range(phases):
            argument = 2 * np.pi * points @ carrier[o] + start[o] + 2 * np.pi * p / phases
            light = 1 + modulation * np.cos(argument)
            mean = camera(weights * light, _otf).clip(min=0)
            noise = rng.normal(0, read_noise, mean.shape) if read_noise else 0.0
            frames[o, p] = (rng.poisson(mean) if read_noise else mean) + noise
    return Stack(frames, carrier, start, points, weights)


def psnr(image: np.ndarray, truth: np.ndarray, border: int = 8) -> float:
    """After the best linear intensity scale; in decibels of the truth's maximum."""
    inner = (slice(border, -border), slice(border, -border))
    a, b = image[inner].ravel(), truth[inner].ravel()
    slope, offset = np.polyfit(a, b, 1)
    return float(20 * np.log10(b.max() / np.sqrt(np.mean((slope * a + offset - b) ** 2))))
