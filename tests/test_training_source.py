"""Whatever a user trains from becomes pairs, or an error with the command to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from published_layout import noise_cell

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.errors import DataError
from tisr_scope.exchange.training_source import find_pairs
from tisr_scope.pairs.pair_folder import load_pair, pair_folders
from tisr_scope.pairs.prepare import Split
from tisr_scope.profiles.library import find_profile, load_profile

PROFILE = "simulated_microtubules"


def test_recordings_are_prepared_once(tmp_path: Path) -> None:
    for name in ("cell_1", "cell_2"):
        acquire(
            load_profile(PROFILE),
            tmp_path / "recordings" / name,
            "paired",
            profile_path=find_profile(PROFILE),
            time_points=1,
        )
    cache = tmp_path / "run" / "pairs"
    assert find_pairs(tmp_path / "recordings", cache) == cache
    split = json.loads((cache / "split.json").read_text())
    assert sorted(split["train"] + split["validation"]) == ["cell_1_488", "cell_2_488"]
    assert len(split["train"]) == len(split["validation"]) == 1
    pair = load_pair(cache / "cell_1_488")
    # Three orientations of three phases.
    assert (pair.raw_frames, pair.position) == (9, 0)
    made = (cache / "cell_1_488" / "target.ome.tif").stat().st_mtime_ns
    find_pairs(tmp_path / "recordings", cache)
    assert (cache / "cell_1_488" / "target.ome.tif").stat().st_mtime_ns == made
    assert find_pairs(cache, tmp_path / "unused") == cache
    with pytest.raises(DataError, match="one sample"):
        find_pairs(tmp_path / "recordings" / "cell_1", cache)


def test_published_folders_are_imported(tmp_path: Path) -> None:
    for n in range(3):
        noise_cell(tmp_path / "BioTISR_Actin" / f"Cell_{n:02d}", time_points=1, seed=n)
    cache = tmp_path / "pairs"
    find_pairs(tmp_path / "BioTISR_Actin", cache)
    assert [len(pair_folders(cache, part)) for part in ("train", "validation", "test")] == [1] * 3
    assert load_pair(pair_folders(cache, "train")[0]).raw_frames == 9


def test_what_only_the_user_knows_is_asked_for_with_the_command(tmp_path: Path) -> None:
    source = tmp_path / "BioTISR_Actin"
    noise_cell(source / "Cell_01", time_points=2)
    with pytest.raises(DataError, match="how much time") as caught:
        find_pairs(source, tmp_path / "run" / "pairs")
    command = f"tisr import {source} {tmp_path / 'run' / 'pairs'} --to pairs --interval-s SECONDS"
    assert command in str(caught.value.remedy)
    (source / "Cell_01" / "SIM_gt.mrc").unlink()
    with pytest.raises(DataError, match="no SIM image") as caught:
        find_pairs(source, tmp_path / "run" / "pairs")
    assert "import it as recordings" in str(caught.value.remedy)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="nothing to train from"):
        find_pairs(tmp_path / "empty", tmp_path / "pairs")


def test_two_recordings_are_enough_to_learn_and_to_judge() -> None:
    subsets = sorted(Split().assign(["a", "b"]).values())
    assert subsets == ["train", "validation"]
    assert sorted(Split().assign(["a", "b", "c"]).values()) == ["test", "train", "validation"]
