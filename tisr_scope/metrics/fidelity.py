"""Fidelity of super-resolved stacks to a reference.

References are divided by their maximum (Paper: eq. 18), results are fitted to them by one line
per stack (Paper: eq. 19-20), so that the data range of every metric is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from skimage.metrics import structural_similarity

from tisr_scope.errors import DataError
from tisr_scope.normalise import Normalisation


class LinearFit(NamedTuple):
    """Gain alpha and offset beta of eq. 19."""

    alpha: float
    beta: float


def normalised_reference(
    stack: Float[np.ndarray, "time y x"], blur_sigma_px: float = 0.4
) -> Float[np.ndarray, "time y x"]:
    """Reference divided by its maximum and blurred by a 3 x 3 Gaussian (Paper: eq. 18).

    ``blur_sigma_px = 0`` leaves a reference without reconstruction artefacts as it is.

    Raises
    ------
    DataError
        If the stack is empty, dark, or holds values that are not finite.
    """
    rule = Normalisation(reference="maximum", target_blur_sigma_px=blur_sigma_px)
    return rule.normalise_target(stack, rule.scale(stack, where="reference"))


def fit_line(
    stack: Float[np.ndarray, "*axes y x"], reference: Float[np.ndarray, "*axes y x"]
) -> LinearFit:
    """Gain and offset with the least squared error to the reference (Paper: eq. 19-20).

    Raises
    ------
    DataError
        If the shapes differ, values are not finite, or the stack is constant.
    """
    _check(stack, reference)
    x = stack.astype(np.float64, copy=False)
    y = reference.astype(np.float64, copy=False)
    x_mean, y_mean = x.mean(), y.mean()
    variance = np.mean((x - x_mean) ** 2)
    if variance == 0:
        raise DataError(
            "the image is constant, so no gain can be fitted",
            remedy="check that the network or the baseline gave an image at all",
        )
    alpha = float(np.mean((x - x_mean) * (y - y_mean)) / variance)
    return LinearFit(alpha, float(y_mean - alpha * x_mean))


def fitted(
    stack: Float[np.ndarray, "*axes y x"], reference: Float[np.ndarray, "*axes y x"]
) -> Float[np.ndarray, "*axes y x"]:
    """The stack after its best linear transformation to the reference (Paper: eq. 19-20)."""
    alpha, beta = fit_line(stack, reference)
    return (alpha * stack + beta).astype(np.float32)


def psnr(
    image: Float[np.ndarray, "*axes y x"],
    reference: Float[np.ndarray, "*axes y x"],
    data_range: float = 1.0,
) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images."""
    _check(image, reference)
    error = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(data_range**2 / error))


def ssim(
    image: Float[np.ndarray, "y x"],
    reference: Float[np.ndarray, "y x"],
    data_range: float = 1.0,
) -> float:
    """Structural similarity with the Gaussian window of Wang et al. (2004), sigma 1.5 pixels."""
    _check(image, reference)
    return float(
        structural_similarity(
            image.astype(np.float64),
            reference.astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def _check(image: Float[np.ndarray, "*axes"], reference: Float[np.ndarray, "*axes"]) -> None:
    if image.shape != reference.shape or image.size == 0:
        raise DataError(
            f"image {image.shape} and reference {reference.shape} cannot be compared",
            remedy="both must be on the same super-resolved pixel grid",
        )
    if not (np.isfinite(image).all() and np.isfinite(reference).all()):
        raise DataError("the image or its reference holds NaN or infinite values")
