"""The search for k on curves with a known minimum, and the fine-tuning objective."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tisr_scope.confidence.confidence_correction import (
    Trial,
    calibration_loss,
    parabola_vertex,
    search_k,
)
from tisr_scope.confidence.credible_interval import confidence
from tisr_scope.confidence.expected_calibration_error import Reliability, inside_interval
from tisr_scope.confidence.recalibration import RecalibrationMap, fit_recalibration
from tisr_scope.errors import CalibrationError


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("minimum", [0.03, 0.22, 0.4, 0.47, 0.68, 0.9])
def test_search_finds_the_minimum_of_a_parabola(sign: int, minimum: float) -> None:
    tried: list[float] = []

    def curve(k: float) -> float:
        tried.append(k)
        return 0.02 + 0.3 * (k - sign * minimum) ** 2

    found = search_k(curve, relative_ece0=0.1 * sign)
    assert found.k == pytest.approx(sign * minimum, abs=1e-9)
    assert found.source == "parabola"
    assert tried[:2] == pytest.approx([0.5 * sign, 0.4 * sign])


def test_search_follows_the_published_order_after_the_exchange() -> None:
    found = search_k(lambda k: (k - 0.72) ** 2, relative_ece0=0.0)
    assert [round(t.k, 9) for t in found.trials] == [0.5, 0.4, 0.6, 0.7, 0.8]


def test_search_of_a_rounded_v_is_within_half_a_step() -> None:
    found = search_k(lambda k: math.hypot(k - 0.23, 0.01), relative_ece0=1.0)
    assert abs(found.k - 0.23) < 0.05


def test_search_that_never_rises_takes_the_best_tried_and_says_so() -> None:
    found = search_k(lambda k: 1 + k, relative_ece0=1.0, max_steps=6)
    assert found.source == "best tried"
    assert len(found.trials) == 6
    assert found.k == pytest.approx(0.0)
    assert "did not rise" in found.reason


def test_search_on_a_plateau_stops_at_the_limit() -> None:
    found = search_k(lambda _: 0.1, relative_ece0=1.0)
    assert found.source == "best tried" and len(found.trials) == 8


def test_parabola_that_opens_downwards_is_not_believed() -> None:
    errors = iter([0.3, 0.2, 0.2, 0.2000001])
    found = search_k(lambda _: next(errors), relative_ece0=1.0)
    assert found.source == "parabola"  # nearly flat, still a minimum inside
    # Rounding of equal errors may leave no curvature at all: the vertex is not a number.
    assert math.isnan(parabola_vertex(Trial(0.3, 1.0), Trial(0.4, 1.0), Trial(0.5, 1.0))[0])
    _, curvature = parabola_vertex(Trial(0.3, 0.0), Trial(0.4, 1.0), Trial(0.5, 0.5))
    assert curvature < 0


def test_vertex_agrees_with_a_fitted_polynomial() -> None:
    k, error = [0.2, 0.3, 0.4], [0.05, 0.02, 0.06]
    a, b, _ = np.polyfit(k, error, 2)
    vertex, curvature = parabola_vertex(*(Trial(x, y) for x, y in zip(k, error, strict=True)))
    assert vertex == pytest.approx(-b / (2 * a))
    assert curvature == pytest.approx(2 * a)


def test_search_refuses_errors_that_are_not_numbers() -> None:
    with pytest.raises(CalibrationError, match="nan"):
        search_k(lambda _: float("nan"), relative_ece0=1.0)
    with pytest.raises(CalibrationError, match="max_steps"):
        search_k(lambda k: k, 1.0, max_steps=2)


def batch(factor: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    truth = torch.rand(8, 32, 32, generator=random)
    true = 0.02 + 0.1 * torch.rand(8, 32, 32, generator=random)
    uniform = torch.rand(8, 32, 32, generator=random) - 0.5
    noise = true * uniform.sign() * torch.log1p(-2 * uniform.abs() * 0.999999)
    means = (truth + noise)[None].expand(3, -1, -1, -1).clone()
    return means, (factor * true)[None].expand(3, -1, -1, -1).clone(), truth


@pytest.mark.parametrize("gamma", [None, 0.2])
def test_objective_is_ece_plus_k_times_confidence(gamma: float | None) -> None:
    means, scales, truth = batch()
    half = 0.04 if gamma is None else (0.2 * means[0].abs()).clamp(min=0.04)
    predicted = confidence(means, scales, half)
    counts = Reliability.of(predicted, inside_interval(truth, means.mean(0), half))
    found = calibration_loss(means, scales, truth, k=0.3, epsilon=0.04, gamma=gamma)
    assert float(found) == pytest.approx(counts.ece + 0.3 * counts.mean_confidence, rel=1e-4)


def test_hard_accuracy_has_no_gradient_to_the_mean_of_one_pass() -> None:
    means, scales, truth = batch()
    for softness, reaches in ((None, False), (0.01, True)):
        mean = means[:1].clone().requires_grad_()
        scale = scales[:1].clone().requires_grad_()
        calibration_loss(
            mean, scale, truth, k=0.0, epsilon=0.04, gamma=None, softness=softness
        ).backward()
        assert mean.grad is not None and scale.grad is not None
        assert bool(mean.grad.abs().sum() > 1e-6) is reaches
        assert scale.grad.abs().sum() > 0


def test_soft_accuracy_tends_to_the_hard_one() -> None:
    means, scales, truth = batch()
    options = {"k": 0.2, "epsilon": 0.04, "gamma": None}
    hard = calibration_loss(means, scales, truth, **options)
    soft = calibration_loss(means, scales, truth, softness=1e-6, **options)
    assert float(soft) == pytest.approx(float(hard), abs=1e-3)


def test_objective_calibrates_scales_that_are_too_small() -> None:
    """Descending on one common factor of the scale finds the factor that was put in."""
    means, scales, truth = batch(factor=0.5)
    log_factor = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.Adam([log_factor], lr=0.05)
    for _ in range(120):
        optimiser.zero_grad()
        calibration_loss(
            means, scales * log_factor.exp(), truth, k=0.0, epsilon=0.04, gamma=None
        ).backward()
        optimiser.step()
    assert float(log_factor.detach().exp()) == pytest.approx(2.0, rel=0.1)


def test_recalibration_map_brings_the_error_of_untouched_pixels_to_zero() -> None:
    random = np.random.default_rng(4)

    def pixels(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        stated = torch.tensor(random.random(count))
        return stated, torch.tensor(random.random(count)) < stated**2

    fit = fit_recalibration(Reliability.of(*pixels(300_000), bins=100))
    grid = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    np.testing.assert_allclose(fit.apply(grid), grid**2, atol=0.015)
    stated, inside = pixels(200_000)
    assert Reliability.of(stated, inside).ece == pytest.approx(1 / 6, abs=0.005)
    assert Reliability.of(fit.apply(stated), inside).ece < 0.006
    assert RecalibrationMap.model_validate_json(fit.model_dump_json()) == fit


def test_recalibration_keeps_the_order_of_pixels_and_the_range() -> None:
    random = np.random.default_rng(6)
    stated = torch.tensor(random.random(50_000))
    inside = torch.tensor(random.random(50_000)) < 0.5 + 0.4 * torch.sin(9 * stated)
    fit = fit_recalibration(Reliability.of(stated, inside, bins=100))
    mapped = fit.apply(torch.linspace(0, 1, 501))
    assert (mapped.diff() >= 0).all()
    assert mapped.min() >= 0 and mapped.max() <= 1
    with pytest.raises(CalibrationError, match="too few"):
        fit_recalibration(Reliability.of(stated[:50], inside[:50], bins=100))
