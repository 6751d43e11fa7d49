"""Published data in and out: exact pixels, and every known trap of these formats."""

from __future__ import annotations

import errno
import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from published_layout import ANGLES_DEG, PIXEL, noise_cell, striped_cell, write_mrc_by_hand
from sim_truth import make_stack
from typer.testing import CliRunner

from tisr_scope.cli import app
from tisr_scope.errors import DataError, DiskFull, MicroscopeError
from tisr_scope.exchange.export import export
from tisr_scope.exchange.import_pairs import import_pairs
from tisr_scope.exchange.import_plan import ImportPlan, plan_region
from tisr_scope.exchange.import_recordings import import_recordings
from tisr_scope.exchange.import_settings import ImportSettings
from tisr_scope.exchange.regions import find_regions
from tisr_scope.formats.biotisr import biotisr_cells
from tisr_scope.formats.mrc import read_mrc
from tisr_scope.formats.mrc_header import read_header
from tisr_scope.formats.raw_stack import read_raw_stack
from tisr_scope.pairs.pair_folder import load_pair, pair_folders
from tisr_scope.pairs.prepare import prepare
from tisr_scope.pairs.recording_split import Split
from tisr_scope.recording.recorder import Recorder
from tisr_scope.recording.recording import Recording

STATED = ImportSettings(
    interval_s=1.5,
    angles_rad=tuple(math.radians(float(a)) for a in ANGLES_DEG.split(",")),
    period_um=0.1807,
)


def plans(source: Path, settings: ImportSettings = STATED) -> list[ImportPlan]:
    return [plan_region(region, settings) for region in find_regions(source)]


def to_recording(source: Path, out: Path, settings: ImportSettings = STATED) -> Recording:
    (folder,) = import_recordings(plans(source, settings), out, settings)
    return Recording.open(folder)


def stack_of(recording: Recording, level: int) -> np.ndarray:
    frames = [recording.frames(t)[:, :, level] for t in range(recording.time_points)]
    return np.concatenate([f.reshape(-1, *f.shape[-2:]) for f in frames])


# --------------------------------------------------------------------------------- recordings


def test_every_frame_arrives_at_its_place(tmp_path: Path) -> None:
    stored, target = noise_cell(tmp_path / "BioTISR_Lysosomes" / "Cell_007", time_points=3)
    recording = to_recording(tmp_path / "BioTISR_Lysosomes", tmp_path / "out")
    assert recording.name == "Lysosomes_Cell_007"
    assert recording.mode == "paired"
    assert recording.sim_shape == (3, 3, 3)
    assert recording.time_points == 3
    for level, stack in enumerate(stored):
        np.testing.assert_array_equal(stack_of(recording, level), stack)
    assert recording.pixel_size_um == np.float32(PIXEL)
    assert recording.verify() == 81
    np.testing.assert_allclose(recording.times_s(), [0, 1.5, 3.0])
    assert all(entry.camera["imported"] for entry in recording.journal)
    assert recording.journal[1].camera["file"] == "RawSIMData_level_02.mrc"
    assert recording.profile.channels[0].emission_nm == 525
    published, _ = read_mrc(recording.path / "reference" / "SIM_gt.mrc")
    np.testing.assert_array_equal(published, target)


def test_electrons_are_not_scaled(tmp_path: Path) -> None:
    """Two regions of very different brightness keep their ratio: no min-max per region."""
    for number, factor in ((1, 1), (2, 20)):
        counts = np.full((9, 24, 24), 100 + 50 * factor, "<u2")
        for level in (1, 2):
            write_mrc_by_hand(
                tmp_path / "S" / f"Cell_{number:03d}" / f"RawSIMData_level_{level:02d}.mrc", counts
            )
    folders = import_recordings(plans(tmp_path / "S"), tmp_path / "out", STATED)
    dim, bright = (Recording.open(folder).widefield(0) for folder in folders)
    np.testing.assert_allclose(dim, 50 * 0.46, rtol=1e-6)
    np.testing.assert_allclose(bright, 20 * dim, rtol=1e-6)


def test_finished_regions_are_kept_and_interrupted_ones_done_again(tmp_path: Path) -> None:
    for number in (1, 2):
        noise_cell(tmp_path / "S" / f"Cell_{number:03d}", seed=number, time_points=1)
    unfinished = tmp_path / "out" / "S_Cell_002.importing"
    (unfinished / "recording.ome.zarr").mkdir(parents=True)
    calls: list[tuple[int, int]] = []
    made = plans(tmp_path / "S")
    folders = import_recordings(made, tmp_path / "out", STATED, progress=lambda *n: calls.append(n))
    assert calls[-1] == (54, 54)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    before = [(f / "journal.jsonl").stat().st_mtime_ns for f in folders]
    assert import_recordings(made, tmp_path / "out", STATED) == folders
    assert [(f / "journal.jsonl").stat().st_mtime_ns for f in folders] == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["S_Cell_001", "S_Cell_002"]
    other = ImportSettings(**{**vars(STATED), "interval_s": 9.0})
    with pytest.raises(DataError, match="other files or settings"):
        import_recordings(plans(tmp_path / "S", other), tmp_path / "out", other)
    (tmp_path / "taken" / "S_Cell_001").mkdir(parents=True)
    with pytest.raises(DataError, match="something else"):
        import_recordings(made, tmp_path / "taken", STATED)


