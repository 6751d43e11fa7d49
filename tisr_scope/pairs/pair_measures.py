"""The numbers of a time point, from its raw frames and its reconstruction, in photo-electrons.

* *motion*: wide field of the first against that of the last orientation at the highest level,
  extended to the time from the first to the last raw frame; see :mod:`tisr_scope.metrics.motion`.
* *saturation*: largest share of full pixels in any raw frame of a level.
* *signal to noise* of the wide field at each level, ``S / sqrt((S + B + r^2) / N)``: ``S`` is what
  the brightest 5 % of the field (found at the highest level) have over the background ``B`` of its
  darkest 20 %, in electrons a raw frame; ``r`` the read noise, ``N`` the number of patterns.
* *distance* of input and target: shift of the wide field of each level against the SIM image.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from tisr_scope.metrics.motion import motion_between, shift_between
from tisr_scope.pairs.pair_quality import TimePoint

READ_NOISE_E = 1.6
"""Root mean square of scientific CMOS cameras, in electrons."""
CLIPPED = 1e-3
"""Share of saturated pixels up to which motion can be measured."""
BRIGHT_SHARE, DARK_SHARE = 0.05, 0.20


def measure_time_point(
    t: int,
    electrons: Float[np.ndarray, "orientation phase level y x"],
    pixel_nm: float,
    saturation_e: float,
) -> TimePoint:
    """Numbers of the raw frames of one time point.

    Parameters
    ----------
    t : int
        Its number.
    electrons : array, shape (orientation, phase, level, y, x)
        Camera offset removed.
    pixel_nm : float
        Of the camera in the sample.
    saturation_e : float
        Value from which a pixel is full.
    """
    orientations, phases = electrons.shape[:2]
    finite = np.isfinite(electrons)
    frames = np.where(finite, electrons, 0.0).astype(np.float32, copy=False)
    means = frames.mean(axis=(-2, -1), dtype=np.float64)
    wide = frames.mean(axis=(0, 1), dtype=np.float64)
    signal, background = _signal(wide)
    noise = np.sqrt(
        np.maximum(signal + background, 0) / (orientations * phases)
        + READ_NOISE_E**2 / (orientations * phases)
    )
    full = (frames >= saturation_e).mean(axis=(-2, -1))
    # Clipped structures keep their places whatever they do.
    seen = orientations > 1 and full[:, :, -1].max() <= CLIPPED
    motion = _motion_nm(frames[:, :, -1], pixel_nm) if seen else (None, None)
    return TimePoint(
        t=t,
        frame_means_e=tuple(float(v) for v in means.ravel()),
        saturated=tuple(float(v) for v in full.max(axis=(0, 1))),
        signal_e=tuple(float(v) for v in signal),
        background_e=tuple(float(v) for v in background),
        snr=tuple(float(v) for v in signal / noise),
        motion_nm=motion[0],
        drift_nm=motion[1],
        blank_frames=int((np.ptp(frames, axis=(-2, -1)) == 0).sum()),
        not_finite=int((~finite).sum()),
    )


def with_offsets(
    point: TimePoint,
    widefield: Float[np.ndarray, "level y x"],
    target: Float[np.ndarray, "fy fx"],
    pixel_nm: float,
) -> TimePoint:
    """The time point with the distances between its inputs and its target."""
    if not np.isfinite(target).all():
        return replace(point, not_finite=point.not_finite + int((~np.isfinite(target)).sum()))
    binned = on_input_grid(target, widefield.shape[1:])
    found = [shift_between(image.astype(np.float64), binned) for image in widefield]
    return replace(
        point,
        offset_nm=tuple(None if s is None else s.length_px * pixel_nm for s in found),
        offset_error_nm=tuple(None if s is None else s.error_px * pixel_nm for s in found),
    )


def on_input_grid(
    target: Float[np.ndarray, "fy fx"], shape: tuple[int, ...]
) -> Float[np.ndarray, "y x"]:
    """Target with the pixels of its input.

    Both grids are centre-aligned: the mean of f x f pixels lies where the input pixel lies.
    """
    rows, columns = shape
    split = target.reshape(rows, target.shape[0] // rows, columns, target.shape[1] // columns)
    return np.asarray(split.mean(axis=(1, 3), dtype=np.float64))


# ------------------------------------------------------------------------------------- inside


def _signal(
    wide: Float[np.ndarray, "level y x"],
) -> tuple[Float[np.ndarray, " level"], Float[np.ndarray, " level"]]:
    """Light of the structures over the background, and the background, at each level."""
    fine, coarse = gaussian_filter(wide[-1], 1.0), gaussian_filter(wide[-1], 4.0)
    bright = fine >= np.quantile(fine, 1 - BRIGHT_SHARE)
    # Smoothed well, or the darkest pixels would be those that noise made dark.
    dark = coarse <= np.quantile(coarse, DARK_SHARE)
    background = wide[:, dark].mean(axis=1)
    return wide[:, bright].mean(axis=1) - background, background


def _motion_nm(
    frames: Float[np.ndarray, "orientation phase y x"], pixel_nm: float
) -> tuple[float | None, float | None]:
    """Motion of structures and of the field, from the first to the last raw frame."""
    orientations, phases = frames.shape[:2]
    first, last = (frames[n].mean(axis=0, dtype=np.float64) for n in (0, -1))
    found = motion_between(first, last)
    if found is None:
        return None, None
    # The means of first and last orientation lie (M - 1) N patterns apart, the ends M N - 1.
    longer = (orientations * phases - 1) / ((orientations - 1) * phases)
    scale = longer * pixel_nm
    return found.rms_px * scale, math.hypot(*found.drift_px) * scale
