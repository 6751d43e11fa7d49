"""Metrics against scikit-image, NumPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from tisr_scope.errors import DataError
from tisr_scope.metrics.fidelity import (
    fit_line,
    fitted,
    normalised_reference,
    psnr,
    ssim,
)
from tisr_scope.metrics.temporal import correlation_matrix, neighbour_correlation


@pytest.fixture
def stack() -> np.ndarray:
    random = np.random.default_rng(2)
    return gaussian_filter(random.random((4, 48, 40)), (0, 1.5, 1.5)).astype(np.float32)


def test_psnr_is_that_of_scikit_image(stack: np.ndarray) -> None:
    noisy = stack + np.random.default_rng(3).normal(0, 0.02, stack.shape)
    assert psnr(noisy, stack) == pytest.approx(
        peak_signal_noise_ratio(stack.astype(float), noisy, data_range=1), rel=1e-12
    )
    assert psnr(stack + 0.1, stack) == pytest.approx(20, abs=1e-4)
    assert psnr(stack, stack) == np.inf


def test_ssim_of_equal_images_is_one_and_of_a_shift_is_the_luminance_term() -> None:
    flat = np.full((32, 32), 0.4)
    assert ssim(flat, flat) == pytest.approx(1)
    # Without structure only the luminance term is left (Wang et al. 2004, eq. 6).
    c1 = 0.01**2
    expected = (2 * 0.4 * 0.6 + c1) / (0.4**2 + 0.6**2 + c1)
    assert ssim(flat, np.full((32, 32), 0.6)) == pytest.approx(expected, rel=1e-6)


def test_linear_fit_recovers_gain_and_offset(stack: np.ndarray) -> None:
    alpha, beta = fit_line(stack, 3.5 * stack - 0.7)
    assert (alpha, beta) == pytest.approx((3.5, -0.7), rel=1e-5)


def test_linear_fit_is_the_least_squares_solution(stack: np.ndarray) -> None:
    reference = stack**2 + np.random.default_rng(5).normal(0, 0.05, stack.shape)
    slope, offset = np.polyfit(stack.ravel().astype(float), reference.ravel(), 1)
    assert fit_line(stack, reference) == pytest.approx((slope, offset), rel=1e-9)
    best = np.mean((fitted(stack, reference) - reference) ** 2)
    for alpha, beta in ((slope * 1.01, offset), (slope, offset + 0.01)):
        assert best < np.mean((alpha * stack + beta - reference) ** 2)


def test_reference_is_divided_by_its_maximum_then_blurred(stack: np.ndarray) -> None:
    found = normalised_reference(stack)
    kernel = np.exp(-(np.arange(-1, 2) ** 2) / (2 * 0.4**2))
    kernel /= kernel.sum()
    point = np.zeros((1, 9, 9), np.float32)
    point[0, 4, 4] = 7
    np.testing.assert_allclose(
        normalised_reference(point)[0, 3:6, 3:6], np.outer(kernel, kernel), rtol=1e-5
    )
    assert found.max() <= 1
    assert normalised_reference(stack, 0).max() == 1


def test_correlation_matrix_is_eq_21(stack: np.ndarray) -> None:
    found = correlation_matrix(stack)
    a, b = stack[0].ravel().astype(float), stack[2].ravel().astype(float)
    expected = np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std())
    assert found[0, 2] == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(np.diag(found), 1)
    assert neighbour_correlation(stack) == pytest.approx(
        np.mean([found[0, 1], found[1, 2], found[2, 3]])
    )
    assert np.isnan(neighbour_correlation(stack[:1]))


def test_noise_lowers_the_correlation_by_the_known_factor() -> None:
    random = np.random.default_rng(8)
    signal = random.normal(0, 1, (1, 300, 300))
    frames = signal + random.normal(0, 0.5, (2, 300, 300))
    assert neighbour_correlation(frames) == pytest.approx(1 / (1 + 0.25), abs=0.01)


@pytest.mark.usefixtures("unchecked_shapes")
def test_images_that_cannot_be_compared_are_refused(stack: np.ndarray) -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        psnr(stack, stack[:, 1:])
    with pytest.raises(DataError, match="NaN"):
        ssim(stack[0], np.full_like(stack[0], np.nan))
    with pytest.raises(DataError, match="constant"):
        fit_line(np.ones_like(stack), stack)
    with pytest.raises(DataError, match="constant"):
        correlation_matrix(np.ones((2, 4, 4)))
