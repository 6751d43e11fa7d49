"""Alignment in space: sample neighbours where the flow, or flow and learned offsets, point to.

Every alignment is a module called with the states of the neighbours, the current features, the
flows towards the neighbours, and the states as aligned in phase space (the states themselves
where there is no such alignment).  It serves two neighbours at once in recurrent propagation and
one in the sliding window.

The deformable convolution is written with ``grid_sample`` alone, so that it runs wherever PyTorch
runs; with zero offsets and a mask of one it equals ``conv2d``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.errors import DataError
from tisr_scope.networks.blocks import SLOPE, conv3, zero_initialise
from tisr_scope.networks.optical_flow import pixel_grid, sample, warp

_CHUNK_ELEMENTS = 1 << 25


def _tap_offsets(kernel: int, like: Tensor) -> Float[Tensor, "k 2"]:
    reach = kernel // 2
    return pixel_grid(kernel, kernel, like).reshape(-1, 2) - reach


def deformable_conv2d(
    x: Float[Tensor, "n c y x"],
    offset: Float[Tensor, "n o y x"],
    mask: Float[Tensor, "n m y x"],
    weight: Float[Tensor, "d c k k"],
    bias: Float[Tensor, " d"] | None = None,
) -> Float[Tensor, "n d y x"]:
    """Modulated deformable convolution, stride 1, zero padding (Paper: eq. 10).

    Parameters
    ----------
    x : tensor, shape (n, c, y, x)
        Feature maps.
    offset : tensor, shape (n, 2 * g * k * k, y, x)
        Pixels (dy, dx) of every tap, by group of input channels.
    mask : tensor, shape (n, g * k * k, y, x)
        Weight of every tap.
    weight : tensor, shape (d, c, k, k)
    bias : tensor, shape (d,), optional

    Raises
    ------
    DataError
        If the number of offsets and masks fits no number of groups.

    Notes
    -----
    Large frames are sampled in strips of rows, which bounds the memory at about 128 MB a strip.
    """
    batch, channels, height, width = x.shape
    taps = weight.shape[-1] ** 2
    groups = mask.shape[1] // taps
    if mask.shape[1] != groups * taps or offset.shape[1] != 2 * mask.shape[1] or channels % groups:
        raise DataError(
            f"{offset.shape[1]} offsets and {mask.shape[1]} masks do not fit {taps} taps "
            f"of {channels} channels",
            where="deformable_conv2d",
            remedy="give 2 offsets and 1 mask for each tap of each group",
        )
    grouped = x.reshape(batch * groups, channels // groups, height, width)
    tap_xy = _tap_offsets(weight.shape[-1], offset)
    kernel = weight.reshape(weight.shape[0], channels, taps).flatten(1)
    rows = max(1, _CHUNK_ELEMENTS // max(1, batch * channels * taps * width))
    strips = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        shape = (batch * groups, taps, bottom - top, width)
        strip = offset[:, :, top:bottom].reshape(batch * groups, taps, 2, bottom - top, width)
        base = pixel_grid(bottom - top, width, offset)
        x_at = strip[:, :, 1] + base[..., 0] + tap_xy[:, 0].view(-1, 1, 1)
        y_at = strip[:, :, 0] + (base[..., 1] + top) + tap_xy[:, 1].view(-1, 1, 1)
        where = torch.stack((x_at, y_at), dim=-1).reshape(batch * groups, -1, width, 2)
        taken = sample(grouped, where).view(shape[0], -1, *shape[1:])
        taken = taken * mask[:, :, top:bottom].reshape(shape)[:, None]
        columns = taken.reshape(batch, channels * taps, -1)
        out = (kernel @ columns).view(batch, -1, bottom - top, width)
        strips.append(out)
    result = strips[0] if len(strips) == 1 else torch.cat(strips, dim=2)
    return result if bias is None else result + bias.view(1, -1, 1, 1)


Map = Float[Tensor, "n c y x"]
Flow = Float[Tensor, "n 2 y x"]


class FlowAlignment(nn.Module):
    """Neighbours warped by the flow alone (Paper: eq. 7).

    Parameters
    ----------
    channels : int
        Channels of one feature map.
    neighbours : int
        Two warped neighbours are merged by a convolution.  The text does not say so; its
        parameter number asks for it.
    """

    def __init__(self, channels: int, neighbours: int = 2) -> None:
        super().__init__()
        self.merge = conv3(neighbours * channels, channels) if neighbours > 1 else nn.Identity()

    def forward(
        self, states: Sequence[Map], current: Map, flows: Sequence[Flow], turned: Sequence[Map]
    ) -> Map:
        """Aligned features; see the module."""
        warped = [warp(state, flow) for state, flow in zip(turned, flows, strict=True)]
        merged: Tensor = self.merge(torch.cat(warped, dim=1))
        return merged


class DeformableAlignment(nn.Module):
    """Flow-guided deformable alignment, of two neighbours at once in second-order propagation.

    The groups are shared out evenly among the neighbours (Paper: eq. 8-10).

    Parameters
    ----------
    channels : int
        Channels of one feature map.
    groups : int
        Deformable groups over all neighbours.
    kernel : int
        Side of the deformable kernel, 1 or 3.
    layers : int
        Convolutions that predict offsets and masks, at least two.
    reach_px : float
        Largest offset beyond the flow.
    neighbours : int
        Number of neighbours.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 16,
        kernel: int = 3,
        layers: int = 4,
        reach_px: float = 10.0,
        neighbours: int = 2,
    ) -> None:
        super().__init__()
        self.reach_px = reach_px
        inputs = neighbours * channels
        self.weight = nn.Parameter(torch.empty(channels, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        bound = 1 / math.sqrt(inputs * kernel**2)
        nn.init.uniform_(self.weight, -bound, bound)
        last = conv3(channels, 3 * groups * kernel**2)
        zero_initialise(last)
        read = conv3(inputs + channels + 2 * neighbours, channels)
        stack: list[nn.Module] = [read, nn.LeakyReLU(SLOPE)]
        for _ in range(layers - 2):
            stack += [conv3(channels, channels), nn.LeakyReLU(SLOPE)]
        self.conv_offset = nn.Sequential(*stack, last)

    def forward(
        self, states: Sequence[Map], current: Map, flows: Sequence[Flow], turned: Sequence[Map]
    ) -> Map:
        """Aligned features; offsets are predicted from warped ``states``, ``turned`` is sampled."""
        first, *others = (warp(state, flow) for state, flow in zip(states, flows, strict=True))
        raw = self.conv_offset(torch.cat((first, current, *others, *flows), dim=1))
        taps = raw.shape[1] // 3
        repeats = taps // len(flows)
        guide = torch.cat([flow.flip(1).repeat(1, repeats, 1, 1) for flow in flows], dim=1)
        offset = self.reach_px * torch.tanh(raw[:, : 2 * taps]) + guide
        mask = functional.sigmoid(raw[:, 2 * taps :])
        return deformable_conv2d(
            torch.cat(tuple(turned), dim=1), offset, mask, self.weight, self.bias
        )
