"""Confidence, uncertainty and reliability against closed forms and independent libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from tisr_scope.confidence.credible_interval import confidence, half_width, interval_probability
from tisr_scope.confidence.expected_calibration_error import Reliability, inside_interval, merged
from tisr_scope.confidence.uncertainty import summarise
from tisr_scope.errors import CalibrationError


@pytest.fixture
def passes() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    means = torch.rand(6, 9, 11, generator=random)
    scales = 0.005 + 0.3 * torch.rand(6, 9, 11, generator=random) ** 2
    return means, scales


def test_uncertainty_is_that_of_numpy(passes: tuple[torch.Tensor, torch.Tensor]) -> None:
    means, scales = passes
    result = summarise(means, scales)
    np.testing.assert_allclose(result.mean, means.numpy().mean(0), rtol=1e-6)
    np.testing.assert_allclose(result.epistemic, means.numpy().std(0), rtol=1e-5)
    np.testing.assert_allclose(result.aleatoric, np.sqrt((scales.numpy() ** 2).mean(0)), rtol=1e-5)


def test_variance_of_the_mixture_splits_into_both_uncertainties() -> None:
    """Law of total variance: Var = epistemic^2 + 2 aleatoric^2 for Laplace components."""
    random = np.random.default_rng(5)
    means, scales = np.array([0.2, 0.3, 0.45]), np.array([0.02, 0.05, 0.1])
    which = random.integers(3, size=400_000)
    drawn = random.laplace(means[which], scales[which])
    result = summarise(*(torch.tensor(v).reshape(3, 1, 1) for v in (means, scales)))
    predicted = float(result.epistemic**2 + 2 * result.aleatoric**2)
    assert drawn.var() == pytest.approx(predicted, rel=0.02)


@pytest.mark.parametrize("gamma", [None, 0.2])
def test_confidence_is_the_integral_of_the_mixture(
    passes: tuple[torch.Tensor, torch.Tensor], gamma: float | None
) -> None:
    means, scales = (p.double() for p in passes)
    centre = means.mean(0)
    half = half_width(centre, 0.04, gamma)
    found = confidence(means, scales, half)
    width = np.broadcast_to(np.asarray(half), centre.shape)
    laplace = stats.laplace(means.numpy(), scales.numpy())
    expected = (laplace.cdf(centre.numpy() + width) - laplace.cdf(centre.numpy() - width)).mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    single = confidence(means.float(), scales.float(), None if gamma else 0.04)
    np.testing.assert_allclose(single, expected, atol=1e-6)


def test_confidence_is_the_numerical_integral_of_the_density() -> None:
    means, scales = torch.tensor([0.1, 0.15, 0.3]), torch.tensor([0.03, 0.01, 0.2])
    centre = float(means.mean())

    def density(x: float) -> float:
        return float(
            np.mean([stats.laplace.pdf(x, m, s) for m, s in zip(means, scales, strict=True)])
        )

    expected, _ = integrate.quad(density, centre - 0.04, centre + 0.04, points=[0.15], epsabs=1e-10)
    found = confidence(means.reshape(3, 1, 1), scales.reshape(3, 1, 1), 0.04)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_confidence_is_the_share_of_drawn_truths() -> None:
    random = np.random.default_rng(11)
    means = np.array([0.5, 0.52, 0.44, 0.47, 0.55, 0.51])
    scales = np.array([0.03, 0.05, 0.02, 0.08, 0.04, 0.06])
    which = random.integers(6, size=300_000)
    truth = random.laplace(means[which], scales[which])
    centre = means.mean()
    share = np.mean(np.abs(truth - centre) <= max(0.2 * centre, 0.04))
    found = confidence(*(torch.tensor(v).reshape(6, 1, 1) for v in (means, scales)))
    assert float(found) == pytest.approx(share, abs=4 * np.sqrt(0.25 / 300_000))


def test_extremes_stay_finite_and_between_zero_and_one() -> None:
    distance = torch.tensor([0.0, 0.0, 5.0, 0.04, 1e-8, -3.0])
    scale = torch.tensor([0.0, 1e6, 1e-12, 1e-6, 1.0, 0.5])
    found = interval_probability(distance, scale, 0.04)
    assert torch.isfinite(found).all()
    assert (found >= -1e-7).all() and (found <= 1).all()
    assert found[0] == 1
    assert float(found[1]) == pytest.approx(0.04e-6, rel=1e-3)
    assert found[2] == 0


def test_half_width_follows_the_intensity_above_the_threshold() -> None:
    mean = torch.tensor([-1.0, 0.0, 0.1, 0.2, 0.5, 1.0])
    np.testing.assert_allclose(half_width(mean), [0.2, 0.04, 0.04, 0.04, 0.1, 0.2], rtol=1e-6)
    assert half_width(mean, 0.03, None) == 0.03
    with pytest.raises(CalibrationError, match="epsilon > 0"):
        half_width(mean, 0.0)


def test_gradient_of_confidence_is_the_density_at_the_limits() -> None:
    means = torch.tensor([[0.3], [0.35]], dtype=torch.float64, requires_grad=True)
    scales = torch.tensor([[0.05], [0.02]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, s: confidence(m, s, 0.04), (means, scales))


@pytest.mark.usefixtures("unchecked_shapes")
def test_passes_of_different_shapes_are_refused() -> None:
    with pytest.raises(CalibrationError, match="no set of passes"):
        confidence(torch.zeros(6, 4, 4), torch.ones(5, 4, 4))


def laplace_world(
    predicted_over_true: float, pixels: int = 400_000, same_scale: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Confidence, hits and true scales of pixels whose predicted scale is off by a factor."""
    random = np.random.default_rng(7)
    true = np.full(pixels, 0.05) if same_scale else np.exp(random.uniform(-5, -1, pixels))
    truth = torch.tensor(random.laplace(0.3, true))
    mean = torch.full((1, pixels), 0.3, dtype=torch.float64)
    scale = torch.tensor(true * predicted_over_true)[None]
    predicted = confidence(mean, scale, 0.04)
    return predicted, inside_interval(truth, mean[0], 0.04), torch.tensor(true)


