"""Hot and dead pixels of the camera: found because no lens draws anything as sharp, and repaired.

The finest thing that the optics can show is their point spread function.  A pixel that stands
further above its neighbours than the middle of the sharpest point can is no light from the sample.
Left in, it is spread over the image by every filter: a star, with side bands at the stripes'
carrier that pass for structure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import minimum_filter, uniform_filter

from tisr_scope.sim.optics.otf import DetectionOtf, frequency_grid

DEVIATIONS = 8.0
"""Over the scatter of pixels of the same brightness."""
NOISE = 3.0
"""Likewise, by which a pixel must exceed what the optics allow."""
SHARPER = 1.3
"""Over the sharpest point of the optics: their closed form has no error, the lens has."""
RANK = 3
"""Of the neighbours that a pixel is compared with: two of them may be defective too."""
BORDER = 2.0
"""More at the edge, where half of the neighbours are out of sight."""
DEAD = 0.5
"""Of the light of its darkest neighbours."""
MOST_SHARE = 0.01
"""More would be no defects."""
BINS = 12
NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


@dataclass(frozen=True)
class Defects:
    """Defective pixels of a stack.

    Attributes
    ----------
    hot, dead : array, shape (pixel, 2)
        y and x.
    """

    hot: Int[np.ndarray, "hot 2"]
    dead: Int[np.ndarray, "dead 2"]

    @property
    def all(self) -> Int[np.ndarray, "pixel 2"]:
        """Both kinds."""
        return np.concatenate([self.hot, self.dead])

    @property
    def remarks(self) -> list[str]:
        """What was repaired, in a sentence each."""
        return [
            f"{kind} pixels of the camera ({len(places)}) were replaced by their neighbours: "
            f"(y, x) = {_listed(places)}"
            for kind, places in (("hot", self.hot), ("dead", self.dead))
            if len(places)
        ]


def find_defects(
    frames: Float[np.ndarray, "*axes y x"], otf: DetectionOtf, pixel_um: float
) -> Defects:
    """Pixels that are defective in all frames.

    Parameters
    ----------
    frames : array, shape (..., y, x)
        Any unit, any offset.
    otf : DetectionOtf
        Its point spread function is the sharpest thing there can be.
    pixel_um : float
        Camera pixel in the sample.
    """
    mean = np.asarray(frames, np.float64).reshape(-1, *frames.shape[-2:]).mean(axis=0)
    padded = np.pad(mean, 1, mode="reflect")
    around = (9 * uniform_filter(padded, 3, mode="reflect")[1:-1, 1:-1] - mean) / 8
    away = mean - around
    scatter = _scatter(away, around)
    limit = SHARPER * sharpest_point(otf, pixel_um)
    floor = minimum_filter(mean, 7, mode="reflect")
    dark = float(np.percentile(mean, 1))
    hot, dead = [], []
    for y, x in np.argwhere(np.abs(away) > DEVIATIONS * scatter):
        near = np.sort([padded[y + 1 + j, x + 1 + i] for j, i in NEIGHBOURS])
        value, spread, below = mean[y, x], NOISE * scatter[y, x], floor[y, x]
        bright, dim = near[-RANK], near[RANK - 1]
        border = y in (0, mean.shape[0] - 1) or x in (0, mean.shape[1] - 1)
        sharpest = limit * (BORDER if border else 1.0)
        if value - below > sharpest * max(bright - below, 0.0) + spread:
            hot.append((y, x))
        elif dim - value > spread and value - dark < DEAD * (dim - dark):
            dead.append((y, x))
    if len(hot) + len(dead) > MOST_SHARE * mean.size:
        hot, dead = [], []
    return Defects(_places(hot), _places(dead))


def repaired(
    frames: Float[np.ndarray, "*axes y x"], defects: Defects
) -> Float[np.ndarray, "*axes y x"]:
    """Frames with every defective pixel replaced by the median of its sound neighbours."""
    places = {(int(y), int(x)) for y, x in defects.all}
    if not places:
        return frames
    mended = np.array(frames)
    height, width = frames.shape[-2:]
    for y, x in places:
        reach = 1
        sound: list[tuple[int, int]] = []
        while len(sound) < 3 and reach < 4:
            sound = [
                (j, i)
                for j in range(max(y - reach, 0), min(y + reach + 1, height))
                for i in range(max(x - reach, 0), min(x + reach + 1, width))
                if (j, i) not in places
            ]
            reach += 1
        if sound:
            rows, columns = zip(*sound, strict=True)
            mended[..., y, x] = np.median(frames[..., list(rows), list(columns)], axis=-1)
    return mended


@lru_cache(maxsize=32)
def sharpest_point(otf: DetectionOtf, pixel_um: float) -> float:
    """Middle of a point's image over its third brightest neighbour, where that is largest.

    Over all places of the point within a pixel.
    """
    import torch

    n = 32
    fy, fx = frequency_grid((n, n), pixel_um)
    transfer = otf(fy, fx).to(torch.complex128)
    largest = 1.0
    for y in np.linspace(0, 0.5, 4):
        for x in np.linspace(0, 0.5, 4):
            ramp = torch.exp(-2j * math.pi * pixel_um * (fy * y + fx * x))
            spread = torch.fft.ifft2(transfer * ramp).real.numpy()
            near = sorted(float(spread[j, i]) for j, i in NEIGHBOURS)
            largest = max(largest, float(spread[0, 0]) / max(near[-RANK], 1e-9))
    return largest


# ------------------------------------------------------------------------------------- inside


def _scatter(
    away: Float[np.ndarray, "y x"], light: Float[np.ndarray, "y x"]
) -> Float[np.ndarray, "y x"]:
    """Robust deviation of pixels of the same brightness from their neighbours."""
    edges = np.quantile(light, np.linspace(0, 1, BINS + 1)[1:-1])
    number = np.searchsorted(edges, light)
    spread = np.array(
        [
            1.4826 * np.median(np.abs(away[number == n])) if (number == n).any() else 0.0
            for n in range(BINS)
        ]
    )
    least = 1e-6 * float(np.abs(away).max()) + 1e-12
    scatter: Float[np.ndarray, "y x"] = np.maximum(spread, least)[number]
    return scatter


def _places(found: list[tuple[int, int]]) -> Int[np.ndarray, "pixel 2"]:
    return np.array(found, np.int64).reshape(-1, 2)


def _listed(places: Int[np.ndarray, "pixel 2"], most: int = 12) -> str:
    told = ", ".join(f"({y}, {x})" for y, x in places[:most].tolist())
    return told if len(places) <= most else f"{told} and {len(places) - most} more"
