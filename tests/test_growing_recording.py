"""A recording that grows under its reader, and the newest frames in shared memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from bench import bench_profile, expected_frames, recorded_frames

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.errors import BufferOverflow, RecordingError
from tisr_scope.recording.frame_ring import CARD, attach, publish, withdraw
from tisr_scope.recording.frame_store import array_paths
from tisr_scope.recording.journal import JOURNAL_NAME
from tisr_scope.recording.journal_writer import rewrite_journal
from tisr_scope.recording.recorder import Recorder, create_store
from tisr_scope.recording.recording import Recording
from tisr_scope.recording.shared_ring import SharedRing
from tisr_scope.running_order.escalating_order import exposure_events
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan


@pytest.fixture
def finished(tmp_path: Path) -> Recording:
    """Two time points of eighteen frames."""
    acquire(bench_profile(tmp_path), tmp_path / "run", "paired")
    return Recording.open(tmp_path / "run")


def cut(recording: Recording, lines: int) -> list[str]:
    """Leave the first lines of a journal, as if the rest were still to come."""
    path = recording.path / JOURNAL_NAME
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:lines]))
    return whole


def test_a_growing_recording_is_the_finished_one_in_the_end(finished: Recording) -> None:
    lines = cut(finished, 10)
    growing = Recording.open(finished.path)
    assert (growing.time_points, len(growing.journal)) == (0, 10)
    with (finished.path / JOURNAL_NAME).open("a") as file:
        file.write("".join(lines[10:20]) + lines[20][:40])  # the last line is being written
        file.flush()
        assert growing.refresh() == 1
        assert len(growing.journal) == 20
        with pytest.raises(RecordingError, match="no complete time point 1"):
            growing.frames(1)
        file.write(lines[20][40:] + "".join(lines[21:]))
    assert growing.refresh() == 2
    assert growing.journal == finished.journal
    np.testing.assert_array_equal(growing.times_s(), finished.times_s())
    for seen, expected in zip(
        recorded_frames(growing), expected_frames(finished.profile, "paired"), strict=True
    ):
        np.testing.assert_array_equal(seen, expected)


def test_a_reader_notices_that_a_run_goes_on_from_its_last_whole_time_point(
    finished: Recording,
) -> None:
    cut(finished, 25)
    growing = Recording.open(finished.path)
    assert len(growing.journal) == 25
    rewrite_journal(finished.path, finished.journal[:18])
    assert growing.refresh() == 1
    assert growing.journal == finished.journal[:18]
    rewrite_journal(finished.path, finished.journal)  # longer than what was read
    assert growing.refresh() == 2
    assert growing.journal == finished.journal


def test_pixels_that_are_not_there_yet_are_told_from_black_ones(finished: Recording) -> None:
    """A network drive may show a line before the chunk; a missing chunk reads as zeros."""
    chunk = array_paths(finished.path, 1)[0] / "c" / "1" / "0" / "4" / "0" / "0"
    chunk.rename(chunk.with_suffix(".late"))
    assert not finished.frames(1)[0, 1, 1].any()
    with pytest.raises(RecordingError, match="differs from its checksum"):
        finished.frames(1, checked=True)
    chunk.with_suffix(".late").rename(chunk)
    finished.frames(1, checked=True)


def test_a_dead_disk_does_not_hold_the_end_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tisr_scope.recording.recorder.PATIENCE_S", 0.2)
    plan = RunPlan(bench_profile(tmp_path), "paired")
    create_store(tmp_path, plan)
    recorder = Recorder(tmp_path, plan)
    gate = threading.Event()
    monkeypatch.setattr(recorder._journal, "append", lambda _entries: gate.wait())
    recorder.put(FrameInfo(0, 0, 0, 0, 0, 0, 0.0, 1, 2, 0), np.zeros((16, 24), np.uint16), {})
    begun = time.perf_counter()
    with pytest.raises(BufferOverflow, match="the disk took no frame"):
        recorder.close()
    assert time.perf_counter() - begun < 3
    gate.set()


# ------------------------------------------------------------------------------- shared memory

READER = """
import sys
from tisr_scope.recording.shared_ring import SharedRing
ring = SharedRing.attach(sys.argv[1])
print("ready", flush=True)
torn = whole = 0
while True:
    number = ring.newest
    found = ring.read(number)
    if found is not None:
        whole += 1
        torn += not (found[0] == number % 65536).all() or found[1][0] != number
    if number >= int(sys.argv[2]):
        break
