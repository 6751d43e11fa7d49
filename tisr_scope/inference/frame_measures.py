"""What one camera frame tells of its own health: sizes that do not move when the specimen does.

Nothing here knows of other frames: :mod:`~tisr_scope.inference.input_health` compares.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import uniform_filter

STRIPS = 8
"""Parts of a frame along each axis that are looked at on their own."""
_BLOCKS = 16
_NOISES = 10.0
"""A hot pixel stands out of its neighbours by so many standard deviations of the noise."""
_ROUNDS = 3
_MOST_HOT = 0.01
_AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]


@dataclass(frozen=True)
class FrameMeasures:
    """Sizes of one frame, its outlying pixels taken out.

    Attributes
    ----------
    mean : float
        Mean of all pixels.
    spread : float
        Standard deviation of the means of blocks: structure, without the noise of pixels.  Unlike
        the mean it does not contain a camera offset that nobody has subtracted.
    strip_means, strip_spreads : arrays, shape (2, STRIPS)
        The same of strips along rows and along columns.
    constant_lines : (float, float)
        Share of rows and of columns in which every pixel is the same.
    plateau : float
        Share of pixels at the largest value, if they are too many to be there by chance; else 0.
    fingerprint : int
        Of the bytes; equal for identical frames only.
    """

    mean: float
    spread: float
    strip_means: Float[np.ndarray, "2 strips"]
    strip_spreads: Float[np.ndarray, "2 strips"]
    constant_lines: tuple[float, float]
    plateau: float
    fingerprint: int


def measure(frame: Float[np.ndarray, "y x"]) -> FrameMeasures:
    """Sizes of a frame of finite values."""
    height, width = frame.shape
    rows, columns = max(height // _BLOCKS, 1), max(width // _BLOCKS, 1)
    tall, wide = height // rows, width // columns
    inner = frame[: tall * rows, : wide * columns]
    blocks = inner.reshape(tall, rows, wide, columns).mean(axis=(1, 3), dtype=np.float64)
    strips = [np.array_split(blocks, STRIPS, axis=0), np.array_split(blocks.T, STRIPS, axis=0)]
    return FrameMeasures(
        mean=float(frame.mean(dtype=np.float64)),
        spread=float(blocks.std()),
        strip_means=np.array([[s.mean() for s in along] for along in strips]),
        strip_spreads=np.array([[s.std() for s in along] for along in strips]),
        constant_lines=(_constant(frame), _constant(frame.T)),
        plateau=_plateau(frame),
        fingerprint=zlib.crc32(np.ascontiguousarray(frame).tobytes()),
    )


def _constant(frame: Float[np.ndarray, "lines pixels"]) -> float:
    return float((frame == frame[:, :1]).all(axis=1).mean())


def _plateau(frame: Float[np.ndarray, "y x"]) -> float:
    """Share of pixels at the top value, where far fewer lie just below it."""
    top = float(frame.max())
    at_top = int((frame == top).sum())
    below = int(((frame < top) & (frame > top - 0.03 * abs(top))).sum())
    by_chance = at_top < max(8, 1e-4 * frame.size) or at_top < 2 * below
    return 0.0 if by_chance else at_top / frame.size


def noise_of(steps: Float[np.ndarray, "*n"]) -> float:
    """Standard deviation of the noise of pixels, from differences of neighbours."""
    size = np.abs(steps)
    # Where most pixels hold no photon, the median is zero; single outliers lie beyond 99 %.
    bulk = size[size <= np.percentile(size, 99)]
    return max(float(np.median(size)) * 1.4826, float(np.sqrt((bulk**2).mean()))) / 2**0.5


def _gain(light: Float[np.ndarray, "y x"]) -> float:
    """Variance per unit of light of the brighter pixels; structures only make it larger."""
    smooth = uniform_filter(light, 3)[:, :-1]
    bright = smooth > np.percentile(smooth, 90)
    level = float(smooth[bright].mean()) if bright.any() else 0.0
    return noise_of(np.diff(light, axis=1)[bright]) ** 2 / level if level > 0 else 0.0


def peak_ratio(pixel_size_um: float, numerical_aperture: float, emission_nm: float) -> float:
    """How far a pixel may stand above the median of its eight neighbours, by the optics.

    The ratio of a point source (Gaussian, sigma 0.21 wavelengths over NA), with room for noise.
    """
    sigma_px = 0.21e-3 * emission_nm / numerical_aperture / pixel_size_um
    near, diagonal = np.exp(-1 / (2 * sigma_px**2)), np.exp(-1 / sigma_px**2)
    return float(5 / (near + diagonal))


def repair_hot_pixels(
    frame: Float[np.ndarray, "y x"], ratio: float = 4.0
) -> tuple[Float[np.ndarray, "y x"], Int[np.ndarray, "n 2"]]:
    """Frame without pixels that no microscope can have imaged, and where they were.

    Light is spread over neighbours by the optics; a cosmic ray or a hot pixel of the camera is
    not.  Pixels in question take the median of their neighbours.

    Parameters
    ----------
    frame : array, shape (y, x)
    ratio : float
        See :func:`peak_ratio`.

    Returns
    -------
    repaired : array
        The frame itself where nothing was found.
    places : array, shape (n, 2)
        Row and column of each; more than 1 % of all are left as they are.
    """
    floor, noise = float(np.percentile(frame, 5)), noise_of(np.diff(frame, axis=1))
    gain = _gain(frame - floor)
    repaired = frame
    found: Bool[np.ndarray, "y x"] = np.zeros(frame.shape, dtype=bool)
    for _ in range(_ROUNDS):  # a track of several pixels is taken off from its ends
        light = repaired - floor
        likely = (light > _NOISES * noise) & (light > 1.4 * uniform_filter(light, 3))
        y, x = np.nonzero(likely)
        edge = np.pad(light, 1, mode="reflect")
        neighbours = np.maximum([edge[y + 1 + dy, x + 1 + dx] for dy, dx in _AROUND], 0)
        around = np.median(neighbours, axis=0)
        # The mean, because the median of single photons is none.
        spread = np.sqrt(noise**2 + gain * neighbours.mean(axis=0))
        hot = light[y, x] > ratio * around + _NOISES * spread
        if not hot.any():
            break
        if repaired is frame:
            repaired = frame.copy()
        repaired[y[hot], x[hot]] = around[hot] + floor
        found[y[hot], x[hot]] = True
    if found.mean() > _MOST_HOT:
        return frame, np.argwhere(found)
    return repaired, np.argwhere(found)
