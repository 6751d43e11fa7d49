"""Less light, made from more: the noise is that of a dim recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tisr_scope.errors import DataError
from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.binomial_thinning import Light, scale_curve
from tisr_scope.pairs.patches import PatchSampler, PatchSettings
from tisr_scope.types import PairedStack

RULE = Normalisation(reference="percentile", percentile=99.0, target_blur_sigma_px=0)


def wide_field(
    electrons: float, light: Light, random: np.random.Generator, size: int = 400
) -> np.ndarray:
    """Mean of raw frames of a flat sample: photon noise and camera noise."""
    total = random.poisson(electrons * light.raw_frames, (1, size, size)) + random.normal(
        0, light.read_noise_e * np.sqrt(light.raw_frames), (1, size, size)
    )
    return (total / light.raw_frames).astype(np.float32)


@pytest.mark.parametrize("electrons", [0.2, 3.0, 40.0])
@pytest.mark.parametrize("read_noise_e", [0.0, 1.5])
def test_thinned_light_has_the_mean_and_variance_of_a_dim_recording(
    electrons: float, read_noise_e: float
) -> None:
    light, keep, random = Light(9, read_noise_e), 0.3, np.random.default_rng(1)
    thinned = light.thin(wide_field(electrons, light, random), keep, random)
    variance = (keep * electrons + read_noise_e**2) / 9
    count = thinned.size
    assert thinned.mean() == pytest.approx(keep * electrons, abs=6 * np.sqrt(variance / count))
    # Rounding to whole electrons and camera noise taken for light are the only approximations.
    assert thinned.var() == pytest.approx(variance, rel=0.05 if read_noise_e else 0.02)


def test_electrons_are_whole_where_the_camera_is_silent() -> None:
    light, random = Light(4), np.random.default_rng(2)
    thinned = light.thin(wide_field(5.0, light, random), 0.5, random)
    np.testing.assert_array_equal(thinned * 4, np.rint(thinned * 4))


def test_scale_is_the_one_the_rule_gives_a_dim_recording() -> None:
    light, random = Light(9), np.random.default_rng(3)
    bright = np.concatenate([wide_field(e, light, random, 100) for e in (0.5, 2.0, 8.0, 20.0)])
    curve = scale_curve(bright, light, 0.05, RULE, "stack")
    whole = RULE.scale(bright)
    for keep in (0.05, 0.2236, 1.0):
        dim = np.concatenate([wide_field(keep * e, light, random, 100) for e in (0.5, 2, 8, 20)])
        assert whole * curve.scale(keep) == pytest.approx(RULE.scale(dim), rel=0.05)
    # Noise lifts a high percentile: the scale falls less than the light.
    assert curve.scale(0.05) > 1.2 * 0.05


def stack(raw_frames: int | None = 9) -> PairedStack:
    random = np.random.default_rng(4)
    wide = random.poisson(900, (1, 4, 32, 32)).astype(np.float32) / 9
    target = random.uniform(1, 2, (4, 64, 64)).astype(np.float32)
    return PairedStack("a", "488", wide, target, 0.06, 1.0, raw_frames=raw_frames)


def test_patches_are_thinned_in_electrons_before_they_are_normalised() -> None:
    settings = PatchSettings(frames=2, size_px=16, least_light=0.1).without_augmentation()
    settings = settings.model_copy(update={"least_light": 0.1})
    plain = PatchSampler([stack()], RULE, settings.without_augmentation(), batch=8, seed=1)
    thinned = PatchSampler([stack()], RULE, settings, batch=8, seed=1)
    before, after = plain.batch(0), thinned.batch(0)
    for a, b, x, y in zip(before.draws, after.draws, before.inputs, after.inputs, strict=True):
        assert replace(b, light=1.0) == a, "thinning changes no draw"
        assert 0.1 <= b.light < 1
        # 100 electrons a pixel, mean of nine frames: 900 counted ones.
        assert y.mean() == pytest.approx(x.mean(), rel=0.15)
        relative = (y.std() / y.mean()) / (x.std() / x.mean())
        assert relative == pytest.approx(b.light**-0.5, rel=0.2)
    np.testing.assert_array_equal(before.targets, after.targets)
    np.testing.assert_array_equal(after.inputs, thinned.batch(0).inputs)
    lights = [d.light for step in range(20) for d in thinned.draws(step)]
    # As many below as above the geometric middle.
    assert np.mean(np.array(lights) < 0.1**0.5) == pytest.approx(0.5, abs=0.2)


def test_parts_of_a_batch_are_its_patches() -> None:
    settings = PatchSettings(frames=2, size_px=16, least_light=0.2)
    sampler = PatchSampler([stack()], RULE, settings, batch=6, seed=5)
    whole, parts = sampler.batch(3), [sampler.batch(3, part, 3) for part in range(3)]
    np.testing.assert_array_equal(whole.inputs, np.concatenate([p.inputs for p in parts]))
    np.testing.assert_array_equal(whole.targets, np.concatenate([p.targets for p in parts]))
    assert whole.draws == tuple(d for part in parts for d in part.draws) == sampler.draws(3)
    with pytest.raises(DataError, match="cannot be shared by 4"):
        sampler.batch(3, 0, 4)


def test_light_that_cannot_be_counted_is_not_thinned() -> None:
    settings = PatchSettings(frames=2, size_px=16, least_light=0.2)
    with pytest.raises(DataError, match="of how many raw frames"):
        PatchSampler([stack(None)], RULE, settings, batch=1)