print(whole, torn)
"""


def test_a_reader_in_another_process_sees_whole_frames_or_none() -> None:
    """The writer overwrites two slots as fast as it can, under the reader's hands."""
    ring = SharedRing.create(2, (256, 256), "uint16")
    last = 4000
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, ring.name, str(last)], stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    for number in range(last + 1):
        ring.write(number, np.full((256, 256), number % 65536, np.uint16), (number,))
    whole, torn = map(int, reader.communicate(timeout=60)[0].split())
    assert whole > 0
    assert torn == 0
    ring.close()
    assert SharedRing.attach(ring.name) is None


def test_a_slot_that_is_being_written_is_not_read() -> None:
    ring = SharedRing.create(4, (8, 8), "uint16")
    ring.write(0, np.full((8, 8), 7, np.uint16))
    ring._heads[0]["sequence"] += 1
    assert ring.read(0) is None
    ring._heads[0]["sequence"] += 1
    found = ring.read(0)
    assert found is not None
    assert (found[0] == 7).all()
    ring.write(4, np.zeros((8, 8), np.uint16))
    assert ring.read(0) is None, "the slot holds a later frame"
    ring.close()


def test_readers_that_end_or_are_killed_leave_the_ring_to_the_others() -> None:
    """Before Python 3.13 the end of a reader would have removed the memory."""
    ring = SharedRing.create(2, (8, 8), "uint16")
    ring.write(0, np.full((8, 8), 3, np.uint16))
    script = READER.replace("while True", "while len(sys.argv) > 3")
    for kill in (False, True):
        reader = subprocess.Popen(
            [sys.executable, "-c", script + "\nsys.stdin.read()", ring.name, "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdout is not None
        reader.stdout.readline()
        if kill:
            reader.kill()
        reader.communicate(timeout=60)
        time.sleep(0.2)
    other = SharedRing.attach(ring.name)
    assert other is not None
    assert other.read(0) is not None
    other.close()
    ring.close()


def test_more_shared_memory_than_there_is_is_refused_not_fatal() -> None:
    with pytest.raises(RecordingError, match="shared memory cannot be had"):
        SharedRing.create(1 << 24, (4096, 4096), "uint16")


def test_time_points_of_a_ring_are_those_of_the_running_order(tmp_path: Path) -> None:
    """Two channels at two positions: newest, mean of the patterns at one level, times."""
    from bench import channel

    profile = bench_profile(
        tmp_path,
        channels=[channel("green", "LaserA"), channel("red", "LaserB")],
        positions=[{"x_um": 0, "y_um": 0}, {"x_um": 5, "y_um": 0}],
    )
    plan = RunPlan(profile, "paired")
    ring = publish(tmp_path, plan)
    assert ring is not None
    reader = attach(tmp_path, plan)
    assert reader is not None
    rng = np.random.default_rng(1)
    frames: dict[tuple[int, int, int], list[np.ndarray]] = {}
    for count, event in enumerate(exposure_events(plan)):
        i = event.index
        info = FrameInfo(
            i["t"], i["c"], i["p"], i["orientation"], i["phase"], i["level"], 0, 1, 2, 0
        )
        frame = rng.integers(0, 65535, (16, 24), dtype=np.uint16)
        ring.put(info, frame, sample_time_s=0.5 * count)
        held = frames.setdefault((info.t, info.channel, info.position), [])
        held.append(frame)
        if count == 2 * 18 - 1:  # both channels of the first position
            assert reader.newest(0, 0) == reader.newest(1, 0) == 0
            assert reader.newest(0, 1) == reader.newest(1, 1) == -1
        if count == 5 * 18 - 2:
            assert reader.newest(0, 0) == 0
    assert [reader.newest(c, p) for c in range(2) for p in range(2)] == [1] * 4
    for (t, c, p), held in frames.items():
        for level in range(3):
            mean = reader.mean(t, c, p, level)
            assert mean is not None
            np.testing.assert_allclose(mean, np.mean(held[level::3], axis=0), rtol=1e-6)
    assert reader.time_s(0, 1, 0) == pytest.approx(0.5 * np.mean(range(18, 36)))
    assert reader.mean(2, 0, 0) is None
    card = json.loads((tmp_path / CARD).read_text())
    assert card["process"] == os.getpid()
    withdraw(tmp_path, ring)
    assert attach(tmp_path, plan) is None
