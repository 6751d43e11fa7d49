"""Kinds of simulated SIM stacks that instruments and samples give, on top of ``sim_truth``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter, shift
from sim_truth import MARGIN, OVER, PIXEL_UM, Stack, filaments, make_stack

SAMPLES = ("filaments", "six filaments", "beads", "many beads", "mesh", "tubes")
CONDITIONS = ("ideal", "haze", "speckled haze", "drift", "bleaching", "uneven light")


def sample_of(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Sample on the fine grid, with the margin."""
    size = (n + 2 * MARGIN) * OVER
    if kind == "filaments":
        return filaments(n, rng)
    sample = np.full((size, size), 2e-3)
    if kind == "six filaments":
        part = filaments(n, rng)
        corner = np.zeros_like(part)
        for _ in range(6):
            heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.01, size // 5))
            start = rng.uniform((MARGIN + 4) * OVER, size // 3, 2)
            y, x = np.rint(start[:, None] + np.cumsum([np.sin(heading), np.cos(heading)], 1))
            y, x = (v.astype(int).clip(0, size - 1) for v in (y, x))
            np.add.at(corner, (y, x), 1.0)
        return corner + 1e-3
    if kind in ("beads", "many beads"):
        count = 25 if kind == "beads" else n * n // 60
        y, x = rng.integers(MARGIN * OVER, size - MARGIN * OVER, (2, count))
        np.add.at(sample, (y, x), rng.uniform(50, 150, count))
        return sample
    if kind == "mesh":
        noise = gaussian_filter(rng.normal(size=(size, size)), 8)
        ridge = np.abs(noise) < 0.06 * noise.std()
        return sample + ridge * rng.uniform(0.5, 1.5, ridge.shape)
    lines = filaments(n // 2, rng)
    lines = np.pad(lines - lines.min(), (size - lines.shape[0]) // 2, mode="reflect")
    outer, core = gaussian_filter(lines, 12), gaussian_filter(lines, 9)
    return sample + (outer - 0.75 * core).clip(min=0)  # hollow, about 0.4 um


def make_kind(
    kind: str,
    condition: str,
    *,
    n: int = 128,
    ratio: float = 0.92,
    modulation: float = 0.7,
    seed: int = 0,
) -> Stack:
    """Noiseless stack of a sample under a condition; ``photons`` of its brightest 0.5 % at 1."""
    rng = np.random.default_rng(seed + 10_000)
    sample = sample_of(kind, n, rng)
    stack = make_stack(n=n, ratio=ratio, modulation=modulation, seed=seed, sample=sample)
    mean = stack.mean
    if condition in ("haze", "speckled haze"):
        wide = mean.mean(axis=(0, 1))
        if condition == "haze":
            blur = gaussian_filter(wide, 1.0 / PIXEL_UM, mode="reflect")
        else:
            points = np.zeros_like(wide)
            y, x = rng.integers(0, n, (2, n * n // 400))
            np.add.at(points, (y, x), rng.exponential(1.0, y.size))
            blur = gaussian_filter(points, 0.4 / PIXEL_UM, mode="wrap")
        mean = mean + 3 * wide.mean() * blur / blur.mean()
    elif condition == "drift":
        moved = np.empty_like(mean)
        for o in range(len(mean)):
            turn = rng.uniform(0, 2 * np.pi)
            away = o * 0.022 / PIXEL_UM * np.array([0.0, np.sin(turn), np.cos(turn)])
            moved[o] = shift(mean[o], away, order=5, mode="nearest")
        mean = moved
    elif condition == "bleaching":
        frames = mean.shape[0] * mean.shape[1]
        loss = 0.92 ** (np.arange(frames) / (frames - 1))
        mean = mean * loss.reshape(mean.shape[:2])[..., None, None]
    elif condition == "uneven light":
        axis = np.linspace(-1, 1, n)
        bell = np.exp(-0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2) / 0.8**2)
        mean = mean * bell
    return replace(stack, mean=mean.clip(min=0))
