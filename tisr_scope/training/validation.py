"""How good the network is on recordings it never learns from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tisr_scope.pairs.patches import PatchSampler
from tisr_scope.training.losses import objective


@dataclass(frozen=True)
class Score:
    """Mean over the fixed validation patches."""

    loss: float
    psnr_db: float


@dataclass(frozen=True)
class ValidationSet:
    """The same patches at every validation, and what enlarging the input alone achieves."""

    inputs: tuple[Float[Tensor, "batch time 1 y x"], ...]
    targets: tuple[Float[Tensor, "batch time 1 fy fx"], ...]
    bilinear_psnr_db: float


def validation_set(
    sampler: PatchSampler, patches: int, device: torch.device | str = "cpu"
) -> ValidationSet:
    """Draw the fixed patches from a sampler of the validation recordings."""
    batches = [sampler.batch(step) for step in range(math.ceil(patches / sampler.batch_size))]
    inputs = tuple(torch.from_numpy(b.inputs).to(device) for b in batches)
    targets = tuple(torch.from_numpy(b.targets).to(device) for b in batches)
    enlarged = [bilinear(x, sampler.upscale) for x in inputs]
    return ValidationSet(inputs, targets, _mean_psnr(enlarged, targets))


def validate(network: nn.Module, data: ValidationSet) -> Score:
    """Loss and PSNR with dropout switched off; the network is left as it was."""
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        outputs = [network(x) for x in data.inputs]
    network.train(was_training)
    losses = [float(objective(o, y)) for o, y in zip(outputs, data.targets, strict=True)]
    means = [output[:, :, :1] for output in outputs]
    return Score(sum(losses) / len(losses), _mean_psnr(means, data.targets))


def bilinear(
    frames: Float[Tensor, "batch time 1 y x"], upscale: int
) -> Float[Tensor, "batch time 1 fy fx"]:
    """Every frame enlarged on the centre-aligned grid of the target."""
    flat = interpolate(
        frames.flatten(0, 1), scale_factor=upscale, mode="bilinear", align_corners=False
    )
    return flat.view(*frames.shape[:3], *flat.shape[-2:])


def psnr_db(image: Float[Tensor, "*axes fy fx"], target: Float[Tensor, "*axes fy fx"]) -> float:
    """PSNR of the best linear transform of a stack, range 1 (Paper: eq. 19-20).

    The transform takes brightness and offset out of the comparison, so an enlarged wide-field
    stack is judged by its structure alone.
    """
    x, y = image.double().flatten(), target.double().flatten()
    centred = x - x.mean()
    slope = (centred * (y - y.mean())).sum() / (centred**2).sum().clamp_min(1e-12)
    error = ((y - y.mean() - slope * centred) ** 2).mean()
    return float(-10 * torch.log10(error.clamp_min(1e-12)))


def _mean_psnr(images: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
    values = [
        psnr_db(image, target)
        for batch, truth in zip(images, targets, strict=True)
        for image, target in zip(batch, truth, strict=True)
    ]
    return sum(values) / len(values)
