"""Super-resolution of finished recordings and of image files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
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
from tisr_scope.formats.reader import open_stack
from tisr_scope.inference import offline
from tisr_scope.inference.input_health import InputHealth
from tisr_scope.inference.offline import infer, usable_sample
from tisr_scope.inference.predictor import Model
from tisr_scope.inference.result_store import open_results
from tisr_scope.inference.sources import ImageStack
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
    assert infer(bundle, tmp_path / "rec", tmp_path / "out", passes=2, resume=True) == [summary]


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
    given = {"pixel_size_um": 0.06, "passes": 1}
    with pytest.raises(DataError, match="no raw stack"):
        infer(bundle, tmp_path / "missing.tif", tmp_path / "out", **given)
    (tmp_path / "broken.tif").write_bytes(b"II*\0nonsense")
    with pytest.raises(DataError, match="not a readable TIFF"):
        infer(bundle, tmp_path / "broken.tif", tmp_path / "out", **given)
    tifffile.imwrite(tmp_path / "nan.tif", np.full((8, 40, 40), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN"):
        infer(bundle, tmp_path / "nan.tif", tmp_path / "out", **given)
    tifffile.imwrite(tmp_path / "dark.tif", np.zeros((8, 40, 40), np.float32))
    with pytest.raises(DataError, match="no light"):
        infer(bundle, tmp_path / "dark.tif", tmp_path / "out", **given)
    tifffile.imwrite(tmp_path / "short.tif", np.ones((5, 40, 40), np.float32))
    with pytest.raises(DataError, match="5 time points are fewer than the 7"):
        infer(bundle, tmp_path / "short.tif", tmp_path / "out", **given)
    rgb = np.zeros((8, 40, 40, 3), np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb")
    with pytest.raises(DataError, match="colour"):
        infer(bundle, tmp_path / "rgb.tif", tmp_path / "out", **given)
    planar = np.zeros((8, 3, 40, 40), np.uint8)
    tifffile.imwrite(tmp_path / "p.tif", planar, photometric="rgb", planarconfig="separate")
    with pytest.raises(DataError, match="colour"):
        infer(bundle, tmp_path / "p.tif", tmp_path / "out", **given)
    large = np.full((8, 40, 40), 1e300)
    tifffile.imwrite(tmp_path / "large.tif", large)
    with pytest.raises(DataError, match="infinite"):
        infer(bundle, tmp_path / "large.tif", tmp_path / "out", **given)
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
    sample, told = usable_sample(source, InputHealth())
    assert told == "8 evenly spaced frames"
    assert bundle.normalisation.scale(np.stack(sample)) == pytest.approx(
        np.percentile(stack, 99.9), rel=0.05
    )


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
    raw = open_stack(real_data / "gi_sim_microtubules_raw.mrc").data
    assert raw.shape[0] == 9
    assert source.frame(0).shape == raw.shape[1:]
    np.testing.assert_allclose(source.frame(6), raw.astype(float).mean(axis=0), rtol=1e-4)


def axes_named(path: Path, stack: np.ndarray, axes: str, **sizes: object) -> Path:
    tifffile.imwrite(path, stack, metadata={"axes": axes, **sizes})
    return path


def test_what_a_file_leaves_open_is_asked_for(bundle: Bundle, stack: np.ndarray, tmp_path: Path):
    """Sections are not time, channels are chosen, pixels are square."""
    um = {"PhysicalSizeX": 0.0626, "PhysicalSizeY": 0.0626}
    sections = axes_named(tmp_path / "z.ome.tif", stack, "ZYX", **um)
    with pytest.raises(DataError, match="11 sections"):
        infer(bundle, sections, tmp_path / "out", passes=1)
    assert infer(bundle, sections, tmp_path / "z", passes=1, axes="TYX")[0].frames == 11
    both = np.stack((stack, stack[::-1]), axis=1)
    channels = axes_named(tmp_path / "c.ome.tif", both, "TCYX", Channel={"Name": ["a", "b"]}, **um)
    with pytest.raises(DataError, match="2 channels"):
        infer(bundle, channels, tmp_path / "out", passes=1)
    by_name = ImageStack(channels, channel="b")
    np.testing.assert_array_equal(by_name.frame(2), stack[-3])
    np.testing.assert_array_equal(ImageStack(channels, channel="2").frame(2), stack[-3])
    oblong = axes_named(tmp_path / "o.ome.tif", stack, "TYX", **um | {"PhysicalSizeY": 0.1})
    with pytest.raises(DataError, match="not square"):
        infer(bundle, oblong, tmp_path / "out", passes=1)


def test_pixel_and_interval_of_imagej(stack: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "fiji.tif",
        stack,
        imagej=True,
        resolution=(1 / 0.0626, 1 / 0.0626),
        metadata={"axes": "TYX", "unit": "um", "finterval": 2.0},
    )
    source = ImageStack(tmp_path / "fiji.tif")
    assert source.pixel_size_um == pytest.approx(0.0626)
    assert source.interval_s == 2.0
    assert source.assumed == ["stored values are taken as they are, no camera offset subtracted"]


def test_a_large_stack_streams(tmp_path: Path) -> None:
    """Reading every frame of 160 MiB takes a few frames of memory."""
    path = tmp_path / "large.tif"
    frame = np.random.default_rng(0).integers(100, 200, (1024, 1024)).astype(np.uint16)
    tifffile.imwrite(path, (frame for _ in range(80)), shape=(80, 1024, 1024), dtype="u2")
    code = """
