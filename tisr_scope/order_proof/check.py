"""One time point against what was commanded for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.order_proof.commanded import Commanded, Verdict
from tisr_scope.order_proof.field import offset_removed
from tisr_scope.order_proof.frame_facts import camera_faults, pixel_faults
from tisr_scope.order_proof.fringes import measure, pattern_faults
from tisr_scope.order_proof.level_agreement import late_levels
from tisr_scope.order_proof.light_levels import light_faults

CLIPPED = 0.2
"""Share of pixels that are full in a frame, from which the rest is too little to judge by."""


def check_time_point(
    frames: UInt16[np.ndarray, "frame y x"],
    commanded: Commanded,
    *,
    carriers: Float[np.ndarray, "orientation 2"] | None = None,
    said: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """Whether the frames of one time point show what was commanded.

    Parameters
    ----------
    frames : uint16 array, shape (frame, y, x)
        One channel at one position, in the order of exposure: orientation, phase, level.
    commanded : Commanded
        What was asked for.
    carriers : array, shape (orientation, 2), optional
        kx, ky in cycles per micrometre, where they are known better than the nominal ones.
    said : sequence of mapping, optional
        What the camera said of each frame.
    """
    faults = list(pixel_faults(frames, commanded)) + list(camera_faults(said, commanded))
    part, full = offset_removed(frames, commanded)
    if faults or full > CLIPPED:
        # Clipped light and frames that are none say nothing about levels and patterns.
        return Verdict(tuple(faults), False, False)
    found, light_seen = light_faults(part, commanded)
    faults += found
    pattern_seen = False
    if commanded.patterns > 1 and commanded.carriers:
        where = np.array(commanded.carriers) if carriers is None else carriers
        found, pattern_seen = pattern_faults(measure(part, commanded, where), commanded)
        if pattern_seen and not found:
            found = late_levels(part, commanded)
        faults += found
    return Verdict(tuple(faults), light_seen, pattern_seen)
