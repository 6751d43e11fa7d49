"""Shipped profiles on what they are made for: the simulated microscope and the demo camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench import bench_profile

from tisr_scope.acquisition.acquire import acquire, default_folder
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.acquisition.preflight import check, check_profile
from tisr_scope.errors import ProfileError
from tisr_scope.profiles.library import load_profile
from tisr_scope.profiles.schema import DeviceSetting, Preset, Profile
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.run_plan import RunPlan


def small_world(profile: Profile) -> tuple[Profile, list[DeviceSetting]]:
    """A field of 32 x 32 pixels of the simulated microscope."""
    camera = profile.microscope.camera.model_copy(update={"frame_shape": (32, 32)})
    microscope = profile.microscope.model_copy(update={"camera": camera})
    settings = [
        DeviceSetting(device="Camera", property=name, value=32) for name in ("Height", "Width")
    ]
    return profile.model_copy(update={"microscope": microscope}), settings


def test_bursts_change_no_pixel_of_the_simulated_microscope(tmp_path: Path) -> None:
    """Burst of 27 exposures or software loop: the same light, hence the same frames and noise."""
    profile, settings = small_world(load_profile("simulated_microtubules"))
    recordings = []
    for name, bursts in (("burst", True), ("loop", False), ("again", False)):
        acquire(profile, tmp_path / name, "paired", settings=settings, time_points=2, bursts=bursts)
        recordings.append(Recording.open(tmp_path / name))
    burst, loop, again = recordings
    assert [e.crc32 for e in loop.journal] == [e.crc32 for e in again.journal]
    for t in range(2):
        assert np.array_equal(burst.frames(t), loop.frames(t))
    for entry in burst.journal:
        assert entry.camera["power_mw_488"] == entry.power_mw
        assert entry.camera["shutter_open"] is True
    # the frames follow the light: more power, more electrons
    levels = [loop.widefield(0, level=level).mean() for level in range(3)]
    assert levels[2] / levels[0] == pytest.approx(25, rel=0.1)


def test_time_passes_for_the_simulated_sample(tmp_path: Path) -> None:
    profile, settings = small_world(load_profile("simulated_microtubules"))
    slow = profile.timelapse.model_copy(update={"interval_s": 5.0})
    profile = profile.model_copy(update={"timelapse": slow})
    summary = acquire(profile, tmp_path / "out", "timelapse", settings=settings, time_points=4)
    recording = Recording.open(tmp_path / "out")
    # the middle of the first exposure, and the mean over nine patterns 10.5 ms apart
    middle = 0.005 + 4 * 0.0105
    assert recording.times_s() == pytest.approx([middle + start for start in (0, 5, 10, 15)])
    assert summary.duration_s < 5, "a simulated sample need not be waited for"


def test_two_colours(tmp_path: Path) -> None:
    profile, settings = small_world(load_profile("simulated_two_colour"))
    mode = "paired" if profile.paired is not None else "timelapse"
    acquire(profile, tmp_path / "out", mode, settings=settings, time_points=1)
    recording = Recording.open(tmp_path / "out")
    for entry in recording.journal:
        powers = {k: v for k, v in entry.camera.items() if k.startswith("power_mw_") and v}
        assert list(powers.values()) == [entry.power_mw], "only one laser shines"


def test_demo_camera(tmp_path: Path) -> None:
    """A C++ camera and shutter."""
    profile = load_profile("demo_camera")
    assert check_profile(profile) == []
    summary = acquire(profile, tmp_path / "out", "timelapse", time_points=6)
    recording = Recording.open(tmp_path / "out")
    assert recording.verify() == summary.frames_recorded == 6
    assert recording.frames(5).shape == (1, 1, 1, 512, 512)
    assert recording.frames(0).std() > 0


def test_checking_lists_everything(tmp_path: Path) -> None:
    good = bench_profile(tmp_path)
    assert check_profile(good) == []
    channels = [
        good.channels[0].model_copy(
            update={
                "presets": tuple(Preset(group="Filter", preset=name) for name in ("blue", "pink"))
            }
        )
    ]
    findings = check_profile(good.model_copy(update={"channels": tuple(channels)}))
    assert [f.severity for f in findings] == ["error", "error"]
    assert all("it has green, red" in str(f) and f.remedy for f in findings)


def test_an_interval_that_cannot_be_kept(tmp_path: Path) -> None:
    profile = bench_profile(
        tmp_path, paired={"time_points": 2, "exposure_ms": 2, "interval_s": 0.01}
    )
    with Microscope.open(profile) as microscope:
        findings = check(microscope, RunPlan(profile, "paired"), tmp_path)
    assert [(f.severity, f.where) for f in findings] == [("warning", "interval_s")]


def test_default_folder(tmp_path: Path) -> None:
    profile = bench_profile(tmp_path, output="a/{profile}_{mode}")
    assert default_folder(profile, "paired") == Path("a/bench_paired")
    with pytest.raises(ProfileError, match="placeholder"):
        default_folder(bench_profile(tmp_path, output="{cell}"), "paired")