def test_no_light_can_be_driven_from_an_imported_profile(tmp_path: Path) -> None:
    from tisr_scope.acquisition.acquire import acquire

    noise_cell(tmp_path / "S" / "Cell_001", time_points=1)
    recording = to_recording(tmp_path / "S", tmp_path / "out")
    profile = recording.profile
    assert profile.description.startswith("Imported")
    path = recording.path / "profile.yaml"
    with pytest.raises(MicroscopeError, match="configuration cannot be loaded") as told:
        acquire(profile, tmp_path / "new", "paired", profile_path=path)
    assert told.value.where == "imported-data-has-no-microscope.cfg"


def test_an_imported_recording_is_prepared_with_measured_stripes(tmp_path: Path) -> None:
    carrier = striped_cell(tmp_path / "BioTISR_Tubules" / "Cell_001")
    settings = ImportSettings(interval_s=0.5)
    recording = to_recording(tmp_path / "BioTISR_Tubules", tmp_path / "out", settings)
    found = np.array(recording.profile.illumination.angles_rad)
    truth = np.arctan2(carrier[:, 1], carrier[:, 0])
    turned = (found - truth + np.pi / 2) % np.pi - np.pi / 2
    assert np.abs(turned).max() < math.radians(0.1)
    period = recording.profile.channels[0].pattern_period_um
    assert period == pytest.approx(1 / np.hypot(*carrier.T).mean(), rel=1e-3)
    (pair,) = prepare([recording], tmp_path / "pairs")
    made = load_pair(pair)
    assert made.widefield.shape == (2, 2, 96, 96)
    assert made.target.shape == (2, 192, 192)
    assert made.interval_s == pytest.approx(0.5)
    # Level 2 has 25 times the light of level 1, in electrons, whatever the region.
    ratio = made.widefield[1].mean() / made.widefield[0].mean()
    assert ratio == pytest.approx(25, rel=0.03)


def test_frames_without_stripes_are_not_imported_with_guessed_ones(tmp_path: Path) -> None:
    noise_cell(tmp_path / "S" / "Cell_001", size=64, time_points=1)
    settings = ImportSettings(interval_s=1)
    with pytest.raises(DataError, match="stripes cannot be measured") as told:
        import_recordings(plans(tmp_path / "S", settings), tmp_path / "out", settings)
    assert "--angles-deg" in str(told.value)


def test_real_data_keep_their_pixels_and_stripes(real_data: Path, tmp_path: Path) -> None:
    raw = real_data / "gi_sim_microtubules_raw.mrc"
    settings = ImportSettings()
    recording = to_recording(raw, tmp_path / "out", settings)
    np.testing.assert_array_equal(stack_of(recording, 0), read_mrc(raw)[0])
    assert recording.mode == "timelapse"
    # Settings of the instrument, quoted with the data: angles modulo pi.
    angles = np.array(recording.profile.illumination.angles_rad)
    quoted = np.array([1.480, 2.5272, 3.5744])
    np.testing.assert_allclose((angles - quoted + 1) % np.pi - 1, 0, atol=0.005)
    assert recording.profile.channels[0].pattern_period_um == pytest.approx(1 / 5.53, rel=0.01)
    (cell,) = export(recording.path, tmp_path / "published")
    copy = cell / "RawSIMData_level_01.mrc"
    assert copy.read_bytes() == raw.read_bytes()


# -------------------------------------------------------------------------------------- pairs


def test_published_images_become_targets(tmp_path: Path) -> None:
    stored, target = noise_cell(tmp_path / "BioTISR_CCPs" / "Cell_003", upscale=3)
    (folder,) = import_pairs(plans(tmp_path / "BioTISR_CCPs"), tmp_path / "pairs", STATED)
    pair = load_pair(folder)
    assert pair.upscale == 3
    np.testing.assert_array_equal(pair.target, target)
    assert pair.target.min() < 0  # negative values are not clipped
    for level, stack in enumerate(stored):
        electrons = (stack.astype(np.float64) - 100) * 0.46
        expected = electrons.reshape(2, 9, 24, 26).mean(axis=1)
        # A wide field cast to whole counts would be off by up to half a count.
        np.testing.assert_allclose(pair.widefield[level], expected, rtol=1e-5, atol=1e-3)
    assert pair.interval_s == 1.5
    assert pair_folders(tmp_path / "pairs") == [folder]


def test_pairs_are_split_and_kept(tmp_path: Path) -> None:
    for number in range(1, 5):
        noise_cell(tmp_path / "S" / f"Cell_{number:03d}", seed=number, time_points=1, levels=1)
    made = plans(tmp_path / "S")
    named = {plan.name: "train" for plan in made[:3]} | {made[3].name: "test"}
    split = Split(named=named)
    folders = import_pairs(made, tmp_path / "pairs", STATED, split=split)
    before = [(f / "pair.json").stat().st_mtime_ns for f in folders]
    import_pairs(made, tmp_path / "pairs", STATED, split=split)
    assert [(f / "pair.json").stat().st_mtime_ns for f in folders] == before
    assert pair_folders(tmp_path / "pairs", "test") == [folders[3]]


