"""Objective functions of the plain and of the Bayesian network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import DataError

SCALE_FLOOR = 1e-6
"""Added to the predicted scale, which a sigmoid may bring to zero."""


def l1(
    prediction: Float[Tensor, "batch time 1 y x"], target: Float[Tensor, "batch time 1 y x"]
) -> Float[Tensor, ""]:
    """Mean absolute difference (Paper: eq. 22).

    Raises
    ------
    DataError
        If the shapes differ.
    """
    _alike(prediction, target)
    return torch.nn.functional.l1_loss(prediction, target)


def laplace_nll(
    mean: Float[Tensor, "batch time 1 y x"],
    scale: Float[Tensor, "batch time 1 y x"],
    target: Float[Tensor, "batch time 1 y x"],
) -> Float[Tensor, ""]:
    """Negative log-likelihood of a Laplace distribution, without its log 2 (Paper: eq. 24).

    Parameters
    ----------
    mean, scale : tensors
        Location and scale b of every pixel, on the normalised scale.
    target : tensor

    Raises
    ------
    DataError
        If the shapes differ.
    """
    _alike(mean, target)
    _alike(scale, target)
    b = scale + SCALE_FLOOR
    return ((target - mean).abs() / b + b.log()).mean()


def objective(
    output: Float[Tensor, "batch time out y x"],
    target: Float[Tensor, "batch time 1 y x"],
    *,
    mean_only: bool = False,
    square_weight: float = 0.0,
) -> Float[Tensor, ""]:
    """L1 for a network of one output, Laplace likelihood for one of two (mean, scale).

    ``mean_only`` trains the mean of a Bayesian network with L1, which gives the likelihood a
    start at which its scale is not driven by gross errors.  ``square_weight`` adds the mean square
    error: the best location of a Laplace distribution is the median, which leaves nothing of a
    structure that is likely but not certain, where the mean keeps its light.
    """
    if square_weight:
        plain = objective(output, target, mean_only=mean_only)
        square: Tensor = (output[:, :, :1] - target).square().mean()
        return plain + square_weight * square
    outputs = output.shape[2]
    if outputs == 1 or mean_only:
        return l1(output[:, :, :1], target)
    if outputs != 2:
        raise DataError(f"a network gives a mean, or a mean and a scale, not {outputs} outputs")
    return laplace_nll(output[:, :, :1], output[:, :, 1:], target)


def _alike(output: Tensor, target: Tensor) -> None:
    if output.shape != target.shape:
        raise DataError(
            f"the network gives {tuple(output.shape)} for a target of {tuple(target.shape)}",
            remedy="train with the upscale and the number of outputs of the network",
        )
