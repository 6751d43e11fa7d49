"""How far structures moved between two images of the same sample, in pixels.

Both measures are least squares on the brightness itself (Lucas & Kanade, 1981): where structures
move by ``d``, the image changes by ``-d . gradient``, beside a change of brightness and background.
Every shift comes with its variance from the noise, so that noise can be taken off a mean square
and directions in which nothing can be seen (along a straight filament) do not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from scipy.ndimage import shift as moved
from skimage.registration import phase_cross_correlation

TILE_PX = 24
"""Side of the squares in which structures move together."""
FINE_PX, COARSE_PX = 1.5, 4.0
"""Smoothing: the coarse one sees jumps of several pixels, the fine one is accurate."""
CLEAR_PX = 0.25
"""Largest standard error of a shift that counts."""
EDGE_PX = 4
_STEPS = 8
_CONVERGED_PX = 2e-3
_FAR_PX = 0.5
_UNSEEN = 1e-4
_FAINT = 0.1
_ALIKE = 1e-2
_UNKNOWN = 1e6


@dataclass(frozen=True)
class Motion:
    """Motion between two images, over the whole field.

    Attributes
    ----------
    drift_px : (float, float)
        Shift of the field as a whole, y and x.
    drift_error_px : float
        Its standard error.
    rms_px : float
        Root mean square of the shifts of the tiles, noise taken off: drift, and structures that
        move one by one.
    tiles : int
        Tiles with structure clear enough to count.
    """

    drift_px: tuple[float, float]
    drift_error_px: float
    rms_px: float
    tiles: int


@dataclass(frozen=True)
class Shift:
    """Shift of one image against another, y and x, with the standard error of either."""

    y_px: float
    x_px: float
    error_px: float

    @property
    def length_px(self) -> float:
        """Distance."""
        return math.hypot(self.y_px, self.x_px)


def motion_between(
    first: Float[np.ndarray, "y x"], last: Float[np.ndarray, "y x"], *, tile: int = TILE_PX
) -> Motion | None:
    """Motion of structures from one image to another of equal quality.

    Parameters
    ----------
    first, last : array, shape (y, x)
        Wide field, such as those of the first and last orientation.
    tile : int
        Side of a square in which structures move together, in pixels.

    Returns
    -------
    motion : Motion or None
        None where no structure is bright enough to see motion.
    """
    jump = _whole_jump(first, last)
    first, last = (_overlap(image, way * jump) for image, way in ((first, 1), (last, -1)))
    tile = min(tile, *first.shape)
    shifts, covariances = _tile_shifts(first, last, tile, COARSE_PX)
    known = np.trace(covariances, axis1=-2, axis2=-1) < 2 * CLEAR_PX**2
    coarse = np.where(known[..., None], shifts, 0.0)
    if np.abs(coarse).max() > _FAR_PX:
        field = _to_pixels(coarse, tile, first.shape)
        before, after = _pulled(first, -field / 2), _pulled(last, field / 2)
    else:
        coarse, before, after = np.zeros_like(coarse), first, last
    shifts, covariances = _tile_shifts(before, after, tile, FINE_PX)
    return _over_the_field(shifts + coarse + jump, covariances)


def shift_between(
    image: Float[np.ndarray, "y x"], reference: Float[np.ndarray, "y x"]
) -> Shift | None:
    """Shift of a noisy image against a clean reference of possibly other sharpness.

    The reference is moved until nothing is left to explain, so that symmetric blur of one of them
    does not bias the shift.

    Parameters
    ----------
    image, reference : array, shape (y, x)
        On the same grid.

    Returns
    -------
    shift : Shift or None
        None where no shift can be found: no structure, or no likeness.
    """
    found = _whole_jump(reference, image).astype(np.float64)
    smooth = gaussian_filter(image, FINE_PX)
    noise = _noise_variance(image, FINE_PX)
    for _ in range(_STEPS):
        there = moved(reference, found, order=3, mode="nearest")
        columns = _columns(there, FINE_PX)
        inner = (slice(EDGE_PX, -EDGE_PX), slice(EDGE_PX, -EDGE_PX))
        design = columns[inner].reshape(-1, 4)
        size = np.linalg.norm(design, axis=0)
        if not np.all(size > 0):
            return None
        design = design / size
        normal = design.T @ design
        solution = np.linalg.lstsq(normal, design.T @ smooth[inner].ravel(), rcond=None)[0] / size
        gain = solution[1]
        if gain <= 0:
            return None
        step = -solution[2:] / gain
        found = found + np.clip(step, -2, 2)
        if np.abs(step).max() < _CONVERGED_PX:
            break
    covariance = np.linalg.pinv(normal)[2:, 2:] * noise / np.outer(size[2:], size[2:]) / gain**2
    error = math.sqrt(max(0.0, float(np.trace(covariance))) / 2)
    return Shift(float(found[0]), float(found[1]), error)


# ------------------------------------------------------------------------------------- inside


def _whole_jump(
    first: Float[np.ndarray, "y x"], last: Float[np.ndarray, "y x"]
) -> Float[np.ndarray, " yx"]:
    """Shift of the field in whole pixels; that of a stage, too large for gradients."""
    window = np.outer(np.hanning(first.shape[0] + 2)[1:-1], np.hanning(first.shape[1] + 2)[1:-1])
    a, b = (
        (smooth - smooth.mean()) * window
        for smooth in (gaussian_filter(image, FINE_PX) for image in (first, last))
    )
    if not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return np.zeros(2)
    jump, _, _ = phase_cross_correlation(b, a, normalization=None)
    # Less than a quarter of the field in common is no match.
    near = np.all(np.abs(jump) < 0.5 * np.array(first.shape))
    return np.asarray(jump, np.float64) if near else np.zeros(2)


def _overlap(
    image: Float[np.ndarray, "y x"], jump: Float[np.ndarray, " yx"]
) -> Float[np.ndarray, "part_y part_x"]:
    """Part of an image that another one shows too, which the field left by ``jump``."""
    height, width = image.shape
    (top, left), (bottom, right) = np.maximum(-jump, 0).astype(int), np.maximum(jump, 0).astype(int)
    return image[top : height - bottom, left : width - right]


def _columns(image: Float[np.ndarray, "y x"], sigma: float) -> Float[np.ndarray, "y x 4"]:
    """What a change consists of: background, brightness, shift along y and x."""
    return np.stack(
        [
            np.ones_like(image),
            gaussian_filter(image, sigma),
            gaussian_filter(image, sigma, order=(1, 0)),
            gaussian_filter(image, sigma, order=(0, 1)),
        ],
        axis=-1,
    ).astype(np.float64)


def _noise_variance(image: Float[np.ndarray, "y x"], sigma: float) -> float:
    """Variance of white noise from what smoothing takes away, robust against structure."""
    rest = image - gaussian_filter(image, sigma)
    centre, square = 1 / (2 * math.pi * sigma**2), 1 / (4 * math.pi * sigma**2)
    median = float(np.median(np.abs(rest - np.median(rest))))
    return (1.4826 * median) ** 2 / (1 - 2 * centre + square)


def _tile_shifts(
    first: Float[np.ndarray, "y x"], last: Float[np.ndarray, "y x"], tile: int, sigma: float
) -> tuple[Float[np.ndarray, "rows columns 2"], Float[np.ndarray, "rows columns 2 2"]]:
    """Shift of every tile and its covariance.

    The gradient is that of the mean of both images: its noise does not go along with that of the
    difference, and what it adds to the squared gradient is known and taken off.
    """
    difference = last - first
    design = _tiles(_columns((first + last) / 2, sigma), tile)
    change = _tiles(gaussian_filter(difference, sigma)[..., None], tile)
    rough = _tiles((difference - gaussian_filter(difference, sigma))[..., None], tile)
    centre, square = 1 / (2 * math.pi * sigma**2), 1 / (4 * math.pi * sigma**2)
    noise = rough.var(axis=(2, 3)) / (1 - 2 * centre + square)
    normal = np.einsum("rcni,rcnj->rcij", design, design)
    pixels = tile**2
    for place, factor in ((1, square), (2, square / (2 * sigma**2)), (3, square / (2 * sigma**2))):
        false = pixels * noise / 4 * factor
        power = normal[..., place, place]
        normal[..., place, place] = np.maximum(power - false, _FAINT * false)
    right = np.einsum("rcni,rcnj->rci", design, change)
    # Unit columns; a combination of them that the tile does not show gets a variance that says so.
    power = np.einsum("rcii->rci", normal)
    dark = (power <= 0).any(axis=-1)
    size = np.sqrt(np.where(dark[..., None], 1.0, power))
    outer = size[..., :, None] * size[..., None, :]
    values, vectors = np.linalg.eigh(normal / outer)
    inverse = np.einsum("rcik,rck,rcjk->rcij", vectors, 1 / values.clip(min=_UNSEEN), vectors)
    solution = np.einsum("rcij,rcj->rci", inverse, right / size) / size
    # What the model leaves is noise too; it is as smooth as the images are, so each pixel of it
    # counts for fewer.
    rest = (change[..., 0] - np.einsum("rcni,rci->rcn", design, solution)).var(axis=-1) / square
    covariance = inverse * np.maximum(noise, rest)[..., None, None] / outer
    shifts, covariances = -solution[..., 2:], covariance[..., 2:, 2:]
    # Gradients reach no farther than structures are wide: a shift beyond that is none.
    unknown = dark | (np.abs(shifts).max(axis=-1) > tile / 4)
    covariances = np.where(unknown[..., None, None], _UNKNOWN * np.eye(2), covariances)
    return np.where(unknown[..., None], 0.0, shifts), covariances


def _tiles(values: Float[np.ndarray, "y x n"], tile: int) -> Float[np.ndarray, "r c pixels n"]:
    rows, columns = values.shape[0] // tile, values.shape[1] // tile
    cut = values[: rows * tile, : columns * tile]
    split = cut.reshape(rows, tile, columns, tile, -1).swapaxes(1, 2)
    return split.reshape(rows, columns, tile * tile, -1)


def _to_pixels(
    shifts: Float[np.ndarray, "rows columns 2"], tile: int, shape: tuple[int, ...]
) -> Float[np.ndarray, "2 y x"]:
    """Shifts of tiles as a smooth field over the pixels."""
    fields = []
    for axis in range(2):
        rows, columns = shifts.shape[:2]
        field = zoom(shifts[..., axis], tile, order=1, mode="nearest", grid_mode=True)
        pad = [(0, shape[0] - rows * tile), (0, shape[1] - columns * tile)]
        fields.append(np.pad(field, pad, mode="edge"))
    return np.stack(fields)


def _pulled(
    image: Float[np.ndarray, "y x"], field: Float[np.ndarray, "2 y x"]
) -> Float[np.ndarray, "y x"]:
    """Image whose pixels are taken from where the field points."""
    places = np.indices(image.shape) + field
    return np.asarray(map_coordinates(image, places, order=3, mode="nearest"))


def _over_the_field(
    shifts: Float[np.ndarray, "rows columns 2"], covariances: Float[np.ndarray, "rows columns 2 2"]
) -> Motion | None:
    """Drift and mean square of all directions in which a tile shows its motion."""
    variances, directions = np.linalg.eigh(covariances.reshape(-1, 2, 2))
    clear = variances < CLEAR_PX**2
    if not clear.any():
        return None
    # Rows: one direction of one tile.
    direction = np.swapaxes(directions, 1, 2)[clear]
    along = np.einsum("ntd,nd->nt", np.swapaxes(directions, 1, 2), shifts.reshape(-1, 2))[clear]
    variance = variances[clear]
    # Tiles differ by more than noise where structures move one by one: no tile rules the mean.
    weight = 1 / (variance + (CLEAR_PX / 4) ** 2)
    # Where all structures run alike, motion along them stays 0 instead of being made up.
    inverse = np.linalg.pinv((direction * weight[:, None]).T @ direction, rcond=_ALIKE)
    drift = inverse @ (direction.T @ (weight * along))
    spread = inverse @ ((direction * (weight**2 * variance)[:, None]).T @ direction) @ inverse
    y, x = direction.T
    # E[(e . d)^2] = e S e: the second moments S, whose trace is the mean square shift.
    moments = np.linalg.lstsq(
        np.stack([y**2, 2 * y * x, x**2], axis=1), along**2 - variance, rcond=_ALIKE
    )[0]
    return Motion(
        (float(drift[0]), float(drift[1])),
        math.sqrt(max(0.0, float(np.trace(spread))) / 2),
        math.sqrt(max(0.0, float(moments[0] + moments[2]))),
        int(clear.any(axis=1).sum()),
    )
