"""After kill -9 the light goes off, on hardware that outlives the process."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from test_cancel import started

from tisr_scope.acquisition.after_death import lights_only

CONFIG = """\
Device,COM3,SerialManager,COM3
Device,COM4,SerialManager,COM4
Device,Hub,Maker,Hub
Device,Laser,Maker,Laser
Device,Stage,Maker,Stage
Device,Camera,DemoCamera,DCam
Parent,Laser,Hub
Property,Hub,Port,COM3
Property,Stage,Port,COM4
Property,Core,Initialize,1
Property,Laser,Power,0
"""


def test_only_the_lights_are_opened_with_what_they_hang_on() -> None:
    lines = lights_only(CONFIG, ["Laser"]).splitlines()
    assert [line.split(",")[1] for line in lines if line.startswith("Device")] == [
        "COM3",
        "Hub",
        "Laser",
    ]
    assert lines[-1] == "Property,Core,Initialize,1" and "Property,Hub,Port,COM3" in lines


def test_killed_runs_go_dark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "hardware"
    monkeypatch.setenv("BENCH_STATE", str(state))
    process = started(tmp_path, "main")
    deadline = time.monotonic() + 5
    while not state.read_text().startswith("lit") and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    killed = time.monotonic()
    lit_at_death = state.read_text()
    while state.read_text() != "dark 0.0 0.0 False" and time.monotonic() < killed + 10:
        time.sleep(0.02)
    assert state.read_text() == "dark 0.0 0.0 False", lit_at_death
    assert time.monotonic() - killed < 5
