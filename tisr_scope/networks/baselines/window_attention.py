"""Temporal mutual self-attention: two frames ask each other, window by window.

The mechanism of VRT (Liang et al., 2024): a time-lapse is cut into clips of two frames and each
clip into square windows.  Within a window every pixel attends to all pixels of both frames (self
attention) and to those of the other frame alone (mutual attention, an implicit alignment).  Every
second block has its clips moved on by one frame and its windows by half a side, so that nothing
stays in its cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

CLIP = 2
"""Frames of a clip."""
_FORBIDDEN = -1e4

Size = tuple[int, int, int]


def margins(shape: Sequence[int], cell: Size, shift: Size) -> list[tuple[int, int]]:
    """Padding (before, after) of time, y and x, after which cells fill the volume."""
    return [(s, -(n + s) % c) for n, c, s in zip(shape, cell, shift, strict=True)]


def partition(x: Float[Tensor, "n t y x c"], cell: Size) -> Float[Tensor, "m k c"]:
    """Tokens of every cell; cells of one volume stand together, tokens are in order of t, y, x."""
    n, channels = x.shape[0], x.shape[-1]
    t, y, u = (size // c for size, c in zip(x.shape[1:4], cell, strict=True))
    cells = x.view(n, t, cell[0], y, cell[1], u, cell[2], channels)
    return cells.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, math.prod(cell), channels)


def merge(
    tokens: Float[Tensor, "m k c"], cell: Size, shape: Sequence[int]
) -> Float[Tensor, "n t y x c"]:
    """Inverse of :func:`partition`; ``shape`` is that of the volumes, (n, t, y, x)."""
    n, t, y, u = shape[0], shape[1] // cell[0], shape[2] // cell[1], shape[3] // cell[2]
    cells = tokens.view(n, t, y, u, *cell, tokens.shape[-1])
    return cells.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(*shape, tokens.shape[-1])


def relative_positions(cell: Size) -> Int[Tensor, "k k"]:
    """Number of the displacement between any two tokens of a cell."""
    place = torch.cartesian_prod(*(torch.arange(c) for c in cell))
    apart = place[:, None] - place[None, :] + torch.tensor(cell) - 1
    spans = [2 * c - 1 for c in cell]
    return (apart[..., 0] * spans[1] + apart[..., 1]) * spans[2] + apart[..., 2]


class _Bias(nn.Module):
    """A learned bias for every displacement and head."""

    index: Tensor

    def __init__(self, cell: Size, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(math.prod(2 * c - 1 for c in cell), heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.register_buffer("index", relative_positions(cell), persistent=False)

    def forward(self) -> Float[Tensor, "heads k k"]:
        """Bias of every pair of tokens."""
        return self.table[self.index].permute(2, 0, 1)


class WindowAttention(nn.Module):
    """Self attention over a cell and, for clips, mutual attention between its two frames.

    Parameters
    ----------
    channels : int
    cell : tuple of int
        Frames, rows and columns of a cell.
    heads : int
        They divide the channels.
    mutual : bool
        Whether the two frames also attend to each other; the cell has two frames then.
    """

    def __init__(self, channels: int, cell: Size, heads: int, *, mutual: bool) -> None:
        super().__init__()
        self.heads, self.mutual = heads, mutual
        self.to_self = nn.Linear(channels, 3 * channels)
        self.self_bias = _Bias(cell, heads)
        if mutual:
            self.to_mutual = nn.Linear(channels, 3 * channels)
            self.mutual_bias = _Bias((1, *cell[1:]), heads)
        self.merge = nn.Linear((1 + mutual) * channels, channels)

    def _split(self, layer: nn.Linear, x: Float[Tensor, "m k c"]) -> Sequence[Tensor]:
        m, k, c = x.shape
        together: Tensor = layer(x)
        together = together.view(m, k, 3, self.heads, c // self.heads)
        return together.permute(2, 0, 3, 1, 4).unbind(0)

    def forward(
        self, x: Float[Tensor, "m k c"], there: Float[Tensor, "m k"]
    ) -> Float[Tensor, "m k c"]:
        """Attend.

        Parameters
        ----------
        x : tensor, shape (m, k, c)
            Tokens of m cells, those of the first frame before those of the second.
        there : tensor, shape (m, k)
            1 for tokens that exist, 0 for padding, which nobody attends to.
        """
        absent = _FORBIDDEN * (1 - there)
        query, key, value = self._split(self.to_self, x)
        bias = self.self_bias()[None] + absent[:, None, None, :]
        found = [_joined(functional.scaled_dot_product_attention(query, key, value, bias))]
        if self.mutual:
            query, key, value = self._split(self.to_mutual, x)
            half = x.shape[1] // 2
            first, second = slice(0, half), slice(half, None)
            parts = []
            for asks, answers in ((first, second), (second, first)):
                bias = self.mutual_bias()[None] + absent[:, None, None, answers]
                part = functional.scaled_dot_product_attention(
                    query[:, :, asks], key[:, :, answers], value[:, :, answers], bias
                )
                # A frame whose partner is padding hears nothing.
                heard = there[:, answers].amax(dim=1)
                parts.append(_joined(part) * heard[:, None, None])
            found.insert(0, torch.cat(parts, dim=1))
        merged: Tensor = self.merge(torch.cat(found, dim=-1))
        return merged


def _joined(x: Float[Tensor, "m heads k d"]) -> Float[Tensor, "m k c"]:
    return x.transpose(1, 2).flatten(2)


class AttentionBlock(nn.Module):
    """Window attention and a gated feed-forward layer, each on normalised input and added.

    Parameters
    ----------
    channels : int
    cell : tuple of int
    heads : int
    mutual : bool
        As of :class:`WindowAttention`.
    shifted : bool
        Cells are moved by half of their size.
    """

    def __init__(
        self, channels: int, cell: Size, heads: int, *, mutual: bool, shifted: bool
    ) -> None:
        super().__init__()
        self.cell = cell
        self.shift: Size = (cell[0] // 2, cell[1] // 2, cell[2] // 2) if shifted else (0, 0, 0)
        self.before_attention = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, cell, heads, mutual=mutual)
        self.before_gate = nn.LayerNorm(channels)
        self.gate = nn.Linear(channels, 4 * channels)
        self.out = nn.Linear(2 * channels, channels)

    def forward(self, x: Float[Tensor, "n t y x c"]) -> Float[Tensor, "n t y x c"]:
        """Refined features, of any number of frames and any size."""
        around = margins(x.shape[1:4], self.cell, self.shift)
        pads = [side for pair in reversed(around) for side in pair]
        normed = self.before_attention(x)
        padded = functional.pad(normed, [0, 0, *pads])
        there = functional.pad(normed.new_ones(1, *x.shape[1:4], 1), [0, 0, *pads])
        tokens = partition(padded, self.cell)
        known = partition(there, self.cell)[..., 0].repeat(x.shape[0], 1)
        mixed = merge(self.attention(tokens, known), self.cell, padded.shape[:4])
        inner = tuple(slice(a, a + n) for (a, _), n in zip(around, x.shape[1:4], strict=True))
        x = x + mixed[(slice(None), *inner)]
        gate, content = self.gate(self.before_gate(x)).chunk(2, dim=-1)
        refined: Tensor = x + self.out(functional.gelu(gate) * content)
        return refined
