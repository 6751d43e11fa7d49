"""The sensor against the equations that every sCMOS data sheet gives."""

from __future__ import annotations

import numpy as np
import pytest

from tisr_scope.simulated_microscope.camera import Sensor, SensorProperties

SHAPE = (64, 64)


def test_photon_transfer_gives_gain_and_read_noise() -> None:
    """variance = read noise^2 / gain^2 + (mean - offset) / gain, in counts."""
    sensor = Sensor(SHAPE)
    means, variances = [], []
    for i, photons in enumerate((0, 20, 60, 150, 400, 1000)):
        light = np.full(SHAPE, photons, np.float32)
        stack = np.stack([sensor.expose(light, 0.01, 5, 100 * i + n) for n in range(60)])
        means.append(stack.mean() - sensor.offset_map.mean())
        variances.append(stack.var(axis=0, ddof=1).mean())
    slope, intercept = np.polyfit(means, variances, 1)
    assert slope == pytest.approx(1 / 0.46, rel=0.02)
    read_noise = np.sqrt((sensor.read_noise_e.astype(float) ** 2).mean())
    assert np.sqrt(variances[0] - 1 / 12) * 0.46 == pytest.approx(read_noise, rel=0.03)
    assert intercept > 0
    assert np.array(means)[1:] == pytest.approx(
        0.82 / 0.46 * np.array([20, 60, 150, 400, 1000]), rel=0.01
    )


def test_read_noise_is_log_normal_over_the_pixels() -> None:
    noise = Sensor((512, 512)).read_noise_e.astype(float)
    assert np.median(noise) == pytest.approx(1.0, rel=0.01)
    assert np.sqrt((noise**2).mean()) == pytest.approx(1.6, rel=0.03)


def test_darkness_is_the_offset() -> None:
    sensor = Sensor(SHAPE)
    dark = np.stack([sensor.expose(None, 0.01, 1, n) for n in range(50)])
    assert dark.mean() == pytest.approx(100, abs=0.1)
    warm = Sensor(SHAPE, SensorProperties(dark_e_per_s=50.0))
    counts = np.stack([warm.expose(None, 1.0, 1, n) for n in range(10)])
    assert counts.mean() - 100 == pytest.approx(50 / 0.46, rel=0.02)


def test_full_well_clips() -> None:
    counts = Sensor(SHAPE).expose(np.full(SHAPE, 1e6), 0.01, 1, 0)
    assert counts.dtype == np.uint16
    assert abs(float(counts.mean()) - (100 + 30_000 / 0.46)) < 5


def test_noise_is_a_function_of_seed_and_frame() -> None:
    sensor, again = Sensor(SHAPE), Sensor(SHAPE)
    light = np.full(SHAPE, 50.0)
    first = sensor.expose(light, 0.01, 7, 3)
    np.testing.assert_array_equal(first, again.expose(light, 0.01, 7, 3))
    assert (first != sensor.expose(light, 0.01, 7, 4)).mean() > 0.8
    assert (first != sensor.expose(light, 0.01, 8, 3)).mean() > 0.8
