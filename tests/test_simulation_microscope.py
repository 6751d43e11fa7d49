"""The simulated microscope as Micro-Manager drives it."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymmcore_plus.experimental.unicore import UniMMCore

from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.errors import MicroscopeError
from tisr_scope.profiles.library import config_path, load_profile
from tisr_scope.running_order.patterns import Pattern, even_slm_image, slm_image
from tisr_scope.simulated_microscope import world as world_module
from tisr_scope.simulated_microscope.devices import SimulatedCamera

PROFILE = load_profile("simulated_microtubules")
CONFIG = Path(config_path(PROFILE))
Load = Callable[..., UniMMCore]


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads a simulated microscope with settings; light path open, laser at 1 mW."""
    cores: list[UniMMCore] = []

    def loader(config: Path = CONFIG, ready: bool = True, **settings: float | str) -> UniMMCore:
        core = UniMMCore()
        cores.append(core)
        core.loadSystemConfiguration(str(config))
        for name, value in settings.items():
            device, prop = name.split("__")
            core.setProperty(device, prop, value)
        core.setExposure(10)
        if ready:
            core.setShutterOpen(True)
            core.setProperty("Laser488", "Power_mW", 1)
            show(core, even_slm_image((512, 512)))
        return core

    yield loader
    for core in cores:
        core.unloadAllDevices()
    cores.clear()
    gc.collect()


def show(core: UniMMCore, image: np.ndarray) -> None:
    core.setSLMImage("SLM", image)
    core.displaySLMImage("SLM")


def snap(core: UniMMCore) -> np.ndarray:
    core.snapImage()
    return np.array(core.getImage())


def patterns() -> list[np.ndarray]:
    illumination = PROFILE.illumination
    assert illumination is not None
    return [
        slm_image(
            Pattern(period_um=0.1807, angle_rad=angle, phase_rad=2 * np.pi * j / 3),
            (512, 512),
            0.01565,
        )
        for angle in illumination.angles_rad
        for j in range(3)
    ]


def burst(core: UniMMCore, count: int) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    core.startSequenceAcquisition(count, 0, True)
    deadline = time.monotonic() + 30
    while core.isSequenceRunning() and time.monotonic() < deadline:
        time.sleep(0.001)
    popped = [core.popNextImageAndMD() for _ in range(count)]
    return [np.array(image) for image, _ in popped], [dict(meta) for _, meta in popped]


def last_frame(core: UniMMCore) -> dict[str, float]:
    """What the camera says about a snapped frame."""
    said: dict[str, float] = json.loads(core.getProperty("Camera", "LastFrame"))
    return said


def electrons(frame: np.ndarray) -> np.ndarray:
    return (frame.astype(float) - 100) * 0.46


def test_configuration_loads_every_device_of_the_profiles(load: Load) -> None:
    for name in ("simulated_microtubules", "simulated_two_colour"):
        profile = load_profile(name)
        core = load(Path(config_path(profile)), ready=False)
        microscope = profile.microscope
        named = {microscope.camera.device, microscope.slm, microscope.shutter, microscope.xy_stage}
        named |= {channel.laser.device for channel in profile.channels}
        assert named <= set(core.getLoadedDevices())
        frame = snap(core)
        assert frame.shape == microscope.camera.frame_shape
        assert frame.dtype == np.uint16
        assert (core.getSLMHeight("SLM"), core.getSLMWidth("SLM")) == (512, 512)
        for setting in microscope.settings:
            core.setProperty(setting.device, setting.property, setting.value)
        assert float(core.getProperty("World", "PixelSize_um")) == profile.optics.pixel_size_um


@pytest.mark.parametrize("dark", ["shutter", "laser", "black", "nothing shown"])
def test_without_light_there_is_only_the_offset(load: Load, dark: str) -> None:
    core = load()
    if dark == "shutter":
        core.setShutterOpen(False)
    elif dark == "laser":
        core.setProperty("Laser488", "Power_mW", 0)
    elif dark == "black":
        show(core, np.zeros((512, 512), np.uint8))
    else:
        core = load(ready=False)
        core.setShutterOpen(True)
        core.setProperty("Laser488", "Power_mW", 25)
    assert abs(electrons(snap(core)).mean()) < 0.1


