"""What single frames and what the camera says of them prove, without any statistics."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import UInt16

from tisr_scope.order_proof.commanded import Commanded, Fault

COUNTER = re.compile(r"(image|frame).?(number|count|id)|(^|_)frame$", re.IGNORECASE)
"""Names under which cameras number their frames."""
CLOCK = re.compile(r"(time|clock)", re.IGNORECASE)
PARTIAL = 1 / 8
"""Share of rows without noise, or older than the frame, from which a frame is not whole."""


def pixel_faults(
    frames: UInt16[np.ndarray, "frame y x"], commanded: Commanded
) -> tuple[Fault, ...]:
    """Frames that are blank, repeated, or whole only in part.

    Noise never repeats: two frames with the same counts, or a row with one value only, were not
    read from the sensor.
    """
    rows = frames.shape[1]
    faults: list[Fault] = []
    flat = np.ptp(frames, axis=2) == 0
    alive = ~flat.all(axis=1)
    least = max(2, round(PARTIAL * rows))
    previous: dict[int, int] = {}
    for number, frame in enumerate(frames):
        name = commanded.place(number)
        dead = int(flat[number].sum())
        if dead >= least:
            told = "is blank" if dead == rows else f"is cut off: {dead} of {rows} rows are blank"
            faults.append(Fault("frames", f"{name} {told}", (number,)))
            continue
        digest = zlib.crc32(np.ascontiguousarray(frame).data)
        if digest in previous:
            same = previous[digest]
            if np.array_equal(frame, frames[same]):
                text = f"{name} is {commanded.place(same)} again: the camera gave it twice"
                faults.append(Fault("frames", text, (number,)))
                continue
        previous[digest] = number
        if number and alive[number - 1]:
            stale = int(((frame == frames[number - 1]).all(axis=1) & ~flat[number]).sum())
            if stale >= least:
                text = f"{name}: {stale} of {rows} rows are those of the frame before"
                faults.append(Fault("frames", text, (number,)))
    return tuple(faults)


def camera_faults(said: Sequence[Mapping[str, Any]], commanded: Commanded) -> tuple[Fault, ...]:
    """Gaps and repeats in the camera's own numbers, and clocks that run backwards.

    Parameters
    ----------
    said : sequence of mapping
        What the camera said of each frame, in the order of exposure.
    commanded : Commanded
        What the frames should be.
    """
    faults: list[Fault] = []
    if len(said) < 2:
        return ()
    for key in said[0]:
        values = [_number(one.get(key)) for one in said]
        if COUNTER.search(key) and all(v is not None and v == int(v) for v in values):
            faults += _count_faults(key, [int(v) for v in values if v is not None], commanded)
    together = _same_burst(said)
    for key in said[0]:
        values = [_number(one.get(key)) for one in said]
        if not CLOCK.search(key) or None in values:
            continue
        faults += [
            Fault(
                "frames",
                f"{commanded.place(n)}: the camera's {key} runs backwards ({before:g} to {now:g})",
                (n,),
            )
            for n, (before, now) in enumerate(pairwise(v for v in values if v is not None), 1)
            if now < before and together[n]
        ]
    return tuple(faults)


def _count_faults(key: str, values: list[int], commanded: Commanded) -> list[Fault]:
    """Every burst counts from its own start; within one, each frame counts one on."""
    steps = np.diff(values)
    if not (steps == 1).any():
        return []  # no counter of frames: the same for all, or one of another thing
    faults = []
    for number, step in enumerate(steps, start=1):
        if step == 1 or values[number] in (0, 1):
            continue
        told = f"the camera's {key} goes from {values[number - 1]} to {values[number]}: " + (
            f"{step - 1} frame(s) lost before it" if step > 1 else "a frame came twice"
        )
        faults.append(Fault("frames", f"{commanded.place(number)}: {told}", (number,)))
    return faults


def _same_burst(said: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Whether each frame follows the one before it in one burst: clocks may start anew with each.

    Told by a counter of the camera that goes on; without one, nothing is known.
    """
    goes_on, restarts = [False] * len(said), [False] * len(said)
    for key in filter(COUNTER.search, said[0]):
        for n, (before, now) in enumerate(pairwise(_number(one.get(key)) for one in said), 1):
            if before is not None and now is not None:
                goes_on[n] |= now > before
                restarts[n] |= now <= before
    return [on and not anew for on, anew in zip(goes_on, restarts, strict=True)]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except ValueError:
        return None
