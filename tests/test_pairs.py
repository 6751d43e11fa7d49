"""Training pairs from recordings of the simulated microscope."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sim_truth import psnr
from skimage.transform import resize

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.data.pairs import load_pair, load_truth, pair_folders
from tisr_scope.data.prepare import Split, prepare
from tisr_scope.data.recording import Recording
from tisr_scope.errors import DataError
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.sim.reconstruct import WienerSettings

PROFILE = "simulated_microtubules"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    names = ["training_1", "validation_2"]
    for name in names:
        acquire(
            load_profile(PROFILE),
            folder / name,
            "paired",
            profile_path=find_profile(PROFILE),
            time_points=2,
        )
    return [folder / name for name in names]


@pytest.fixture(scope="module")
def pairs(recordings: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pairs")
    steps: list[tuple[int, int]] = []
    folders = prepare(
        recordings, out, split=Split(by_name=True), progress=lambda *step: steps.append(step)
    )
    assert [f.name for f in folders] == ["training_1_488", "validation_2_488"]
    assert steps == [(0, 2), (1, 2), (2, 2)]
    return out


def test_target_is_close_to_the_sample(pairs: Path) -> None:
    pair, truth = load_pair(pairs / "training_1_488"), load_truth(pairs / "training_1_488")
    assert truth is not None
    assert pair.widefield.shape == (3, 2, 128, 128)
    assert pair.target.shape == truth.shape == (2, 256, 256)
    for t in range(2):
        wide = resize(pair.widefield[-1, t], (256, 256), order=3)
        assert psnr(pair.target[t], truth[t]) > psnr(wide, truth[t]) + 6
    assert pair.target.mean() == pytest.approx(pair.widefield[-1].mean(), rel=0.02)
    assert pair.target.min() < 0  # noise around zero is not clipped


def test_pair_holds_what_the_recording_says(pairs: Path, recordings: list[Path]) -> None:
    pair, recording = load_pair(pairs / "training_1_488"), Recording.open(recordings[0])
    assert (pair.name, pair.channel) == ("training_1", "488")
    assert pair.interval_s == pytest.approx(recording.interval_s())
    for level in range(3):
        np.testing.assert_allclose(
            pair.widefield[level, 1], recording.widefield(1, level=level), rtol=1e-4, atol=1e-3
        )
    about = json.loads((pairs / "training_1_488" / "pair.json").read_text())
    found = np.array(about["sim_parameters"]["frequency"])
    np.testing.assert_allclose(found, 1 / 0.1807, rtol=2e-3)
    with tifffile.TiffFile(pairs / "training_1_488" / "target.ome.tif") as file:
        assert 'PhysicalSizeX="0.0313"' in file.ome_metadata
        assert "TimeIncrement=" in file.ome_metadata


def test_subsets(pairs: Path) -> None:
    assert [f.name for f in pair_folders(pairs, "train")] == ["training_1_488"]
    assert len(pair_folders(pairs)) == 2
    with pytest.raises(DataError, match="no pairs for test"):
        pair_folders(pairs, "test")
    with pytest.raises(DataError, match="no folder of prepared pairs"):
        pair_folders(pairs / "nowhere")


def test_finished_pairs_are_kept_and_others_made_again(pairs: Path, recordings: list[Path]) -> None:
    kept, broken = (pairs / n / "target.ome.tif" for n in ("training_1_488", "validation_2_488"))
    before = kept.stat().st_mtime_ns
    (broken.parent / "pair.json").write_text("{")
    with pytest.raises(DataError, match="not a finished pair"):
        load_pair(broken.parent)
    broken.write_bytes(b"half a file")
    prepare(recordings, pairs, split=Split(by_name=True))
    assert kept.stat().st_mtime_ns == before
    assert load_pair(broken.parent).target.shape == (2, 256, 256)
    settings = WienerSettings(parameter=0.2)
    prepare(recordings[:1], pairs, split=Split(by_name=True), wiener=settings)
    assert kept.stat().st_mtime_ns != before


def test_damaged_files_are_named(pairs: Path) -> None:
    path = pairs / "validation_2_488" / "widefield_level_2.ome.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(DataError) as caught:
        load_pair(path.parent)
    assert caught.value.where == str(path)
    path.write_bytes(whole)


def test_random_split_keeps_recordings_apart() -> None:
    names = [f"cell_{n}" for n in range(20)]
    chosen = Split(validation=0.15, test=0.2, seed=3).assign(names)
    counts = {s: list(chosen.values()).count(s) for s in ("train", "validation", "test")}
    assert counts == {"train": 13, "validation": 3, "test": 4}
    assert Split(seed=3).assign(names[::-1]) == Split(seed=3).assign(names)
    assert Split(seed=4).assign(names) != Split(seed=3).assign(names)


def test_split_refuses_what_it_cannot_place() -> None:
    named = Split(named={"a": "train", "b": "test"})
    assert named.assign(["b", "a"]) == {"a": "train", "b": "test"}
    with pytest.raises(DataError, match="no subset for c"):
        named.assign(["a", "c"])
    with pytest.raises(DataError, match="no subset for cell_1"):
        Split(by_name=True).assign(["cell_1", "test_3"])
    with pytest.raises(DataError, match="several recordings are named a"):
        Split().assign(["a", "a", "b"])
    with pytest.raises(DataError, match="nothing to train"):
        Split(validation=0.5, test=0.5).assign(["a", "b", "c"])


def test_only_paired_recordings_with_time_points(tmp_path: Path) -> None:
    profile = load_profile(PROFILE)
    lapse = Recording(tmp_path, profile, "timelapse", (), [])
    with pytest.raises(DataError, match="gives no pairs"):
        prepare([lapse], tmp_path / "pairs")
    empty = Recording(tmp_path, profile, "paired", (), [])
    with pytest.raises(DataError, match="no complete time point"):
        prepare([empty], tmp_path / "pairs")
    with pytest.raises(DataError, match="no recordings"):
        prepare([], tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()
