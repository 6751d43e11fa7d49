"""Optical flow between neighbouring frames: the published pyramid and a light one.

A flow has channels (x, y) in pixels.  ``flow(reference, other)`` says where in ``other`` each
pixel of ``reference`` is found, so that ``warp(other, flow)`` looks like ``reference``.
Both networks are trained together with the rest.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.networks.blocks import conv3, zero_initialise


def pixel_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "y x 2"]:
    """Pixel coordinates (x, y) of every pixel."""
    rows = torch.arange(height, device=like.device, dtype=like.dtype)
    cols = torch.arange(width, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(rows, cols, indexing="ij")
    return torch.stack((x, y), dim=-1)


def normalised(
    where: Float[Tensor, "*places 2"], height: int, width: int, *, in_place: bool = False
) -> Float[Tensor, "*places 2"]:
    """Pixel coordinates (x, y) as ``grid_sample`` with aligned corners takes them."""
    scale = 2 / max(width - 1, 1), 2 / max(height - 1, 1)
    # A tensor made of numbers would be copied to the device, which waits for it.
    if in_place:
        for axis in (0, 1):
            where[..., axis].mul_(scale[axis]).sub_(1)
        return where
    return torch.stack([where[..., axis] * scale[axis] - 1 for axis in (0, 1)], dim=-1)


def sample(
    image: Float[Tensor, "n c y x"],
    where: Float[Tensor, "n v u 2"],
    padding: Literal["zeros", "border"] = "zeros",
) -> Float[Tensor, "n c v u"]:
    """Values at pixel coordinates (x, y), by bilinear interpolation."""
    grid = normalised(where, image.shape[-2], image.shape[-1])
    return functional.grid_sample(
        image, grid, mode="bilinear", padding_mode=padding, align_corners=True
    )


def warp(
    image: Float[Tensor, "n c y x"],
    flow: Float[Tensor, "n 2 y x"],
    padding: Literal["zeros", "border"] = "zeros",
) -> Float[Tensor, "n c y x"]:
    """Spatial warp by a flow in pixels (Paper: eq. 7)."""
    grid = pixel_grid(image.shape[-2], image.shape[-1], flow)
    return sample(image, grid + flow.permute(0, 2, 3, 1), padding)


class _NamedConv(nn.Module):
    """A 7 x 7 convolution; the attribute gives the published tensor name."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 7, padding=3)

    def forward(self, x: Float[Tensor, "n c y x"]) -> Float[Tensor, "n d y x"]:
        """Convolve."""
        out: Tensor = self.conv(x)
        return out


class _Level(nn.Module):
    """Five convolutions that correct the flow of one pyramid level."""

    def __init__(self) -> None:
        super().__init__()
        widths = (8, 32, 64, 32, 16, 2)
        self.basic_module = nn.Sequential(*(_NamedConv(*w) for w in itertools.pairwise(widths)))

    def forward(self, x: Float[Tensor, "n 8 y x"]) -> Float[Tensor, "n 2 y x"]:
        """Correction in pixels of this level."""
        *hidden, last = self.basic_module.children()
        for layer in hidden:
            x = functional.relu(layer(x))
        out: Tensor = last(x)
        return out


class SPyNet(nn.Module):
    """Spatial pyramid network of the released implementation (six levels, 7 x 7)."""

    minimum_size = 64
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.basic_module = nn.ModuleList(_Level() for _ in range(6))

    def forward(
        self, reference: Float[Tensor, "n 1 y x"], other: Float[Tensor, "n 1 y x"]
    ) -> Float[Tensor, "n 2 y x"]:
        """Flow from ``reference`` to ``other`` in pixels."""
        height, width = reference.shape[-2:]
        size = (32 * math.ceil(height / 32), 32 * math.ceil(width / 32))
        pyramids = []
        for frame in (reference, other):
            resized = functional.interpolate(frame, size, mode="bilinear", align_corners=False)
            pyramid = [(resized - self.mean) / self.std]
            for _ in range(len(self.basic_module) - 1):
                pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
            pyramids.append(pyramid[::-1])
        coarsest = pyramids[0][0]
        flow = coarsest.new_zeros(coarsest.shape[0], 2, *coarsest.shape[-2:])
        for index, (level, fixed, moving) in enumerate(
            zip(self.basic_module, *pyramids, strict=True)
        ):
            if index:
                flow = 2 * functional.interpolate(
                    flow, scale_factor=2, mode="bilinear", align_corners=True
                )
            flow = flow + level(torch.cat((fixed, warp(moving, flow, "border"), flow), dim=1))
        flow = functional.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
        sides = (width / size[1], height / size[0])
        return torch.stack([flow[:, axis] * sides[axis] for axis in (0, 1)], dim=1)


class LightFlow(nn.Module):
    """A small pyramid of 3 x 3 convolutions for processors; starts at zero flow.

    Parameters
    ----------
    channels : int
        Channels inside each level.
    levels : int
        Pyramid levels; the coarsest sees frames reduced by ``2 ** (levels - 1)``.
    """

    def __init__(self, channels: int = 16, levels: int = 4) -> None:
        super().__init__()
        self.minimum_size = 2 ** (levels + 1)
        self.levels = nn.ModuleList()
        for _ in range(levels):
            last = conv3(channels, 2)
            zero_initialise(last)
            self.levels.append(
                nn.Sequential(
                    conv3(4, channels),
                    nn.ReLU(),
                    conv3(channels, channels),
                    nn.ReLU(),
                    last,
                )
            )

    def forward(
        self, reference: Float[Tensor, "n 1 y x"], other: Float[Tensor, "n 1 y x"]
    ) -> Float[Tensor, "n 2 y x"]:
        """Flow from ``reference`` to ``other`` in pixels."""
        height, width = reference.shape[-2:]
        step = 2 ** (len(self.levels) - 1)
        pad = (0, -width % step, 0, -height % step)
        pyramids = []
        for frame in (reference, other):
            pyramid = [functional.pad(frame, pad, mode="replicate") if any(pad) else frame]
            for _ in range(len(self.levels) - 1):
                pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
            pyramids.append(pyramid[::-1])
        flow: Tensor | None = None
        for level, fixed, moving in zip(self.levels, *pyramids, strict=True):
            if flow is None:
                flow = fixed.new_zeros(fixed.shape[0], 2, *fixed.shape[-2:])
            else:
                flow = 2 * functional.interpolate(
                    flow, scale_factor=2, mode="bilinear", align_corners=False
                )
                moving = warp(moving, flow, "border")
            flow = flow + level(torch.cat((fixed, moving, flow), dim=1))
        if flow is None:
            raise ValueError("a flow pyramid needs at least one level")
        return flow[..., :height, :width]
