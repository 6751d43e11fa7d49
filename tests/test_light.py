"""Light is one contract: dark before anything moves, on last, off first, measured, verified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import CONFIG, bench_profile, channel, expected_frames, light_is_off, recorded_frames
from bench_devices import Bench

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.acquisition.light_meter import BurstLight, LightMeter
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.errors import LightLimitExceeded, MicroscopeError
from tisr_scope.profiles.lasers import Laser
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.recording.recording import Recording

TWO_COLOURS = [
    channel("green", "LaserA", presets=[{"group": "Filter", "preset": "green"}]),
    channel("red", "LaserB", presets=[{"group": "Filter", "preset": "red"}]),
]
TWO_PLACES = [{"x_um": 0, "y_um": 0}, {"x_um": 9, "y_um": 1}]
MOVES = {"slm", "filter", "stage", "index", "exposure"}


def setting(prop: str, value: float | str) -> DeviceSetting:
    return DeviceSetting(device="Bench", property=prop, value=value)


def states() -> Iterator[tuple[str, dict[str, float]]]:
    """Every step of the bench, with the light as it was before the step."""
    light = {"A": 0.0, "B": 0.0, "shutter": 0.0, "lamp": 0.0}
    for what, value in Bench.current.log:
        yield what, {**light, "to": value}
        if what in light:
            light[what] = value


# ------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("kind", ["image", "index", "preset"])
@pytest.mark.parametrize("slm", ["SLM", "SequencedSLM"])
@pytest.mark.parametrize("bursts", [False, True])
def test_dark_while_anything_moves(tmp_path: Path, kind: str, slm: str, bursts: bool) -> None:
    source = {
        "image": {"kind": "image", "slm_pixel_um": 0.06},
        "preset": {"kind": "preset", "group": "Pattern", "presets": [f"P{n}" for n in range(6)]},
        "index": {"kind": "index", "device": "Bench", "property": "Index"},
    }[kind]
    profile = bench_profile(
        tmp_path,
        slm=slm,
        channels=TWO_COLOURS,
        positions=TWO_PLACES,
        illumination={"angles_rad": [0.2, 1.3], "phases": 3, "source": source},
    )
    acquire(profile, tmp_path / "out", "paired", bursts=bursts)
    steps = list(states())
    assert any(light["A"] for _, light in steps) and any(light["B"] for _, light in steps)
    for number, (what, light) in enumerate(steps):
        here = f"step {number}: {what} to {light['to']:g} with {light}"
        if what in MOVES:
            assert light["A"] == light["B"] == 0, here
        if what in "AB" and light["to"] > 0:
            assert light["shutter"], f"the laser comes last: {here}"
            assert light["B" if what == "A" else "A"] == 0, f"one laser at a time: {here}"
        if what == "shutter":
            assert light["A"] == light["B"] == 0, f"the laser goes first: {here}"


def test_lasers_that_go_dark_are_set_first(tmp_path: Path) -> None:
    profile = bench_profile(tmp_path, channels=TWO_COLOURS)
    with Microscope.open(profile) as microscope:
        a, b = ("LaserA", "Power_mW"), ("LaserB", "Power_mW")
        microscope.light.open("green")
        microscope.light.set_powers([(a, 5.0), (b, 0.0)])
        microscope.light.set_powers([(b, 5.0), (a, 0.0)])
        microscope.light.set_powers([(a, 2.0), (b, 0.0)])
        lit = [light for what, light in states() if what in "AB" and light["to"] > 0]
        assert len(lit) == 3 and all(light["A"] == light["B"] == 0 for light in lit)
        microscope.light.off()
    assert [what for what, _ in states()][-1] == "shutter", "the shutter closes behind the lasers"


# ------------------------------------------------------------------------------------ dose


@pytest.mark.parametrize(
    ("slm", "bursts"),
    [("SLM", True), ("SLM", False), ("SequencedSLM", True)],
)
def test_the_journal_holds_the_light_that_was_on(tmp_path: Path, slm: str, bursts: bool) -> None:
    """Against the bench's own integral of power over time, with a slow SLM and no gate."""
    settings = [setting("Delay_s", 0.01), setting("Upload_s", 0.02)]
    profile = bench_profile(tmp_path, slm=slm, paired={"time_points": 2, "exposure_ms": 10})
    summary = acquire(profile, tmp_path / "out", "paired", settings=settings, bursts=bursts)
    assert summary.dose_mj["green"] == pytest.approx(Bench.current.light_mj, rel=0.12)
    journal = Recording.open(tmp_path / "out").journal
    assert journal[-1].dose_mj == summary.dose_mj["green"]
    assert all(entry.light_ms >= entry.exposure_ms for entry in journal[-1:])