def test_training_finds_its_optics_in_imported_pairs(tmp_path: Path) -> None:
    noise_cell(tmp_path / "S" / "Cell_001")
    (folder,) = import_pairs(plans(tmp_path / "S"), tmp_path / "pairs", STATED)
    otf = json.loads((folder / "pair.json").read_text())["made_from"]["otf"]
    assert (otf["numerical_aperture"], otf["emission_nm"]) == (1.49, 525)


# --------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize(
    ("kind", "target_kind"), [("<u2", "<f4"), ("<i2", "<u2"), ("<f4", "<f4"), ("<u1", "<u2")]
)
def test_recordings_come_back_exactly(tmp_path: Path, kind: str, target_kind: str) -> None:
    source = tmp_path / "BioTISR_F-actin" / "Cell_012"
    levels = 1 if kind == "<u1" else 3
    noise_cell(source, kind=kind, target_kind=target_kind, levels=levels)
    recording = to_recording(source, tmp_path / "out")
    (cell,) = export(recording.path, tmp_path / "published")
    assert cell == tmp_path / "published" / "BioTISR_F-actin" / "Cell_012"
    originals = sorted(f.name for f in source.iterdir())
    assert sorted(f.name for f in cell.glob("*.mrc")) == originals
    for name in originals:
        assert (source / name).read_bytes() == (cell / name).read_bytes()
    # The profile beside the cell makes the second import ask for nothing.
    again = to_recording(cell, tmp_path / "again", ImportSettings())
    assert again.profile == recording.profile
    assert again.interval_s() == recording.interval_s()
    for level in range(levels):
        np.testing.assert_array_equal(stack_of(again, level), stack_of(recording, level))


def test_a_background_taken_off_before_comes_back_exactly(tmp_path: Path) -> None:
    """Negative counts move the camera offset, so that electrons do not change."""
    source = tmp_path / "S" / "Cell_001"
    stored, _ = noise_cell(source, time_points=1)
    for level, stack in enumerate(stored):
        shifted = stack.astype("<i2") - 110
        write_mrc_by_hand(source / f"RawSIMData_level_{level + 1:02d}.mrc", shifted)
    with pytest.raises(DataError, match="--signed"):
        to_recording(source, tmp_path / "out")
    settings = ImportSettings(**{**vars(STATED), "unsigned": False, "offset_adu": 0.0})
    recording = to_recording(source, tmp_path / "out", settings)
    expected = (stored[0].reshape(3, 3, 24, 26) - 110.0) * 0.46
    np.testing.assert_allclose(
        recording.electrons(recording.frames(0)[:, :, 0]), expected, atol=1e-4
    )
    (cell,) = export(recording.path, tmp_path / "published")
    for file in source.glob("*.mrc"):
        assert (cell / file.name).read_bytes() == file.read_bytes()
    again = to_recording(cell, tmp_path / "again", ImportSettings(unsigned=False))
    assert again.profile == recording.profile


def test_recordings_of_this_package_come_back_exactly(tmp_path: Path) -> None:
    from tisr_scope.acquisition.acquire import acquire
    from tisr_scope.profiles.library import load_profile

    acquire(load_profile("simulated_microtubules"), tmp_path / "r" / "a", "paired", time_points=2)
    first = Recording.open(tmp_path / "r" / "a")
    (cell,) = export(tmp_path / "r", tmp_path / "published", structure="Microtubules")
    assert cell == tmp_path / "published" / "BioTISR_Microtubules" / "Cell_001"
    assert read_header(cell / "RawSIMData_level_01.mrc").time_points == 2
    again = to_recording(tmp_path / "published", tmp_path / "out", ImportSettings())
    for t in range(2):
        np.testing.assert_array_equal(again.frames(t), first.frames(t))
    one, two = first.profile, again.profile
    assert two.illumination.angles_rad == one.illumination.angles_rad
    assert two.channels[0].levels_mw == one.channels[0].levels_mw
    assert two.channels[0].pattern_period_um == one.channels[0].pattern_period_um
    assert two.optics.pixel_size_um == one.optics.pixel_size_um == 0.0626
    assert again.interval_s() == pytest.approx(first.interval_s(), abs=1e-6)
    (made,) = prepare([again], tmp_path / "pairs")
    pair = load_pair(made)
    assert pair.target.shape == (2, 256, 256)
    # With its SIM image the region is complete, and its pair is the same as the prepared one.
    (full,) = export(again.path, tmp_path / "complete", sim_images=tmp_path / "pairs")
    assert read_header(full / "SIM_gt.mrc").pixel_um == pytest.approx(0.0313)
    (same,) = import_pairs(plans(full, ImportSettings()), tmp_path / "same", ImportSettings())
    np.testing.assert_array_equal(load_pair(same).target, pair.target)
    np.testing.assert_allclose(load_pair(same).widefield, pair.widefield, rtol=1e-5, atol=1e-4)
    with pytest.raises(DataError, match="every one of 2 time points"):
        export(first.path, tmp_path / "none", sim_images=tmp_path / "pairs")


