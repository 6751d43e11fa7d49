"""Motion is measured as it was made: exact shifts, noise, structures that move one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from moving_specimens import noisy, sample_of, wide
from scipy.ndimage import gaussian_filter

from tisr_scope.metrics.motion import motion_between, shift_between

SAMPLE = sample_of(128, seed=1)
STILL = wide(SAMPLE)


@pytest.mark.parametrize("photons", [20, 500])
@pytest.mark.parametrize("shift", [(0.3, -0.4), (0.6, 0.8), (2.0, 1.0), (12.0, 7.0)])
def test_a_moved_field_is_measured(shift: tuple[float, float], photons: float) -> None:
    found = motion_between(noisy(STILL, photons), noisy(wide(SAMPLE, *shift), photons, seed=1))
    assert found is not None
    error = max(0.02, 4 * found.drift_error_px)
    np.testing.assert_allclose(found.drift_px, shift, atol=error)
    assert found.rms_px == pytest.approx(math.hypot(*shift), abs=0.05)
    assert found.tiles >= 16


@pytest.mark.parametrize("photons", [20, 100, 500])
def test_standard_errors_are_those_that_are_seen(photons: float) -> None:
    drifts, errors, rms = [], [], []
    for seed in range(24):
        pair = (noisy(STILL, photons, seed=2 * seed + n) for n in (0, 1))
        found = motion_between(*pair)
        drifts.append(found.drift_px)
        errors.append(found.drift_error_px)
        rms.append(found.rms_px)
    # 48 values of a normal distribution: their spread is known to about 10 %.
    seen = np.std(drifts)
    assert 0.6 < seen / np.mean(errors) < 1.3
    # Noise is no motion: well below a tenth of a pixel, 6 nm.
    assert np.quantile(rms, 0.9) < 0.06


def test_halves_that_move_apart_are_motion_without_drift() -> None:
    left = np.arange(128)[None, :] < 64
    before = np.where(left, wide(SAMPLE, 0, -0.25), wide(SAMPLE, 0, 0.25))
    after = np.where(left, wide(SAMPLE, 0, 0.25), wide(SAMPLE, 0, -0.25))
    found = motion_between(noisy(before, 500), noisy(after, 500, seed=1))
    assert math.hypot(*found.drift_px) < 0.08
    assert found.rms_px == pytest.approx(0.5, rel=0.1)


def test_brightness_and_background_are_no_motion() -> None:
    found = motion_between(noisy(STILL, 400), 0.7 * noisy(STILL, 400, seed=1) + 40)
    assert math.hypot(*found.drift_px) < 4 * found.drift_error_px
    assert found.rms_px < 0.06


def test_straight_lines_show_only_what_crosses_them() -> None:
    """Parallel filaments along x: motion across is exact, motion along is not invented."""
    y = np.arange(96)[:, None] * np.ones((1, 96))

    def lines(shift: float) -> np.ndarray:
        return np.exp(-(((y - shift) % 16 - 8) ** 2) / (2 * 1.5**2))

    found = motion_between(noisy(lines(0), 300), noisy(lines(0.4), 300, seed=1))
    assert found.drift_px[0] == pytest.approx(0.4, abs=0.02)
    assert abs(found.drift_px[1]) < 0.05
    assert found.rms_px == pytest.approx(0.4, abs=0.03)


def test_nothing_is_seen_where_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    assert motion_between(*rng.normal(10, 3, (2, 96, 96))) is None
    assert motion_between(np.full((64, 64), 3.0), np.full((64, 64), 3.0)) is None
    assert shift_between(rng.normal(10, 3, (64, 64)), np.zeros((64, 64))) is None


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, -0.5), (3.3, 1.7)])
def test_registration_against_a_sharper_reference(shift: tuple[float, float]) -> None:
    """Input and target differ in sharpness and scale: neither may look like a shift."""
    image = noisy(gaussian_filter(wide(SAMPLE, *shift), 0.8), 20, frames=9)
    found = shift_between(image, 333 * STILL - 20)
    assert found is not None
    error = max(0.01, 4 * found.error_px)
    np.testing.assert_allclose((found.y_px, found.x_px), shift, atol=error)
    assert found.error_px < 0.02