def test_the_dose_limit_counts_light_not_exposures(tmp_path: Path) -> None:
    """The plan would fit; the camera takes five times as long, and so does the light."""
    spends = 12 * 13.5 * 2e-3
    profile = bench_profile(tmp_path, light_dose_limit_mj=2 * spends)
    with pytest.raises(LightLimitExceeded, match="would receive"):
        acquire(profile, tmp_path / "out", "paired", settings=[setting("Delay_s", 0.01)])
    largest = 13.5 * 10e-3
    assert spends < Bench.current.light_mj < 2 * spends + 1.5 * largest
    assert light_is_off()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["reason"] == "failed"


def test_a_gated_laser_gives_its_exposures(tmp_path: Path) -> None:
    laser = {"device": "LaserA", "hard_limit_mw": 20, "gated": True}
    profile = bench_profile(tmp_path, channels=[channel("green", "LaserA", laser=laser)])
    summary = acquire(profile, tmp_path / "out", "paired", settings=[setting("Delay_s", 0.01)])
    assert summary.dose_mj["green"] == pytest.approx(12 * 13.5 * 2e-3)


def test_meter_adds_power_times_time() -> None:
    now = [0.0]
    meter = LightMeter(lambda: now[0])
    meter.set(10.0, True)
    now[0] = 0.5
    meter.set(2.0, True)
    now[0] = 1.0
    meter.set(2.0, False)
    now[0] = 9.0
    assert meter.take() == (pytest.approx(6.0), pytest.approx(1.0))
    assert meter.take() == (0.0, 0.0)


@pytest.mark.parametrize("late", [False, True])
def test_burst_light_against_a_known_course(late: bool) -> None:
    """Triggers at 1, 1.1, 1.2 s, exposures of 0.1 s, dark at 1.5 s."""
    now = [1.0]
    meter = LightMeter(lambda: now[0])
    burst = BurstLight(meter, [1.0, 2.0, 5.0], 0.1)
    for arrival in (1.1, 1.2, 1.3):
        now[0] = 1.3 if late and arrival > 1.1 else arrival
        burst.frame()
    now[0] = 1.5
    burst.end(3, 1.3)
    energy, on_s = meter.take()
    assert energy == pytest.approx(0.1 + 0.2 + 0.5 + 5 * 0.2)
    assert on_s == pytest.approx(0.5)


# --------------------------------------------------------------------------------- verified


@pytest.mark.parametrize(
    ("fault", "named"), [("laser ignores", "LaserA.Power_mW reads"), ("shutter ignores", "Shutter")]
)
@pytest.mark.parametrize("bursts", [False, True])
def test_a_device_that_ignores_off_is_named(
    tmp_path: Path, fault: str, named: str, bursts: bool
) -> None:
    profile = bench_profile(tmp_path)
    with pytest.raises(MicroscopeError, match=f"light may still be on.*{named}"):
        acquire(
            profile, tmp_path / "out", "paired", settings=[setting("Fault", fault)], bursts=bursts
        )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["reason"] == "failed" and named in summary["error"]


def test_what_a_preset_switches_on_goes_off_with_the_run(tmp_path: Path) -> None:
    profile = bench_profile(
        tmp_path, channels=[channel("green", "LaserA", presets=[{"group": "Epi", "preset": "on"}])]
    )
    config = CONFIG.format(slm="SLM") + "#py ConfigGroup,Epi,on,Bench,Lamp,1\n"
    (tmp_path / "bench.cfg").write_text(config)
    acquire(profile, tmp_path / "out", "paired")
    assert ("lamp", 1.0) in Bench.current.log and Bench.current.lamp == 0


# ------------------------------------------------------------------- lasers as real ones are


def lit_profile(folder: Path, laser: dict[str, Any], **changes: Any) -> Profile:
    return bench_profile(
        folder,
        channels=[
            channel("green", "LaserA", laser={"device": "LaserA", "hard_limit_mw": 20} | laser)
            | changes
        ],
    )


