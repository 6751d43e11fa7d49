"""Saturated pixels: found, and kept out of the estimate of the illumination.

A clipped structure shows no stripes, and its edge has every frequency.  Around clipped pixels the
frames of an orientation are faded out together, as they are at the edges of the field: what is left
is a smaller sample under the same stripes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, gaussian_filter
from torch import Tensor

from tisr_scope.errors import ReconstructionError

REACH_PX = 3
"""Around a clipped pixel, where its light is missing."""
FADE_PX = 2.0
PILED = 2
"""As many times more at the maximum as at the next value: single photons do not pile up."""
MAXIMUM_CLIPPED = 0.02
"""Of the pixels of a frame; more leave too little of the structures."""
CROWDED = 5e-5
"""Share of pixels at the very maximum from which they can be clipped."""


def clipped_pixels(
    frames: Float[Tensor, "time orientation phase y x"], saturation: float | None
) -> Bool[np.ndarray, "time orientation phase y x"]:
    """Which pixels are saturated.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x)
    saturation : float, optional
        Value from which a pixel is full.  Without it, pixels that pile up at the very maximum of
        an orientation's frames are clipped ones.
    """
    if saturation is not None:
        return (frames >= saturation).cpu().numpy()
    flat = frames.flatten(2)
    top = flat.amax(dim=-1, keepdim=True)
    full = flat == top
    count = full.sum(dim=-1)
    below = torch.where(full, flat.amin(dim=-1, keepdim=True), flat).amax(dim=-1, keepdim=True)
    next_count = (flat == below).sum(dim=-1)
    crowded = (count > max(3.0, CROWDED * flat.shape[-1])) & (count > PILED * next_count)
    clipped: Bool[np.ndarray, "time orientation phase y x"] = (
        (full & crowded[..., None]).view(frames.shape).cpu().numpy()
    )
    return clipped


def check_clipped(clipped: Bool[np.ndarray, "time orientation phase y x"], where: str) -> list[str]:
    """What there is to say about saturation.

    Raises
    ------
    ReconstructionError
        If too much of a frame is saturated.
    """
    share = clipped.mean(axis=(-2, -1))
    worst = float(share.max())
    if worst > MAXIMUM_CLIPPED:
        raise ReconstructionError(
            f"{100 * worst:.1f} % of the pixels of a frame are saturated",
            where=where,
            remedy="lower the laser power of the highest level or the exposure",
        )
    if not worst:
        return []
    t, o, p = np.unravel_index(int(share.argmax()), share.shape)
    return [
        f"{100 * worst:.3f} % of the pixels of frame t={t} orientation={o} phase={p} are "
        "saturated: they were left out of the estimate, and the image is wrong around them"
    ]


def faded(
    frames: Float[Tensor, "time orientation phase y x"],
    clipped: Bool[np.ndarray, "time orientation phase y x"],
) -> Float[Tensor, "time orientation phase y x"]:
    """Frames without the surroundings of clipped pixels, for the estimate only."""
    if not clipped.any():
        return frames
    result = frames.clone()
    for t, o in np.argwhere(clipped.any(axis=(2, 3, 4))):
        mask = binary_dilation(clipped[t, o].any(axis=0), iterations=REACH_PX)
        kept = 1 - gaussian_filter(mask.astype(np.float32), FADE_PX).clip(max=0.5) * 2
        part = frames[t, o]
        level = part.flatten(1).median(dim=1).values[:, None, None]
        result[t, o] = level + (part - level) * torch.as_tensor(kept).to(part)
    return result
