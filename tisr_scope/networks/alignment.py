"""Deformable alignment: sample neighbours where flow and learned offsets point to.

The deformable convolution is written with ``grid_sample`` alone, so that it runs wherever
PyTorch runs; with zero offsets and a mask of one it equals ``conv2d``.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.errors import DataError
from tisr_scope.networks.blocks import SLOPE, conv3, zero_initialise
from tisr_scope.networks.optical_flow import pixel_grid, sample

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


class DeformableAlignment(nn.Module):
    """Second-order, flow-guided deformable alignment of two neighbours at once.

    Half of the groups sample the neighbour one step back, half the one two steps back
    (Paper: eq. 8-10).

    Parameters
    ----------
    channels : int
        Channels of one feature map.
    groups : int
        Deformable groups over both neighbours, even.
    kernel : int
        Side of the deformable kernel, 1 or 3.
    layers : int
        Convolutions that predict offsets and masks, at least two.
    reach_px : float
        Largest offset beyond the flow.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 16,
        kernel: int = 3,
        layers: int = 4,
        reach_px: float = 10.0,
    ) -> None:
        super().__init__()
        self.reach_px = reach_px
        self.weight = nn.Parameter(torch.empty(channels, 2 * channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        bound = 1 / math.sqrt(2 * channels * kernel**2)
        nn.init.uniform_(self.weight, -bound, bound)
        last = conv3(channels, 3 * groups * kernel**2)
        zero_initialise(last)
        stack: list[nn.Module] = [conv3(3 * channels + 4, channels), nn.LeakyReLU(SLOPE)]
        for _ in range(layers - 2):
            stack += [conv3(channels, channels), nn.LeakyReLU(SLOPE)]
        self.conv_offset = nn.Sequential(*stack, last)

    def forward(
        self,
        neighbours: Float[Tensor, "n two_c y x"],
        condition: Float[Tensor, "n three_c y x"],
        flow1: Float[Tensor, "n 2 y x"],
        flow2: Float[Tensor, "n 2 y x"],
    ) -> Float[Tensor, "n c y x"]:
        """Neighbours sampled at the current frame.

        Parameters
        ----------
        neighbours : tensor
            Phase-aligned states one and two steps back, concatenated.
        condition : tensor
            Warped state one step back, current features, warped state two steps back.
        flow1, flow2 : tensor
            Flows from the current frame to the two neighbours, channels (x, y).
        """
        raw = self.conv_offset(torch.cat((condition, flow1, flow2), dim=1))
        first, second, mask = raw.chunk(3, dim=1)
        repeats = first.shape[1] // 2
        offset = torch.cat(
            (
                self.reach_px * torch.tanh(first) + flow1.flip(1).repeat(1, repeats, 1, 1),
                self.reach_px * torch.tanh(second) + flow2.flip(1).repeat(1, repeats, 1, 1),
            ),
            dim=1,
        )
        return deformable_conv2d(
            neighbours, offset, functional.sigmoid(mask), self.weight, self.bias
        )
