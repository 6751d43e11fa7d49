"""Signals end every run dark, sent to a process of its own as a terminal or a system would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bench import bench_profile, child_environment

from tisr_scope.cancel import SIGNALS, cancellable, signalled
from tisr_scope.recording.recording import Recording

RUN = """
import sys, threading
from pathlib import Path
from bench import light_is_off
from bench_devices import Bench
from tisr_scope.acquisition.acquire import acquire
from tisr_scope.profiles.library import load_profile
from tisr_scope.cancel import cancellable

folder, how = Path(sys.argv[1]), sys.argv[2]
profile = load_profile(folder / "profile.yaml")

def look(info, frame):
    if (info.t, info.level) == (0, 2):
        print("lit", flush=True)

def run():
    try:
        print("ended", acquire(profile, folder / "out", "paired", on_frame=look).reason, flush=True)
    finally:
        print("dark" if light_is_off() else "LIT", flush=True)

if how == "thread":
    with cancellable():
        worker = threading.Thread(target=run)
        worker.start()
        worker.join()
else:
    run()
"""


def started(folder: Path, how: str, **changes: object) -> subprocess.Popen[str]:
    """A long run in a process of its own, with the light on."""
    from tisr_scope.profiles.library import profile_yaml

    profile = bench_profile(folder, paired={"time_points": 500, "exposure_ms": 2}, **changes)
    delay = {"device": "Bench", "property": "Delay_s", "value": 0.005}
    settings = profile.microscope.model_dump() | {"settings": [delay]}
    profile = bench_profile(
        folder, paired={"time_points": 500, "exposure_ms": 2}, microscope=settings, **changes
    )
    (folder / "profile.yaml").write_text(profile_yaml(profile))
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), how],
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "lit\n"
    return process


@pytest.mark.parametrize("how", ["main", "thread"])
@pytest.mark.parametrize("number", [s for s in SIGNALS if s != signal.SIGINT], ids=str)
def test_a_signal_ends_a_run_dark(tmp_path: Path, number: signal.Signals, how: str) -> None:
    process = started(tmp_path, how)
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert said.split("\n")[-3:-1] == ["ended cancelled", "dark"]
    assert process.returncode == 0
    recording = Recording.open(tmp_path / "out")
    assert recording.verify() == len(recording.journal) > 0


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    process = started(tmp_path, "thread")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    begun = time.perf_counter()
    said, _ = process.communicate(timeout=20)
    assert time.perf_counter() - begun < 5
    assert "LIT" not in said


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
def test_what_was_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cancellable() as cancel:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
            assert not cancel.is_set() and not signalled()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_that_begins_later_hears_signals_too() -> None:
    heard: list[bool] = []
    begun = threading.Event()

    def later(own: threading.Event) -> None:
        with cancellable(own):
            begun.set()
            heard.append(own.wait(5))

    with cancellable() as first:
        os.kill(os.getpid(), signal.SIGTERM)
        assert first.wait(5) and signalled()
        worker = threading.Thread(target=later, args=(threading.Event(),))
        worker.start()
        assert begun.wait(5) and not signalled()
        os.kill(os.getpid(), signal.SIGTERM)
        worker.join(5)
    assert heard == [True]


def test_signals_reach_a_main_thread_that_never_returns() -> None:
    """A device call that hangs is no step of Python: the listening thread hears the signal."""
    code = """
import os, signal, threading, time, ctypes
from tisr_scope.cancel import cancellable
with cancellable(dark=lambda: print("dark", flush=True)) as cancel:
    def watch():
        os.kill(os.getpid(), signal.SIGTERM)
        print("asked", cancel.wait(5), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=watch, daemon=True).start()
    lock = threading.Lock(); lock.acquire()
    ctypes.CDLL(None).sleep(60)
    while True: ctypes.CDLL(None).sleep(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        env=child_environment(),
    )
    assert ended.stdout.split("\n")[:2] == ["asked True", "dark"]


def test_a_forked_child_does_not_speak_for_its_parent() -> None:
    with cancellable() as cancel:
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
        time.sleep(0.3)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        time.sleep(0.1)
        assert not cancel.is_set()
