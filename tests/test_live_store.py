"""Results on disk: what is read back is what was predicted, also after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import zarr

from tisr_scope.errors import DiskFull, RecordingError
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.inference.result_store import (
    CONFIDENCE,
    JOURNAL,
    SUPER_RESOLUTION,
    ResultStore,
    disk_error,
    open_results,
)
from tisr_scope.types import Prediction

GRID = Grid(shape=(64, 96), pixel_size_um=0.0325, interval_s=0.05, upscale=2)


def prediction(t: int, shape: tuple[int, int] = GRID.shape) -> Prediction:
    rng = np.random.default_rng(t)
    mean = rng.normal(0.5, 0.2, shape).astype(np.float32)
    confidence = rng.uniform(0, 1, shape).astype(np.float32)
    return Prediction(t, mean, mean, mean, confidence, calibrated=t % 2 == 0)


def test_round_trip(tmp_path: Path) -> None:
    times = [3, 4, 9, 17, 18, 30, 31, 32, 40, 41, 55]
    with ResultStore(tmp_path / "r", GRID, {"model": "m"}, shard_frames=4) as store:
        for t in times:
            store.append(prediction(t), lag_s=0.25)
    results = open_results(tmp_path / "r")
    assert results.time_indices == times
    assert results.description["model"] == "m"
    assert [line["calibrated"] for line in results.journal] == [t % 2 == 0 for t in times]
    assert results.journal[0]["lag_s"] == 0.25
    for index, t in enumerate(times):
        expected = prediction(t)
        np.testing.assert_allclose(
            results.intensity(index), np.clip(expected.mean, -0.2, 3), atol=2.6e-5
        )
        np.testing.assert_allclose(results.confidence(index), expected.confidence, atol=0.0021)


def test_other_software_reads_sizes_and_pixels(tmp_path: Path) -> None:
    """The independent reader zarr-python and the NGFF validator of yaozarrs."""
    with ResultStore(tmp_path / "r", GRID, {}, shard_frames=4) as store:
        for t in range(6):
            store.append(prediction(t))
    for name, dtype in ((SUPER_RESOLUTION, "uint16"), (CONFIDENCE, "uint8")):
        group = zarr.open_group(tmp_path / "r" / name, mode="r")
        array = group["0"]
        assert isinstance(array, zarr.Array)
        assert array.shape == (6, 64, 96)
        assert array.dtype == dtype
        multiscale = group.attrs["ome"]["multiscales"][0]
        assert [axis["unit"] for axis in multiscale["axes"]] == [
            "second",
            "micrometer",
            "micrometer",
        ]
        scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert scale == [0.05, 0.0325, 0.0325]
    stored = zarr.open_array(tmp_path / "r" / CONFIDENCE / "0", mode="r")[5]
    np.testing.assert_array_equal(stored, np.rint(prediction(5).confidence * 255))


def test_frames_lie_at_their_own_time_points(tmp_path: Path) -> None:
    """What another program reads at index t was exposed at start + t * interval."""
    times = [12, 13, 35, 39]
    with ResultStore(tmp_path / "r", GRID, {}) as store:
        for t in times:
            store.append(prediction(t), time_s=0.3 + 0.0517 * t)
        store.set_times(0.3, 0.0517)
    for name in (SUPER_RESOLUTION, CONFIDENCE):
        group = zarr.open_group(tmp_path / "r" / name, mode="r")
        image = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        scale, translation = image[0]["scale"][0], image[1]["translation"][0]
        array = group["0"]
        assert isinstance(array, zarr.Array)
        assert array.shape[0] == 40
        filled = [t for t in range(40) if np.asarray(array[t]).any()]
        assert filled == times
        np.testing.assert_allclose(
            [translation + scale * t for t in filled], [0.3 + 0.0517 * t for t in times]
        )
    results = open_results(tmp_path / "r")
    assert [line["time_s"] for line in results.journal] == [0.3 + 0.0517 * t for t in times]


def test_results_of_another_model_are_not_gone_on_with(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "r", GRID, {"weights_sha256": "a", "passes": 6}) as store:
        store.append(prediction(0))
    with pytest.raises(RecordingError, match=r"another way \(weights_sha256\)"):
        ResultStore(tmp_path / "r", GRID, {"weights_sha256": "b", "passes": 6}, resume=True)


def test_metadata_is_valid_ome_ngff(tmp_path: Path) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    with ResultStore(tmp_path / "r", GRID, {}) as store:
        store.append(prediction(0))
    for name in (SUPER_RESOLUTION, CONFIDENCE):
        yaozarrs.validate_zarr_store(tmp_path / "r" / name)


def test_fine_pixels_sit_inside_their_camera_pixel(tmp_path: Path) -> None:
    """The mean position of the fine pixels of a camera pixel is its centre."""
    with ResultStore(tmp_path / "r", GRID, {}) as store:
        store.append(prediction(0))
    content = json.loads((tmp_path / "r" / SUPER_RESOLUTION / "zarr.json").read_text())
    transforms = content["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    scale, translation = transforms["coordinateTransformations"]
    positions = [translation["translation"][1] + scale["scale"][1] * k for k in range(2)]
    assert np.mean(positions) == pytest.approx(0.0)


def test_killed_run_is_readable_up_to_the_last_shard(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        sys.path[:0] = [{str(Path(__file__).parent)!r}]
        from pathlib import Path
        from test_live_store import GRID, prediction
        from tisr_scope.inference.result_store import ResultStore
        store = ResultStore(Path({str(tmp_path / "r")!r}), GRID, {{}}, shard_frames=4)
        for t in range(11):
            store.append(prediction(t))
        print("ready", flush=True)
        sys.stdin.readline()
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    results = open_results(tmp_path / "r")
    assert results.time_indices == list(range(8))
    with ResultStore(tmp_path / "r", GRID, {}, shard_frames=4, resume=True) as store:
        assert store.time_points == set(range(8))
        for t in (13, 9, 10):  # out of order, and into a shard that is there
            store.append(prediction(t))
    results = open_results(tmp_path / "r")
    assert results.time_indices == [*range(8), 9, 10, 13]
    for index, t in ((2, 2), (8, 9), (10, 13)):
        np.testing.assert_allclose(results.confidence(index), prediction(t).confidence, atol=0.0021)
    np.testing.assert_allclose(results.confidence(7), prediction(7).confidence, atol=0.0021)
    with pytest.raises(RecordingError, match="no frame 11"):
        results.intensity(11)


def test_journal_line_cut_short_does_not_count(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "r", GRID, {}) as store:
        store.append(prediction(0))
        store.append(prediction(1))
    journal = tmp_path / "r" / JOURNAL
    journal.write_text(journal.read_text()[:-9])
    assert open_results(tmp_path / "r").time_indices == [0]


def test_refusals(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "r", GRID, {})
    with pytest.raises(RecordingError, match="does not fit"):
        store.append(prediction(0, (8, 8)))
    store.close()
    store.close()
    with pytest.raises(RecordingError, match="already holds"):
        ResultStore(tmp_path / "r", GRID, {})
    with pytest.raises(RecordingError, match="no super-resolved frames"):
        open_results(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot be written"):
        ResultStore(tmp_path / "file" / "r", GRID, {})


def test_damaged_shard_is_named(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "r", GRID, {}) as store:
        for t in range(3):
            store.append(prediction(t))
    shard = next((tmp_path / "r" / SUPER_RESOLUTION / "0" / "c").rglob("0"))
    while shard.is_dir():
        shard = shard / "0"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(RecordingError, match="cannot be read"):
        open_results(tmp_path / "r").intensity(0)


def test_full_disk_has_its_own_error(tmp_path: Path) -> None:
    assert isinstance(disk_error(OSError(28, "No space left on device"), tmp_path), DiskFull)
    assert isinstance(disk_error(ValueError("write failed: No space left"), tmp_path), DiskFull)
    assert not isinstance(disk_error(OSError(13, "denied"), tmp_path), DiskFull)