import resource, sys
from pathlib import Path
from tisr_scope.inference.sources import ImageStack
source = ImageStack(Path(sys.argv[1]), pixel_size_um=0.06)
source.frame(0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for t in range(len(source)):
    source.frame(t)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert float(ran.stdout) < 40


def content(folder: Path) -> dict[str, bytes]:
    names = ("super_resolution.ome.zarr", "confidence.ome.zarr", "frames.jsonl", "result.json")
    files = [
        f
        for n in names
        for f in ([folder / n] if (folder / n).is_file() else sorted((folder / n).rglob("*")))
    ]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.is_file()}


def test_a_run_that_was_stopped_or_killed_goes_on_to_the_same_bytes(
    bundle: Bundle, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    movie = rng.poisson(40, (29, 40, 48)).astype(np.uint16)
    movie[12] = 0
    tifffile.imwrite(tmp_path / "m.tif", movie)
    given = {"pixel_size_um": 0.0626, "passes": 2, "shown": "central-3"}
    (whole,) = infer(bundle, tmp_path / "m.tif", tmp_path / "whole", **given)
    assert whole.input_health["frames_left_out"] == [12]
    cancel = threading.Event()

    def stop(done: int, _: int) -> None:
        if done in (5, 14, 20, 27):
            cancel.set()

    parts = []
    for _ in range(5):
        cancel.clear()
        (part,) = infer(
            bundle, tmp_path / "m.tif", tmp_path / "parts", cancel=cancel, progress=stop, **given
        )
        parts.append((part.finished, part.frames))
    assert [finished for finished, _ in parts] == [False] * 4 + [True]
    assert parts[-1][1] == 28
    assert content(tmp_path / "parts" / "m") == content(tmp_path / "whole" / "m")
    # Another scale would put a seam into the movie.
    (tmp_path / "parts" / "m" / "summary.json").unlink()
    with pytest.raises(RecordingError, match="scale_electrons"):
        infer(bundle, tmp_path / "m.tif", tmp_path / "parts", scale=9.0, **given)


def test_parts_of_a_movie_share_a_scale(bundle: Bundle, stack: np.ndarray, tmp_path: Path) -> None:
    stack[8:] *= 2
    for name, part in (("all", stack), ("end", stack[3:])):
        tifffile.imwrite(tmp_path / f"{name}.tif", part)
        given = {"pixel_size_um": 0.0626, "passes": 1, "scale": 80.0}
        infer(bundle, tmp_path / f"{name}.tif", tmp_path / "out", **given)
    whole, end = (open_results(tmp_path / "out" / name) for name in ("all", "end"))
    assert whole.description["scale_electrons"] == 80.0
    assert whole.description["scale_from"] == "the user"
    np.testing.assert_allclose(whole.intensity(7), end.intensity(4), atol=0.02)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_signals_end_with_their_code_and_a_last_line(
    bundle: Bundle, tmp_path: Path, name: str, code: int
) -> None:
    movie = np.random.default_rng(5).poisson(40, (2000, 40, 48)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", movie)
    command = [
        sys.executable,
        "-m",
        "tisr_scope",
        "infer",
        str(bundle.path),
        str(tmp_path / "m.tif"),
    ]
    command += [str(tmp_path / "out"), "--pixel-size-um", "0.0626", "--passes", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out" / "m" / "frames.jsonl"
    for _ in range(600):
        time.sleep(0.05)
        if journal.is_file() and journal.stat().st_size:
            break
    process.send_signal(getattr(signal, name))
    _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert "Traceback" not in told
    last = " ".join(told.split())
    assert last.endswith("the same command goes on")
    assert len(open_results(tmp_path / "out" / "m")) > 0
