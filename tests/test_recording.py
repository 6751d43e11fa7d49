"""What is on disk: readable after every ending, valid OME-Zarr, and guarded by checksums."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from bench import bench_profile, expected_frames, light_is_off

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.disk import no_space_left
from tisr_scope.errors import BufferOverflow, DiskFull, RecordingError
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.recording.frame_store import array_paths, open_array
from tisr_scope.recording.journal import JournalEntry, read_journal
from tisr_scope.recording.recorder import Recorder, create_store
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.escalating_order import exposure_events
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("finished")
    settings = [DeviceSetting(device="Bench", property="Delay_s", value=0.001)]
    acquire(bench_profile(folder), folder / "cell_7", "paired", settings=settings)
    return Recording.open(folder / "cell_7")


def test_what_a_recording_knows(finished: Recording) -> None:
    assert finished.name == "cell_7" and finished.mode == "paired"
    assert (finished.time_points, finished.sim_shape, finished.channels) == (
        2,
        (2, 3, 3),
        ("green",),
    )
    assert finished.settings == (DeviceSetting(device="Bench", property="Delay_s", value=0.001),)
    assert finished.summary is not None and finished.summary["reason"] == "completed"
    assert len(finished.entries(1)) == 18
    entry = finished.entries(1)[4]
    assert (entry.orientation, entry.phase, entry.level, entry.power_mw) == (0, 1, 1, 2.5)


def test_frames_and_electrons(finished: Recording) -> None:
    frames = finished.frames(1)
    expected = np.array(list(expected_frames(finished.profile, "paired"))[18:])
    assert frames.dtype == np.uint16
    assert np.array_equal(frames, expected.reshape(2, 3, 3, 16, 24))
    electrons = finished.electrons(frames)
    assert electrons.dtype == np.float32
    assert electrons == pytest.approx((expected.reshape(frames.shape) - 100.0) * 0.46, rel=1e-6)
    mean = electrons[:, :, 2].reshape(6, 16, 24).mean(0)
    assert finished.widefield(1, level=2) == pytest.approx(mean, rel=1e-5)


def test_time_is_the_time_of_the_sample(finished: Recording) -> None:
    """The bench camera stamps frame n with 0.25 n seconds."""
    assert finished.times_s() == pytest.approx([0.25 * 8.5, 0.25 * 26.5])
    assert finished.interval_s() == pytest.approx(18 * 0.25)


@pytest.mark.parametrize(
    ("t", "channel", "position"), [(2, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, 3)]
)
def test_what_is_not_recorded(finished: Recording, t: int, channel: int, position: int) -> None:
    with pytest.raises(RecordingError, match="there is no"):
        finished.frames(t, channel, position)


def test_level_that_is_not_there(finished: Recording) -> None:
    with pytest.raises(RecordingError, match="no level 3"):
        finished.widefield(0, level=3)


@pytest.mark.parametrize("positions", [1, 2])
def test_valid_ome_zarr_with_sizes(tmp_path: Path, positions: int) -> None:
    profile = bench_profile(
        tmp_path, positions=[{"x_um": 5 * n, "y_um": 0} for n in range(positions)]
    )
    acquire(profile, tmp_path / "out", "paired")
    root = tmp_path / "out" / "recording.ome.zarr"
    yaozarrs.validate_zarr_store(root)
    for number in range(positions):
        image = zarr.open_group(root if positions == 1 else root / f"p{number}", mode="r")
        multiscale = dict(image.attrs)["ome"]["multiscales"][0]
        assert [axis["name"] for axis in multiscale["axes"]] == ["t", "c", "sim", "y", "x"]
        assert [axis.get("unit") for axis in multiscale["axes"]] == [
            "second",
            None,
            None,
            "micrometer",
            "micrometer",
        ]
        scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert scale == pytest.approx([0.25 * 18 * positions, 1, 1, 0.06, 0.06])
        array = image["0"]
        assert array.chunks == (1, 1, 1, 16, 24) and array.shards is None
        # another reader sees the same pixels
        ours = Recording.open(tmp_path / "out").frames(1, position=number)
        assert np.array_equal(array[1, 0].reshape(ours.shape), ours)


# ---------------------------------------------------------------------------------- damage


def _copy(recording: Recording, folder: Path) -> Path:
    import shutil

    shutil.copytree(recording.path, folder / "copy")
    return folder / "copy"


def test_a_torn_last_line_is_left_out(finished: Recording, tmp_path: Path) -> None:
    path = _copy(finished, tmp_path)
    journal = path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    cut = Recording.open(path)
    assert (len(cut.journal), cut.time_points) == (35, 1)
    assert cut.verify() == 35


def test_going_on_after_a_kill(finished: Recording, tmp_path: Path) -> None:
    """Half a journal line and frames without a line: both are recorded again."""
    path = _copy(finished, tmp_path)
    (path / "summary.json").unlink()
    lines = (path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (path / "journal.jsonl").write_bytes(b"".join(lines[:25]) + lines[25][:40])
    summary = acquire(finished.profile, path, "paired", resume=True)
    again = Recording.open(path)
    assert (summary.reason, again.time_points, again.verify()) == ("completed", 2, 36)
    assert np.array_equal(again.frames(0), finished.frames(0))
    assert again.settings == finished.settings


def test_damage_is_named(finished: Recording, tmp_path: Path) -> None:
    path = _copy(finished, tmp_path)
    lines = (path / "journal.jsonl").read_text().splitlines()
    lines[3] = lines[3][:-9]
    (path / "journal.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordingError, match="line 4"):
        Recording.open(path)


def test_changed_pixels_are_found(finished: Recording, tmp_path: Path) -> None:
    path = _copy(finished, tmp_path)
    chunk = path / "recording.ome.zarr" / "0" / "c" / "1" / "0" / "5" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[40] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(RecordingError, match="checksum"):
        Recording.open(path).verify()
    chunk.unlink()
    with pytest.raises(RecordingError, match="checksum"):
        Recording.open(path).verify()


@pytest.mark.parametrize("name", ["journal.jsonl", "profile.yaml", "provenance.json"])
def test_missing_parts_are_named(finished: Recording, tmp_path: Path, name: str) -> None:
    path = _copy(finished, tmp_path)
    (path / name).unlink()
    with pytest.raises(RecordingError, match=r"journal|profile") as caught:
        Recording.open(path)
    assert caught.value.remedy


def test_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="not a recording"):
        Recording.open(tmp_path)


def test_journal_line_round_trip(tmp_path: Path) -> None:
    entry = JournalEntry(3, 1, 2, 0, 2, 1, 1.5, 2.5, 10.0, 0.25, 77, {"sim_time_s": 0.1, "a": "b"})
    (tmp_path / "j").write_text(entry.line())
    assert read_journal(tmp_path / "j") == [entry]


# -------------------------------------------------------------------------------- kill -9

_CHILD = """
import sys
from pathlib import Path
from tisr_scope.acquisition.acquire import acquire
from tisr_scope.profiles.library import load_profile
from tisr_scope.profiles.schema import DeviceSetting
folder = Path(sys.argv[1])
acquire(load_profile(folder / "profile.yaml"), folder / "out", "paired", bursts=sys.argv[2] == "1",
        settings=[DeviceSetting(device="Bench", property="Delay_s", value=0.002)])
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Every journalled frame is on disk and is the frame the camera gave."""
    rng = random.Random(7)
    children = []
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        profile = bench_profile(folder, paired={"time_points": 400, "exposure_ms": 2})
        (folder / "profile.yaml").write_text(profile_yaml(profile))
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, "-c", _CHILD, str(folder), str(number % 2)]
        children.append((folder, subprocess.Popen(command, env=environment)))
    try:
        for folder, child in children:
            _wait_for_frames(folder / "out" / "journal.jsonl", child)
            time.sleep(rng.uniform(0, 0.2))
            child.kill()
            assert child.wait(10) == -9
    finally:
        for _, child in children:
            child.kill()
            child.wait()
    for folder, _ in children:
        recording = Recording.open(folder / "out")
        count = recording.verify()
        assert count > 10 and recording.time_points == count // 18
        assert recording.summary is None
        sequence = expected_frames(recording.profile, "paired")
        stored = open_array(folder / "out" / "recording.ome.zarr" / "0")
        for entry in recording.journal:
            sim = (entry.orientation * 3 + entry.phase) * 3 + entry.level
            assert np.array_equal(stored[entry.t, 0, sim].read().result(), next(sequence))


def _wait_for_frames(journal: Path, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not journal.exists() or journal.stat().st_size < 4000:
        assert child.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, "no frames came"
        time.sleep(0.01)


# ------------------------------------------------------------------------------- full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for about 700 small chunks."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, text=True)
    except OSError as error:
        pytest.skip(f"no small file system can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_full_disk(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = bench_profile(tmp_path, paired={"time_points": 200, "exposure_ms": 2})
    with pytest.raises(DiskFull, match="are free"):
        acquire(profile, small_disk / "out", "paired")
    monkeypatch.setattr("tisr_scope.acquisition.acquire.check_space", lambda *_: None)
    with pytest.raises(DiskFull, match="full") as caught:
        acquire(profile, small_disk / "out", "paired")
    assert "--resume" in str(caught.value)
    assert light_is_off()
    recording = Recording.open(small_disk / "out")
    assert recording.verify() > 100
    expected = expected_frames(profile, "paired")
    for t in range(recording.time_points):
        for frame in recording.frames(t).reshape(-1, 16, 24):
            assert np.array_equal(frame, next(expected))


def test_full_disk_in_words() -> None:
    assert no_space_left(OSError(errno.ENOSPC, "x"))
    try:
        raise ValueError("write failed") from OSError(errno.ENOSPC, "x")
    except ValueError as error:
        assert no_space_left(error)
    assert not no_space_left(ValueError("something else"))


# ---------------------------------------------------------------------------------- writer


def _recorder(folder: Path) -> tuple[Recorder, list[FrameInfo]]:
    profile = bench_profile(folder)
    order = RunPlan(profile, "paired")
    create_store(folder, order)
    infos = [
        FrameInfo(i["t"], 0, 0, i["orientation"], i["phase"], i["level"], 0.0, 1.0, 2.0, 0.0)
        for i in (event.index for event in exposure_events(order))
    ]
    return Recorder(folder, order), infos


def test_a_slow_disk_is_waited_for_then_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tisr_scope.recording.recorder.QUEUE_BYTES", 0)  # eight frames
    monkeypatch.setattr("tisr_scope.recording.recorder.PATIENCE_S", 0.2)
    recorder, infos = _recorder(tmp_path)
    gate = threading.Event()
    write = recorder._journal.append

    def blocked(entries: Any) -> None:
        gate.wait()
        write(entries)

    monkeypatch.setattr(recorder._journal, "append", blocked)
    with pytest.raises(BufferOverflow, match="did not take"):
        for info in infos:
            recorder.put(info, np.full((16, 24), info.t, np.uint16), {})
    gate.set()
    recorder.close()
    assert recorder.recorded == len(read_journal(tmp_path / "journal.jsonl")) >= 8


def test_journal_follows_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is written only when its chunk can be read back."""
    recorder, infos = _recorder(tmp_path)
    array = open_array(array_paths(tmp_path, 1)[0])
    write = recorder._journal.append
    checked = []

    def checking(entries: Any) -> None:
        listed = list(entries)
        for entry in listed:
            sim = (entry.orientation * 3 + entry.phase) * 3 + entry.level
            checked.append(int(array[entry.t, 0, sim, 0, 0].read().result()) == 1 + len(checked))
        write(listed)

    monkeypatch.setattr(recorder._journal, "append", checking)
    for number, info in enumerate(infos):
        recorder.put(info, np.full((16, 24), number + 1, np.uint16), {})
    recorder.close()
    assert checked == [True] * 36


def test_summary_is_machine_readable(finished: Recording) -> None:
    content = json.loads((finished.path / "summary.json").read_text())
    assert content["frames_missing"] == 0 and content["dose_mj"]["green"] >= 0.3239
