"""Whatever writes to a laser outside the running order is refused by name, before any light."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench import CONFIG, bench_profile, channel, expected_frames, light_is_off, recorded_frames
from bench_devices import Bench

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.acquisition.preflight import check_profile
from tisr_scope.errors import LightLimitExceeded
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.recording.recording import Recording


def profile_with(folder: Path, lines: str, **changes: Any) -> Profile:
    """Bench profile with more lines in its configuration."""
    profile = bench_profile(folder, **changes)
    config = folder / "bench.cfg"
    config.write_text(CONFIG.format(slm="SLM") + lines)
    return profile


def pattern_presets(group: str, name: str) -> dict[str, Any]:
    source = {"kind": "preset", "group": group, "presets": [name] * 6, "widefield_preset": name}
    return {"illumination": {"angles_rad": [0.2, 1.3], "phases": 3, "source": source}}


def power_preset(power: float) -> str:
    return (
        f"#py ConfigGroup,Power,on,LaserA,Power_mW,{power:g}\n"
        "#py ConfigGroup,Power,on,Bench,Filter,green\n"
    )


CHANNEL = {"channels": [channel("green", "LaserA", presets=[{"group": "Power", "preset": "on"}])]}
SETTING = DeviceSetting(device="LaserA", property="Power_mW", value=4)


@pytest.mark.parametrize(
    ("lines", "changes", "settings", "named"),
    [
        (power_preset(45), CHANNEL, (), "preset 'on' of group 'Power'"),
        (power_preset(3), CHANNEL, (), "preset 'on' of group 'Power'"),
        (power_preset(45), pattern_presets("Power", "on"), (), "preset 'on' of group 'Power'"),
        ("", {}, (SETTING,), "LaserA.Power_mW = 4"),
        ("#py Property,LaserA,Power_mW,4\n", {}, (), "line 18"),
        ("#py ConfigGroup,System,Startup,LaserA,Power_mW,4\n", {}, (), "preset Startup"),
    ],
)
def test_light_outside_the_running_order_is_refused(
    tmp_path: Path,
    lines: str,
    changes: dict[str, Any],
    settings: tuple[DeviceSetting, ...],
    named: str,
) -> None:
    profile = profile_with(tmp_path, lines, **changes)
    for begin in (acquire, None):
        Bench.current = Bench()
        if begin is not None:
            with pytest.raises(LightLimitExceeded, match=named):
                begin(profile, tmp_path / "out", "paired", settings=settings)
        else:
            found = [f for f in check_profile(profile, None, settings) if f.error is not None]
            assert found and all(named in finding.what for finding in found)
        assert all(power == 0 for _, power in Bench.current.power_log)
        assert light_is_off()
    assert not (tmp_path / "out").exists()


def test_settings_of_the_profile_are_refused_alike(tmp_path: Path) -> None:
    profile = bench_profile(tmp_path)
    lit = profile.microscope.model_copy(update={"settings": (SETTING,)})
    with pytest.raises(LightLimitExceeded, match=r"LaserA\.Power_mW = 4"):
        acquire(profile.model_copy(update={"microscope": lit}), tmp_path / "out", "paired")


def test_off_is_allowed_everywhere(tmp_path: Path) -> None:
    lines = power_preset(0) + "#py Property,LaserA,Power_mW,0\n"
    off = SETTING.model_copy(update={"value": "0.0"})
    profile = profile_with(tmp_path, lines, **CHANNEL)
    summary = acquire(profile, tmp_path / "out", "paired", settings=(off,))
    assert summary.reason == "completed"


@pytest.mark.parametrize("changes", [CHANNEL, pattern_presets("Power", "on")])
@pytest.mark.parametrize("bursts", [False, True])
def test_a_power_of_the_plan_in_a_preset_is_left_out(
    tmp_path: Path, changes: dict[str, Any], bursts: bool
) -> None:
    profile = profile_with(tmp_path, power_preset(10), **changes)
    notes = [f for f in check_profile(profile) if "LaserA.Power_mW to 10" in f.what]
    assert notes and notes[0].severity == "warning"
    acquire(profile, tmp_path / "out", "paired", bursts=bursts)
    recorded = recorded_frames(Recording.open(tmp_path / "out"))
    powers = [frame[0, 0] for frame in recorded]
    assert powers == [frame[0, 0] for frame in expected_frames(profile, "paired")]
    assert ("filter", 0.0) in Bench.current.log, "the rest of the preset is applied"
    assert Bench.current.filter == "none", "and undone after the run"
    assert not Bench.current.lit_while_moving


def test_a_preset_that_changes_the_laser_behind_its_power(tmp_path: Path) -> None:
    """A second property of the laser that raises the power is undone at once."""
    lines = "#py ConfigGroup,Modes,boost,LaserA,Boost_mW,45\n"
    modes = [{"group": "Modes", "preset": "boost"}]
    profile = profile_with(tmp_path, lines, channels=[channel("green", "LaserA", presets=modes)])
    with Microscope.open(profile) as microscope:
        microscope.apply_preset("Modes", "boost")
        assert ("A", 45.0) in Bench.current.power_log
        assert light_is_off()
    acquire(profile, tmp_path / "out", "paired")
    powers = [frame[0, 0] for frame in recorded_frames(Recording.open(tmp_path / "out"))]
    assert max(powers) == 10_000


def test_the_pattern_index_is_no_laser(tmp_path: Path) -> None:
    source = {"kind": "index", "device": "LaserA", "property": "Power_mW", "first": 1}
    profile = bench_profile(
        tmp_path, illumination={"angles_rad": [0.2, 1.3], "phases": 3, "source": source}
    )
    with pytest.raises(LightLimitExceeded, match="pattern index"):
        acquire(profile, tmp_path / "out", "paired")
