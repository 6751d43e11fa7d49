"""Numbers that decide whether a time point may teach a network.

Everything is measured in photo-electrons, on the raw frames of one time point, before and after
its reconstruction:

* *motion*: wide field of the first against that of the last orientation at the highest level,
  extended to the time from the first to the last raw frame; see :mod:`tisr_scope.data.motion`.
* *saturation*: largest share of full pixels in any raw frame of a level.
* *signal to noise* of the wide field at each level, ``S / sqrt((S + B + r^2) / N)``: ``S`` is what
  the brightest 5 % of the field (found at the highest level) have over the background ``B`` of its
  darkest 20 %, in electrons a raw frame; ``r`` the read noise, ``N`` the number of patterns.
* *frames without light*: raw frames much darker than those of their level, or without any noise.
* *distance* of input and target: shift of the wide field of each level against the SIM image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter

from tisr_scope.data.motion import motion_between, shift_between
from tisr_scope.errors import DataError

READ_NOISE_E = 1.6
"""Root mean square of scientific CMOS cameras, in electrons."""
BRIGHT_SHARE, DARK_SHARE = 0.05, 0.20
LEAST_SNR = 3.0
"""At the highest level; below it there is no structure to reconstruct."""
DARK_FRAME = 0.3
"""A raw frame with less than this share of its level's light had none, or not all of it."""


Kind = Literal["motion", "light", "saturation", "registration", "numbers", "gap"]


