"""Pre-training of the light flow network on known motion, as published video networks start.

A noiseless frame is warped by a known smooth flow, both frames get noise, and the network learns
the flow (end-point error).  All networks of a seed start from the same flow network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.tisr_simulated.sequences import BACKGROUND, PHOTONS
from tisr_scope.networks.optical_flow import LightFlow, warp
from tisr_scope.types import PairedStack

REACH_PX = 4.0
"""Largest shift; faster motion than that of the sequences is not needed."""
_BATCH, _SIDE, _READ_NOISE_PHOTONS = 8, 32, 1.6


def pretrain(
    network: LightFlow, stacks: Sequence[PairedStack], steps: int, seed: int, rate: float = 3e-3
) -> float:
    """Train in place; gives the end-point error of the last tenth of the steps, in pixels."""
    random = torch.Generator().manual_seed(seed)
    frames = torch.from_numpy(
        np.stack([stack.widefield[-1, 0] / stack.widefield[-1, 0].max() for stack in stacks])
    )[:, None]
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    errors: list[float] = []
    for _ in range(steps):
        reference, other, flow = _pairs(frames, random)
        error = (network(reference, other) - flow).square().sum(1).add(1e-6).sqrt().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        schedule.step()
        errors.append(float(error.detach()))
    return float(np.mean(errors[-max(1, steps // 10) :]))


def _pairs(
    frames: Float[Tensor, "n 1 y x"], random: torch.Generator
) -> tuple[Float[Tensor, "b 1 s s"], Float[Tensor, "b 1 s s"], Float[Tensor, "b 2 s s"]]:
    """Noisy frames ``reference`` and ``other`` with the flow from one to the other."""
    margin = int(REACH_PX) + 2
    side = _SIDE + 2 * margin
    crops = []
    for _ in range(_BATCH):
        of = int(torch.randint(len(frames), (), generator=random))
        y, x = (int(torch.randint(n - side + 1, (), generator=random)) for n in frames.shape[-2:])
        crops.append(frames[of, :, y : y + side, x : x + side])
    other = torch.stack(crops)
    shift = REACH_PX * torch.rand(_BATCH, 1, 1, 1, generator=random)
    coarse = 2 * torch.rand(_BATCH, 2, 1, 1, generator=random) - 1
    coarse = coarse + 0.5 * (2 * torch.rand(_BATCH, 2, 3, 3, generator=random) - 1)
    flow = shift / 1.5 * interpolate(coarse, (side, side), mode="bilinear", align_corners=True)
    reference = warp(other, flow, "border")
    inner = slice(margin, margin + _SIDE)
    low, high = min(PHOTONS.values()), max(PHOTONS.values())
    peak = low * (high / low) ** torch.rand(_BATCH, 1, 1, 1, generator=random)
    first, second = (_noisy(image[..., inner, inner], peak, random) for image in (reference, other))
    return first, second, flow[..., inner, inner]


def _noisy(
    image: Float[Tensor, "b 1 s s"], peak: Float[Tensor, "b 1 1 1"], random: torch.Generator
) -> Float[Tensor, "b 1 s s"]:
    photons = torch.poisson(peak * (image.clamp(0) + BACKGROUND), generator=random)
    read = _READ_NOISE_PHOTONS * torch.randn(image.shape, generator=random)
    return (photons + read) / peak
