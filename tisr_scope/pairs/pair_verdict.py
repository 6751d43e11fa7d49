"""Which time points are good enough, and which stretches of them become pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from tisr_scope.pairs.pair_quality import Limits, PairQuality, Reason, TimePoint

LEAST_SNR = 3.0
"""At the highest level; below it there is no structure to reconstruct."""
DARK_FRAME = 0.3
"""A raw frame with less than this share of its level's light had none, or not all of it."""


def judged(points: Sequence[TimePoint], limits: Limits) -> tuple[TimePoint, ...]:
    """The time points with the reasons against them."""
    dark = dark_frames(points)
    return tuple(
        replace(point, reasons=tuple(_reasons(point, limits, int(missing))))
        for point, missing in zip(points, dark, strict=True)
    )


def dark_frames(points: Sequence[TimePoint]) -> Int[np.ndarray, " time"]:
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
    # Frames in another order than stated make another image, whatever one is ready to accept.
    good = np.array([p.usable and (limits.keep_all or not p.reasons) for p in points])
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


def _reasons(point: TimePoint, limits: Limits, dark: int) -> list[Reason]:
    told = [Reason("order", text) for text in point.order_faults]
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
    """The first fault of the time points that most of them have, and one of them in words."""
    first = [p.reasons[0] for p in points if p.reasons and p.reasons[0].kind != "gap"]
    if not first:
        return "none"
    kinds = [reason.kind for reason in first]
    usual = max(sorted(set(kinds)), key=kinds.count)
    # Of motion and noise the numbers are told for each; what is wired wrong is the same for all.
    told = next(reason.text for reason in first if reason.kind == usual)
    return f"order: {told}" if usual == "order" else usual
