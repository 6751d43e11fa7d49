"""From a recording and its result to the files of an audit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.cli import app
from tisr_scope.errors import DataError
from tisr_scope.evaluation.audit import audit_recording, audit_result, result_folders
from tisr_scope.evaluation.evaluate import enlarge
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.inference.result_store import ResultStore
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.recording.recording import Recording
from tisr_scope.simulated_microscope.truth import truth_stack
from tisr_scope.types import Prediction

PROFILE = "simulated_microtubules"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("audit") / "cell"
    acquire(
        load_profile(PROFILE),
        folder,
        "timelapse",
        profile_path=find_profile(PROFILE),
        settings=[DeviceSetting(device="World", property="Seed", value=77)],
        time_points=6,
    )
    return Recording.open(folder)


def store(folder: Path, images: np.ndarray, times: list[int], channel: str = "488") -> Path:
    """Results as a network would leave them."""
    grid = Grid(images.shape[1:], 0.0313, 1.0, 2)
    ones = np.ones_like(images[0])
    with ResultStore(folder, grid, {"channel": channel, "calibration": "calibrated"}) as results:
        for t, image in zip(times, images, strict=True):
            results.append(Prediction(t, image, 0 * ones, 0 * ones, ones, calibrated=True))
    return folder


def test_truth_and_wide_field_are_told_apart(recording: Recording, tmp_path: Path) -> None:
    truth = truth_stack(recording)
    truth /= np.percentile(truth, 99.9)
    wide = np.stack([recording.widefield(t) for t in range(6)])
    wide /= np.percentile(wide, 99.9)
    store(tmp_path / "true" / "488", truth[1:5], [1, 2, 3, 4])
    store(tmp_path / "wide" / "488", enlarge(wide[1:5], 2), [1, 2, 3, 4])
    found = {}
    for name in ("true", "wide"):
        answer = CliRunner().invoke(app, ["audit", str(recording.path), str(tmp_path / name)])
        assert answer.exit_code == 0, answer.output
        assert "true beyond the diffraction limit" in answer.output
        folder = tmp_path / name / "488" / "audit"
        content = json.loads((folder / "audit.json").read_text())
        found[name] = content["true_beyond_the_diffraction_limit"]["correlation"]
        assert content["time_points"]["t"] == [1, 2, 3, 4]
        with (folder / "audit.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["region"] for row in rows} >= {"all", "bright", "dim", "row 1 column 4"}
        assert len(rows) == 4 * (1 + 3 + 16)
        assert (folder / "audit.png").stat().st_size > 20_000
    assert found["true"] == pytest.approx(1, abs=0.06)
    assert found["wide"] == pytest.approx(0, abs=0.06)


def test_results_of_other_time_points_show_up(recording: Recording, tmp_path: Path) -> None:
    """The time index counts: a sample that moves is not true at another moment's frames."""
    truth = truth_stack(recording)
    truth /= np.percentile(truth, 99.9)
    frames = audit_recording(recording, 0, 0)
    right = store(tmp_path / "right", truth[[0, 5]], [0, 5])
    swapped = store(tmp_path / "swapped", truth[[5, 0]], [0, 5])
    seen: list[tuple[int, int]] = []
    one = audit_result(frames, right, tmp_path / "a", progress=lambda *n: seen.append(n))
    other = audit_result(frames, swapped, tmp_path / "b")
    assert seen[0] == (0, 2) and seen[-1] == (2, 2)
    drop = one.total.overall.correlation - other.total.overall.correlation
    assert drop > 4 * float(other.total.overall.standard_error)


def test_what_does_not_belong_together_is_refused(recording: Recording, tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((1, 256, 256)).astype(np.float32)
    frames = audit_recording(recording, 0, 0)
    with pytest.raises(DataError, match="none of the 1"):
        audit_result(frames, store(tmp_path / "late", image, [99]), tmp_path / "a")
    with pytest.raises(DataError, match="no laser level 3"):
        audit_recording(recording, 0, 0, level=2)
    with pytest.raises(DataError, match="no super-resolved frames"):
        result_folders(tmp_path / "nothing")
    store(tmp_path / "red", image, [0], channel="640")
    answer = CliRunner().invoke(app, ["audit", str(recording.path), str(tmp_path / "red")])
    assert isinstance(answer.exception, DataError)
    assert "640" in str(answer.exception)