@dataclass(frozen=True)
class Reason:
    """Why a time point is not good: what kind of fault, and in words with its numbers."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Limits:
    """What a time point, and a run of them, must fulfil.

    Attributes
    ----------
    motion_nm : float
        Largest motion from the first to the last raw frame: about what linear SIM resolves.
    offset_nm : float
        Largest distance of input and target, beyond three standard errors.
    saturated : float
        Largest share of saturated pixels in a raw frame.
    least_frames : int
        Time points in a row that a pair needs: the window of a network.  A recording of which
        nothing is dropped is kept whatever its length.
    keep_all : bool
        Only tell, drop nothing.
    """

    motion_nm: float = 100.0
    offset_nm: float = 40.0
    saturated: float = 1e-3
    least_frames: int = 7
    keep_all: bool = False

    def __post_init__(self) -> None:
        if not (self.motion_nm > 0 and self.offset_nm > 0 and self.saturated >= 0):
            raise DataError("limits of motion and distance are positive, in nanometres")
        if self.least_frames < 1:
            raise DataError(f"a pair needs at least one time point, not {self.least_frames}")


@dataclass(frozen=True)
class TimePoint:
    """Numbers of one time point.

    Attributes
    ----------
    t : int
        Counted from 0.
    frame_means_e : tuple of float
        Light of every raw frame, in the order orientation, phase, level.
    saturated, signal_e, background_e, snr : tuple of float
        For each level, lowest first.
    motion_nm, drift_nm : float or None
        Root mean square motion of structures, and that of the whole field; None where no structure
        is clear enough, or where there is only one orientation.
    blank_frames : int
        Raw frames whose pixels are all alike.
    not_finite : int
        NaN or infinite pixels in input and target.
    offset_nm, offset_error_nm : tuple of float or None
        Distance of the wide field of each level from the target, and its standard error; empty
        before there is a target.
    reasons : tuple of Reason
        Why the time point is not good; empty where it is.
    """

    t: int
    frame_means_e: tuple[float, ...]
    saturated: tuple[float, ...]
    signal_e: tuple[float, ...]
    background_e: tuple[float, ...]
    snr: tuple[float, ...]
    motion_nm: float | None
    drift_nm: float | None
    blank_frames: int = 0
    not_finite: int = 0
    offset_nm: tuple[float | None, ...] = ()
    offset_error_nm: tuple[float | None, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def brightness_e(self) -> float:
        """Light of the highest level over its background, mean over the field."""
        levels = len(self.snr)
        return float(np.mean(self.frame_means_e[levels - 1 :: levels])) - self.background_e[-1]


@dataclass(frozen=True)
class PairQuality:
    """What was found in one recording, channel and position.

    Attributes
    ----------
    name : str
        Of the pair.
    recording, channel : str
    position : int
    levels_mw : tuple of float
    interval_s : float
    points : tuple of TimePoint
    limits : Limits
    runs : tuple of (int, int)
        First and last time point of every stretch that became a pair.
    rejected : str
        Why nothing became a pair; empty otherwise.
    pairs : tuple of str
        Folder of each run.
    """

    name: str
    recording: str
    channel: str
    position: int
    levels_mw: tuple[float, ...]
    interval_s: float
    points: tuple[TimePoint, ...]
    limits: Limits
    runs: tuple[tuple[int, int], ...] = ()
    rejected: str = ""
    pairs: tuple[str, ...] = field(default=())

    @property
    def kept(self) -> tuple[int, ...]:
        """Time points that became part of a pair."""
        return tuple(t for first, last in self.runs for t in range(first, last + 1))

    @property
    def bleached(self) -> float | None:
        """Share of the light lost from the first to the last time point (exponential fit)."""
        light = np.array([point.brightness_e for point in self.points])
        if len(light) < 2 or not np.all(light > 0):
            return None
        slope = float(np.polyfit(np.arange(len(light)), np.log(light), 1)[0])
        return 1 - math.exp(slope * (len(light) - 1))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "kept": list(self.kept), "bleached": self.bleached}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> PairQuality:
        """What :meth:`to_dict` gave, also after it went through JSON."""
        told = {key: value for key, value in content.items() if key not in {"kept", "bleached"}}
        points = tuple(_time_point(point) for point in told["points"])
        return cls(
            **{
                **told,
                "points": points,
                "limits": Limits(**told["limits"]),
                "levels_mw": tuple(told["levels_mw"]),
                "runs": tuple((int(a), int(b)) for a, b in told["runs"]),
                "pairs": tuple(told["pairs"]),
            }
        )


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
    motion = _motion_nm(frames[:, :, -1], pixel_nm) if orientations > 1 else (None, None)
    full = (frames >= saturation_e).mean(axis=(-2, -1))
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


def judged(points: Sequence[TimePoint], limits: Limits) -> tuple[TimePoint, ...]:
    """The time points with the reasons against them."""
    dark = dark_frames(points)
    return tuple(
        replace(point, reasons=tuple(_reasons(point, limits, int(missing))))
        for point, missing in zip(points, dark, strict=True)
    )


def dark_frames(points: Sequence[TimePoint]) -> Float[np.ndarray, " time"]:
    """Raw frames of each time point with far less light than their neighbours in time.

    The measure is the median of the same pattern and level over the nearest time points, so that
    bleaching over a long recording is no loss of light.
    """
    means = np.array([point.frame_means_e for point in points])
    half = 3
    around = np.stack(
        [np.median(means[max(0, t - half) : t + half + 1], axis=0) for t in range(len(means))]
    )
    # A pattern that fails at every time point is told by the others of its level.
    levels = len(points[0].snr)
    level_wide = np.median(around.reshape(len(means), -1, levels), axis=1, keepdims=True)
    usual = np.maximum(around.reshape(len(means), -1, levels), level_wide).reshape(means.shape)
    return np.asarray(((means < DARK_FRAME * usual) | (usual <= 0)).sum(axis=1))


def runs_of(good: Bool[np.ndarray, " time"], least: int) -> tuple[tuple[int, int], ...]:
    """First and last of every stretch of good time points that is long enough.

    A recording without any loss is one run whatever its length.
    """
    if len(good) and good.all():
        return ((0, len(good) - 1),)
    edges = np.flatnonzero(np.diff(np.r_[0, good.astype(int), 0]))
    stretches = zip(edges[::2], edges[1::2], strict=True)
    return tuple((int(a), int(b) - 1) for a, b in stretches if b - a >= least)


def decide(quality: PairQuality) -> PairQuality:
    """Judge every time point, choose the runs, and say why where nothing is left."""
    limits = quality.limits
    points = judged(quality.points, limits)
    good = np.array([limits.keep_all or not point.reasons for point in points])
    runs = runs_of(good, limits.least_frames)
    kept = {t for first, last in runs for t in range(first, last + 1)}
    alone = Reason("gap", f"fewer than {limits.least_frames} time points in a row are good here")
    points = tuple(
        point if point.reasons or point.t in kept else replace(point, reasons=(alone,))
        for point in points
    )
    rejected = ""
    if not runs:
        longest = max((b - a + 1 for a, b in runs_of(good, 1)), default=0) if good.any() else 0
        rejected = (
            f"{int(good.sum())} of {len(points)} time points are good, at most {longest} in a row; "
            f"{limits.least_frames} are needed (most often: {_usual_fault(points)})"
        )
    return replace(quality, points=points, runs=runs, rejected=rejected)


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


def _reasons(point: TimePoint, limits: Limits, dark: int) -> list[Reason]:
    told: list[Reason] = []
    if point.not_finite:
        told.append(Reason("numbers", f"{point.not_finite} pixels are NaN or infinite"))
    if dark or point.blank_frames:
        lost = max(dark, point.blank_frames)
        told.append(Reason("light", f"{lost} raw frames without light"))
    elif point.snr[-1] < LEAST_SNR:
        text = f"no structure brighter than the noise (signal to noise {point.snr[-1]:.1f})"
        told.append(Reason("light", text))
    for level, share in enumerate(point.saturated, start=1):
        if share > limits.saturated:
            text = f"{share:.2%} of the pixels are saturated at level {level}"
            told.append(Reason("saturation", f"{text} (limit {limits.saturated:.2%})"))
    if point.motion_nm is not None and point.motion_nm > limits.motion_nm:
        text = f"moved {point.motion_nm:.0f} nm while it was recorded"
        told.append(Reason("motion", f"{text} (limit {limits.motion_nm:g} nm)"))
    offsets = zip(point.offset_nm, point.offset_error_nm, strict=True)
    for level, (offset, error) in enumerate(offsets, start=1):
        if offset is not None and error is not None and offset - 3 * error > limits.offset_nm:
            text = f"input of level {level} and target lie {offset:.0f} nm apart"
            told.append(Reason("registration", f"{text} (limit {limits.offset_nm:g} nm)"))
    return told


def _usual_fault(points: Sequence[TimePoint]) -> str:
    """The first fault of the time points that most of them have."""
    kinds = [p.reasons[0].kind for p in points if p.reasons and p.reasons[0].kind != "gap"]
    return max(sorted(set(kinds)), key=kinds.count) if kinds else "none"


def _time_point(content: dict[str, Any]) -> TimePoint:
    told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    told["reasons"] = tuple(Reason(**reason) for reason in content["reasons"])
    return TimePoint(**told)
