"""Residual blocks, the part every stage of the network is made of."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.networks.activation_checkpointing import recomputed
from tisr_scope.networks.config import Activation
from tisr_scope.networks.dropout import MonteCarloDropout

SLOPE = 0.1


def activation(name: Activation) -> nn.Module:
    """The activation of that name; leaky ones have a slope of 0.1."""
    return nn.ReLU() if name == "relu" else nn.LeakyReLU(SLOPE)


def conv3(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution with zero padding."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def zero_initialise(conv: nn.Conv2d) -> None:
    """Make a convolution start as the constant zero, so that its stage starts as identity."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class ResidualBlock(nn.Module):
    """x + conv(dropout(activation(conv x))); starts close to identity.

    Parameters
    ----------
    channels : int
        Channels of input and output.
    rate : float
        Dropout rate; 0 for none.
    kind : {"relu", "leaky_relu"}
        Activation: the paper's text says leaky, the released network is plain.
    """

    def __init__(self, channels: int, rate: float = 0.0, kind: Activation = "relu") -> None:
        super().__init__()
        self.conv1 = conv3(channels, channels)
        self.activation = activation(kind)
        self.dropout = MonteCarloDropout(rate)
        self.conv2 = conv3(channels, channels)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_in")
            with torch.no_grad():
                conv.weight.mul_(0.1)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, x: Float[Tensor, "n c y x"], copies: int = 1) -> Float[Tensor, "m c y x"]:
        """Refined features; ``copies`` of each element part where the mask falls."""
        inner = self.activation(self.conv1(x))
        if copies > 1:
            inner = inner.repeat_interleave(copies, dim=0)
            x = x.repeat_interleave(copies, dim=0)
        refined: Tensor = x + self.conv2(self.dropout(inner))
        return refined


class ResidualBlocks(nn.Module):
    """A convolution to the working channels, leaky ReLU, and ``blocks`` residual blocks.

    Paper: eq. 3-4.  With ``skip`` the features before the blocks are added after them.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        blocks: int,
        *,
        rate: float = 0.0,
        kind: Activation = "relu",
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.skip = skip
        chain = nn.Sequential(*(ResidualBlock(channels, rate, kind) for _ in range(blocks)))
        self.main = nn.Sequential(conv3(inputs, channels), nn.LeakyReLU(SLOPE), chain)

    def forward(
        self, x: Float[Tensor, "n k y x"], copies: int = 1, *, recompute: bool = False
    ) -> Float[Tensor, "m c y x"]:
        """Features, each element ``copies`` times with masks of its own.

        All before the first mask is computed once.  The copies of an element stand together.
        With ``recompute`` nothing inside a block is kept for the gradient.
        """
        first: Tensor = self.main[1](self.main[0](x))
        features = first
        remaining = copies
        for block in self.main[2].children():
            features = recomputed(block, block, features, remaining, active=recompute)
            remaining = 1
        if remaining > 1:
            features = features.repeat_interleave(remaining, dim=0)
        if self.skip:
            features = features + first.repeat_interleave(copies, dim=0)
        return features


class Upsampling(nn.Module):
    """A convolution and one pixel shuffle."""

    def __init__(self, inputs: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.upsample_conv = conv3(inputs, outputs * factor**2)

    def forward(self, x: Float[Tensor, "n c y x"]) -> Float[Tensor, "n d fy fx"]:
        """Features on the fine grid."""
        return functional.pixel_shuffle(self.upsample_conv(x), self.factor)