@pytest.mark.parametrize("bursts", [False, True])
def test_a_laser_in_volts(tmp_path: Path, bursts: bool) -> None:
    """0.5 V is dark; 1 to 5 V are 1 to 20 mW on a bent line."""
    profile = lit_profile(
        tmp_path,
        {"off_value": 0.5, "calibration": [[0.5, 0], [1, 1], [3, 5], [5, 20]]},
    )
    acquire(profile, tmp_path / "out", "paired", bursts=bursts)
    volts = [frame[0, 0] / 1e3 for frame in recorded_frames(Recording.open(tmp_path / "out"))]
    assert volts[:3] == pytest.approx([1.0, 1.75, 3 + 2 / 3], abs=1e-3)
    assert Bench.current.powers["A"] == 0.5, "dark is half a volt"


def test_an_emission_switch_follows_the_power(tmp_path: Path) -> None:
    enable = {"device": "Bench", "property": "Emission", "on": "On", "off": "Off"}
    profile = lit_profile(tmp_path, {"enable": enable})
    acquire(profile, tmp_path / "out", "paired", bursts=False)
    assert Bench.current.emission == "Off"
    steps = [(what, value) for what, value in Bench.current.log if what == "A" or "emi" in what]
    first = steps.index(("A", 1.0))
    assert steps[first + 1] == ("emission On", 0.0)
    last = max(n for n, step in enumerate(steps) if step == ("A", 10.0))
    assert [what for what, _ in steps[last + 1 :]][:3] == ["emission On", "emission Off", "A"]


def test_lasers_lamps_and_shutters_of_a_channel(tmp_path: Path) -> None:
    lamp = {"device": "Bench", "property": "Lamp", "on": 1, "off": 0}
    other = {"laser": {"device": "LaserB", "hard_limit_mw": 5}, "power_mw": 0.5}
    profile = lit_profile(tmp_path, {}, lamps=[lamp], other_lasers=[other])
    summary = acquire(profile, tmp_path / "out", "paired")
    frames = recorded_frames(Recording.open(tmp_path / "out"))
    assert {int(frame[0, 1]) for frame in frames} == {500}
    assert [f[0, 0] for f in frames] == [f[0, 0] for f in expected_frames(profile, "paired")]
    assert ("lamp", 1.0) in Bench.current.log and Bench.current.lamp == 0
    assert summary.dose_mj["green"] >= 12 * (13.5 + 3 * 0.5) * 2e-3 * (1 - 1e-9)
    assert light_is_off()


def test_levels_as_presets(tmp_path: Path) -> None:
    steps = {"group": "Light", "off_value": "none", "steps": [[1, "a"], [2.5, "b"], [10, "c"]]}
    profile = lit_profile(tmp_path, steps, timelapse_mw=1)
    config = CONFIG.format(slm="SLM")
    for name, power in {"none": 0, "a": 1.1, "b": 2.2, "c": 9.9}.items():
        config += f"#py ConfigGroup,Light,{name},LaserA,Power_mW,{power}\n"
    (tmp_path / "bench.cfg").write_text(config)
    acquire(profile, tmp_path / "out", "paired")
    frames = recorded_frames(Recording.open(tmp_path / "out"))
    assert [int(f[0, 0]) for f in frames[:3]] == [1100, 2200, 9900]
    assert light_is_off()


@pytest.mark.parametrize(
    "laser",
    [
        {"calibration": [[0, 0], [5, 4]]},  # 10 mW are not in it
        {"calibration": [[0, 0], [5, 20], [4, 30]]},
        {"steps": [[1, "low"], [2.5, "mid"]]},
        {"group": "Light"},
        {"off_value": 10},
    ],
)
def test_descriptions_that_cannot_be(tmp_path: Path, laser: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="LaserA"):
        lit_profile(tmp_path, laser)


def test_readings_near_dark_are_dark() -> None:
    laser = Laser(device="L", hard_limit_mw=50)
    assert laser.reads_off("0.02") and laser.reads_off("0.0000") and not laser.reads_off("1.0")
    volts = Laser(device="L", hard_limit_mw=50, off_value=-1, calibration=((-1, 0), (4, 50)))
    assert volts.reads_off("-0.99") and not volts.reads_off("0")
    assert np.isclose(float(volts.value_of(25)), 1.5)
