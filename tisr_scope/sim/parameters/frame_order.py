"""Which stripes every single frame shows, to name what is wrong with the order of the frames.

Nothing is taken for granted here: every frame less the mean of all frames is compared with that
mean at every shift, and the peak tells the direction of its stripes.  It is slower than the
estimate proper and is only asked where that one fails.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.bands import frame_spectra
from tisr_scope.sim.parameters.coarse_carrier import coarse_carrier

MINIMUM_PEAK = 30.0
"""Of a frame's stripes over the background, in its standard deviations."""
SAME_STRIPES_SAMPLES = 4.0
"""Carriers nearer to each other than this belong to one pattern direction."""


def stripe_directions(
    frames: Float[Tensor, "orientation phase y x"], otf: DetectionOtf, pixel_um: float
) -> Int[np.ndarray, "orientation phase"] | None:
    """Number the directions of the stripes in the order in which they first appear.

    None where a frame shows no stripes that stand out.
    """
    flat = frames.flatten(0, 1)
    mean = flat.mean(dim=0)
    scale = mean.mean() / flat.mean(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    known: list[Float[np.ndarray, " 2"]] = []
    numbers = []
    extent = np.array([flat.shape[-1], flat.shape[-2]]) * pixel_um
    for frame in flat * scale:
        bands = frame_spectra(torch.stack([mean, frame - mean])[None], otf, pixel_um)
        peak = coarse_carrier(bands)
        if peak.quality < MINIMUM_PEAK or peak.elsewhere is not None:
            return None
        apart = [
            min(float(np.hypot(*((peak.carrier - sign * k) * extent))) for sign in (1, -1))
            for k in known
        ]
        if not apart or min(apart) > SAME_STRIPES_SAMPLES:
            known.append(peak.carrier)
            apart.append(0.0)
        numbers.append(int(np.argmin(apart)))
    return np.array(numbers).reshape(frames.shape[:2])


def disorder(found: Int[np.ndarray, "orientation phase"], where: str) -> ReconstructionError | None:
    """Name what is wrong with an order of stripe directions; None where nothing is."""
    orientations, phases = found.shape
    flat = found.ravel()
    if (found == found[:, :1]).all():
        return None  # one direction in every orientation
    layout = " ".join("".join(chr(65 + number) for number in row) for row in found)
    seen = f"the directions of the stripes follow each other as {layout}, a letter a frame"
    if np.array_equal(flat, np.tile(np.arange(orientations), phases)):
        return ReconstructionError(
            f"orientations and phases are exchanged: {seen}",
            where=where,
            remedy="state that the orientation changes fastest, or exchange the two axes",
        )
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    names = [flat[start] for start in np.concatenate([[0], edges])]
    ordered = names == [*range(orientations)] or names == [*range(orientations), 0]
    if ordered and runs[0] + (runs[-1] if len(names) > orientations else 0) == phases:
        first, whole = runs[0], bool((runs[1:orientations] == phases).all())
        if whole and first < phases:
            return ReconstructionError(
                f"the stack begins {phases - first} frames late: {seen}",
                where=where,
                remedy="leave out the frames before the first complete orientation",
            )
    if ordered:
        wrong = int(np.flatnonzero(runs[:orientations] != phases)[0])
        kind = "a frame is missing" if runs[wrong] < phases else "there is a frame too many"
        return ReconstructionError(
            f"{kind} in orientation {wrong}: {seen}",
            where=where,
            remedy="leave out this time point; check the camera's trigger and its buffer",
        )
    return ReconstructionError(
        f"the frames are not in the stated order: {seen}",
        where=where,
        remedy=f"{orientations} orientations of {phases} phases were stated, all phases of an "
        "orientation in sequence; check both numbers and the order",
    )


def name_disorder(
    frames: Float[Tensor, "orientation phase y x"], otf: DetectionOtf, pixel_um: float, where: str
) -> None:
    """Say what is wrong with the order of the frames, if anything is.

    Parameters
    ----------
    frames : array, shape (orientation, phase, y, x)
        Of one time point.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample.
    where : str
        Name of the region for messages.

    Raises
    ------
    ReconstructionError
        If the directions of the stripes do not follow each other as stated.
    """
    found = stripe_directions(frames, otf, pixel_um)
    error = None if found is None else disorder(found, where)
    if error is not None:
        raise error