def test_starts_dark(load: Load) -> None:
    core = load(ready=False)
    assert not core.getShutterOpen("Shutter")
    assert float(core.getProperty("Laser488", "Power_mW")) == 0
    assert abs(electrons(snap(core)).mean()) < 0.1


def test_photons_are_linear_in_power_and_exposure(load: Load) -> None:
    core = load(World__BleachDose_mJ=0)
    means = {}
    for power in (1, 5, 25):
        core.setProperty("Laser488", "Power_mW", power)
        means[power] = np.mean([electrons(snap(core)).mean() for _ in range(3)])
    assert means[5] / means[1] == pytest.approx(5, rel=0.03)
    assert means[25] / means[1] == pytest.approx(25, rel=0.03)
    core.setExposure(20)
    assert electrons(snap(core)).mean() / means[25] == pytest.approx(2, rel=0.02)


def test_levels_peak_near_20_100_and_500_photons(load: Load) -> None:
    core = load()
    show(core, patterns()[0])
    peaks = []
    for seed in range(1, 9):
        core.setProperty("World", "Seed", seed)
        core.setProperty("Laser488", "Power_mW", 25)
        peaks.append(np.percentile(electrons(snap(core)), 99.9) / 0.82 / 25)
    assert 14 < np.median(peaks) < 26


def test_power_outside_the_lasers_range_is_refused(load: Load) -> None:
    core = load()
    for power in (-1, 101):
        with pytest.raises(ValueError, match="allowed range"):
            core.setProperty("Laser488", "Power_mW", power)
    assert float(core.getProperty("Laser488", "Power_mW")) == 1


def test_pattern_phase_moves_the_phase_of_the_carrier(load: Load) -> None:
    """Steps of 120 degrees on the SLM are steps of 120 degrees at the carrier's Fourier peak.

    Over six samples, because the sample itself has some structure at twice the carrier.
    """
    core = load(World__BleachDose_mJ=0, World__PeakPhotons=2000)
    angle, period = 0.6, 0.30  # a coarse pattern: its peak lies well inside the OTF
    y = (np.arange(128) - 63.5) * 0.0626
    wave = np.exp(-2j * np.pi / period * (y[None, :] * np.cos(angle) + y[:, None] * np.sin(angle)))
    steps = np.zeros(3, complex)
    for seed in range(1, 7):
        core.setProperty("World", "Seed", seed)
        frames = []
        for j in range(3):
            pattern = Pattern(period_um=period, angle_rad=angle, phase_rad=2 * np.pi * j / 3)
            show(core, slm_image(pattern, (512, 512), 0.01565))
            core.setProperty("World", "Time_s", 5.0)  # the same instant: only the light differs
            frames.append(electrons(snap(core)))
        mean = np.mean(frames, axis=0)
        peaks = np.array([((frame - mean) * wave).sum() for frame in frames])
        steps += np.roll(peaks, -1) * peaks.conj()
    np.testing.assert_allclose(np.degrees(np.angle(steps)), 120, atol=1.5)
    # the peak stands at the carrier: neighbouring frequencies have less
    spectrum = np.abs(np.fft.fft2(frames[0] - mean, (512, 512)))
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    k = np.fft.fftfreq(512, 0.0626)
    found = np.hypot(k[row], k[column])
    assert found == pytest.approx(1 / period, abs=0.15)
    direction = np.arctan2(k[row], k[column])
    assert abs(np.sin(direction - angle)) < 0.05