def test_pairs_come_back_exactly(tmp_path: Path) -> None:
    noise_cell(tmp_path / "S" / "Cell_001")
    (folder,) = import_pairs(plans(tmp_path / "S"), tmp_path / "pairs", STATED)
    (cell,) = export(folder, tmp_path / "published")
    assert sorted(f.name for f in cell.glob("*.mrc")) == [
        "SIM_gt.mrc",
        "WF_level_01.mrc",
        "WF_level_02.mrc",
        "WF_level_03.mrc",
    ]
    settings = ImportSettings()
    with pytest.raises(DataError, match="no raw frames"):
        import_recordings(plans(cell, settings), tmp_path / "no", settings)
    (again,) = import_pairs(plans(cell, settings), tmp_path / "again", settings)
    one, two = load_pair(folder), load_pair(again)
    np.testing.assert_array_equal(one.widefield, two.widefield)
    np.testing.assert_array_equal(one.target, two.target)
    assert (one.pixel_size_um, one.interval_s) == (two.pixel_size_um, two.interval_s)


def test_export_never_mixes_regions(tmp_path: Path) -> None:
    for number in (1, 2):
        noise_cell(tmp_path / "S" / f"Cell_{number:03d}", seed=number, time_points=1)
    import_recordings(plans(tmp_path / "S"), tmp_path / "out", STATED)
    written = export(tmp_path / "out", tmp_path / "published")
    assert [f.name for f in written] == ["Cell_001", "Cell_002"]
    stamp = (written[0] / "RawSIMData_level_01.mrc").stat().st_mtime_ns
    assert export(tmp_path / "out", tmp_path / "published") == written
    assert (written[0] / "RawSIMData_level_01.mrc").stat().st_mtime_ns == stamp
    shutil.move(tmp_path / "out" / "S_Cell_001", tmp_path / "out" / "another")
    with pytest.raises(DataError, match="another region"):
        export(tmp_path / "out", tmp_path / "published")
    with pytest.raises(DataError, match="no recordings or pairs"):
        export(tmp_path / "published", tmp_path / "x")


def test_raw_frames_as_ome_tiff(tmp_path: Path) -> None:
    stored, _ = noise_cell(tmp_path / "S" / "Cell_001", levels=2)
    recording = to_recording(tmp_path / "S", tmp_path / "out")
    files = export(recording.path, tmp_path / "tiff", layout="tiff")
    assert len(files) == 2
    for file, stack in zip(files, stored, strict=True):
        with tifffile.TiffFile(file) as opened:
            assert opened.series[0].axes == "TAPYX"
        read = read_raw_stack(file)
        np.testing.assert_array_equal(read.frames.reshape(stack.shape), stack)
        assert read.stack.pixel_size_um.value == pytest.approx((PIXEL, PIXEL))
        assert read.stack.interval_s.value == pytest.approx(1.5)


# -------------------------------------------------------------------------------------- traps


def test_cells_and_levels_come_by_number(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        folder = tmp_path / "BioTISR_S" / f"Cell_{number}"
        for level in (3, 1, 2):
            write_mrc_by_hand(
                folder / f"RawSIMData_level_{level:02d}.mrc",
                np.full((9, 16, 16), 100 * number + level, "<u2"),
            )
    cells = biotisr_cells(tmp_path)
    assert [cell.number for cell in cells] == [1, 2, 10]
    for plan, number in zip(plans(tmp_path / "BioTISR_S"), (1, 2, 10), strict=True):
        found = [int(plan.level(level)[0, 0, 0, 0, 0]) for level in range(3)]
        assert found == [100 * number + level for level in (1, 2, 3)]


def test_time_points_are_not_skipped_and_25_are_not_read_as_9(tmp_path: Path) -> None:
    """225 frames are 9 time points of 5 x 5, and would pass as 25 of 3 x 3."""
    folder = tmp_path / "BioTISR_F-actin_nonlinear" / "Cell_001"
    noise_cell(folder, orientations=5, phases=5, time_points=9, size=16, upscale=3, levels=1)
    (plan,) = plans(tmp_path)
    assert (plan.time_points, plan.orientations, plan.phases) == (9, 5, 5)
    wrong = ImportSettings(**{**vars(STATED), "orientations": 3, "phases": 3})
    with pytest.raises(DataError, match="SIM image has 9 frames, the raw stacks 25 time points"):
        plans(tmp_path, wrong)
    (folder / "SIM_gt.mrc").unlink()
    data = read_mrc(folder / "RawSIMData_level_01.mrc")[0]
    write_mrc_by_hand(folder / "RawSIMData_level_01.mrc", data, time_points=9)
    with pytest.raises(DataError, match="225 frames are not the 9 time points of the header") as e:
        plans(tmp_path, wrong)
    assert "--orientations 5 --phases 5" in str(e.value)


def test_a_wrong_number_of_frames_is_named_with_what_would_fit(tmp_path: Path) -> None:
    noise_cell(tmp_path / "S" / "Cell_001", orientations=5, phases=5, levels=1)
    with pytest.raises(DataError, match="50 frames are no multiple of 3 orientations") as told:
        plans(tmp_path / "S")
    assert "--orientations 5 --phases 5" in str(told.value)
    assert "--orientations 3 --phases 5" not in str(told.value)


def test_levels_of_different_lengths(tmp_path: Path) -> None:
    stored, _ = noise_cell(tmp_path / "S" / "Cell_001")
    write_mrc_by_hand(tmp_path / "S" / "Cell_001" / "RawSIMData_level_02.mrc", stored[1][:9])
    with pytest.raises(DataError, match="differ in length or size") as told:
        plans(tmp_path / "S")
    assert "RawSIMData_level_02.mrc: (1," in str(told.value)


def test_targets_of_another_size(tmp_path: Path) -> None:
    _, target = noise_cell(tmp_path / "S" / "Cell_001")
    for wrong in (target[:, :-1], target[:, :24, :], target[:, :, :26]):
        write_mrc_by_hand(tmp_path / "S" / "Cell_001" / "SIM_gt.mrc", wrong)
        with pytest.raises(DataError, match="no whole multiple"):
            plans(tmp_path / "S")


def test_truncated_files_are_found_before_anything_is_written(tmp_path: Path) -> None:
    noise_cell(tmp_path / "S" / "Cell_001")
    file = tmp_path / "S" / "Cell_001" / "RawSIMData_level_03.mrc"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="truncated"):
        plans(tmp_path / "S")


