"""The only place where intensities are scaled.

A network sees wide-field electrons divided by one number and predicts a target divided by
another; epsilon of the credible interval has a meaning only on that scale, so the rule travels
in the model bundle.  Both numbers are fixed for a whole stack (offline) or for a whole run
(live, from a warm-up), never per frame or patch.

A rule with a :class:`Background` first takes a smooth local background off every frame, camera
offset and haze together.  The network learns the target without the background of the target; what
was taken off the frame is carried around the network and given back to its prediction, as a SIM
image holds the haze too.  The two numbers belong together then: the scale of the target is that of
the wide field it belongs to, times a fixed gain, so that the network is never asked for a
brightness it cannot see.  The background of a frame follows from that frame alone: live, offline
and in training it is the same.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.ndimage import gaussian_filter, median_filter, percentile_filter

from tisr_scope.errors import DataError
from tisr_scope.profiles.schema import Frozen
from tisr_scope.types import PairedStack


class Background(Frozen):
    """Smooth local background: a low percentile of block means in a window, blurred.

    Sizes are in blocks of ``block_px`` x ``block_px`` camera pixels.  A value depends on no pixel
    further than :attr:`reach_px`, and blocks are counted from the first pixel.
    """

    block_px: int = Field(default=4, ge=1)
    window_blocks: int = Field(default=7, ge=3)
    percentile: float = Field(default=20.0, gt=0, lt=100)
    blur_blocks: float = Field(default=1.5, gt=0)

    @property
    def reach_px(self) -> int:
        """Distance beyond which no pixel matters: the halo of a tile that starts on a block."""
        return self.block_px * (self.window_blocks // 2 + self._blur_radius + 2)

    @property
    def _blur_radius(self) -> int:
        return round(3 * self.blur_blocks)

    def of(
        self, frames: Float[np.ndarray, "*axes y x"], upscale: int = 1, enlarge: int = 1
    ) -> Float[np.ndarray, "*axes fy fx"]:
        """Background of each frame by itself.

        Parameters
        ----------
        frames : array
        upscale : int
            By which the frames are enlarged already: blocks are enlarged alike.
        enlarge : int
            By which the background is to be enlarged.
        """
        block, (height, width) = self.block_px * upscale, frames.shape[-2:]
        stack = frames.reshape(-1, height, width)
        missing = ((0, 0), (0, -height % block), (0, -width % block))
        padded = np.pad(stack, missing, mode="edge")
        rows, columns = padded.shape[1] // block, padded.shape[2] // block
        means = padded.reshape(-1, rows, block, columns, block).mean((2, 4), dtype=np.float32)
        size, sigma = self.window_blocks, self.blur_blocks
        low = percentile_filter(means, self.percentile, (1, size, size), mode="nearest")
        smooth = gaussian_filter(
            low, (0, sigma, sigma), mode="nearest", radius=(0, self._blur_radius, self._blur_radius)
        )
        tall = _between_blocks(smooth.swapaxes(1, 2), enlarge * height, enlarge * block)
        found = _between_blocks(tall.swapaxes(1, 2), enlarge * width, enlarge * block)
        background: Float[np.ndarray, "*axes fy fx"] = found.reshape(
            *frames.shape[:-2], *found.shape[-2:]
        )
        return background


class Normalisation(Frozen):
    """Rule that turns a stack into the scale of the network.

    ``maximum`` is the published rule (Paper: eq. 18).  ``percentile`` takes a high percentile
    instead, which a single hot pixel cannot move and which a short warm-up estimates well.
    """

    reference: Literal["maximum", "percentile"] = "percentile"
    percentile: float = Field(default=99.9, gt=50, le=100)
    target_blur_sigma_px: float = Field(default=0.4, ge=0)
    """Gaussian, 3 x 3, that mitigates reconstruction artefacts in the target."""
    background: Background | None = None
    """What is taken off; None for models that see the frames as they are."""
    smooth_sigma_px: float = Field(default=0.0, ge=0)
    """Blur, after a 3 x 3 median, before the percentile: hot pixels and noise do not move it."""
    ceiling: float | None = Field(default=None, gt=1)
    """Brightest input a network gets: a hot pixel is no more than that."""
    target_gain: float = Field(default=1.0, gt=0)
    """Scale of the target over that of its wide field, where a background is taken off."""

    def background_of(
        self, frames: Float[np.ndarray, "*axes y x"]
    ) -> Float[np.ndarray, "*axes y x"] | None:
        """What is taken off each frame, in electrons; None where nothing is."""
        return None if self.background is None else self.background.of(frames)

    def scale(self, stack: Float[np.ndarray, "*axes y x"], where: str = "stack") -> float:
        """Value that becomes 1.

        Raises
        ------
        DataError
            If the stack is empty, has a value that is not finite, or holds no light.
        """
        if stack.size == 0:
            raise DataError("there are no frames to take the intensity scale from", where=where)
        if not np.isfinite(stack).all():
            raise DataError(
                "frames hold NaN or infinite values",
                where=where,
                remedy="find the frames with 'tisr prepare --report' or record them again",
            )
        if self.background is not None:
            stack = stack - self.background.of(stack)
        if self.smooth_sigma_px:
            flat = stack.reshape(-1, *stack.shape[-2:])
            sigma = (0, self.smooth_sigma_px, self.smooth_sigma_px)
            stack = gaussian_filter(median_filter(flat, (1, 3, 3)), sigma)
        if self.reference == "maximum":
            value = float(stack.max())
        else:
            value = float(np.percentile(stack, self.percentile))
        if value <= 0:
            raise DataError(
                "the frames hold no light above the camera offset",
                where=where,
                remedy="check laser, shutter and the camera offset in the profile",
            )
        return value

    def target_scale(
        self,
        target: Float[np.ndarray, "time fy fx"],
        widefield: Float[np.ndarray, "time y x"],
        where: str = "target",
        *,
        same_unit: bool = True,
    ) -> float:
        """Value of the target that becomes 1.

        Parameters
        ----------
        target : array
        widefield : array
            That the target belongs to: the highest level of a pair.
        where : str
            Named in errors.
        same_unit : bool
            Whether both are in the same unit; else the light of the target is matched to that
            of the wide field (:func:`light_ratio`).

        Raises
        ------
        DataError
            As :meth:`scale`.
        """
        if self.background is None:
            return self.scale(target, where)
        ratio = 1.0 if same_unit else light_ratio(target, widefield, self.background, where)
        return self.target_gain * ratio * self.scale(widefield, where)

    def carried(
        self, stack: Float[np.ndarray, "*axes y x"], scale: float, upscale: int
    ) -> Float[np.ndarray, "*axes fy fx"] | None:
        """What is given back to the predictions: the background on grid and scale of the target.

        None where nothing was taken off.
        """
        if self.background is None:
            return None
        found = self.background.of(stack, enlarge=upscale) / (self.target_gain * scale)
        return found.astype(np.float32)

    def learnable(
        self, target: Float[np.ndarray, "*axes fy fx"], upscale: int
    ) -> Float[np.ndarray, "*axes fy fx"]:
        """What the network itself must give: a normalised target without its background."""
        if self.background is None:
            return target
        rest: Float[np.ndarray, "*axes fy fx"] = target - self.background.of(target, upscale)
        return rest

    def target_of(self, pair: PairedStack) -> Float[np.ndarray, "time fy fx"]:
        """Target of a pair on the network's scale."""
        scale = self.target_scale(
            pair.target, pair.widefield[-1], f"{pair.name}, target", same_unit=pair.same_unit
        )
        return self.normalise_target(pair.target, scale)

    def normalise_input(
        self, stack: Float[np.ndarray, "*axes y x"], scale: float
    ) -> Float[np.ndarray, "*axes y x"]:
        """Wide-field electrons on the network's scale."""
        if self.background is not None:
            stack = stack - self.background.of(stack)
        scaled = stack / scale
        if self.ceiling is not None:
            scaled = np.minimum(scaled, self.ceiling)
        return scaled.astype(np.float32)

    def normalise_target(
        self, stack: Float[np.ndarray, "time fy fx"], scale: float
    ) -> Float[np.ndarray, "time fy fx"]:
        """Target on the network's scale, slightly blurred (Paper: eq. 18)."""
        sigma = self.target_blur_sigma_px
        blurred = gaussian_filter(stack, (0, sigma, sigma), radius=(0, 1, 1)) if sigma else stack
        return (blurred / scale).astype(np.float32)


