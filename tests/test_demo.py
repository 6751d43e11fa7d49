"""The demo: what it leaves behind, and that its figures are measured against the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from tiny_model import tiny_bundle

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.demo.run_demo import DemoSummary, choose, compare, run_demo
from tisr_scope.errors import DataError, DisplayError, RecordingError
from tisr_scope.evaluation.evaluate import enlarge
from tisr_scope.figures import busiest
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.inference.result_store import ResultStore, open_results
from tisr_scope.live.run_live import LiveOptions
from tisr_scope.metrics.fidelity import fitted, normalised_reference
from tisr_scope.recording.recording import Recording
from tisr_scope.simulated_microscope.truth import truth_stack
from tisr_scope.types import Prediction


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture(scope="module")
def shown(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoSummary:
    out = tmp_path_factory.mktemp("demo") / "first"
    options = LiveOptions(threads=1, passes=2, warm_up=8)
    return run_demo(out, display=False, time_points=20, model=bundle, options=options)


def test_demo_leaves_everything_behind(shown: DemoSummary) -> None:
    folder = Path(shown.folder)
    assert Recording.open(folder / "recording").verify() == 20 * 9
    assert shown.live.missing_on_disk == 0
    # 20 frames/s in real time; over 2 s a late start is caught up with a little.
    assert 5 < shown.live.camera_rate < 40
    results = open_results(folder / "recording" / "super_resolution" / "488")
    assert len(results) == shown.live.predicted >= 1
    saved = json.loads((folder / "summary.json").read_text())
    assert saved["psnr_widefield_db"] == shown.psnr_widefield_db
    assert saved["live"]["calibrated"] is False
    picture = imread(folder / "summary.png")
    assert picture.shape[1] > 1200
    assert picture[..., :3].std() > 0.05, "the picture is empty"


def test_folder_in_use_is_refused(shown: DemoSummary, bundle: Path) -> None:
    with pytest.raises(RecordingError, match="not empty"):
        run_demo(shown.folder, display=False, model=bundle)


def test_window_without_display_names_headless(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DisplayError, match="--headless"):
        run_demo(tmp_path / "demo", display=True, model=bundle)
    assert not (tmp_path / "demo").exists()


def stored(folder: Path, images: np.ndarray, confidence: np.ndarray, times: list[int]) -> Path:
    grid = Grid((images.shape[1], images.shape[2]), 0.0313, 0.05, 2)
    with ResultStore(folder, grid, {"model": "stand-in"}) as store:
        for t, image, stated in zip(times, images, confidence, strict=True):
            store.append(Prediction(t, image, image, image, stated, calibrated=True))
    return folder


def test_perfect_results_are_called_perfect(
    shown: DemoSummary, bundle: Path, tmp_path: Path
) -> None:
    """Results that are the truth itself, stated with certainty."""
    recording = Recording.open(Path(shown.live.folder))
    times = [5, 12, 19]
    rule = load_bundle(bundle).normalisation
    truth = truth_stack(choose(recording, times))
    target = rule.normalise_target(truth, rule.scale(truth))
    folder = stored(tmp_path / "perfect", target, np.ones_like(target), times)
    found = compare(recording, open_results(folder), bundle)
    assert found.reliability.mean_accuracy == 1.0
    assert found.reliability.ece < 1e-6
    assert found.psnr_sr.min() > 35
    assert (found.psnr_sr > found.psnr_widefield + 8).all()


def test_overconfident_results_are_found_out(
    shown: DemoSummary, bundle: Path, tmp_path: Path
) -> None:
    """Flat images that claim to be certain are wrong wherever there is structure."""
    recording = Recording.open(Path(shown.live.folder))
    truth = truth_stack(choose(recording, [5]))
    flat = np.full_like(truth, 0.6)
    flat[0, 0, 0] = 0.7
    folder = stored(tmp_path / "flat", flat, np.ones_like(flat), [5])
    found = compare(recording, open_results(folder), bundle)
    assert found.reliability.ece > 0.5
    assert found.reliability.relative_ece == pytest.approx(found.reliability.ece)


def test_chosen_time_points_have_the_truth_of_the_whole(shown: DemoSummary) -> None:
    recording = Recording.open(Path(shown.live.folder))
    some = truth_stack(choose(recording, [3, 17]))
    single = truth_stack(choose(recording, [17]))
    np.testing.assert_allclose(some[1], single[0], rtol=1e-6)


def test_camera_image_lies_on_the_truth(shown: DemoSummary) -> None:
    """The enlarged camera image and the truth are registered: no shift fits better."""
    recording = Recording.open(Path(shown.live.folder))
    truth = normalised_reference(truth_stack(choose(recording, [10])), blur_sigma_px=0)[0]
    camera = enlarge(recording.widefield(10)[None], 2)[0]
    best = {}
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = np.roll(camera, (dy, dx), (0, 1))[4:-4, 4:-4]
            error = fitted(moved, truth[4:-4, 4:-4]) - truth[4:-4, 4:-4]
            best[dy, dx] = float((error**2).mean())
    assert min(best, key=best.__getitem__) == (0, 0)


def test_no_results_is_an_error(shown: DemoSummary, bundle: Path, tmp_path: Path) -> None:
    empty = np.zeros((0, 8, 8), np.float32)
    folder = stored(tmp_path / "none", empty, empty, [])
    with pytest.raises(DataError, match="nothing to compare"):
        compare(Recording.open(Path(shown.live.folder)), open_results(folder), bundle)


def test_closer_look_is_where_the_structure_is() -> None:
    image = np.zeros((100, 120))
    image[60:70, 80:90] = np.random.default_rng(0).uniform(0, 1, (10, 10))
    y, x = busiest(image, 30)
    assert y <= 60 <= 70 <= y + 30
    assert x <= 80 <= 90 <= x + 30