@pytest.mark.parametrize("importer", [import_recordings, import_pairs])
def test_nan_in_the_target(tmp_path: Path, importer: object) -> None:
    _, target = noise_cell(tmp_path / "S" / "Cell_001")
    target[1, 5, 7:9] = np.nan
    write_mrc_by_hand(tmp_path / "S" / "Cell_001" / "SIM_gt.mrc", target)
    with pytest.raises(DataError, match="2 pixels are NaN or infinite"):
        importer(plans(tmp_path / "S"), tmp_path / "out", STATED)
    assert not list((tmp_path / "out").glob("S_Cell_001"))


def test_3d_folders_need_their_order(tmp_path: Path) -> None:
    """13 planes x 9 patterns x 2 times, as 26 time points, would pass unseen."""
    planes, times = 4, 2
    value = np.arange(times * planes * 9, dtype="<u2")
    data = np.broadcast_to(value[:, None, None], (len(value), 16, 16)).copy()
    for name in ("BioTISR_Mitochondria_3D_1-20", "BioTISR_deep"):
        for level in (1, 2):
            write_mrc_by_hand(
                tmp_path / name / "Cell_001" / f"RawSIMData_level_{level:02d}.mrc",
                data,
                time_points=times,
            )
        with pytest.raises(DataError, match="focal planes") as told:
            plans(tmp_path / name)
        assert "TOZPYX" in str(told.value)
    base = {**vars(STATED), "sections": planes}
    (plan,) = plans(tmp_path / "BioTISR_deep", ImportSettings(**{**base, "axes": "TZOPYX"}))
    assert (plan.planes, plan.frames) == ((0, 1, 2, 3), times * planes * 9 * 2)
    expected = {"TZOPYX": 36 + 2 * 9, "TOZPYX": 36 + 2 * 3}
    for axes, first in expected.items():
        settings = ImportSettings(**{**base, "axes": axes, "plane": 3})
        (plan,) = plans(tmp_path / "BioTISR_deep", settings)
        assert plan.name == "deep_Cell_001_z003"
        assert plan.time_points == 2
        assert int(plan.level(0)[1, 0, 0, 0, 0]) == first
    target = np.arange(times * planes, dtype="<f4")[:, None, None] * np.ones((32, 32), "<f4")
    write_mrc_by_hand(tmp_path / "BioTISR_deep" / "Cell_001" / "SIM_gt.mrc", target.astype("<f4"))
    (plan,) = plans(tmp_path / "BioTISR_deep", settings)
    np.testing.assert_array_equal(plan.target_frames()[:, 0, 0], [2, 6])


