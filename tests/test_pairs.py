"""Training pairs from recordings of the simulated microscope."""

from __future__ import annotations

import csv
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from published_layout import write_mrc_by_hand
from sim_truth import make_stack, psnr
from skimage.io import imread
from skimage.transform import resize
from typer.testing import CliRunner

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.cli import app
from tisr_scope.errors import DataError, DiskFull
from tisr_scope.exchange.import_plan import plan_region
from tisr_scope.exchange.import_recordings import import_recordings
from tisr_scope.exchange.import_settings import ImportSettings
from tisr_scope.exchange.regions import find_regions
from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.pair_folder import load_pair, load_truth, pair_folders
from tisr_scope.pairs.pair_quality import Limits
from tisr_scope.pairs.patches import PatchSampler, PatchSettings
from tisr_scope.pairs.prepare import prepare
from tisr_scope.pairs.recording_split import Split
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.recording.recording import Recording
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings

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
    # Each of 2 x 2 time points is checked, then reconstructed.
    assert steps == [(n, 8) for n in (0, 1, 2, 4, 5, 6, 8)]
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


# ------------------------------------------------------------------------- quality of the pairs

TIMES = 11
JUMPED = 5


def lapse(folder: Path, name: str, damage: str = "", size: int = 96) -> Path:
    """A recording of two levels whose light rises with time, so that images tell their time."""
    stack = make_stack(size, seed=3)
    angles = tuple(float(a) for a in np.arctan2(stack.carrier[:, 1], stack.carrier[:, 0]))
    period = float(1 / np.hypot(*stack.carrier.T).mean())
    cell = folder / "source" / name / "Cell_001"
    for level, photons in enumerate((20, 400)):
        frames = np.stack(
            [stack.frames(photons * (1 + 0.05 * t), seed=50 * level + t) for t in range(TIMES)]
        )
        if damage == "jump":
            # The stage is knocked by 3 px before the last orientation.
            frames[JUMPED, 2] = np.roll(frames[JUMPED, 2], 3, axis=-1)
        if damage == "nudge":
            frames[JUMPED, 2] = np.roll(frames[JUMPED, 2], 1, axis=-1)
        if damage == "shutter":
            frames[:, 1] = np.random.default_rng(0).normal(0, 1.6, frames[:, 1].shape)
        counts = np.rint(np.clip(100 + frames / 0.46, 0, None)).astype("<u2")
        if damage == "saturated" and level == 1:
            counts[8, 0, 0, :30, :30] = 65535
        write_mrc_by_hand(
            cell / f"RawSIMData_level_{level + 1:02d}.mrc", counts.reshape(-1, size, size)
        )
    settings = ImportSettings(interval_s=1.5, angles_rad=angles, period_um=period)
    regions = find_regions(cell)
    (made,) = import_recordings(
        [plan_region(region, settings) for region in regions], folder / "recordings", settings
    )
    return made


@pytest.fixture(scope="module")
def lapses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lapses")
    for name in ("whole", "jump", "nudge", "saturated", "shutter"):
        lapse(folder, name, name)
    return folder / "recordings"


SHORT = Limits(least_frames=3)


