"""The one intensity scale: what becomes 1, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from tisr_scope.errors import DataError
from tisr_scope.normalise import Background, Normalisation
from tisr_scope.types import PairedStack


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


ROBUST = Normalisation(
    percentile=99.5,
    background=Background(),
    smooth_sigma_px=1.0,
    ceiling=4.0,
    target_gain=3.0,
)


def spots(seed: int = 0, shape: tuple[int, int] = (96, 110)) -> np.ndarray:
    random = np.random.default_rng(seed)
    frames = np.zeros((3, *shape))
    for _ in range(60):
        frames[:, random.integers(shape[0]), random.integers(shape[1])] += random.uniform(300, 900)
    return gaussian_filter(frames, (0, 1.3, 1.3)).astype(np.float32)


def test_a_wrong_offset_and_smooth_haze_change_nothing_that_a_network_sees() -> None:
    clean = spots()
    y, x = np.mgrid[: clean.shape[1], : clean.shape[2]]
    haze = (40 + 30 * np.sin(x / 40) * np.cos(y / 50)).astype(np.float32)
    scale = ROBUST.scale(clean)
    assert ROBUST.scale(clean + haze) == pytest.approx(scale, rel=0.1)
    assert ROBUST.scale(clean - 25) == pytest.approx(scale, rel=1e-3)
    seen = ROBUST.normalise_input(clean, scale)
    np.testing.assert_allclose(ROBUST.normalise_input(clean - 25, scale), seen, atol=1e-4)
    assert np.abs(ROBUST.normalise_input(clean + haze, scale) - seen).max() < 0.4
    estimate = ROBUST.background_of(clean + haze)
    assert estimate is not None and np.abs(estimate - haze).max() < 0.4 * haze.mean()
    assert Normalisation().background_of(clean) is None


def test_twenty_hot_pixels_move_neither_the_scale_nor_the_network_far() -> None:
    clean = spots()
    hot = clean.copy()
    random = np.random.default_rng(5)
    hot[:, random.integers(0, 96, 20), random.integers(0, 110, 20)] += 5000
    assert ROBUST.scale(hot) == pytest.approx(ROBUST.scale(clean), rel=0.02)
    assert Normalisation().scale(hot) > 3 * Normalisation().scale(clean)
    assert ROBUST.normalise_input(hot, ROBUST.scale(hot)).max() == 4.0


def test_background_of_a_tile_with_its_halo_is_that_of_the_whole_frame() -> None:
    background = Background()
    frames = spots(1, (200, 216)) + np.random.default_rng(2).normal(20, 2, (3, 200, 216)).astype(
        np.float32
    )
    whole = background.of(frames)
    halo = -(-background.reach_px // background.block_px) * background.block_px
    assert halo < 64
    for top, left in ((64, 72), (72, 100)):
        tile = background.of(
            frames[:, top - halo : top + 48 + halo, left - halo : left + 40 + halo]
        )
        inner = tile[:, halo : halo + 48, halo : halo + 40]
        np.testing.assert_array_equal(inner, whole[:, top : top + 48, left : left + 40])


def test_background_of_a_frame_follows_from_that_frame_alone() -> None:
    frames = spots(3) * np.array([1, 2, 3], np.float32)[:, None, None]
    together = Background().of(frames)
    for t, frame in enumerate(frames):
        np.testing.assert_array_equal(Background().of(frame), together[t])


def test_target_is_scaled_by_its_wide_field_whatever_its_unit() -> None:
    structure = spots(4, (96, 96)) + 3
    fine = np.repeat(np.repeat(structure, 2, axis=1), 2, axis=2)
    pair = PairedStack("cell", "488", np.stack([structure / 25, structure]), fine, 0.06, 1.0)
    target = ROBUST.target_of(pair)
    # What is one in the wide field is a third in the target of the same brightness.
    bright = structure / ROBUST.scale(structure)
    assert target.max() == pytest.approx(bright.max() / 3, rel=0.1)
    # What is taken off the input and given back to the prediction is what the target keeps.
    carried = ROBUST.carried(structure, ROBUST.scale(structure), 2)
    assert carried is not None and carried.shape == target.shape
    np.testing.assert_allclose(
        target - ROBUST.learnable(target, 2), carried, atol=0.02 * target.max()
    )
    assert Normalisation().carried(structure, 1.0, 2) is None
    published = replace(pair, target=1000 * fine, same_unit=False)
    np.testing.assert_allclose(ROBUST.target_of(published), target, atol=0.05 * target.max())
    unrelated = replace(published, target=fine[:, ::-1, ::-1].max() - fine)
    with pytest.raises(DataError, match="nothing of what its wide field shows"):
        ROBUST.target_of(unrelated)


def test_a_rule_without_background_is_what_it_was() -> None:
    """Bundles keep the rule they were trained with."""
    frames = stack(6)
    rule = Normalisation()
    assert rule.scale(frames) == float(np.percentile(frames, 99.9))
    np.testing.assert_array_equal(
        rule.normalise_input(frames, 7.0), (frames / 7.0).astype(np.float32)
    )
    pair = PairedStack("old", "488", frames[None], np.ones((4, 60, 80), np.float32), 0.06, 1.0)
    assert rule.target_of(pair).max() == 1