@pytest.mark.parametrize("axes", ["TOZPYX", "TZOPYX", "OZPTYX"])
def test_3d_stacks_come_in_with_all_planes_and_back_to_the_byte(tmp_path: Path, axes: str) -> None:
    """15 x z frames: planes are stage positions at their heights, and every frame has its place."""
    source = tmp_path / "BioTISR_Mito_3D" / "Cell_004"
    times, planes = 2, 3
    rng = np.random.default_rng(2)
    # A frame tells its place by its mean: digits of time, plane, orientation, phase.
    counts = {"T": times, "O": 3, "Z": planes, "P": 5}
    place = dict(zip(axes, np.indices([counts[a] for a in axes[:-2]]), strict=False))
    told = 1000 * place["T"] + 100 * place["Z"] + 10 * place["O"] + place["P"]
    for level in (1, 2):
        data = told.reshape(-1, 1, 1) * 10 + rng.integers(0, 9, (told.size, 16, 18))
        write_mrc_by_hand(
            source / f"RawSIMData_level_{level:02d}.mrc", data.astype("<u2"), time_points=times
        )
    target = rng.normal(100, 20, (times * planes, 32, 36)).astype("<f4")
    write_mrc_by_hand(source / "SIM_gt.mrc", target, PIXEL / 2)
    settings = ImportSettings(**{**vars(STATED), "axes": axes, "sections": planes})
    recording = to_recording(tmp_path / "BioTISR_Mito_3D", tmp_path / "out", settings)
    assert recording.name == "Mito_3D_Cell_004"
    assert (recording.positions, recording.sim_shape) == (planes, (3, 5, 2))
    assert [p.z_um for p in recording.profile.positions] == pytest.approx([0, 0.16, 0.32])
    for t, z in np.ndindex(times, planes):
        found = recording.frames(t, position=z)[..., 0, 0] // 10
        expected = 1000 * t + 100 * z + 10 * np.arange(3)[:, None] + np.arange(5)
        np.testing.assert_array_equal(found, np.stack([expected] * 2, axis=-1))
    (cell,) = export(recording.path, tmp_path / "published")
    for file in source.glob("*.mrc"):
        assert (cell / file.name).read_bytes() == file.read_bytes()
    again = to_recording(cell, tmp_path / "again", ImportSettings())
    assert again.profile == recording.profile
    np.testing.assert_array_equal(again.frames(1, position=2), recording.frames(1, position=2))
    with pytest.raises(DataError, match="3D-SIM") as refused:
        prepare([recording], tmp_path / "pairs")
    assert "--to pairs" in refused.value.remedy
    with pytest.raises(DataError, match="is not written"):
        export(recording.path, tmp_path / "tiff", layout="tiff")
    made = import_pairs(
        plans(tmp_path / "BioTISR_Mito_3D", settings), tmp_path / "targets", settings
    )
    assert [folder.name for folder in made] == [f"Mito_3D_Cell_004_z{z:03d}" for z in (1, 2, 3)]
    np.testing.assert_array_equal(load_pair(made[1]).target, target[1::planes])
    subsets = json.loads((tmp_path / "targets" / "split.json").read_text()).values()
    assert sorted(map(len, subsets)) == [0, 0, planes]  # planes of one cell never part
    assert len(export(tmp_path / "targets", tmp_path / "back")) == planes


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dialect", ["priism", "regular"])
def test_headers_of_others_come_back_to_the_byte(tmp_path: Path, dialect: str, order: str) -> None:
    """Byte order, labels, unknown fields and an extended header: nothing is lost on the way."""
    source = tmp_path / "BioTISR_S" / "Cell_001"
    (data, _), _ = noise_cell(source, levels=2, time_points=2)
    rng = np.random.default_rng(8)
    for number in (1, 2):
        head = bytearray(rng.integers(0, 255, 1024, dtype=np.uint8).tobytes())
        struct.pack_into(f"{order}4i", head, 0, 26, 24, 18, 6)
        struct.pack_into(f"{order}i", head, 92, 256)
        struct.pack_into(f"{order}h", head, 96, -16224)
        struct.pack_into(f"{order}2h", head, 180, 2, 0)
        struct.pack_into(f"{order}2h", head, 196, 1, 525)
        head[208:212] = b"MAP " if dialect == "regular" else b"none"
        more = rng.integers(0, 255, 256, dtype=np.uint8).tobytes()
        pixels = data.astype(f"{order}u2").tobytes()
        (source / f"RawSIMData_level_{number:02d}.mrc").write_bytes(bytes(head) + more + pixels)
    settings = ImportSettings(**{**vars(STATED), "pixel_size_um": PIXEL, "emission_nm": 525.0})
    recording = to_recording(tmp_path / "BioTISR_S", tmp_path / "out", settings)
    np.testing.assert_array_equal(stack_of(recording, 1), data)
    (cell,) = export(recording.path, tmp_path / "published")
    for file in source.glob("*.mrc"):
        assert (cell / file.name).read_bytes() == file.read_bytes()


def test_a_recording_stopped_within_a_time_point(tmp_path: Path) -> None:
    """Its whole time points are imported only where that was asked for; others stay refused."""
    source = tmp_path / "S" / "Cell_001"
    stored, target = noise_cell(source, levels=2, time_points=3)
    for n, stack in enumerate(stored, start=1):
        write_mrc_by_hand(source / f"RawSIMData_level_{n:02d}.mrc", stack[:-4])
    write_mrc_by_hand(source / "SIM_gt.mrc", target[:2], PIXEL / 2)
    with pytest.raises(DataError, match="23 frames are no multiple"):
        plans(tmp_path / "S")
    settings = ImportSettings(**{**vars(STATED), "drop_incomplete": True})
    recording = to_recording(tmp_path / "S", tmp_path / "out", settings)
    assert recording.time_points == 2
    np.testing.assert_array_equal(stack_of(recording, 1), stored[1][:18])
    (cell,) = export(recording.path, tmp_path / "published")
    assert read_header(cell / "RawSIMData_level_01.mrc").shape == (18, 24, 26)


@pytest.mark.parametrize("importer", [import_recordings, import_pairs])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, importer: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        noise_cell(tmp_path / "S" / f"Cell_{number:03d}", seed=number, time_points=1)
    made = plans(tmp_path / "S")
    (first,) = importer(made[:1], tmp_path / "out", STATED)
    before = {f: f.read_bytes() for f in first.rglob("*") if f.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "put", full)
        patched.setattr(tifffile, "imwrite", full)
        with pytest.raises((DiskFull, OSError), match=r"[Nn]o space left"):
            importer(made, tmp_path / "out", STATED)
    assert {f: f.read_bytes() for f in first.rglob("*") if f.is_file()} == before
    kept = {p.name for p in (tmp_path / "out").iterdir()} - {"split.json"}
    assert kept == {"S_Cell_001"}
    assert len(importer(made, tmp_path / "out", STATED)) == 2