def test_perfectly_calibrated_pixels_have_no_error() -> None:
    predicted, inside, _ = laplace_world(1.0)
    counts = Reliability.of(predicted, inside)
    # Each bin's difference is a mean of N_k Bernoulli errors: E|.| <= 0.4 / sqrt(N_k) summed.
    sampling = float(np.sum(0.4 * np.sqrt(counts.pixels))) / counts.total
    assert counts.ece < 1.5 * sampling < 0.006
    assert abs(counts.relative_ece) < 0.003
    np.testing.assert_allclose(counts.accuracy, counts.confidence, atol=0.02)


def test_overconfidence_by_a_factor_has_the_closed_form_error() -> None:
    predicted, inside, _ = laplace_world(0.5, same_scale=True)
    counts = Reliability.of(predicted, inside)
    expected = (1 - np.exp(-0.04 / 0.025)) - (1 - np.exp(-0.04 / 0.05))
    assert counts.ece == pytest.approx(expected, abs=0.003)
    assert counts.relative_ece == pytest.approx(expected, abs=0.003)


def test_underconfidence_has_a_negative_relative_error() -> None:
    predicted, inside, true = laplace_world(2.0)
    counts = Reliability.of(predicted, inside)
    expected = float((torch.exp(-0.04 / true) - torch.exp(-0.04 / (2 * true))).mean())
    assert counts.relative_ece == pytest.approx(expected, abs=0.003)
    assert counts.ece == pytest.approx(-expected, abs=0.004)


def test_every_pixel_is_counted_in_half_open_bins() -> None:
    value = torch.tensor([0.0, 1e-9, 0.25, 0.2500001, 0.5, 0.75, 1.0], dtype=torch.float64)
    counts = Reliability.of(value, torch.ones(7, dtype=torch.bool), bins=4)
    assert counts.pixels.tolist() == [3, 2, 1, 1]
    assert counts.total == 7


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    predicted, inside, _ = laplace_world(0.7, pixels=10_001)
    whole = Reliability.of(predicted, inside, bins=100)
    parts = merged(
        Reliability.of(p, i, bins=100)
        for p, i in zip(predicted.split(999), inside.split(999), strict=True)
    )
    np.testing.assert_allclose(parts.confidence_sum, whole.confidence_sum)
    assert parts.ece == pytest.approx(whole.ece, rel=1e-12)
    coarse = whole.coarser(20)
    assert coarse.ece == pytest.approx(Reliability.of(predicted, inside, bins=20).ece, rel=1e-9)
    assert coarse.relative_ece == pytest.approx(whole.relative_ece, rel=1e-9)


@pytest.mark.usefixtures("unchecked_shapes")
def test_impossible_counts_are_refused() -> None:
    with pytest.raises(CalibrationError, match="NaN or outside"):
        Reliability.of(torch.tensor([float("nan")]), torch.tensor([True]))
    with pytest.raises(CalibrationError, match="differ"):
        Reliability.of(torch.zeros(3), torch.zeros(4, dtype=torch.bool))
    with pytest.raises(CalibrationError, match="no pixel"):
        _ = Reliability.empty().ece
    with pytest.raises(CalibrationError, match="no reliability"):
        merged([])
    with pytest.raises(CalibrationError, match="cannot be joined"):
        Reliability.empty(20).coarser(3)