def light_ratio(
    target: Float[np.ndarray, "time fy fx"],
    widefield: Float[np.ndarray, "time y x"],
    background: Background,
    where: str = "target",
) -> float:
    """Unit of a target over that of its wide field, from what both show of the structure.

    Both without their backgrounds, at the resolution of neither; noise of the wide field does not
    matter, structure out of focus lowers it.

    Raises
    ------
    DataError
        If they have nothing in common.
    """
    factor = target.shape[-1] // widefield.shape[-1]
    height, width = widefield.shape[-2:]
    fine = target.reshape(-1, height, factor, width, factor).mean((2, 4))
    coarse, wide = (
        gaussian_filter(stack - background.of(stack), (0, sigma, sigma))
        for stack, sigma in ((fine, 3.2), (widefield, 3.0))
    )
    common = float((coarse * wide).sum(dtype=np.float64))
    if common <= 0:
        raise DataError(
            "the target shows nothing of what its wide field shows",
            where=where,
            remedy="check that both are of the same cell, place and time",
        )
    return float((coarse**2).sum(dtype=np.float64)) / common


def _between_blocks(
    blocks: Float[np.ndarray, "*axes block"], length: int, block: int
) -> Float[np.ndarray, "*axes pixel"]:
    """Linear interpolation from the centres of blocks to pixels, along the last axis.

    Pixel by pixel, without a product of matrices: a tile must come out as the whole does.
    """
    last = blocks.shape[-1] - 1
    place = np.clip((np.arange(length) + 0.5) / block - 0.5, 0, last)
    first = place.astype(int)
    share = ((place * block * 2).round() / (block * 2) - first).astype(np.float32)
    below, above = blocks[..., first], blocks[..., np.minimum(first + 1, last)]
    found: Float[np.ndarray, "*axes pixel"] = below + share * (above - below)
    return found