def test_neither_import_nor_pairs_scale_a_region_by_its_own_range(tmp_path: Path) -> None:
    """Two cells of 1 and 20 times the light keep their ratio in wide field and target."""
    for number, factor in ((1, 1), (2, 20)):
        folder = tmp_path / "S" / f"Cell_{number:03d}"
        ramp = np.arange(24 * 24).reshape(24, 24) / 100
        frames = np.rint(100 + factor * ramp * 10).astype("<u2")
        write_mrc_by_hand(folder / "RawSIMData_level_01.mrc", np.stack([frames] * 9))
        fine = np.kron(factor * ramp, np.ones((2, 2))).astype("<f4")[None]
        write_mrc_by_hand(folder / "SIM_gt.mrc", fine, PIXEL / 2)
    dim, bright = map(load_pair, import_pairs(plans(tmp_path / "S"), tmp_path / "pairs", STATED))
    np.testing.assert_allclose(bright.target, 20 * dim.target, rtol=1e-6)
    np.testing.assert_allclose(bright.widefield.mean(), 20 * dim.widefield.mean(), rtol=1e-3)


def test_each_region_gets_its_own_target_whatever_the_order_on_disk(tmp_path: Path) -> None:
    for number in (10, 9, 2, 1):
        folder = tmp_path / "BioTISR_S" / f"Cell_{number}"
        for level in (2, 1):
            value = np.full((9, 16, 16), 100 + 10 * number + level, "<u2")
            write_mrc_by_hand(folder / f"RawSIMData_level_{level:02d}.mrc", value)
        write_mrc_by_hand(folder / "SIM_gt.mrc", np.full((1, 32, 32), number, "<f4"), PIXEL / 2)
    made = import_pairs(plans(tmp_path / "BioTISR_S"), tmp_path / "pairs", STATED)
    assert [f.name for f in made] == [f"S_Cell_{n}" for n in (1, 2, 9, 10)]
    for folder, number in zip(made, (1, 2, 9, 10), strict=True):
        pair = load_pair(folder)
        assert np.all(pair.target == number)
        for level in (1, 2):
            expected = (10 * number + level) * 0.46
            np.testing.assert_allclose(pair.widefield[level - 1], expected, rtol=1e-6)


@pytest.mark.parametrize("fine_px", [0, 1])
def test_a_published_target_on_another_grid_is_told(tmp_path: Path, fine_px: int) -> None:
    """One fine pixel is half an input pixel, 31 nm."""
    stack = make_stack(64, seed=3)
    folder = tmp_path / "BioTISR_S" / "Cell_001"
    for level, photons in enumerate((20, 400), start=1):
        counts = np.rint(np.clip(100 + stack.frames(photons) / 0.46, 0, None)).astype("<u2")
        write_mrc_by_hand(folder / f"RawSIMData_level_{level:02d}.mrc", counts.reshape(-1, 64, 64))
    image = np.roll(stack.truth(400), fine_px, axis=-1)[None].astype("<f4")
    write_mrc_by_hand(folder / "SIM_gt.mrc", image, PIXEL / 2)
    command = ["import", str(tmp_path / "BioTISR_S"), str(tmp_path / "pairs"), "--to", "pairs"]
    result = CliRunner().invoke(app, [*command, "--interval-s", "1"])
    assert result.exit_code == 0, result.output
    about = json.loads((tmp_path / "pairs" / "S_Cell_001" / "pair.json").read_text())
    for level in about["registration"]:
        assert level["x_nm"] == pytest.approx(fine_px * 31.3, abs=max(1.5, 4 * level["se_nm"]))
        assert abs(level["y_nm"]) < max(1.5, 4 * level["se_nm"])
    told = "nm off its input" in " ".join(result.output.split())
    assert told == bool(fine_px)


def test_time_is_asked_for_where_nobody_says(tmp_path: Path) -> None:
    noise_cell(tmp_path / "S" / "Cell_001")
    unknown = ImportSettings(**{**vars(STATED), "interval_s": None})
    with pytest.raises(DataError, match="how much time lies between"):
        import_recordings(plans(tmp_path / "S", unknown), tmp_path / "out", unknown)
    noise_cell(tmp_path / "S" / "Cell_001", time_points=1)
    import_recordings(plans(tmp_path / "S", unknown), tmp_path / "out", unknown)


