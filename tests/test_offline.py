"""Super-resolution of finished recordings and of image files."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter
from tiny_model import tiny_bundle

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.bundles.bundle import Bundle
from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.errors import BundleError, DataError, RecordingError
from tisr_scope.inference import offline
from tisr_scope.inference.offline import infer, stack_scale
from tisr_scope.inference.predictor import Model
from tisr_scope.inference.result_store import open_results
from tisr_scope.inference.sources import ImageStack, read_stack
from tisr_scope.normalise import Background, Normalisation
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.recording.recording import Recording


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def stack() -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.poisson(40, (11, 40, 48)).astype(np.uint16)


def test_every_frame_of_a_recording(bundle: Bundle, tmp_path: Path) -> None:
    profile = load_profile("simulated_microtubules")
    camera = profile.microscope.camera.model_copy(update={"frame_shape": (48, 48)})
    profile = profile.model_copy(
        update={"microscope": profile.microscope.model_copy(update={"camera": camera})}
    )
    settings = [
        DeviceSetting(device="Camera", property="Height", value=48),
        DeviceSetting(device="Camera", property="Width", value=48),
        DeviceSetting(device="World", property="Seed", value=3),
    ]
    acquire(
        profile,
        tmp_path / "rec",
        "timelapse",
        profile_path=find_profile("simulated_microtubules"),
        settings=settings,
        time_points=10,
    )
    seen: list[tuple[int, int]] = []
    (summary,) = infer(
        bundle,
        tmp_path / "rec",
        tmp_path / "out",
        passes=2,
        progress=lambda *n: seen.append(n),
    )
    assert seen[-1] == (10, 10)
    results = open_results(tmp_path / "out" / "488")
    assert results.time_indices == list(range(10))
    recording = Recording.open(tmp_path / "rec")
    everything = np.stack([recording.widefield(t) for t in range(10)])
    assert summary.scale_electrons == pytest.approx(np.percentile(everything, 99.9))
    assert summary.pixel_size_um == pytest.approx(0.0626 / 2)
    assert results.description["scale_from"] == "every frame"
    # An untrained network adds little to the enlarged input: camera and result must look alike.
    small = results.intensity(5).reshape(48, 2, 48, 2).mean(axis=(1, 3)) * summary.scale_electrons
    assert np.corrcoef(small.ravel(), everything[5].ravel())[0, 1] > 0.9
    with pytest.raises(DataError, match="no channel '561'"):
        infer(bundle, tmp_path / "rec", tmp_path / "more", channel="561")
    with pytest.raises(RecordingError, match="already holds"):
        infer(bundle, tmp_path / "rec", tmp_path / "out", passes=2)


def test_background_is_taken_off_and_given_back(tmp_path: Path) -> None:
    """A wrong offset moves the result by itself and changes nothing else, confidence included."""
    rule = Normalisation(
        percentile=99.5, background=Background(), smooth_sigma_px=1.0, target_gain=3.0
    )
    bundle = tiny_bundle(tmp_path / "tiny", normalisation=rule)
    spots = np.zeros((9, 40, 48))
    spots[:, 20, 10:40:7] = 4000
    stack = np.random.default_rng(3).poisson(gaussian_filter(spots, (0, 1.4, 1.4)) + 30)
    for name, error in (("right", 0), ("wrong", 25)):
        tifffile.imwrite(tmp_path / f"{name}.tif", (stack + error).astype(np.float32))
    right, wrong = (
        infer(bundle, tmp_path / f"{n}.tif", tmp_path / n, passes=2, pixel_size_um=0.0626)[0]
        for n in ("right", "wrong")
    )
    assert wrong.scale_electrons == pytest.approx(right.scale_electrons, rel=1e-3)
    assert right.background_electrons == pytest.approx(30, abs=3)
    assert wrong.background_electrons == pytest.approx(right.background_electrons + 25, abs=0.1)
    a, b = (open_results(tmp_path / n / n) for n in ("right", "wrong"))
    moved = b.intensity(4) - a.intensity(4)
    np.testing.assert_allclose(moved, 25 / (3 * right.scale_electrons), rtol=0.01)
    # The haze stands in the result as it stood in the frame.
    small = a.intensity(4).reshape(40, 2, 48, 2).mean((1, 3)) * 3 * right.scale_electrons
    assert np.median(small) == pytest.approx(np.median(stack[4]), abs=9)


def test_tiff_gives_what_the_array_gives(bundle: Bundle, stack: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "cell.ome.tif",
        stack,
        metadata={
            "axes": "TYX",
            "PhysicalSizeX": 62.6,
            "PhysicalSizeXUnit": "nm",
            "TimeIncrement": 50,
            "TimeIncrementUnit": "ms",
        },
    )
    (summary,) = infer(bundle, tmp_path / "cell.ome.tif", tmp_path / "out", passes=2)
    results = open_results(tmp_path / "out" / "cell")
    assert len(results) == 11
    assert summary.pixel_size_um == pytest.approx(0.0313)
    assert results.description["interval_s"] == pytest.approx(0.05)
    assert summary.scale_electrons == pytest.approx(np.percentile(stack, 99.9))
    assert json.loads((tmp_path / "out" / "cell" / "summary.json").read_text())["frames"] == 11


def test_counts_become_electrons(stack: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "raw.tif", stack)
    source = ImageStack(
        tmp_path / "raw.tif",
        pixel_size_um=0.06,
        interval_s=0.1,
        offset_adu=10,
        electrons_per_adu=0.5,
    )
    np.testing.assert_allclose(source.frame(3), (stack[3].astype(float) - 10) * 0.5, rtol=1e-6)


def test_patterns_are_averaged_and_a_still_is_repeated(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    raw = rng.uniform(0, 100, (9, 40, 40)).astype(np.float32)
    with mrcfile.new(tmp_path / "raw.mrc") as file:
        file.set_data(raw)
    source = ImageStack(tmp_path / "raw.mrc", pixel_size_um=0.06, average=9, repeat=7)
    assert len(source) == 7
    assert source.input_mode == "pattern_mean"
    for t in (0, 6):
        np.testing.assert_allclose(source.frame(t), raw.mean(axis=0), rtol=1e-5)
    with pytest.raises(DataError, match="cannot be repeated"):
        ImageStack(tmp_path / "raw.mrc", pixel_size_um=0.06, repeat=7)
    with pytest.raises(DataError, match="groups of 4"):
        ImageStack(tmp_path / "raw.mrc", pixel_size_um=0.06, average=4)
    with pytest.raises(DataError, match="pixel size"):
        ImageStack(tmp_path / "raw.mrc", average=9)


def test_files_that_cannot_be_used(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        infer(bundle, tmp_path / "missing.tif", tmp_path / "out", pixel_size_um=0.06)
    (tmp_path / "broken.tif").write_bytes(b"II*\0nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        infer(bundle, tmp_path / "broken.tif", tmp_path / "out", pixel_size_um=0.06)
    (tmp_path / "short.mrc").write_bytes(b"\0" * 300)
    with pytest.raises(DataError, match="cannot be read"):
        read_stack(tmp_path / "short.mrc")
    tifffile.imwrite(tmp_path / "nan.tif", np.full((8, 40, 40), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN"):
        infer(bundle, tmp_path / "nan.tif", tmp_path / "out", pixel_size_um=0.06)
    tifffile.imwrite(tmp_path / "dark.tif", np.zeros((8, 40, 40), np.float32))
    with pytest.raises(DataError, match="no light"):
        infer(bundle, tmp_path / "dark.tif", tmp_path / "out", pixel_size_um=0.06)
    tifffile.imwrite(tmp_path / "colour.tif", np.zeros((8, 5, 40, 40), np.float32))
    with pytest.raises(DataError, match="no time-lapse"):
        read_stack(tmp_path / "colour.tif")
    with pytest.raises(BundleError, match="no model bundle"):
        infer("nothing", tmp_path / "dark.tif", tmp_path / "out")
    with pytest.raises(RecordingError, match="not a recording"):
        infer(bundle, tmp_path, tmp_path / "out")


def test_scale_of_a_long_stack_comes_from_spaced_frames(
    bundle: Bundle, stack: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "MOST_PIXELS_FOR_SCALE", 8 * stack[0].size)
    tifffile.imwrite(tmp_path / "long.tif", stack)
    source = ImageStack(tmp_path / "long.tif", pixel_size_um=0.06)
    scale, told = stack_scale(bundle, source)
    assert told == "8 evenly spaced frames"
    assert scale == pytest.approx(np.percentile(stack, 99.9), rel=0.05)


def test_edges_of_a_time_lapse_are_uncalibrated(bundle: Bundle, tmp_path: Path) -> None:
    """The first and last three frames are not the centre of a window."""
    model = Model(bundle, input_mode="single", optics=KnownOptics(pixel_size_um=0.0626), passes=2)
    model.objections = lambda scale: []  # type: ignore[method-assign]
    tifffile.imwrite(tmp_path / "s.tif", np.random.default_rng(0).poisson(9, (9, 40, 40)))
    source = ImageStack(tmp_path / "s.tif", pixel_size_um=0.0626)
    flags = [p.calibrated for p in offline.predictions(model, source, 20.0)]
    assert flags == [False] * 3 + [True] * 3 + [False] * 3


def test_real_wide_field(bundle: Bundle, real_data: Path) -> None:
    """Nine patterns of a real GI-SIM microscope add up to even light."""
    source = ImageStack(
        real_data / "gi_sim_microtubules_raw.mrc", pixel_size_um=0.0626, average=9, repeat=7
    )
    raw, _, _ = read_stack(real_data / "gi_sim_microtubules_raw.mrc")
    assert raw.shape[0] == 9
    assert source.frame(0).shape == raw.shape[1:]
    np.testing.assert_allclose(source.frame(6), raw.astype(float).mean(axis=0), rtol=1e-4)
