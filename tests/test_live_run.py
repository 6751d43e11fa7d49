"""Whole live runs on the simulated microscope."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_model import tiny_bundle

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.errors import BundleError, DataError, ProfileError, RecordingError
from tisr_scope.inference.offline import predictions
from tisr_scope.inference.predictor import Model, StreamPredictor
from tisr_scope.inference.result_store import open_results
from tisr_scope.inference.sources import RecordedChannel
from tisr_scope.live import session
from tisr_scope.live.run_live import LiveOptions, LiveSession, LiveSummary, run_live
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.recording.recording import Recording

PROFILE = "simulated_microtubules"
QUICK = LiveOptions(threads=1, passes=2, warm_up=8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny").path


def small_camera(profile: Profile) -> Profile:
    """The same microscope with 48 x 48 pixels."""
    microscope = profile.microscope
    camera = microscope.camera.model_copy(update={"frame_shape": (48, 48)})
    sizes = tuple(
        DeviceSetting(device="Camera", property=name, value=48) for name in ("Height", "Width")
    )
    # The seed comes last, it puts a new sample under the changed camera.
    update = {"camera": camera, "settings": (*sizes, *microscope.settings)}
    return profile.model_copy(update={"microscope": microscope.model_copy(update=update)})


def microtubules() -> Profile:
    """One evenly lit frame a time point, 20 a second."""
    return changed(small_camera(load_profile(PROFILE)), widefield="single", interval_s=0.05)


def changed(profile: Profile, **timelapse: object) -> Profile:
    assert profile.timelapse is not None
    changes = {"timelapse": profile.timelapse.model_copy(update=timelapse)}
    return profile.model_copy(update=changes)


def run(out: Path, model: Path | str, **options: object) -> LiveSummary:
    profile = options.pop("profile", None) or microtubules()
    assert isinstance(profile, Profile)
    path = find_profile(PROFILE)
    keywords = {"options": QUICK, "profile_path": path, "time_points": 40, **options}
    return run_live(profile, out, model, **keywords)  # type: ignore[arg-type]


def test_everything_is_recorded_and_live_equals_offline(bundle: Path, tmp_path: Path) -> None:
    """With patience for every frame nothing is skipped, and both ways give the same pixels."""
    seen: list[tuple[int, int]] = []
    options = LiveOptions(threads=1, passes=2, warm_up=8, patience=40, drain_s=120)
    out = tmp_path / "run"
    summary = run(out, bundle, options=options, progress=lambda *n: seen.append(n))
    recording = Recording.open(out)
    assert recording.verify() == 40
    assert (summary.missing_on_disk, summary.skipped, summary.predicted) == (0, 0, 34)
    assert summary.inference_error is None
    assert not summary.stopped_early
    assert seen[-1] == (40, 40)
    assert summary.dose_mj == pytest.approx(40 * 1 * 0.01)  # 1 mW for 10 ms

    results = open_results(out / "super_resolution" / "488")
    assert results.time_indices == list(range(3, 37))
    assert results.description["pixel_size_um"] == pytest.approx(0.0313)
    model = Model(
        load_bundle(bundle), input_mode="single", optics=KnownOptics(pixel_size_um=0.0626), passes=2
    )
    scale = summary.scale_electrons["488"]
    warm_up = np.stack([recording.widefield(t) for t in range(8)])
    assert scale == pytest.approx(np.percentile(warm_up, 99.9))
    assert scale is not None
    again = list(predictions(model, RecordedChannel(recording, 0, 0), scale))
    assert [p.time_index for p in again] == list(range(40))
    for index in (0, 10, 33):
        expected = again[results.time_indices[index]]
        # stored from -0.2 up, in steps of 1/20000
        kept = np.maximum(expected.mean, -0.2)
        np.testing.assert_allclose(results.intensity(index), kept, atol=1e-4)
        np.testing.assert_allclose(results.confidence(index), expected.confidence, atol=4e-3)

    saved = json.loads((out / "live_summary.json").read_text())
    assert saved["predicted"] == 34
    assert saved["calibration"] == {"488": "uncalibrated: the model holds no calibration"}
    assert saved["provenance"]["versions"]["torch"]


def test_slow_network_costs_no_frame(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StreamPredictor.advance
    pause = threading.Event()

    def slow(self: StreamPredictor, frames: list[np.ndarray]) -> object:
        pause.wait(0.15)
        return original(self, frames)

    monkeypatch.setattr(StreamPredictor, "advance", slow)
    summary = run(tmp_path / "run", bundle, time_points=60)
    assert Recording.open(tmp_path / "run").verify() == 60
    assert summary.skipped > 0
    assert summary.predicted + summary.skipped == 54
    results = open_results(tmp_path / "run" / "super_resolution" / "488")
    assert len(results) == summary.predicted
    assert results.time_indices[-1] == 56


def test_failing_inference_leaves_the_recording_whole(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StreamPredictor.advance
    calls: list[int] = []

    def fail(self: StreamPredictor, frames: list[np.ndarray]) -> object:
        calls.append(len(frames))
        if len(calls) > 1:  # the first call is the rehearsal
            raise RuntimeError("device lost")
        return original(self, frames)

    monkeypatch.setattr(StreamPredictor, "advance", fail)
    summary = run(tmp_path / "run", bundle)
    assert summary.inference_error == "RuntimeError: device lost"
    assert summary.predicted == 0
    assert Recording.open(tmp_path / "run").verify() == 40


def test_results_that_cannot_be_written_leave_the_recording_whole(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session, "ResultStore", full)
    summary = run(tmp_path / "run", bundle)
    assert summary.inference_error is not None
    assert "No space left" in summary.inference_error
    assert Recording.open(tmp_path / "run").verify() == 40


def test_cancel_stops_cleanly(bundle: Path, tmp_path: Path) -> None:
    cancel = threading.Event()

    def stop(done: int, total: int) -> None:
        if done > 5:
            cancel.set()

    summary = run(tmp_path / "run", bundle, time_points=2000, cancel=cancel, progress=stop)
    assert summary.stopped_early
    assert summary.exposures_expected == 2000
    assert 5 < summary.exposures_recorded < 2000
    assert Recording.open(tmp_path / "run").verify() == summary.exposures_recorded
    assert summary.missing_on_disk == 0


def test_patterns_are_averaged_as_in_the_recording(bundle: Path, tmp_path: Path) -> None:
    profile = changed(microtubules(), widefield="pattern_mean", interval_s=0.2)
    session = LiveSession(
        profile,
        tmp_path / "run",
        bundle,
        options=QUICK,
        profile_path=find_profile(PROFILE),
        time_points=9,
    )
    session.start()
    assert session.join(120)
    summary = session.result()
    assert summary.exposures_recorded == 81
    assert summary.time_points == 9
    newest = session.newest_widefield(0)
    assert newest is not None
    recording = Recording.open(tmp_path / "run")
    np.testing.assert_allclose(newest[1], recording.widefield(8), rtol=1e-5, atol=1e-4)
    description = open_results(tmp_path / "run" / "super_resolution" / "488").description
    assert description["input"] == "pattern_mean"


def test_two_channels_each_with_its_model(bundle: Path, tmp_path: Path) -> None:
    profile = small_camera(load_profile("simulated_two_colour"))
    names = [channel.name for channel in profile.channels]
    summary = run(
        tmp_path / "run",
        dict.fromkeys(names, bundle),  # type: ignore[arg-type]
        profile=profile,
        profile_path=find_profile("simulated_two_colour"),
        time_points=12,
    )
    assert summary.time_points == 12
    assert set(summary.scale_electrons) == set(names)
    assert summary.predicted + summary.skipped == 2 * 6
    for name in names:
        assert len(open_results(tmp_path / "run" / "super_resolution" / name)) >= 1


def test_starting_again_uses_a_new_folder(bundle: Path, tmp_path: Path) -> None:
    first = LiveSession(microtubules(), tmp_path / "run", bundle, options=QUICK)
    (tmp_path / "run").mkdir()
    second = first.again()
    assert second.out == tmp_path / "run_2"
    assert second.models is first.models
    assert first.join()
    with pytest.raises(RecordingError, match="never started"):
        first.result()


# --------------------------------------------------------------------- found before any light


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle"):
        run(tmp_path / "run", "no_such_model")
    profile = load_profile(PROFILE).model_copy(update={"model": None})
    with pytest.raises(ProfileError, match="no model is named"):
        run_live(profile, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["memory", "nan"])
def test_rehearsal_fails_before_any_light(
    kind: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StreamPredictor.advance

    def broken(self: StreamPredictor, frames: list[np.ndarray]) -> object:
        if kind == "memory":
            raise RuntimeError("out of memory")
        found = original(self, frames)
        found[0].mean[0, 0] = np.nan
        return found

    monkeypatch.setattr(StreamPredictor, "advance", broken)
    with pytest.raises(BundleError, match="out of memory" if kind == "memory" else "NaN"):
        run(tmp_path / "run", bundle)
    assert not (tmp_path / "run").exists()


def test_model_with_nan_weights(bundle: Path, tmp_path: Path) -> None:
    import hashlib

    import yaml
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    folder.mkdir()
    weights = load_file(bundle / "model.safetensors")
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, folder / "model.safetensors")
    description = yaml.safe_load((bundle / "model.yaml").read_text())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    description["weights_sha256"] = digest
    (folder / "model.yaml").write_text(yaml.safe_dump(description))
    with pytest.raises(BundleError, match="NaN"):
        run(tmp_path / "run", folder)
    assert not (tmp_path / "run").exists()


def test_frames_the_network_cannot_take(bundle: Path, tmp_path: Path) -> None:
    from tisr_scope.networks.config import small
    from tisr_scope.networks.dpa_tisr import DpaTisr

    smallest = DpaTisr(small()).minimum_size
    model = Model(
        load_bundle(bundle), input_mode="single", optics=KnownOptics(pixel_size_um=0.0626)
    )
    with pytest.raises(DataError, match="too small"):
        model.check_frames((smallest // 8, 128))
    profile = load_profile(PROFILE)
    camera = profile.microscope.camera.model_copy(update={"frame_shape": (4, 128)})
    microscope = profile.microscope.model_copy(update={"camera": camera})
    with pytest.raises(DataError, match="too small"):
        run(tmp_path / "run", bundle, profile=profile.model_copy(update={"microscope": microscope}))
    assert not (tmp_path / "run").exists()


def test_plain_network_has_no_confidence(tmp_path: Path) -> None:
    plain = tiny_bundle(tmp_path / "plain", bayesian=False).path
    with pytest.raises(BundleError, match="predicts no uncertainty"):
        run(tmp_path / "run", plain)


def test_models_and_channels_must_fit(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="561"):
        run(tmp_path / "run", {"561": bundle})  # type: ignore[arg-type]


def test_device_that_is_not_there(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be used"):
        run(tmp_path / "run", bundle, options=LiveOptions(device="cuda:97"))


def test_other_pixel_size_is_uncalibrated(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "coarse", pixel_size_um=0.1)
    model = Model(bundle, input_mode="single", optics=KnownOptics(pixel_size_um=0.0626))
    assert model.objections(100.0) == ["the model holds no calibration"]
