"""Patches are reproducible, registered and taken from where they may be taken."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tisr_scope.errors import DataError
from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.patches import PatchSampler, PatchSettings
from tisr_scope.pairs.rotation import rotate
from tisr_scope.types import PairedStack

MAXIMUM = Normalisation(reference="maximum", target_blur_sigma_px=0)


def bead(
    size: int, upscale: int, y: float, x: float, sigma: float = 1.6, time: int = 9
) -> PairedStack:
    """A bead at (y, x) in input pixels, sampled on both grids at the centres of their pixels."""

    def image(factor: int) -> np.ndarray:
        centres = (np.arange(size * factor) + 0.5) / factor - 0.5
        return np.exp(
            -((centres[:, None] - y) ** 2 + (centres[None] - x) ** 2) / (2 * sigma**2)
        ).astype(np.float32)

    # The bead gets brighter with time, so that the order of the frames can be read off.
    brightness = (1 + np.arange(time, dtype=np.float32))[:, None, None]
    return PairedStack(
        name="bead",
        channel="488",
        widefield=(image(1) * brightness)[None],
        target=image(upscale) * brightness,
        pixel_size_um=0.0626,
        interval_s=1.0,
    )


def noise(name: str, *, levels: int = 2, size: int = 40, upscale: int = 2) -> PairedStack:
    rng = np.random.default_rng(len(name))
    return PairedStack(
        name=name,
        channel="488",
        widefield=rng.uniform(1, 9, (levels, 8, size, size)).astype(np.float32),
        target=rng.uniform(1, 9, (8, upscale * size, upscale * size)).astype(np.float32),
        pixel_size_um=0.0626,
        interval_s=1.0,
    )


def centroid(image: np.ndarray, factor: int) -> np.ndarray:
    """Centre of mass in input pixels."""
    weights = np.clip(image, 1e-3 * image.max(), None) - 1e-3 * image.max()
    axes = np.indices(image.shape).reshape(2, -1) @ weights.ravel() / weights.sum()
    return np.asarray((axes + 0.5) / factor - 0.5)


@pytest.mark.parametrize("upscale", [2, 3])
@pytest.mark.parametrize("rotation_deg", [0.0, 15.0, 180.0])
def test_every_augmentation_keeps_input_and_target_registered(
    upscale: int, rotation_deg: float
) -> None:
    stack = bead(64, upscale, 31.3, 33.8)
    settings = PatchSettings(size_px=40, rotation_deg=rotation_deg)
    sampler = PatchSampler([stack], MAXIMUM, settings, batch=4)
    seen = set()
    for step in range(30):
        batch = sampler.batch(step)
        for x, y, draw in zip(batch.inputs, batch.targets, batch.draws, strict=True):
            seen.add((draw.flip_y, draw.flip_x, draw.transpose, draw.reverse))
            apart = centroid(x[0, 0], 1) - centroid(y[0, 0], upscale)
            assert np.abs(apart).max() < (0.02 if rotation_deg else 2e-3)
            # Where the bead must be, from the geometry of the draw alone.
            away = np.array([31.3 - draw.row - 19.5, 33.8 - draw.column - 19.5])
            cos, sin = math.cos(draw.angle_rad), math.sin(draw.angle_rad)
            away = np.array([cos * away[0] + sin * away[1], -sin * away[0] + cos * away[1]])
            away *= [-1 if draw.flip_y else 1, -1 if draw.flip_x else 1]
            if draw.transpose:
                away = away[::-1]
            np.testing.assert_allclose(centroid(y[0, 0], upscale), away + 19.5, atol=0.03)
            rising = x[:, 0].max((1, 2))
            assert np.all(np.diff(rising) < 0) == draw.reverse
            np.testing.assert_allclose(
                rising / rising[0], y[:, 0].max((1, 2)) / y[0].max(), rtol=1e-5
            )
    assert len(seen) == 16


def test_rotation_by_a_right_angle_is_exact() -> None:
    stack = np.random.default_rng(0).normal(size=(2, 12, 12)).astype(np.float32)
    turned = rotate(stack, math.pi / 2, 12)
    np.testing.assert_allclose(turned, np.rot90(stack, -1, axes=(1, 2)), atol=1e-5)


def test_same_seed_and_step_give_the_same_patches() -> None:
    stacks = [noise("a"), noise("bb")]
    settings = PatchSettings(size_px=16, frames=3)
    first = PatchSampler(stacks, Normalisation(), settings, batch=3, seed=7)
    second = PatchSampler(stacks, Normalisation(), settings, batch=3, seed=7)
    other = PatchSampler(stacks, Normalisation(), settings, batch=3, seed=8)
    first.batch(0)
    np.testing.assert_array_equal(first.batch(5).inputs, second.batch(5).inputs)
    np.testing.assert_array_equal(first.batch(5).targets, second.batch(5).targets)
    assert first.batch(5).draws != first.batch(6).draws
    assert first.batch(5).draws != other.batch(5).draws


def test_patches_are_the_recorded_values_on_the_scale_of_their_stack() -> None:
    stack = noise("a")
    settings = PatchSettings(size_px=16, frames=3).without_augmentation()
    batch = PatchSampler([stack], MAXIMUM, settings, batch=6).batch(0)
    for x, y, d in zip(batch.inputs, batch.targets, batch.draws, strict=True):
        rows, columns = slice(d.row, d.row + 16), slice(d.column, d.column + 16)
        level = stack.widefield[d.level]
        expected = level[d.start : d.start + 3, rows, columns] / level.max()
        np.testing.assert_allclose(x[:, 0], expected, rtol=1e-6)
        fine = stack.target[
            d.start : d.start + 3, 2 * d.row : 2 * d.row + 32, 2 * d.column : 2 * d.column + 32
        ]
        np.testing.assert_allclose(y[:, 0], fine / stack.target.max(), rtol=1e-6)


def test_levels_are_drawn_with_their_weights() -> None:
    settings = PatchSettings(size_px=8, frames=2, level_weights=(1, 0, 3))
    sampler = PatchSampler([noise("a", levels=3)], MAXIMUM, settings, batch=100)
    drawn = [draw.level for step in range(8) for draw in sampler.batch(step).draws]
    counts = np.bincount(drawn, minlength=3)
    assert counts[1] == 0
    # Binomial(800, 0.25): five standard deviations.
    assert abs(counts[0] - 200) < 5 * math.sqrt(800 * 0.25 * 0.75)


def test_a_patch_says_where_in_the_recording_it_is() -> None:
    stack = replace(noise("cell_3"), position=2, first_time=11)
    settings = PatchSettings(size_px=16, frames=8)
    draw = PatchSampler([stack], MAXIMUM, settings, batch=1).draws(0)[0]
    assert draw.start == 0
    assert str(draw).startswith(
        f"cell_3, channel 488, stage position 2, level {draw.level + 1}, from time point 11, row "
    )


def test_every_position_and_start_is_reached() -> None:
    settings = PatchSettings(size_px=16, frames=7)
    sampler = PatchSampler([noise("a", size=18)], MAXIMUM, settings, batch=200)
    draws = sampler.batch(0).draws
    assert {d.row for d in draws} == {0, 1, 2} == {d.column for d in draws}
    assert {d.start for d in draws} == {0, 1}


def test_patches_without_structure_are_left_out() -> None:
    stack = bead(64, 2, 12.0, 50.0)
    settings = PatchSettings(size_px=16, minimum_structure=0.05)
    sampler = PatchSampler([stack], MAXIMUM, settings, batch=50)
    for draw in sampler.batch(0).draws:
        assert draw.row <= 14 < draw.row + 16 + 4
        assert draw.column <= 52 < draw.column + 16 + 4
    with pytest.raises(DataError, match="no patch has structure"):
        PatchSampler(
            [stack], MAXIMUM, settings.model_copy(update={"minimum_structure": 0.9}), batch=1
        )


def test_recordings_of_different_sampling_are_not_mixed() -> None:
    settings = PatchSettings(size_px=16)
    for other in (replace(noise("b"), pixel_size_um=0.1), noise("b", upscale=3)):
        with pytest.raises(DataError, match="cannot be mixed"):
            PatchSampler([noise("a"), other], MAXIMUM, settings, batch=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PatchSettings(size_px=41), "smaller than"),
        (PatchSettings(size_px=36, rotation_deg=20), "smaller than"),
        (PatchSettings(size_px=16, frames=9), "time points"),
        (PatchSettings(size_px=16, level_weights=(1.0,)), "level weights"),
    ],
)
def test_stacks_that_cannot_give_a_patch_are_refused(settings: PatchSettings, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        PatchSampler([noise("a")], MAXIMUM, settings, batch=1)
    assert caught.value.remedy


def test_dark_or_damaged_stacks_are_refused() -> None:
    settings = PatchSettings(size_px=16)
    stack = noise("a")
    damaged = stack.widefield.copy()
    damaged[1, 3, 5, 5] = np.nan
    with pytest.raises(DataError, match="NaN") as caught:
        PatchSampler([replace(stack, widefield=damaged)], MAXIMUM, settings, batch=1)
    assert caught.value.where == "a, level 2"
    with pytest.raises(DataError, match="no light"):
        PatchSampler([replace(stack, target=0 * stack.target)], MAXIMUM, settings, batch=1)
    with pytest.raises(DataError, match="no pairs"):
        PatchSampler([], MAXIMUM, settings, batch=1)
