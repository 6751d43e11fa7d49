"""The part of a frame that is looked at."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.order_proof.commanded import Commanded

LARGEST_FIELD = 256
"""Pixels along each axis that are looked at: the brightest part of a larger frame."""


def offset_removed(
    frames: UInt16[np.ndarray, "frame y x"], commanded: Commanded
) -> tuple[Float[np.ndarray, "frame y x"], float]:
    """Brightest part of all frames, camera offset taken off, and the share of full pixels.

    A pixel that is full in any frame is zero in all of them, and so tells nothing.
    """
    rows, columns = (_window(frames[-1].sum(axis=axis, dtype=np.float64)) for axis in (1, 0))
    part = frames[:, rows, columns]
    full = (part >= commanded.saturation_adu).any(axis=0)
    light = part.astype(np.float32) - np.float32(commanded.offset_adu)
    light[:, full] = 0
    return light, float(full.mean())


def _window(profile: Float[np.ndarray, " n"]) -> slice:
    size = min(len(profile), LARGEST_FIELD)
    first = int(np.convolve(profile, np.ones(size), "valid").argmax())
    return slice(first, first + size)
