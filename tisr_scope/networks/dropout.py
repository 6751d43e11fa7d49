"""Monte Carlo dropout: one network, many thinned ones, the same ones again for the same seed.

Masks are drawn for every element of the batch on its own, so that passes can run as one batch.
In training mode dropout is always on; in evaluation mode only inside :func:`monte_carlo`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MonteCarloDropout(nn.Module):
    """Zeroes single activations with a given probability and rescales the others.

    Paper: "the dropout layers randomly zeroized half of the neurons" (before eq. 25).

    Parameters
    ----------
    rate : float
        Probability of zero, 0 to below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.sampling = False
        self.generator: torch.Generator | None = None

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Masked activations, or the activations themselves where dropout is off."""
        if self.rate == 0 or not (self.training or self.sampling):
            return x
        return x * self.mask(x)

    def mask(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Independent entries, 0 or 1 / (1 - rate)."""
        keep = 1 - self.rate
        drawn = torch.empty_like(x, requires_grad=False)
        return drawn.bernoulli_(keep, generator=self.generator).div_(keep)

    def extra_repr(self) -> str:
        """Text for ``print(network)``."""
        return f"rate={self.rate:g}"


@contextmanager
def monte_carlo(network: nn.Module, generator: torch.Generator | None) -> Iterator[None]:
    """Switch the dropout of an evaluating network on, with masks drawn from ``generator``.

    Parameters
    ----------
    network : Module
        Any module that holds :class:`MonteCarloDropout` layers.
    generator : torch.Generator, optional
        On the device of the network; None draws from the global generator.
    """
    layers = [m for m in network.modules() if isinstance(m, MonteCarloDropout)]
    before = [(m.sampling, m.generator) for m in layers]
    try:
        for layer in layers:
            layer.sampling, layer.generator = True, generator
        yield
    finally:
        for layer, (sampling, old) in zip(layers, before, strict=True):
            layer.sampling, layer.generator = sampling, old


def seeded_generator(device: torch.device | str, *numbers: int) -> torch.Generator:
    """Generator whose state depends on all of the numbers, for instance seed and time index."""
    digest = zlib.crc32(",".join(str(n) for n in numbers).encode())
    return torch.Generator(device=device).manual_seed(digest)
