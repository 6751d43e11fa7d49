"""Alignment in space: sample neighbours where the flow, or flow and learned offsets, point to.

Every alignment is a module called with the states of the neighbours, the current features, the
flows towards the neighbours, and the states as aligned in phase space (the states themselves
where there is no such alignment).  It serves two neighbours at once in recurrent propagation and
one in the sliding window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.networks.blocks import SLOPE, conv3, zero_initialise
from tisr_scope.networks.kernels.deformable import deformable_conv2d
from tisr_scope.networks.optical_flow import warp

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
