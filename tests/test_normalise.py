"""The one intensity scale: what becomes 1, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from tisr_scope.errors import DataError
from tisr_scope.normalise import Normalisation


def stack(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(5, 50, (4, 30, 40)).astype(np.float32)


def test_published_rule_makes_the_maximum_one() -> None:
    rule = Normalisation(reference="maximum")
    frames = stack()
    normalised = rule.normalise_input(frames, rule.scale(frames))
    assert normalised.max() == 1 and normalised.dtype == np.float32


def test_percentile_is_hardly_moved_by_a_hot_pixel() -> None:
    rule = Normalisation()
    frames = stack()
    hot = frames.copy()
    hot[2, 3, 4] = 1e6
    assert rule.scale(hot) == pytest.approx(rule.scale(frames), rel=0.01)
    assert Normalisation(reference="maximum").scale(hot) == 1e6


def test_the_scale_takes_the_laser_power_out() -> None:
    rule = Normalisation()
    frames = stack()
    bright = 25 * frames
    np.testing.assert_allclose(
        rule.normalise_input(bright, rule.scale(bright)),
        rule.normalise_input(frames, rule.scale(frames)),
        rtol=1e-6,
    )


def test_target_is_blurred_by_the_kernel_of_the_paper_within_each_frame() -> None:
    frames = np.zeros((3, 11, 11), np.float32)
    frames[1, 5, 5] = 7
    blurred = Normalisation(reference="maximum").normalise_target(frames, 7.0)
    side = np.exp(-1 / (2 * 0.4**2))
    line = np.array([side, 1, side]) / (1 + 2 * side)
    np.testing.assert_allclose(blurred[1, 4:7, 4:7], np.outer(line, line), rtol=1e-5)
    assert blurred[1].sum() == pytest.approx(1, rel=1e-5)
    assert not blurred[[0, 2]].any(), "neighbouring time points stay apart"


def test_blur_can_be_left_out() -> None:
    frames = stack()
    rule = Normalisation(target_blur_sigma_px=0)
    np.testing.assert_allclose(rule.normalise_target(frames, 2.0), frames / 2)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 4, 4), np.float32), "no frames"),
        (np.zeros((2, 4, 4), np.float32), "no light"),
        (np.full((2, 4, 4), -3, np.float32), "no light"),
        (np.full((2, 4, 4), np.nan, np.float32), "NaN"),
        (np.full((2, 4, 4), np.inf, np.float32), "infinite"),
    ],
)
def test_frames_without_a_scale_are_refused(frames: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Normalisation().scale(frames, "recording 7")
    assert caught.value.where == "recording 7"


def test_percentiles_that_make_no_sense_are_refused() -> None:
    for percentile in (20, 101):
        with pytest.raises(ValidationError):
            Normalisation(percentile=percentile)
