"""Stacks that users meet first: sparse samples, hot pixels, other ratios, carriers they know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sim_kinds import CONDITIONS, SAMPLES, make_kind
from sim_truth import EMISSION_UM, NA, PIXEL_UM, Stack, make_stack
from typer.testing import CliRunner

from tisr_scope.cli import app
from tisr_scope.errors import DataError, ReconstructionError
from tisr_scope.formats.raw_stack import PatternLayout
from tisr_scope.sim.optics.defects import find_defects, repaired
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.acceptance import agreeing, predicted
from tisr_scope.sim.parameters.estimate import estimate_parameters, nominal_carriers
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.raw_plan import (
    RawSettings,
    carriers_from,
    plan_raw,
    stated_carriers,
)
from tisr_scope.sim.reconstruction.reconstruct_files import Making, reconstruct_raw_file

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)


def written(path: Path, frames: np.ndarray, **options: object) -> Path:
    counts = np.rint(frames + 100).clip(0, 65535).astype(np.uint16)
    tifffile.imwrite(
        path, counts.reshape(-1, *counts.shape[-2:]), photometric="minisblack", **options
    )
    return path


# ------------------------------------------------------------------------------------ carriers


@pytest.mark.parametrize("kind", ["beads", "six filaments", "tubes"])
def test_sparse_and_smooth_samples_are_reconstructed(kind: str) -> None:
    stack = make_kind(kind, "ideal", ratio=0.92, modulation=0.8, seed=5)
    found = estimate_parameters(stack.frames(500), OTF, PIXEL_UM)
    assert stack.carrier_error_px(found.carrier).max() < 0.2
    assert found.usable.all()


@pytest.mark.parametrize("ratio", [0.55, 0.7, 1.05])
def test_the_whole_search_is_covered(ratio: float) -> None:
    stack = make_stack(n=128, ratio=ratio, seed=2)
    found = estimate_parameters(stack.frames(500), OTF, PIXEL_UM)
    assert stack.carrier_error_px(found.carrier).max() < 0.05


def test_a_carrier_outside_the_search_is_called_so() -> None:
    stack = make_stack(n=128, ratio=0.4, seed=2)
    with pytest.raises(ReconstructionError, match=r"0\.40 of the cut-off.*outside") as no:
        estimate_parameters(stack.frames(500), OTF, PIXEL_UM)
    assert "--numerical-aperture" in no.value.remedy
    # Stated, it is taken.
    found = estimate_parameters(stack.frames(500), OTF, PIXEL_UM, nominal=stack.carrier)
    assert stack.carrier_error_px(found.carrier).max() < 0.05


@pytest.mark.parametrize("condition", CONDITIONS)
def test_light_without_stripes_is_refused(condition: str) -> None:
    for seed, kind in enumerate(SAMPLES):
        stack = make_kind(kind, condition, n=96, modulation=0.0, seed=seed)
        with pytest.raises(ReconstructionError):
            estimate_parameters(stack.frames(200, seed), OTF, PIXEL_UM)


def test_doubt_says_what_is_likely_and_can_be_overruled() -> None:
    stack = make_kind("filaments", "ideal", n=96, modulation=0.0, seed=1)
    frames = stack.frames(200)
    with pytest.raises(ReconstructionError, match=r"most likely ones, at period .* angle") as doubt:
        estimate_parameters(frames, OTF, PIXEL_UM)
    assert "--accept-doubtful" in doubt.value.remedy
    found = estimate_parameters(frames, OTF, PIXEL_UM, accept_doubtful=True)
    assert any("own risk" in remark for remark in found.remarks)


def test_orientations_beyond_doubt_let_the_others_be_expected() -> None:
    """Few beads: alone, the third orientation is taken for another one."""
    angles = np.radians([10, 70, 130])
    carriers = nominal_carriers(tuple(angles), 0.2)
    assert agreeing(carriers)
    assert agreeing(carriers * [[1], [-1], [1.03]])
    assert not agreeing(nominal_carriers(tuple(np.radians([10, 70, 110])), 0.2))
    for orientation in range(3):
        sure = [o != orientation for o in range(3)]
        (place,) = predicted(carriers * [[1], [-1], [1]], sure, orientation)
        aim = carriers[orientation]
        assert min(np.hypot(*(place - aim)), np.hypot(*(place + aim))) < 1e-9
    both = predicted(carriers, [True, False, False], 1)
    assert len(both) == 2


# ------------------------------------------------------------------------------- hot and dead


def hot(frames: np.ndarray, places: list[tuple[int, int]], counts: float = 3000) -> np.ndarray:
    spoilt = frames.copy()
    for y, x in places:
        spoilt[..., y, x] += counts
    return spoilt


@pytest.mark.parametrize("kind", SAMPLES)
def test_hot_and_dead_pixels_are_found_and_no_others(kind: str) -> None:
    stack = make_kind(kind, "ideal", n=96, seed=4)
    frames = stack.frames(500) + 100
    assert not len(find_defects(frames, OTF, PIXEL_UM).all)
    places = [(40, 40), (41, 41), (3, 60), (90, 20)]
    spoilt = hot(frames, places)
    dead = np.unravel_index(frames.mean(axis=(0, 1)).argmax(), (96, 96))
    spoilt[..., dead[0], dead[1]] = 100
    found = find_defects(spoilt, OTF, PIXEL_UM)
    assert sorted(map(tuple, found.hot.tolist())) == sorted(places)
    if kind != "many beads":  # as crowded as these, a gap may be one of theirs
        assert [tuple(found.dead[0])] == [dead]
    mended = repaired(spoilt, found)
    error = np.abs(mended - frames).max(axis=(0, 1))
    assert error[40, 40] < 0.5 * frames.max()
    mask = np.ones((96, 96), bool)
    for y, x in [*places, dead]:
        mask[y, x] = False
    assert error[mask].max() == 0


def test_hot_pixels_do_not_reach_the_image(tmp_path: Path) -> None:
    stack = make_stack(n=128, ratio=0.93, seed=7)
    frames = stack.frames(300)
    places = [(40, 40), (90, 20)]
    clean, spoilt = (
        reconstruct_raw_file(written(tmp_path / f"{name}.tif", one), tmp_path / name)
        for name, one in (("clean", frames), ("spoilt", hot(frames, places, 20_000)))
    )
    a, b = (tifffile.imread(image).squeeze() for image in (clean, spoilt))
    far = np.ones(a.shape, bool)
    for y, x in places:
        far[2 * y - 8 : 2 * y + 9, 2 * x - 8 : 2 * x + 9] = False
    assert np.abs(a - b)[far].max() < 0.03 * a.max()
    about = json.loads((tmp_path / "spoilt" / "spoilt_parameters.json").read_text())
    assert about["hot_pixels_yx"] == [list(place) for place in places]
    assert any("hot pixels" in remark for remark in about["sim_parameters"]["remarks"])


# -------------------------------------------------------------------------- drift by default


def test_drift_is_corrected_where_it_is_beyond_doubt(tmp_path: Path) -> None:
    still, moved = (
        make_kind("filaments", condition, ratio=0.92, seed=3) for condition in ("ideal", "drift")
    )
    images = {}
    for name, stack in (("still", still), ("moved", moved)):
        file = written(tmp_path / f"{name}.tif", stack.frames(500))
        images[name] = tifffile.imread(reconstruct_raw_file(file, tmp_path / name)).squeeze()
    told = {
        name: json.loads((tmp_path / name / f"{name}_parameters.json").read_text())[
            "sim_parameters"
        ]["remarks"]
        for name in images
    }
    assert told["still"] == []
    assert any("corrected" in remark for remark in told["moved"])
    left = tifffile.imread(
        reconstruct_raw_file(
            tmp_path / "moved.tif",
            tmp_path / "left",
            making=Making(Estimation(correct_drift=False)),
        )
    ).squeeze()
    aim = images["still"][32:-32, 32:-32].ravel()
    better, worse = (
        np.corrcoef(one[32:-32, 32:-32].ravel(), aim)[0, 1] for one in (images["moved"], left)
    )
    assert better > worse + 0.03
    assert better > 0.97


# ----------------------------------------------------------------------- what is read and said


@pytest.fixture(scope="module")
def simple() -> Stack:
    return make_stack(n=96, ratio=0.92, seed=3)


def test_the_pixel_of_the_file_is_used(tmp_path: Path, simple: Stack) -> None:
    file = written(
        tmp_path / "a.ome.tif",
        simple.frames(500),
        metadata={"axes": "TYX", "PhysicalSizeX": 0.07, "PhysicalSizeY": 0.07},
    )
    plan = plan_raw(file)
    assert (plan.pixel_size_um.value, plan.pixel_size_um.source) == (0.07, "file")
    assert plan.numerical_aperture.source == "assumed"
    assert "0.07 (says the file)" in plan.told["pixel size, um"]
    reconstruct_raw_file(plan, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "a_parameters.json").read_text())
    assert about["sim_parameters"]["pixel_size_um"] == 0.07
    # Seen with larger pixels, the same stripes are coarser.
    frequency = np.mean(about["sim_parameters"]["frequency"])
    assert frequency == pytest.approx(0.92 * 2 * NA / EMISSION_UM * PIXEL_UM / 0.07, rel=0.01)
    assert plan_raw(file, RawSettings(pixel_size_um=0.08)).pixel_size_um.source == "user"


def test_pixels_that_are_none(tmp_path: Path, simple: Stack) -> None:
    for y, x, message in ((0.1, 0.0626, "not square"), (62.6, 62.6, "no camera pixel")):
        file = written(
            tmp_path / f"{y}.ome.tif",
            simple.frames(500),
            metadata={"axes": "TYX", "PhysicalSizeX": x, "PhysicalSizeY": y},
        )
        with pytest.raises(DataError, match=message) as told:
            plan_raw(file)
        assert "--pixel-size-um" in told.value.remedy


def test_axes_count_in_two_dimensions(tmp_path: Path, simple: Stack) -> None:
    frames = simple.frames(500)
    file = written(tmp_path / "a.tif", frames.swapaxes(0, 1))
    image = reconstruct_raw_file(file, tmp_path / "out", RawSettings(PatternLayout(axes="TPOYX")))
    straight = reconstruct_raw_file(written(tmp_path / "b.tif", frames), tmp_path / "straight")
    np.testing.assert_allclose(tifffile.imread(image), tifffile.imread(straight), atol=0.01)


def test_colours_are_asked_for(tmp_path: Path, simple: Stack) -> None:
    frames = simple.frames(500).reshape(9, 96, 96)
    counts = np.rint(np.stack([frames, frames[:, ::-1]], axis=1)).clip(0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", counts, imagej=True, metadata={"axes": "ZCYX"})
    runner = CliRunner()
    arguments = ["reconstruct", str(tmp_path / "a.tif"), str(tmp_path / "out")]
    asked = runner.invoke(app, arguments)
    assert isinstance(asked.exception, DataError)
    assert "2 channels" in str(asked.exception)
    done = runner.invoke(app, [*arguments, "--channel", "2"])
    assert done.exit_code == 0, done.output
    assert "0.0626 (assumed)" in done.output
    image = tifffile.imread(tmp_path / "out" / "a_sim.ome.tif").squeeze()
    alone = reconstruct_raw_file(
        written(tmp_path / "b.tif", frames[:, ::-1] - 100), tmp_path / "alone"
    )
    np.testing.assert_allclose(image, tifffile.imread(alone).squeeze(), atol=1e-2)


def test_stated_stripes_are_searched_around(tmp_path: Path, simple: Stack) -> None:
    dim = written(tmp_path / "dim.tif", simple.frames(2.5, read_noise=1.0))
    with pytest.raises(ReconstructionError):
        reconstruct_raw_file(dim, tmp_path / "no")
    angles = np.degrees(np.arctan2(*simple.carrier.T[::-1]))
    period = 1 / np.hypot(*simple.carrier[0])
    stated = stated_carriers(tuple(angles), period)
    np.testing.assert_allclose(stated, simple.carrier)
    with pytest.raises(DataError, match="belong together"):
        stated_carriers(tuple(angles), None)
    reconstruct_raw_file(written(tmp_path / "good.tif", simple.frames(500)), tmp_path / "good")
    before = carriers_from(str(tmp_path / "good" / "good_parameters.json"), 0)
    np.testing.assert_allclose(np.abs(before), np.abs(simple.carrier), atol=2e-3)
    for name, nominal in (("stated", stated), ("from", before)):
        reconstruct_raw_file(dim, tmp_path / name, RawSettings(nominal=nominal))
        about = json.loads((tmp_path / name / "dim_parameters.json").read_text())
        found = np.array(about["sim_parameters"]["carrier"])
        assert simple.carrier_error_px(found).max() < 0.5
    with pytest.raises(DataError, match="2 carriers are stated for 3"):
        plan_raw(dim, RawSettings(nominal=stated[:2]))


def test_a_mosaic_and_a_folder_of_frames(tmp_path: Path, simple: Stack) -> None:
    counts = np.rint(simple.frames(500) + 100).astype(np.uint16)
    mosaic = counts.transpose(0, 2, 1, 3).reshape(3 * 96, 3 * 96)
    tifffile.imwrite(tmp_path / "mosaic.tif", mosaic)
    (tmp_path / "frames").mkdir()
    for n, frame in enumerate(counts.reshape(9, 96, 96)):
        tifffile.imwrite(tmp_path / "frames" / f"f{n}.tif", frame)
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, counts.reshape(9, 96, 96), photometric="minisblack")
    images = [
        tifffile.imread(reconstruct_raw_file(source, tmp_path / f"out{n}", settings))
        for n, (source, settings) in enumerate(
            [
                (plain, RawSettings()),
                (tmp_path / "mosaic.tif", RawSettings(PatternLayout(axes="OYPX"))),
                (tmp_path / "frames", RawSettings()),
            ]
        )
    ]
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


def test_the_kinds_are_what_they_are_called() -> None:
    ideal = make_kind("filaments", "ideal", n=64, seed=1)
    assert isinstance(replace(ideal), Stack)
    hazy = make_kind("filaments", "haze", n=64, seed=1)
    assert hazy.mean.mean() / ideal.mean.mean() == pytest.approx(4, rel=0.05)
    bleached = make_kind("filaments", "bleaching", n=64, seed=1).mean.mean(axis=(-2, -1)).ravel()
    assert bleached[-1] / bleached[0] == pytest.approx(0.92, rel=0.05)
