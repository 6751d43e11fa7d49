"""Recording on the test bench: right light on every frame, and dark whatever happens."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import bench_profile, channel, expected_frames, light_is_off, recorded_frames
from bench_devices import Bench

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.acquisition.engine import StrictEngine
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.acquisition.safety import DoseMeter, LightGuard
from tisr_scope.errors import (
    BufferOverflow,
    DeviceMissing,
    LightLimitExceeded,
    MicroscopeError,
    PresetMissing,
    ProfileError,
    RecordingError,
    TisrScopeError,
)
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.escalating_order import exposure_events
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan

TWO_COLOURS = [
    channel("green", "LaserA", presets=[{"group": "Filter", "preset": "green"}]),
    channel("red", "LaserB", presets=[{"group": "Filter", "preset": "red"}]),
]


def fault(name: str, frame: int = 0) -> list[DeviceSetting]:
    return [DeviceSetting(device="Bench", property="Fault", value=f"{name}@{frame}")]


def without_limits(profile: Profile, **changes: Any) -> Profile:
    """A profile whose channel slipped past the checks of the schema."""
    return profile.model_copy(
        update={"channels": (profile.channels[0].model_copy(update=changes),)}
    )


# -------------------------------------------------------------------------------- right light


@pytest.mark.parametrize(
    ("slm", "bursts", "changes"),
    [
        ("SLM", False, {}),
        ("SLM", True, {}),  # the laser steps, the pattern is held
        ("SequencedSLM", True, {}),  # laser and SLM step together
        ("SLM", True, {"channels": TWO_COLOURS}),
        ("SLM", True, {"positions": [{"x_um": 0, "y_um": 0}, {"x_um": 9, "y_um": 1}]}),
    ],
)
def test_every_frame_saw_its_light(
    tmp_path: Path, slm: str, bursts: bool, changes: dict[str, Any]
) -> None:
    profile = bench_profile(tmp_path, slm=slm, **changes)
    summary = acquire(profile, tmp_path / "out", "paired", bursts=bursts)
    recording = Recording.open(tmp_path / "out")
    frames = recorded_frames(recording)
    expected = list(expected_frames(profile, "paired"))
    assert len(frames) == len(expected) == summary.frames_recorded == summary.frames_expected
    assert all(np.array_equal(a, b) for a, b in zip(frames, expected, strict=True))
    assert [e.camera["bench_frame"] for e in recording.journal] == list(range(len(expected)))
    assert (summary.reason, summary.frames_missing) == ("completed", 0)
    assert recording.verify() == len(expected)
    assert light_is_off()
    assert not Bench.current.lit_while_moving
    assert Bench.current.power_log[-1][1] == 0


@pytest.mark.parametrize("kind", ["preset", "index"])
@pytest.mark.parametrize("bursts", [False, True])
def test_patterns_that_are_not_uploaded(tmp_path: Path, kind: str, bursts: bool) -> None:
    source = {
        "preset": {"kind": "preset", "group": "Pattern", "presets": [f"P{n}" for n in range(6)]},
        "index": {"kind": "index", "device": "Bench", "property": "Index"},
    }[kind]
    profile = bench_profile(
        tmp_path, illumination={"angles_rad": [0.2, 1.3], "phases": 3, "source": source}
    )
    seen: list[tuple[int, int]] = []

    def look(info: FrameInfo, _frame: np.ndarray) -> None:
        seen.append((info.orientation * 3 + info.phase, Bench.current.index))

    acquire(profile, tmp_path / "out", "paired", bursts=bursts, on_frame=look)
    assert len(seen) == 36
    if not (bursts and kind == "index"):  # in a burst the device is ahead of the reader
        assert all(wanted == shown for wanted, shown in seen)
    assert light_is_off()


def test_frames_arrive_in_order_in_the_calling_thread(tmp_path: Path) -> None:
    seen: list[FrameInfo] = []
    counts: list[tuple[int, int]] = []
    threads: set[int] = set()

    def look(info: FrameInfo, frame: np.ndarray) -> None:
        seen.append(info)
        threads.add(threading.get_ident())
        assert frame.dtype == np.uint16

    acquire(
        bench_profile(tmp_path),
        tmp_path / "out",
        "paired",
        on_frame=look,
        progress=lambda done, total: counts.append((done, total)),
    )
    assert threads == {threading.get_ident()}
    assert counts == [(n, 36) for n in range(1, 37)]
    assert [(i.t, i.orientation, i.phase, i.level) for i in seen] == sorted(
        (i.t, i.orientation, i.phase, i.level) for i in seen
    )
    exposed_mj = 12 * (1 + 2.5 + 10) * 2e-3
    assert 0.999 * exposed_mj < seen[-1].dose_mj < 2 * exposed_mj


def test_frames_are_not_queued_on_the_gui_thread(tmp_path: Path) -> None:
    widgets = pytest.importorskip("PySide6.QtWidgets")
    application = widgets.QApplication.instance() or widgets.QApplication([])
    threads: set[int] = set()

    def work() -> None:
        acquire(
            bench_profile(tmp_path),
            tmp_path / "out",
            "paired",
            on_frame=lambda _i, _f: threads.add(threading.get_ident()),
        )

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()  # the GUI thread is busy, and handles no event meanwhile
    assert application is not None
    assert threads == {worker.ident}
    assert Recording.open(tmp_path / "out").time_points == 2


def test_dark_between_time_points(tmp_path: Path) -> None:
    begun = time.perf_counter()
    acquire(bench_profile(tmp_path), tmp_path / "out", "timelapse")
    assert time.perf_counter() - begun > 3 * 0.4
    log = Bench.current.shutter_log
    assert log.count(True) == 4, "the shutter opens once per time point"
    assert [p for _, p in Bench.current.power_log if p] == [4.0] * 4
    recording = Recording.open(tmp_path / "out")
    starts = [e.time_s for e in recording.journal]
    assert np.diff(starts) == pytest.approx(0.4, abs=0.15)


# ------------------------------------------------------------------------- everything bad


@pytest.mark.parametrize("bursts", [False, True])
@pytest.mark.parametrize(
    ("name", "frame", "kind", "said"),
    [
        ("laser refuses", 0, MicroscopeError, "interlock is open"),
        ("slm refuses", 0, MicroscopeError, "SLM is not connected"),
        ("slm shape", 2, MicroscopeError, r"\(24, 32\)"),
        ("snap fails", 10, MicroscopeError, "gave"),
        ("frame shape", 4, MicroscopeError, r"\(16, 20\)"),
        ("shutter stuck", 0, MicroscopeError, "does not move"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_failures_stop_the_run(
    tmp_path: Path, name: str, frame: int, kind: type[TisrScopeError], said: str, bursts: bool
) -> None:
    with pytest.raises(kind, match=said) as caught:
        acquire(
            bench_profile(tmp_path),
            tmp_path / "out",
            "paired",
            settings=fault(name, frame),
            bursts=bursts,
        )
    assert caught.value.remedy
    assert light_is_off()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["reason"] == "failed" and summary["frames_missing"] > 0
    recording = Recording.open(tmp_path / "out")
    assert recording.verify() == summary["frames_recorded"]
    expected = list(expected_frames(recording.profile, "paired"))
    assert len(recording.journal) <= max(frame, 10) < len(expected)


def test_a_laser_that_stays_on_is_shouted_about(tmp_path: Path) -> None:
    with pytest.raises(MicroscopeError, match="light may still be on") as caught:
        acquire(bench_profile(tmp_path), tmp_path / "out", "paired", settings=fault("laser stuck"))
    assert "by hand" in str(caught.value)
    assert not Bench.current.shutter, "the shutter closes although the laser does not answer"


def test_power_over_the_hard_limit(tmp_path: Path) -> None:
    profile = without_limits(bench_profile(tmp_path), levels_mw=(1.0, 2.0, 21.0))
    with pytest.raises(LightLimitExceeded, match="21 mW"):
        acquire(profile, tmp_path / "out", "paired")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bursts", [False, True])
def test_engine_checks_every_power_again(tmp_path: Path, bursts: bool) -> None:
    """Even if everything before it was bypassed."""
    profile = bench_profile(tmp_path)
    wrong = without_limits(profile, levels_mw=(1.0, 2.0, 21.0))
    with Microscope.open(profile) as microscope:
        engine = StrictEngine(
            microscope,
            RunPlan(profile, "paired"),
            lambda *_: None,
            threading.Event(),
            dose=DoseMeter(None),
            bursts=bursts,
        )
        microscope.core.mda.set_engine(engine)
        with pytest.raises(LightLimitExceeded):
            microscope.core.mda.run(list(exposure_events(RunPlan(wrong, "paired"), (32, 32))))
        assert light_is_off()
    assert all(0 <= p <= 2 for _, p in Bench.current.power_log)


@pytest.mark.parametrize("power", [20.1, -1.0, float("nan"), float("inf")])
def test_powers_no_laser_is_set_to(tmp_path: Path, power: float) -> None:
    with pytest.raises(LightLimitExceeded):
        LightGuard(bench_profile(tmp_path)).check("LaserA", "Power_mW", power)


def test_power_the_laser_cannot_give(tmp_path: Path) -> None:
    profile = bench_profile(
        tmp_path,
        channels=[
            channel(
                "green", "LaserA", laser={"device": "LaserA", "hard_limit_mw": 90}, timelapse_mw=60
            )
        ],
    )
    with pytest.raises(MicroscopeError, match="takes 0 to 50"):
        acquire(profile, tmp_path / "out", "timelapse")
    assert not (tmp_path / "out").exists()


def test_dose_limit_before_and_during(tmp_path: Path) -> None:
    spends = 12 * 13.5 * 2e-3
    acquire(bench_profile(tmp_path, light_dose_limit_mj=3 * spends), tmp_path / "fit", "paired")
    meter = DoseMeter(1.0)
    assert meter.charge(0, 0, 0.6) == 0.6
    meter.require(1, 0.9)
    with pytest.raises(LightLimitExceeded, match=r"1\.1 mJ"):
        meter.require(0, 0.5)
    with pytest.raises(LightLimitExceeded, match="would give"):
        acquire(
            bench_profile(tmp_path, light_dose_limit_mj=0.9 * spends), tmp_path / "out", "paired"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"camera": {"device": "Kamera", "frame_shape": (16, 24)}}, DeviceMissing, "Camera"),
        ({"slm": "DMD"}, DeviceMissing, "SLM"),
        ({"shutter": "Flap"}, DeviceMissing, "Shutter"),
        ({"camera": {"device": "Camera", "frame_shape": (32, 24)}}, MicroscopeError, "16, 24"),
        ({"config": "nowhere.cfg"}, MicroscopeError, "nowhere.cfg"),
        (
            {"settings": [{"device": "Bench", "property": "X", "value": 1}]},
            MicroscopeError,
            "Fault",
        ),
    ],
)
def test_what_is_not_there(
    tmp_path: Path, changes: dict[str, Any], kind: type[TisrScopeError], said: str
) -> None:
    profile = bench_profile(tmp_path)
    microscope = {**profile.microscope.model_dump(), **changes}
    with pytest.raises(kind, match=said) as caught:
        acquire(bench_profile(tmp_path, microscope=microscope), tmp_path / "out", "paired")
    assert caught.value.remedy
    assert not (tmp_path / "out").exists(), "nothing is begun that cannot be finished"


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"presets": [{"group": "Filter", "preset": "blue"}]}, PresetMissing, "green, red"),
        ({"presets": [{"group": "Filtre", "preset": "red"}]}, PresetMissing, "Filter"),
        ({"laser": {"device": "LaserC", "hard_limit_mw": 20}}, DeviceMissing, "LaserA"),
        (
            {"laser": {"device": "LaserA", "property": "P", "hard_limit_mw": 20}},
            MicroscopeError,
            "Power_mW",
        ),
    ],
)
def test_what_the_channel_misses(
    tmp_path: Path, changes: dict[str, Any], kind: type[TisrScopeError], said: str
) -> None:
    profile = bench_profile(tmp_path, channels=[channel("green", "LaserA", **changes)])
    with pytest.raises(kind, match=said):
        acquire(profile, tmp_path / "out", "paired")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    profile = bench_profile(tmp_path)
    acquire(profile, tmp_path / "out", "paired")
    before = (tmp_path / "out" / "journal.jsonl").read_bytes()
    with pytest.raises(RecordingError, match="never overwritten"):
        acquire(profile, tmp_path / "out", "paired")
    assert (tmp_path / "out" / "journal.jsonl").read_bytes() == before


def test_senseless_number_of_time_points(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="0 time points"):
        acquire(bench_profile(tmp_path), tmp_path / "out", "paired", time_points=0)


# ----------------------------------------------------------------------------- being stopped


def _stop_at(frame: int, act: Any) -> Any:
    count = iter(range(10**6))

    def look(_info: FrameInfo, _frame: np.ndarray) -> None:
        if next(count) == frame:
            act()

    return look


@pytest.mark.parametrize("bursts", [False, True])
def test_cancel_keeps_what_was_exposed(tmp_path: Path, bursts: bool) -> None:
    cancel = threading.Event()
    summary = acquire(
        bench_profile(tmp_path),
        tmp_path / "out",
        "paired",
        cancel=cancel,
        on_frame=_stop_at(21, cancel.set),
        bursts=bursts,
    )
    assert summary.reason == "cancelled"
    recording = Recording.open(tmp_path / "out")
    assert recording.verify() == summary.frames_recorded == Bench.current.frames
    assert 22 <= summary.frames_recorded <= 24 and recording.time_points == 1
    assert light_is_off()


def test_cancel_ends_a_wait_at_once(tmp_path: Path) -> None:
    cancel = threading.Event()
    profile = bench_profile(
        tmp_path, timelapse={"time_points": 3, "interval_s": 60, "exposure_ms": 2}
    )
    begun = time.perf_counter()
    summary = acquire(
        profile,
        tmp_path / "out",
        "timelapse",
        cancel=cancel,
        on_frame=lambda *_: threading.Timer(0.2, cancel.set).start(),
    )
    assert time.perf_counter() - begun < 50, "the next time point, a minute later, was waited for"
    assert (summary.reason, summary.frames_recorded) == ("cancelled", 1)


def test_cancelled_before_it_began(tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    summary = acquire(bench_profile(tmp_path), tmp_path / "out", "paired", cancel=cancel)
    assert (summary.reason, summary.frames_recorded) == ("cancelled", 0)
    assert Recording.open(tmp_path / "out").time_points == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    summary = acquire(
        bench_profile(tmp_path),
        tmp_path / "out",
        "paired",
        on_frame=_stop_at(5, lambda: os.kill(os.getpid(), number)),
        bursts=False,
    )
    assert summary.reason == "cancelled" and 6 <= summary.frames_recorded <= 7
    assert signal.getsignal(number) == before
    assert light_is_off()


def test_interrupt_from_inside(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire(
            bench_profile(tmp_path), tmp_path / "out", "paired", on_frame=_stop_at(7, interrupt)
        )
    assert light_is_off()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["reason"] == "cancelled"
    assert Recording.open(tmp_path / "out").verify() == 8


def test_a_failing_onlooker_stops_the_run(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("no such panel")

    with pytest.raises(RecordingError, match="no such panel") as caught:
        acquire(bench_profile(tmp_path), tmp_path / "out", "paired", on_frame=_stop_at(7, fail))
    assert isinstance(caught.value.__cause__, ValueError)
    assert light_is_off()
    assert Recording.open(tmp_path / "out").verify() == 8


def test_camera_buffer_overflow_is_loud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymmcore_plus.experimental.unicore.core import _unicore

    # room for six frames of 768 bytes; the reader is slower than the camera
    monkeypatch.setattr(_unicore, "_DEFAULT_BUFFER_SIZE_MB", 5000 / 2**20)
    with pytest.raises(BufferOverflow, match="overflowed"):
        acquire(
            bench_profile(tmp_path, slm="SequencedSLM"),
            tmp_path / "out",
            "paired",
            on_frame=lambda _i, _f: time.sleep(0.02),
        )
    assert light_is_off()
    Recording.open(tmp_path / "out").verify()


# ------------------------------------------------------------------------------- going on


def test_resume_completes_a_cancelled_run(tmp_path: Path) -> None:
    profile = bench_profile(tmp_path, paired={"time_points": 4, "exposure_ms": 2})
    cancel = threading.Event()
    acquire(
        profile,
        tmp_path / "out",
        "paired",
        cancel=cancel,
        on_frame=_stop_at(18 + 9, cancel.set),
    )
    seen: list[int] = []
    counts: list[int] = []
    summary = acquire(
        profile,
        tmp_path / "out",
        "paired",
        resume=True,
        on_frame=lambda info, _frame: seen.append(info.t),
        progress=lambda done, _total: counts.append(done),
    )
    assert (summary.reason, summary.frames_recorded) == ("completed", 72)
    assert (seen[0], len(seen), counts[-1]) == (1, 54, 72)
    recording = Recording.open(tmp_path / "out")
    assert recording.time_points == 4 and recording.verify() == 72
    assert np.all(np.diff([e.time_s for e in recording.journal]) > 0)
    # the light of the four patterns that are shot again counts as well
    assert 27.9 < recording.journal[-1].dose_mj / (13.5 * 2e-3) < 56
    # the bench counts from 0 again: time points 1, 2, 3 hold its first 54 frames
    expected = list(expected_frames(profile, "paired"))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(recorded_frames(recording)[18:], expected[:54], strict=True)
    )


def test_resume_refuses_another_run(tmp_path: Path) -> None:
    profile = bench_profile(tmp_path)
    acquire(profile, tmp_path / "out", "paired")
    with pytest.raises(RecordingError, match="another profile"):
        acquire(profile, tmp_path / "out", "timelapse", resume=True)
    with pytest.raises(RecordingError, match="not a recording"):
        acquire(profile, tmp_path / "elsewhere", "paired", resume=True)


def test_a_folder_given_relative_to_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = bench_profile(tmp_path)
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    acquire(profile, Path("../out"), "paired")
    assert Recording.open(Path("../out")).verify() == 36


def test_a_run_killed_while_it_begins_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at every step of laying out the folder: no folder, or one that resumes."""
    from tisr_scope.acquisition import folder

    class KilledError(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise KilledError

    profile = bench_profile(tmp_path)
    out = tmp_path / "out"
    for target in ("write_json", "create_store", "profile_yaml"):
        with monkeypatch.context() as patch:
            patch.setattr(folder, target, kill)
            with pytest.raises(KilledError):
                acquire(profile, out, "paired")
        assert not out.exists()
        assert list(tmp_path.glob(".out.*.beginning"))
    out.mkdir()  # an empty folder is as good as none
    assert acquire(profile, out, "paired").reason == "completed"
    assert not list(tmp_path.glob(".out.*"))


def test_a_run_killed_before_its_first_frame_resumes(tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    profile = bench_profile(tmp_path)
    acquire(profile, tmp_path / "out", "paired", cancel=cancel)
    (tmp_path / "out" / "summary.json").unlink()
    summary = acquire(profile, tmp_path / "out", "paired", resume=True)
    assert (summary.reason, summary.frames_recorded) == ("completed", 36)
