"""Specimens: pure functions of seed, place and time that move as the real ones do."""

from __future__ import annotations

import numpy as np
import pytest

from tisr_scope.errors import MicroscopeError
from tisr_scope.simulated_microscope.detection import IncoherentOtf, Renderer, cutoff
from tisr_scope.simulated_microscope.emitters import Field
from tisr_scope.simulated_microscope.randomness import uniform
from tisr_scope.simulated_microscope.specimens import (
    CCPS,
    MICROTUBULES,
    SPECIMENS,
    find_specimen,
    haze,
)
from tisr_scope.simulated_microscope.strands import Strands
from tisr_scope.simulated_microscope.vesicles import Vesicles

FIELD = Field(0.0, 0.0, 4.7, 4.7)
RENDERER = Renderer((128, 128), 0.0626, IncoherentOtf(cutoff(1.49, 525.0)))


def image(name: str, seed: int, field: Field = FIELD, time_s: float = 0.0) -> np.ndarray:
    emitters = find_specimen(name).populate(seed, field).at(time_s)
    return RENDERER.render(emitters.x_um, emitters.y_um, emitters.brightness)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_hashed_numbers_are_uniform_and_independent() -> None:
    numbers = uniform(5, np.arange(200)[:, None], np.arange(200)[None, :])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)
    assert numbers.var() == pytest.approx(1 / 12, abs=0.002)
    assert abs(np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]) < 0.02
    assert (
        abs(
            np.corrcoef(
                numbers.ravel(), uniform(6, np.arange(200)[:, None], np.arange(200)).ravel()
            )[0, 1]
        )
        < 0.02
    )
    assert uniform(5, -3) != uniform(5, 3)


@pytest.mark.parametrize("name", list(SPECIMENS))
def test_any_time_in_any_order(name: str) -> None:
    once = find_specimen(name).populate(2, FIELD)
    forward = [once.at(t) for t in (0.0, 33.0, 500.0)]
    again = find_specimen(name).populate(2, FIELD)
    for time_s, first in zip((500.0, 33.0, 0.0), reversed(forward), strict=True):
        second = again.at(time_s)
        np.testing.assert_array_equal(first.x_um, second.x_um)
        np.testing.assert_array_equal(first.brightness, second.brightness)


@pytest.mark.parametrize("name", list(SPECIMENS))
def test_seeds_are_different_samples(name: str) -> None:
    images = [image(name, seed) for seed in range(1, 5)]
    for i in range(4):
        for j in range(i):
            assert abs(correlation(images[i], images[j])) < 0.4


@pytest.mark.parametrize("name", list(SPECIMENS))
def test_a_shifted_stage_sees_the_shifted_sample(name: str) -> None:
    pixels = 16
    shift = pixels * 0.0626
    here = image(name, 3)
    there = image(name, 3, Field(shift, 0.0, 4.7, 4.7))
    rim = 12
    a, b = here[rim:-rim, pixels + rim : -rim], there[rim:-rim, rim : -pixels - rim]
    assert np.abs(a - b).max() < 0.01 * here.max()
    far = image(name, 3, Field(300.0, -200.0, 4.7, 4.7))
    assert abs(correlation(here, far)) < 0.4


@pytest.mark.parametrize("name", list(SPECIMENS))
def test_structures_move_between_raw_frames(name: str) -> None:
    """A little in 10 ms, more in a second, and no jumps."""
    now, soon, later = (image(name, 4, time_s=t) for t in (10.0, 10.01, 13.0))
    change = np.abs(soon - now).max() / now.max()
    assert 0 < change < 0.05
    assert np.abs(later - now).max() / now.max() > 2 * change


@pytest.mark.parametrize("name", list(SPECIMENS))
def test_brightest_pixels_hold_about_one_photon_per_unit(name: str) -> None:
    peaks = [np.percentile(image(name, seed), 99.9) for seed in range(1, 9)]
    assert 0.55 < np.median(peaks) * find_specimen(name).emitter_photons < 1.3


def test_microtubules_bend_grow_and_shrink_as_measured_in_cells() -> None:
    strands = Strands(MICROTUBULES, 7, FIELD)
    times = np.arange(0, 90, 0.1)
    lengths = np.stack([strands._motion.visible_length(t) for t in times])
    speed = np.diff(lengths, axis=0) / 0.1
    growing, shrinking = speed[speed > 0.05], -speed[speed < -0.05]
    # steps that contain a turning point mix both speeds
    assert np.percentile(growing, 5) >= 0.1
    assert np.percentile(growing, 95) <= 0.305
    assert np.percentile(shrinking, 5) >= 0.19
    assert np.percentile(shrinking, 95) <= 0.505
    assert np.abs(speed).max() < 0.51
    bending = np.stack([strands._motion.bending(t) for t in times])
    lateral = (bending[:, :, strands._strand[::50]] * strands._modes[:, ::50]).sum(axis=1)
    assert 0.020 < lateral.std() < 0.050


def test_pits_diffuse_at_the_stated_rate() -> None:
    """Mean square displacement 4 D t between the shortest and the longest period."""
    pits = Vesicles(CCPS, 3, Field(0.0, 0.0, 20.0, 20.0))
    low, high = CCPS.diffusion_um2_s
    mean_d = (low + high) / 2
    cycle = np.zeros(pits._key.size, np.int64)
    for lag in (2.0, 5.0, 15.0):
        steps = [
            pits._walk(float(t) + lag, cycle) - pits._walk(float(t), cycle)
            for t in np.arange(0.0, 400.0, 40.0)
        ]
        square = np.mean([(s**2).sum(axis=1).mean() for s in steps])
        assert 0.5 < square / (4 * mean_d * lag) < 2.0


def test_pits_come_and_go() -> None:
    pits = Vesicles(CCPS, 3, FIELD)
    brightness = [float(pits.at(t).brightness.sum()) for t in np.arange(0, 60, 0.5)]
    steps = np.abs(np.diff(brightness)) / np.mean(brightness)
    assert steps.max() < 0.1
    assert correlation(image("ccps", 3), image("ccps", 3, time_s=200.0)) < 0.4


def test_haze_is_smooth_and_belongs_to_the_sample() -> None:
    x = np.linspace(0, 60, 3000)
    y = np.linspace(0, 60, 3000)[:, None][::50]
    field = haze(3, x, y)
    assert field.mean() == pytest.approx(1, abs=0.15)
    assert field.min() > 0.1
    np.testing.assert_allclose(haze(3, x + 5, y), haze(3, x + 5.0, y))
    assert abs(correlation(field, haze(4, x, y))) < 0.3


def test_unknown_specimen_names_the_known_ones() -> None:
    with pytest.raises(MicroscopeError, match="microtubules"):
        find_specimen("unicorns")