def test_a_burst_is_the_software_loop(load: Load) -> None:
    """27 frames: 9 patterns x 3 levels, armed in hardware, against one command at a time."""
    images = [image for image in patterns() for _ in range(3)]
    powers = [1.0, 5.0, 25.0] * 9
    slow = load(World__Seed=11)
    loop = []
    for image, power in zip(images, powers, strict=True):
        show(slow, image)
        slow.setProperty("Laser488", "Power_mW", power)
        loop.append(snap(slow))
    fast = load(World__Seed=11)
    fast.loadPropertySequence("Laser488", "Power_mW", powers)
    fast.loadSLMSequence("SLM", [image.tobytes() for image in images])
    fast.startPropertySequence("Laser488", "Power_mW")
    fast.startSLMSequence("SLM")
    frames, metadata = burst(fast, 27)
    for one, other in zip(loop, frames, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [float(m["power_mw_488"]) for m in metadata] == powers
    times = [float(m["sim_time_s"]) for m in metadata]
    np.testing.assert_allclose(np.diff(times), 0.0105, atol=1e-9)
    # stopped sequences keep their last value and no longer follow the trigger
    fast.stopPropertySequence("Laser488", "Power_mW")
    fast.stopSLMSequence("SLM")
    assert float(fast.getProperty("Laser488", "Power_mW")) == 25
    burst(fast, 2)
    assert float(fast.getProperty("Laser488", "Power_mW")) == 25


def test_sequences_wrap_around(load: Load) -> None:
    core = load()
    core.loadPropertySequence("Laser488", "Power_mW", [1.0, 5.0])
    core.startPropertySequence("Laser488", "Power_mW")
    _, metadata = burst(core, 5)
    assert [float(m["power_mw_488"]) for m in metadata] == [1, 5, 1, 5, 1]
    with pytest.raises(ValueError, match="allowed range"):
        core.loadPropertySequence("Laser488", "Power_mW", [1.0, 500.0])
    with pytest.raises(MicroscopeError, match="before it was loaded"):
        core.startSLMSequence("SLM")


def test_two_configurations_one_after_the_other(load: Load) -> None:
    first = load(World__Seed=5)
    reference = [snap(first) for _ in range(3)]
    second = load(World__Seed=6)
    other = [snap(second) for _ in range(3)]
    assert abs(np.corrcoef(reference[0].ravel(), other[0].ravel())[0, 1]) < 0.5
    # the first core still has its own world
    first.setProperty("World", "Seed", 5)
    np.testing.assert_array_equal(snap(first), reference[0])
    # loading into the same core begins afresh
    first.loadSystemConfiguration(str(CONFIG))
    assert abs(electrons(snap(first)).mean()) < 0.1
    again = load(World__Seed=5)
    for frame in reference:
        np.testing.assert_array_equal(snap(again), frame)


def test_a_seed_is_a_new_sample_with_new_noise(load: Load) -> None:
    core = load()
    core.setProperty("Laser488", "Power_mW", 25)
    first = snap(core)
    core.setProperty("World", "Seed", 2)
    assert float(core.getProperty("World", "Time_s")) == 0
    assert abs(np.corrcoef(first.ravel(), snap(core).ravel())[0, 1]) < 0.5
    core.setShutterOpen(False)
    core.setProperty("World", "Seed", 3)
    dark = snap(core)
    core.setProperty("World", "Seed", 4)
    assert (dark != snap(core)).mean() > 0.5


def test_stage_moves_the_sample(load: Load) -> None:
    core = load(World__Seed=3, World__BleachDose_mJ=0)
    core.setProperty("Laser488", "Power_mW", 25)
    here = electrons(snap(core))
    core.setXYPosition("XY", 16 * 0.0626, 0.0)
    core.setProperty("World", "Time_s", 0.0)
    there = electrons(snap(core))
    overlap = np.corrcoef(here[:, 28:-12].ravel(), there[:, 12:-28].ravel())[0, 1]
    assert overlap > 0.97
    core.setXYPosition("XY", 500.0, 0.0)
    assert abs(np.corrcoef(here.ravel(), snap(core).ravel())[0, 1]) < 0.5
    x, y = core.getXYPosition("XY")
    assert (x, y) == (500.0, 0.0)


def test_bleaching_follows_the_dose_and_the_region(load: Load) -> None:
    core = load(World__BleachDose_mJ=5)
    core.setProperty("Laser488", "Power_mW", 25)
    dose_per_frame = 25 * 0.010 * 256 / 255  # even light of grey level 128
    _, metadata = burst(core, 20)
    bleached = [float(m["bleached_fraction_488"]) for m in metadata]
    np.testing.assert_allclose(bleached, 1 - np.exp(-np.arange(20) * dose_per_frame / 5), rtol=1e-6)
    assert bleached[19] > 0.5
    last = electrons(snap(core)).mean()
    core.setXYPosition("XY", 0.001, 0.0)  # hardly moved, but a place never lit before
    fresh = electrons(snap(core)).mean()
    assert last_frame(core)["bleached_fraction_488"] == 0
    assert last / fresh == pytest.approx(np.exp(-20 * dose_per_frame / 5), rel=0.05)
    core.setShutterOpen(False)
    burst(core, 3)  # in the dark nothing bleaches: only the one lit frame counts
    assert last_frame(core)["bleached_fraction_488"] == pytest.approx(
        1 - np.exp(-dose_per_frame / 5), rel=1e-6
    )


def test_time_passes_in_the_dark_when_told_to(load: Load) -> None:
    core = load()
    snap(core)
    time.sleep(0.05)
    assert float(core.getProperty("World", "Time_s")) == pytest.approx(0.0105)
    core.setProperty("World", "Time_s", 60.0)
    snap(core)
    said = last_frame(core)
    assert said["sim_time_s"] == pytest.approx(60.005)
    assert said["sim_frame"] == 1


def test_realtime_takes_its_time(load: Load) -> None:
    core = load(World__Realtime=1)
    snap(core)
    begin = time.monotonic()
    _, metadata = burst(core, 10)
    assert time.monotonic() - begin >= 10 * 0.0105
    time.sleep(0.2)
    snap(core)
    said = last_frame(core)
    assert said["sim_time_s"] - float(metadata[-1]["sim_time_s"]) > 0.2


def test_frame_size_is_a_property(load: Load) -> None:
    core = load(Camera__Height=64, Camera__Width=96, ready=False)
    assert snap(core).shape == (64, 96)
    assert (core.getSLMHeight("SLM"), core.getSLMWidth("SLM")) == (256, 384)
    core.setShutterOpen(True)
    core.setProperty("Laser488", "Power_mW", 25)
    show(core, even_slm_image((256, 384)))
    assert electrons(snap(core)).mean() > 5


def test_two_colours_are_excited_one_at_a_time(load: Load) -> None:
    core = load(Path(config_path(load_profile("simulated_two_colour"))), World__BleachDose_mJ=0)
    core.setProperty("Laser488", "Power_mW", 25)
    green = electrons(snap(core))
    core.setProperty("Laser488", "Power_mW", 0)
    core.setProperty("Laser560", "Power_mW", 25)
    red = electrons(snap(core))
    assert green.mean() > 5
    assert red.mean() > 5
    assert abs(np.corrcoef(green.ravel(), red.ravel())[0, 1]) < 0.6


def test_device_without_a_world_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_module._loading, "world", None, raising=False)
    with pytest.raises(MicroscopeError, match="WorldDevice"):
        SimulatedCamera()


def test_configurations_that_name_the_former_place_still_load(tmp_path: Path) -> None:
    profile = load_profile("simulated_microtubules")
    text = Path(config_path(profile)).read_text(encoding="utf-8")
    config = tmp_path / "old.cfg"
    config.write_text(text.replace("tisr_scope.simulated_microscope.", "tisr_scope.simulation."))
    named = profile.microscope.model_copy(update={"config": str(config)})
    with Microscope.open(profile.model_copy(update={"microscope": named})) as microscope:
        frame, _ = microscope.snap()
    assert frame.shape == profile.microscope.camera.frame_shape