def test_what_moved_is_dropped_and_no_pair_spans_the_gap(lapses: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    folders = prepare([lapses / "jump_Cell_001"], out, limits=SHORT)
    assert [f.name for f in folders] == ["jump_Cell_001_488_t000", "jump_Cell_001_488_t006"]
    stacks = [load_pair(folder) for folder in folders]
    recording = Recording.open(lapses / "jump_Cell_001")
    for stack, first, frames in zip(stacks, (0, 6), (5, 5), strict=True):
        assert stack.widefield.shape[1] == stack.target.shape[0] == frames
        assert stack.name == "jump_Cell_001"
        for t in range(frames):
            np.testing.assert_allclose(
                stack.widefield[1, t], recording.widefield(first + t, level=1), rtol=1e-5
            )
    # Every window that training draws follows the light of the recording without a step.
    settings = PatchSettings(size_px=96, frames=3, reverse_time=False, level_weights=(0, 1))
    rule = Normalisation(reference="maximum", target_blur_sigma_px=0)
    sampler = PatchSampler(stacks, rule, settings, batch=24)
    scales = [float(stack.widefield[1].max()) for stack in stacks]
    first_light = recording.widefield(0, level=1).mean()
    for window in sampler.batch(0).inputs[:, :, 0]:
        steps = np.diff(window.mean((1, 2))) / first_light
        assert any(np.allclose(scale * steps, 0.05, atol=0.006) for scale in scales)


def test_reasons_are_listed_in_words_numbers_and_tables(lapses: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    names = ("jump", "saturated", "shutter")
    folders = prepare(
        [lapses / f"{name}_Cell_001" for name in names], out, limits=SHORT, report=True
    )
    assert len(folders) == 3  # 2 + 1 + 0: two time points after the saturated one are too few
    told = json.loads((out / "quality" / "summary.json").read_text())
    reasons = {(e["source"], e["time_point"]): e["reasons"] for e in told["not_good"]}
    assert "moved" in reasons["jump_Cell_001_488", JUMPED][0]
    assert "9.77% of the pixels are saturated at level 2" in reasons["saturated_Cell_001_488", 8][0]
    assert "fewer than 3" in reasons["saturated_Cell_001_488", 9][0]
    (lost,) = told["rejected"]
    assert lost["source"] == "shutter_Cell_001_488"
    assert lost["reason"].startswith("0 of 11 time points are good")
    with (out / "quality" / "jump_Cell_001_488.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["kept"] for row in rows] == [str(t != JUMPED) for t in range(TIMES)]
    # 3 px between the orientations; 8 raw frames over the 6 between their means.
    assert float(rows[JUMPED]["motion_nm"]) == pytest.approx(3 * 62.6 * 8 / 6, rel=0.1)
    assert all(float(row["motion_nm"]) < 10 for row in rows if row["kept"] == "True")
    assert all(float(row["offset_nm_level_2"]) < 2 for row in rows if row["kept"] == "True")
    with (out / "quality" / "summary.csv").open() as file:
        table = {row["source"]: row for row in csv.DictReader(file)}
    assert table["jump_Cell_001_488"]["kept"] == "10"
    assert float(table["jump_Cell_001_488"]["bleached"]) < 0  # its light rises
    for name in ("summary", *(f"{name}_Cell_001_488" for name in names)):
        page = imread(out / "quality" / f"{name}.png")
        assert page.shape[0] > 300
        assert page[..., :3].std() > 10
    split = json.loads((out / "split.json").read_text())
    assert sorted(n for subset in split.values() for n in subset) == sorted(f.name for f in folders)


def test_keep_all_and_other_limits_replace_the_pairs(lapses: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    source = [lapses / "nudge_Cell_001"]
    first = prepare(source, out, limits=Limits(least_frames=3, motion_nm=50))
    assert [f.name for f in first] == ["nudge_Cell_001_488_t000", "nudge_Cell_001_488_t006"]
    (folder,) = prepare(source, out, limits=Limits(motion_nm=50, keep_all=True))
    assert folder.name == "nudge_Cell_001_488"
    assert load_pair(folder).widefield.shape[1] == TIMES
    assert not any(f.exists() for f in first)
    told = json.loads((out / "quality" / "summary.json").read_text())
    assert [entry["time_point"] for entry in told["not_good"]] == [JUMPED]
    stamp = (folder / "pair.json").stat().st_mtime_ns
    prepare(source, out, limits=Limits(motion_nm=50, keep_all=True))
    assert (folder / "pair.json").stat().st_mtime_ns == stamp
    # What no reconstruction can bear is refused where it must not be corrected, and says so.
    left = Estimation(correct_drift=False)
    with pytest.raises(DataError, match="the sample moved"):
        prepare([lapses / "jump_Cell_001"], out, limits=Limits(keep_all=True), estimation=left)
    prepare([lapses / "jump_Cell_001"], out, limits=Limits(keep_all=True))
    target = load_pair(out / "jump_Cell_001_488").target
    # The jumped time point lies where its neighbours lie: 3 px would leave little in common.
    light = target.mean((1, 2))
    likeness = np.corrcoef(target[JUMPED].ravel(), target[JUMPED - 1].ravel())[0, 1]
    assert likeness > 0.95
    assert light[JUMPED] == pytest.approx(light[JUMPED - 1 : JUMPED + 2].mean(), rel=0.02)


def test_nonlinear_recordings_give_targets_three_times_as_fine(tmp_path: Path) -> None:
    """5 phases, two harmonics of known depth; the truth is cut at the extended support."""
    stack = make_stack(
        96, ratio=0.92, seed=3, orientations=3, phases=5, modulation=1.333, harmonics=(0.333,)
    )
    cell = tmp_path / "BioTISR_Actin_nonlinear" / "Cell_001"
    for level, photons in enumerate((50, 1000), start=1):
        counts = np.rint(np.clip(100 + stack.frames(photons) / 0.46, 0, None)).astype("<u2")
        write_mrc_by_hand(cell / f"RawSIMData_level_{level:02d}.mrc", counts.reshape(-1, 96, 96))
    settings = ImportSettings(
        orientations=3,
        angles_rad=tuple(float(a) for a in np.arctan2(stack.carrier[:, 1], stack.carrier[:, 0])),
        period_um=float(1 / np.hypot(*stack.carrier.T).mean()),
    )
    plans = [plan_region(region, settings) for region in find_regions(cell)]
    recordings = import_recordings(plans, tmp_path / "recordings", settings)
    (linear,) = prepare(recordings, tmp_path / "linear")
    (folder,) = prepare(recordings, tmp_path / "pairs", estimation=Estimation(orders=2))
    pair, half = load_pair(folder), load_pair(linear)
    assert (pair.upscale, half.upscale) == (3, 2)
    truth = stack.truth(1000)
    assert truth.shape == pair.target.shape[1:] == (288, 288)
    plain = resize(half.target[0], truth.shape, order=3)
    assert psnr(pair.target[0], truth) > psnr(plain, truth) + 1


def test_a_full_disk_leaves_the_old_pair_whole(
    lapses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "pairs"
    source = [lapses / "whole_Cell_001"]
    (folder,) = prepare(source, out)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    split = (out / "split.json").read_bytes()
    written = tifffile.imwrite

    def full(path: Path, *args: object, **more: object) -> None:
        if "target" in Path(path).name:
            Path(path).write_bytes(b"half an image")
            raise OSError(errno.ENOSPC, "No space left on device")
        written(path, *args, **more)

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(DiskFull, match="no space left") as told:
        prepare(source, out, wiener=WienerSettings(parameter=0.3))
    assert "again" in told.value.remedy
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert (out / "split.json").read_bytes() == split
    assert {p.name for p in out.iterdir()} == {folder.name, "quality", "split.json"}
    monkeypatch.undo()
    prepare(source, out, wiener=WienerSettings(parameter=0.3))
    assert (folder / "target.ome.tif").read_bytes() != before["target.ome.tif"]


def test_a_damaged_recording_is_named_and_the_others_are_made(lapses: Path, tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    for name in ("whole", "jump"):
        shutil.copytree(lapses / f"{name}_Cell_001", recordings / name)
    (recordings / "no").mkdir()
    chunk = max(
        (f for f in (recordings / "jump").rglob("c/*/*/*/*/*") if f.is_file()),
        key=lambda f: f.stat().st_size,
    )
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    found = [recordings / name for name in ("whole", "jump", "no")]
    (folder,) = prepare(found, tmp_path / "pairs")
    assert folder.name == "whole_488"
    told = json.loads((tmp_path / "pairs" / "quality" / "summary.json").read_text())
    reasons = {entry["source"]: entry["reason"] for entry in told["rejected"]}
    assert "cannot be trusted" in reasons["jump_488"]
    assert reasons["no"] == "this folder is not a recording"
    with pytest.raises(DataError, match="none of 2 recordings gives a pair") as refused:
        prepare(found[1:], tmp_path / "none")
    assert "summary.json" in refused.value.remedy


def test_a_recording_stopped_within_a_time_point_gives_what_is_complete(
    lapses: Path, tmp_path: Path
) -> None:
    recording = tmp_path / "stopped"
    shutil.copytree(lapses / "whole_Cell_001", recording)
    lines = (recording / "journal.jsonl").read_text().splitlines(keepends=True)
    (recording / "journal.jsonl").write_text("".join(lines[:-7]) + lines[-7][:20])
    (folder,) = prepare([recording], tmp_path / "pairs")
    assert load_pair(folder).widefield.shape[1] == TIMES - 1


def test_frames_of_another_size_than_the_profile_says(lapses: Path, tmp_path: Path) -> None:
    recording = tmp_path / "wrong"
    shutil.copytree(lapses / "whole_Cell_001", recording)
    profile = recording / "profile.yaml"
    text = profile.read_text()
    assert text.count("- 96\n") == 2
    profile.write_text(text.replace("- 96\n", "- 80\n"))
    with pytest.raises(
        DataError, match=r"the profile describes \(18, 80, 80\), stored is \(18, 96"
    ):
        prepare([recording], tmp_path / "pairs")


def test_the_command_tells_what_was_dropped_and_where_the_report_is(
    lapses: Path, tmp_path: Path
) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for name in ("nudge", "shutter"):
        (recordings / name).symlink_to(lapses / f"{name}_Cell_001")
    command = ["prepare", str(recordings), str(tmp_path / "pairs"), "--report"]
    limits = ["--max-motion-nm", "50", "--least-frames", "3"]
    result = CliRunner().invoke(app, [*command, *limits])
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert f"nudge_488, time point {JUMPED + 1}: dropped: moved" in told
    assert "shutter_488: no pair: 0 of 11 time points are good" in told
    assert "2 pairs in" in told
    assert "quality/summary.png" in told.replace(" ", "")
    help_text = CliRunner().invoke(app, ["prepare", "--help"]).output
    assert all(name in help_text for name in ("--keep-all", "--max-motion-nm", "--report"))
