"""Device calls that do not return: dark in time, the reason said, the process ended."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bench import bench_profile, channel, child_environment, light_is_off
from bench_devices import Bench

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.acquisition.watchdog import HANGING, Watchdog
from tisr_scope.errors import DeviceTimeout
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import Deadlines, DeviceSetting
from tisr_scope.recording.recording import Recording

SOON = Deadlines(camera_s=0.8, slm_s=0.8, stage_s=0.8, other_s=0.8, light_s=0.2)

RUN = """
import sys, threading, time
from pathlib import Path
from bench_devices import Bench
from tisr_scope.acquisition.acquire import acquire
from tisr_scope.profiles.library import load_profile
from tisr_scope.profiles.schema import DeviceSetting

folder, fault = Path(sys.argv[1]), sys.argv[2]
def look():
    while True:
        time.sleep(0.01)
        bench = getattr(Bench, "current", None)
        if bench is not None and bench.hung_at:
            lit = bench.shutter and any(bench.powers.values())
            waited = time.perf_counter() - bench.hung_at
            print(f"{waited:.3f} {'lit' if lit else 'dark'}", flush=True)
threading.Thread(target=look, daemon=True).start()
settings = [DeviceSetting(device="Bench", property="Fault", value=fault)]
acquire(load_profile(folder / "profile.yaml"), folder / "out", "paired", settings=settings)
"""


def hung_run(folder: Path, fault: str, **changes: object) -> tuple[int, str, list[list[str]]]:
    profile = bench_profile(folder, **changes)
    microscope = profile.microscope.model_copy(update={"deadlines": SOON})
    profile = profile.model_copy(update={"microscope": microscope})
    (folder / "profile.yaml").write_text(profile_yaml(profile))
    ended = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), fault],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(),
    )
    return ended.returncode, ended.stderr, [line.split() for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("what", ["slm", "stage", "filter", "laser", "camera", "shutter"])
def test_a_call_that_never_returns(tmp_path: Path, what: str) -> None:
    code, said, course = hung_run(
        tmp_path,
        f"hang {what}@4",
        positions=[{"x_um": 0, "y_um": 0}, {"x_um": 9, "y_um": 1}],
        channels=[
            channel("green", "LaserA", presets=[{"group": "Filter", "preset": "green"}]),
            channel("red", "LaserB", presets=[{"group": "Filter", "preset": "red"}]),
        ],
    )
    lit = [float(waited) for waited, how in course if how == "lit"]
    assert max(lit, default=0.0) < 0.8, "dark by another path"
    assert course[-1][1] == "dark" and float(course[-1][0]) < 6
    assert code == HANGING and "no answer for" in said and "the process was ended" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["reason"] == "failed" and "no answer" in summary["error"]
    recording = Recording.open(tmp_path / "out")
    assert recording.verify() == summary["frames_recorded"] > 0


def test_a_camera_that_delivers_no_frame_of_a_burst(tmp_path: Path) -> None:
    profile = bench_profile(tmp_path, slm="SequencedSLM")
    begun = time.perf_counter()
    late = DeviceSetting(device="Bench", property="Delay_s", value=2.5)
    with pytest.raises(DeviceTimeout, match="waiting for a frame"):
        acquire(profile, tmp_path / "out", "paired", settings=[late])
    assert time.perf_counter() - begun < 12
    assert light_is_off()
    on = [w for w, value in Bench.current.log if w == "shutter" and value]
    assert len(on) == 1, "the light does not come back"


def test_deadlines_that_are_kept_leave_no_trace() -> None:
    dark: list[float] = []
    died: list[str] = []
    watchdog = Watchdog(SOON)
    with watchdog.looking(lambda: True, lambda: dark.append(0), died.append):
        with watchdog.call("a quick call", 0.5):
            pass
        with watchdog.call("a long exposure", 0.5, exposing_s=0.5):
            time.sleep(0.4)
    assert not dark and not died and not watchdog.calls


def test_light_that_is_on_too_long_fails_the_call() -> None:
    dark: list[float] = []
    watchdog = Watchdog(SOON)
    begun = time.monotonic()
    with (
        watchdog.looking(lambda: not dark, lambda: dark.append(time.monotonic() - begun)),
        pytest.raises(DeviceTimeout, match="the light was turned off"),
        watchdog.call("a slow call", 5.0),
    ):
        time.sleep(0.5)
    assert len(dark) == 1 and 0.2 < dark[0] < 0.4


def test_a_request_to_stop_shortens_the_patience() -> None:
    cancel = threading.Event()
    dark: list[float] = []
    watchdog = Watchdog(Deadlines(light_s=5))
    with (
        watchdog.looking(lambda: False, lambda: dark.append(time.monotonic()), cancel=cancel),
        watchdog.call("a stage that moves", 5.0),
    ):
        time.sleep(0.3)
        assert not dark
        cancel.set()
        time.sleep(0.2)
    assert len(dark) == 1
