"""Confidence: probability that the truth lies in the credible interval.

The passes form a mixture of Laplace distributions, whose integral over an interval is known in
closed form, so nothing is sampled or discretised.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.confidence.uncertainty import check_passes
from tisr_scope.errors import CalibrationError

EPSILON = 0.04
"""Half-width of the credible interval on the normalised scale (Paper: Methods)."""
GAMMA = 0.2
"""Part of the intensity that the intensity-aware half-width spans (Paper: eq. 30)."""
SCALE_FLOOR = 1e-6
"""Smallest Laplace scale: a sigmoid can reach zero in float32."""


def half_width(
    mean: Float[Tensor, "*pixels"], epsilon: float = EPSILON, gamma: float | None = GAMMA
) -> Float[Tensor, "*pixels"] | float:
    """Half-width of the credible interval: max(gamma |mean|, epsilon) (Paper: eq. 30).

    ``gamma = None`` gives the fixed half-width ``epsilon`` (Paper: eq. 29).

    Raises
    ------
    CalibrationError
        If ``epsilon`` is not positive or ``gamma`` is negative.
    """
    if not epsilon > 0 or (gamma is not None and not gamma >= 0):
        raise CalibrationError(
            f"the credible interval needs epsilon > 0 and gamma >= 0, got {epsilon} and {gamma}",
            remedy=f"the published values are epsilon = {EPSILON}, gamma = {GAMMA}",
        )
    if gamma is None:
        return epsilon
    return mean.abs().mul(gamma).clamp(min=epsilon)


def interval_probability(
    distance: Float[Tensor, "*pixels"],
    scale: Float[Tensor, "*pixels"],
    half: Float[Tensor, "*pixels"] | float,
) -> Float[Tensor, "*pixels"]:
    """Probability of one Laplace distribution inside an interval (Paper: eq. 23, 29).

    With d the distance of the interval's centre from the distribution's, h the half-width and b
    the scale, F(d + h) - F(d - h) is, for either sign of d,

        1/2 [ (1 - exp(-(h + |d|) / b)) + sgn(h - |d|) (1 - exp(-|h - |d|| / b)) ]

    Both brackets are ``expm1`` of a negative number: nothing overflows, and the small probability
    of a wide distribution is not lost in rounding.
    """
    distance = distance.abs()
    scale = scale.clamp(min=SCALE_FLOOR)
    inner = (half - distance) / scale
    outer = (half + distance) / scale
    near = torch.expm1(-inner.abs()) * torch.sign(inner)
    return (torch.expm1(-outer) + near).mul(-0.5)


def confidence(
    means: Float[Tensor, "m ..."],
    scales: Float[Tensor, "m ..."],
    half: Float[Tensor, "*pixels"] | float | None = None,
    centre: Float[Tensor, "*pixels"] | None = None,
) -> Float[Tensor, "*pixels"]:
    """Probability of the mixture of all passes inside the credible interval (Paper: eq. 28-29).

    Differentiable in means and scales.  One pass at a time, so that the largest temporary is one
    image however many passes there are.

    Parameters
    ----------
    means, scales : tensor, shape (m, y, x)
        Predicted intensity and Laplace scale of each pass, on the normalised scale.
    half : tensor of shape (y, x) or float, optional
        Half-width from :func:`half_width`; by default the intensity-aware one.
    centre : tensor, shape (y, x), optional
        Centre of the interval; by default the mean over the passes (Paper: eq. 25).

    Returns
    -------
    tensor, shape (y, x)
        Values from 0 to 1.

    Raises
    ------
    CalibrationError
        If the shapes differ, or there is no pass at all.
    """
    check_passes(means, scales)
    centre = means.mean(dim=0) if centre is None else centre
    half = half_width(centre) if half is None else half
    total = torch.zeros_like(centre)
    for mean, scale in zip(means, scales, strict=True):
        total = total + interval_probability(centre - mean, scale, half)
    return (total / means.shape[0]).clamp(0, 1)
