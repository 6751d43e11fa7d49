"""Model and data uncertainty of Monte Carlo passes.

Epistemic (model) uncertainty is how much the passes disagree, aleatoric (data) uncertainty is
what each pass says about the noise of its own answer.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import CalibrationError


class Uncertainty(NamedTuple):
    """Combined answer of the Monte Carlo passes, each of shape (y, x) or any pixel shape."""

    mean: Float[Tensor, "*pixels"]
    """Mean over the passes (Paper: eq. 25)."""
    epistemic: Float[Tensor, "*pixels"]
    """Standard deviation over the passes (Paper: eq. 26)."""
    aleatoric: Float[Tensor, "*pixels"]
    """Root mean square of the predicted Laplace scales (Paper: eq. 27)."""


def check_passes(means: Float[Tensor, "m ..."], scales: Float[Tensor, "m ..."]) -> None:
    """Refuse passes that cannot form a mixture.

    Raises
    ------
    CalibrationError
        If the shapes differ, or there is no pass at all.
    """
    if means.shape != scales.shape or means.ndim < 2 or means.shape[0] == 0:
        raise CalibrationError(
            f"means {tuple(means.shape)} and scales {tuple(scales.shape)} are no set of passes",
            remedy="give both as (passes, y, x), from a Bayesian network with at least one pass",
        )


def combined_mean(means: Float[Tensor, "m ..."]) -> Float[Tensor, "*pixels"]:
    """Mean over the passes (Paper: eq. 25)."""
    return means.mean(dim=0)


def model_uncertainty(means: Float[Tensor, "m ..."]) -> Float[Tensor, "*pixels"]:
    """Standard deviation over the passes, divided by M and not M - 1 (Paper: eq. 26)."""
    return means.std(dim=0, correction=0)


def data_uncertainty(scales: Float[Tensor, "m ..."]) -> Float[Tensor, "*pixels"]:
    """Root mean square of the predicted Laplace scales (Paper: eq. 27)."""
    return scales.square().mean(dim=0).sqrt()


def summarise(means: Float[Tensor, "m ..."], scales: Float[Tensor, "m ..."]) -> Uncertainty:
    """Mean, model and data uncertainty of all passes (Paper: eq. 25-27).

    Parameters
    ----------
    means, scales : tensor, shape (m, y, x)
        Predicted intensity and Laplace scale of each pass, on the normalised scale.

    Raises
    ------
    CalibrationError
        If the shapes differ, or there is no pass at all.
    """
    check_passes(means, scales)
    return Uncertainty(combined_mean(means), model_uncertainty(means), data_uncertainty(scales))
