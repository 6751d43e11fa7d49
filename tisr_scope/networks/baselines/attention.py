"""Alignment by neighbourhood attention: each pixel asks the pixels around it.

No flow and no offsets: where a structure has gone is found by likeness alone, as far as the
neighbourhood reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.networks.alignment import Flow, Map


def _shifted(padded: Float[Tensor, "n d v u"], size: int) -> Iterator[Float[Tensor, "n d y x"]]:
    """Views of the neighbours of all pixels, one place of the neighbourhood after the other."""
    height, width = padded.shape[-2] - size + 1, padded.shape[-1] - size + 1
    for place in range(size**2):
        top, left = divmod(place, size)
        yield padded[:, :, top : top + height, left : left + width]


def neighbourhood_attention(
    query: Float[Tensor, "n d y x"],
    key: Float[Tensor, "n d y x"],
    value: Float[Tensor, "n e y x"],
    size: int,
) -> Float[Tensor, "n e y x"]:
    """Softmax attention of each pixel to the ``size`` x ``size`` pixels around it.

    Paper: eq. 12; the product is divided by the root of the number of channels, as is usual.
    Places outside of the image get no weight.
    """
    reach = size // 2
    pad = (reach, reach, reach, reach)
    outside = functional.pad(query.new_zeros(1, 1, *query.shape[-2:]), pad, value=-math.inf)
    query = query / math.sqrt(query.shape[1])
    scores = torch.stack(
        [
            (query * there).sum(dim=1) + forbidden[:, 0]
            for there, forbidden in zip(
                _shifted(functional.pad(key, pad), size), _shifted(outside, size), strict=True
            )
        ],
        dim=1,
    )
    weights = torch.softmax(scores, dim=1)
    out = torch.zeros_like(value)
    for place, there in enumerate(_shifted(functional.pad(value, pad), size)):
        out = out + weights[:, place : place + 1] * there
    return out


class NeighbourhoodAttention(nn.Module):
    """Neighbours gathered by attention (Paper: eq. 11-12).

    The embeddings have half of the channels.  Each neighbour has keys, values and a softmax of
    its own; the last fully connected layer merges them.

    Parameters
    ----------
    channels : int
        Channels of one feature map.
    neighbours : int
        Number of neighbours.
    size : int
        Side of the neighbourhood in pixels, odd; the text does not say it.
    """

    def __init__(self, channels: int, neighbours: int = 2, size: int = 7) -> None:
        super().__init__()
        self.size = size
        half = channels // 2
        self.query = nn.Conv2d(channels, half, 1)
        self.key = nn.ModuleList(nn.Conv2d(channels, half, 1) for _ in range(neighbours))
        self.value = nn.ModuleList(nn.Conv2d(channels, half, 1) for _ in range(neighbours))
        self.merge = nn.Conv2d(neighbours * half, channels, 1)

    def forward(
        self, states: Sequence[Map], current: Map, flows: Sequence[Flow], turned: Sequence[Map]
    ) -> Map:
        """Aligned features; see :mod:`~tisr_scope.networks.alignment`.  Takes no flows."""
        query = self.query(current)
        found = [
            neighbourhood_attention(query, key(state), value(state), self.size)
            for state, key, value in zip(turned, self.key, self.value, strict=True)
        ]
        merged: Tensor = self.merge(torch.cat(found, dim=1))
        return merged