def test_a_whole_data_set_does_not_keep_its_files_open(tmp_path: Path) -> None:
    """BioSR alone has more files than a process may hold open."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files are counted in /proc")
    for number in range(1, 6):
        noise_cell(tmp_path / "S" / f"Cell_{number:03d}", time_points=1, size=16)
    before = len(list(descriptors.iterdir()))
    made = plans(tmp_path / "S")
    assert len(list(descriptors.iterdir())) <= before + 1
    import_pairs(made, tmp_path / "pairs", STATED)
    assert len(list(descriptors.iterdir())) <= before + 1


# -------------------------------------------------------------------------------------- BioSR


def test_biosr_raw_target_is_the_highest_level(tmp_path: Path) -> None:
    cell = tmp_path / "CCPs" / "Cell_001"
    noise_cell(cell, levels=9, time_points=1)
    top = np.full((9, 24, 26), 9000, "<u2")
    write_mrc_by_hand(cell / "RawSIMData_gt.mrc", top)
    shutil.copy(cell / "SIM_gt.mrc", cell / "SIM_gt_a.mrc")
    with pytest.raises(DataError, match="10 light levels, a recording holds up to 4") as told:
        to_recording(tmp_path / "CCPs", tmp_path / "out")
    assert "--levels 1,5,10" in str(told.value)
    chosen = ImportSettings(**{**vars(STATED), "levels": (1, 5, 10), "levels_mw": (1.0, 2.0, 9.0)})
    recording = to_recording(tmp_path / "CCPs", tmp_path / "out", chosen)
    assert recording.profile.channels[0].levels_mw == (1, 2, 9)
    np.testing.assert_array_equal(stack_of(recording, 2), top)
    assert recording.journal[2].camera["file"] == "RawSIMData_gt.mrc"
    (back,) = export(recording.path, tmp_path / "published")
    names = {f.name for f in back.glob("*.mrc")}
    assert names >= {"RawSIMData_level_01.mrc", "RawSIMData_gt.mrc", "SIM_gt.mrc", "SIM_gt_a.mrc"}
    (pair,) = import_pairs(plans(tmp_path / "CCPs"), tmp_path / "pairs", STATED)
    assert load_pair(pair).widefield.shape[0] == 10


def test_biosr_er_has_a_target_for_each_level(tmp_path: Path) -> None:
    for level in (1, 2):
        source = tmp_path / f"{level}"
        raw, target = noise_cell(source, levels=2, time_points=1, seed=level)
        cell = tmp_path / "ER" / "Cell_001"
        for name, data in (
            ("RawSIMData/RawSIMData", raw[0]),
            ("RawGTSIMData/RawGTSIMData", raw[1]),
            ("GTSIM/GTSIM", target),
        ):
            write_mrc_by_hand(cell / f"{name}_level_{level:02d}.mrc", data)
    made = plans(tmp_path / "ER")
    assert [plan.name for plan in made] == ["ER_Cell_001_level_01", "ER_Cell_001_level_02"]
    assert [plan.levels for plan in made] == [2, 2]
    np.testing.assert_array_equal(made[1].target_frames(), target)
    np.testing.assert_array_equal(made[1].level(0).reshape(raw[0].shape), raw[0])
    for seed in range(4):
        out = tmp_path / f"pairs_{seed}"
        import_pairs(made, out, STATED, split=Split(validation=0.3, test=0.3, seed=seed))
        table = json.loads((out / "split.json").read_text())
        assert sorted(len(names) for names in table.values()) == [0, 0, 2]  # one cell: one subset


# ------------------------------------------------------------------------------- command line


def test_list_converts_nothing_and_names_what_is_wrong(tmp_path: Path) -> None:
    noise_cell(tmp_path / "BioTISR_CCPs" / "Cell_001")
    noise_cell(tmp_path / "BioTISR_CCPs" / "Cell_002")
    file = tmp_path / "BioTISR_CCPs" / "Cell_002" / "SIM_gt.mrc"
    file.write_bytes(file.read_bytes()[:-1])
    result = CliRunner().invoke(app, ["import", str(tmp_path / "BioTISR_CCPs"), "--list"])
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert "CCPs_Cell_001 3 levels, 2 time points, 3 x 3 frames of 24 x 26 pixels" in text
    assert "SIM image x2" in text
    assert "CCPs_Cell_002 cannot be imported" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["BioTISR_CCPs"]


def test_import_and_export_from_the_command_line(tmp_path: Path) -> None:
    for structure in ("BioTISR_CCPs", "BioTISR_Lysosomes"):
        for number in (1, 2, 3):
            noise_cell(tmp_path / "all" / structure / f"Cell_{number:03d}", time_points=1)
    stripes = ["--angles-deg", ANGLES_DEG, "--period-um", "0.1807", "--interval-s", "1"]
    chosen = ["--structure", "lyso*", "--cells", "1,3-9"]
    command = ["import", str(tmp_path / "all"), str(tmp_path / "out"), *stripes, *chosen]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == ["Lysosomes_Cell_001", "Lysosomes_Cell_003"]
    command = ["export", str(tmp_path / "out"), str(tmp_path / "back"), "--biotisr"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    again = tmp_path / "back" / "BioTISR_Lysosomes" / "Cell_003" / "RawSIMData_level_02.mrc"
    first = tmp_path / "all" / "BioTISR_Lysosomes" / "Cell_003" / "RawSIMData_level_02.mrc"
    assert again.read_bytes() == first.read_bytes()
    wrong = CliRunner().invoke(app, ["import", str(tmp_path / "all"), "--list", "--cells", "x"])
    assert wrong.exit_code == 2
