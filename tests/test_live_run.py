"""Whole live runs on the simulated microscope: processes, followers, results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tiny_model import tiny_bundle

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.errors import BundleError, DataError, ProfileError, RecordingError
from tisr_scope.inference.image_facts import ImageFacts
from tisr_scope.inference.offline import predictions
from tisr_scope.inference.predictor import Model, StreamPredictor, load_models
from tisr_scope.inference.result_store import open_results
from tisr_scope.inference.sources import RecordedChannel
from tisr_scope.live.follow import follow as follow_by_hand
from tisr_scope.live.frame_source import RecordingSource
from tisr_scope.live.live_records import LiveStatus, SessionStatus
from tisr_scope.live.network_follower import NetworkFollower
from tisr_scope.live.run_live import LiveOptions, LiveSession, LiveSummary, run_live
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.run_plan import RunPlan

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


def facts_of(profile: Profile) -> ImageFacts:
    return ImageFacts.of_plan(RunPlan(profile, "timelapse"))


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


def followed(
    out: Path, model: Path, time_points: int = 40, **options: object
) -> tuple[NetworkFollower, Callable[[], LiveStatus]]:
    """A follower in this process, beside an acquisition in a thread; call it to let it run."""
    settings = LiveOptions(**{"threads": 1, "passes": 2, "warm_up": 8, **options})  # type: ignore[arg-type]
    profile = microtubules()
    realtime = DeviceSetting(device="World", property="Realtime", value=1)
    recording = threading.Thread(
        target=acquire,
        args=(profile, out, "timelapse"),
        kwargs={
            "profile_path": find_profile(PROFILE),
            "settings": [realtime],
            "time_points": time_points,
        },
    )
    models = load_models(facts_of(profile), model, device="cpu", passes=2, seed=0)
    recording.start()
    while not (out / "journal.jsonl").exists():
        time.sleep(0.01)
    source = RecordingSource(Recording.open(out))
    follower = NetworkFollower(source, models, out / "super_resolution", settings)

    def run() -> LiveStatus:
        try:
            return follower.run()
        finally:
            recording.join()

    return follower, run


def test_slow_network_costs_no_frame(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StreamPredictor.advance
    pause = threading.Event()

    def slow(self: StreamPredictor, frames: list[np.ndarray]) -> object:
        pause.wait(0.15)
        return original(self, frames)

    monkeypatch.setattr(StreamPredictor, "advance", slow)
    _, follow = followed(tmp_path / "run", bundle, 60)
    status = follow()
    recording = Recording.open(tmp_path / "run")
    assert recording.verify() == 60
    assert status.skipped > 0
    assert status.predicted + status.skipped == 54
    results = open_results(tmp_path / "run" / "super_resolution" / "488")
    assert len(results) == status.predicted
    assert results.time_indices[-1] == 56
    for line in results.journal:
        assert line["time_s"] == pytest.approx(recording.time_s(line["t"]), abs=1e-5)


def test_what_was_skipped_is_served_afterwards_as_if_nothing_had_been(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second follower fills the gaps of the first, with the scale of the first."""
    original = StreamPredictor.advance
    pause = threading.Event()

    def slow(self: StreamPredictor, frames: list[np.ndarray]) -> object:
        pause.wait(0.1)
        return original(self, frames)

    monkeypatch.setattr(StreamPredictor, "advance", slow)
    first, follow = followed(tmp_path / "run", bundle, 40)
    assert follow().skipped > 0
    monkeypatch.setattr(StreamPredictor, "advance", original)
    recording = Recording.open(tmp_path / "run")
    options = LiveOptions(threads=1, passes=2, warm_up=30, complete=True)
    second = NetworkFollower(
        RecordingSource(recording), first._models, tmp_path / "run" / "super_resolution", options
    )
    status = second.run()
    assert (status.predicted, status.skipped) == (34, 0)
    assert status.streams[0].scale == first.loop.status().streams[0].scale
    results = open_results(tmp_path / "run" / "super_resolution" / "488")
    assert results.time_indices == list(range(3, 37))


def test_following_by_hand_serves_every_time_point(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    acquire(microtubules(), out, "timelapse", profile_path=find_profile(PROFILE), time_points=30)
    options = LiveOptions(threads=1, passes=2, warm_up=8, complete=True)
    status = follow_by_hand(out, bundle, options=options)
    assert (status.predicted, status.skipped) == (24, 0)
    results = open_results(out / "super_resolution" / "488")
    assert results.time_indices == list(range(3, 27))
    (out / "summary.json").unlink()  # as if its process had been killed
    with pytest.raises(RecordingError, match="nothing new for 1 s"):
        follow_by_hand(out, bundle, options=options, quiet_s=1.0)


def test_failing_inference_and_store_are_told(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    _, follow = followed(tmp_path / "run", bundle)
    with monkeypatch.context() as patch:
        patch.setattr("tisr_scope.live.network_follower.ResultStore", full)
        with pytest.raises(OSError, match="No space left"):
            follow()
    assert Recording.open(tmp_path / "run").verify() == 40


def test_one_store_that_cannot_be_closed_does_not_keep_the_others_open(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, follow = followed(tmp_path / "run", bundle)
    closed: list[str] = []

    class Store:
        def __init__(self, name: str, fails: bool) -> None:
            self.name, self.fails = name, fails

        def set_times(self, *_: float) -> None:
            pass

        def describe(self, **_: object) -> None:
            pass

        def close(self) -> None:
            closed.append(self.name)
            if self.fails:
                raise ZeroDivisionError("a driver")

    stores = {(5, 0): Store("a", True), (6, 0): Store("b", False)}
    place = next(iter(follower.places.values()))
    monkeypatch.setattr(follower, "places", dict.fromkeys(stores, place))
    monkeypatch.setattr(follower, "_stores", stores)
    monkeypatch.setattr(follower.loop, "run", lambda: None)
    with pytest.raises(RecordingError, match="ZeroDivisionError: a driver"):
        follow()
    assert closed == ["a", "b"]


# --------------------------------------------------------------------------- whole processes


@contextmanager
def session(out: Path, model: Path, time_points: int, **options: object) -> Iterator[LiveSession]:
    """A started live run, 20 frames a second, whose processes end with the block."""
    found = LiveSession(
        microtubules(),
        out,
        model,
        options=QUICK,
        profile_path=find_profile(PROFILE),
        settings=[DeviceSetting(device="World", property="Realtime", value=1)],
        time_points=time_points,
        **options,  # type: ignore[arg-type]
    )
    try:
        found.start()
        yield found
    finally:
        found.close()


def until(condition: Callable[[], bool], seconds: float = 30) -> float:
    """Wait for it; seconds it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - begun


def predicted(status: SessionStatus) -> int:
    return status.live.predicted


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killed_stopped_and_failing_followers_cost_nothing_but_themselves(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = tmp_path / "fault"
    monkeypatch.setenv("TISR_TEST_FAULT", str(fault))
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    out = tmp_path / "run"
    with session(out, bundle, 600, follower="faulty_follower") as live:
        network = live._processes.network
        for number, kind in enumerate(("kill", "stop", "fault"), start=1):
            until(lambda: predicted(live.status()) > 5)
            served = predicted(live.status())
            if kind == "kill":
                os.kill(network.process_id, signal.SIGKILL)
            elif kind == "stop":
                os.kill(network.process_id, signal.SIGSTOP)
            else:
                fault.touch()
            until(lambda number=number: network.restarts == number)
            until(lambda served=served: predicted(live.status()) > served + 9)
            assert live.status().notices[0].startswith("the network")
            assert live.status().error is None
        assert "CUDA error" in live.status().notices[0]
        assert live.take(0) is not None
        live.stop()
        summary = live.result()
    recording = Recording.open(out)
    assert recording.verify() == summary.exposures_recorded
    assert summary.missing_on_disk == 0
    assert summary.inference_error is None
    assert summary.restarts == {"network": 3}
    results = open_results(out / "super_resolution" / "488")
    assert results.time_indices == sorted(set(results.time_indices))
    assert len({line["t"] for line in results.journal}) == len(results)


def test_a_follower_that_always_fails_is_given_up_and_the_recording_is_whole(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = tmp_path / "fault"
    monkeypatch.setenv("TISR_TEST_FAULT", str(fault))
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    with session(tmp_path / "run", bundle, 2000, follower="faulty_follower") as live:
        fault.with_suffix(".stay").touch()
        until(lambda: live.status().live.error is not None, 60)
        live.stop()
        summary = live.result()
    assert summary.inference_error is not None
    assert "CUDA error" in summary.inference_error
    assert Recording.open(tmp_path / "run").verify() == summary.exposures_recorded > 20


SUPERVISOR = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_live_run import microtubules, QUICK, find_profile, PROFILE, DeviceSetting
from tisr_scope.live.session import LiveSession
live = LiveSession(microtubules(), Path(sys.argv[2]), Path(sys.argv[3]), options=QUICK,
    profile_path=find_profile(PROFILE), time_points=5000,
    settings=[DeviceSetting(device="World", property="Realtime", value=1)])
live.start()
while live.status().recorded < 20:
    time.sleep(0.02)
print(live._processes.acquiring.process_id, live._processes.network.process_id, flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_when_the_supervisor_is_killed_the_run_ends_dark_and_whole(
    bundle: Path, tmp_path: Path
) -> None:
    arguments = [str(Path(__file__).parent), str(tmp_path / "run"), str(bundle)]
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    children = [int(number) for number in supervisor.stdout.readline().split()]
    assert len(children) == 2
    supervisor.kill()
    supervisor.wait()
    until(lambda: (tmp_path / "run" / "summary.json").exists(), 10)
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 20)
    recording = Recording.open(tmp_path / "run")
    assert recording.summary is not None
    assert recording.summary["reason"] == "cancelled"
    assert recording.verify() == recording.summary["frames_recorded"] >= 20
    assert recording.summary["frames_recorded"] < 5000


def test_the_acquisition_process_holds_neither_network_nor_window(tmp_path: Path) -> None:
    """After a whole run: what has been imported by then."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import tisr_scope.acquisition.acquisition_process as process
from tisr_scope.acquisition.acquire import acquire
from tisr_scope.profiles.library import find_profile, load_profile
acquire(load_profile({PROFILE!r}), {str(tmp_path / "run")!r}, "timelapse", time_points=2,
    profile_path=find_profile({PROFILE!r}))
heavy = ("torch", "PySide6", "PyQt6", "PyQt5", "PySide2", "qtpy", "pyqtgraph", "triton")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stderr


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
    live = LiveSession(
        profile,
        tmp_path / "run",
        bundle,
        options=QUICK,
        profile_path=find_profile(PROFILE),
        time_points=9,
    )
    live.start()
    assert live.join(120)
    summary = live.result()
    assert summary.exposures_recorded == 81
    assert summary.time_points == 9
    newest = live.newest_widefield(0)
    live.close()
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


def test_starting_again_uses_a_new_folder_and_the_same_processes(
    bundle: Path, tmp_path: Path
) -> None:
    with session(tmp_path / "run", bundle, 20) as first:
        assert first.join(60)
        process = first._processes.network.process_id
        second = first.again()
        assert second.out == tmp_path / "run_2"
        assert second.join()
        with pytest.raises(RecordingError, match="never started"):
            second.result()
        second.start()
        assert second.join(60)
        assert second._processes.network.process_id == process
        assert second.result().exposures_recorded == first.result().exposures_recorded == 20
        assert second.result().predicted > 0


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
    kind: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = StreamPredictor.advance

    def broken(self: StreamPredictor, frames: list[np.ndarray]) -> object:
        if kind == "memory":
            raise RuntimeError("out of memory")
        found = original(self, frames)
        found[0].mean[0, 0] = np.nan
        return found

    monkeypatch.setattr(StreamPredictor, "advance", broken)
    model = load_models(facts_of(microtubules()), bundle, device="cpu", passes=2, seed=0)["488"]
    with pytest.raises(BundleError, match="out of memory" if kind == "memory" else "NaN"):
        model.rehearse((48, 48))


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


def test_frames_the_network_cannot_take(bundle: Path) -> None:
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
    narrow = profile.model_copy(update={"microscope": microscope})
    with pytest.raises(DataError, match="too small"):
        load_models(facts_of(narrow), bundle, device="cpu", passes=2, seed=0)


def load(model: object, device: str = "cpu") -> None:
    load_models(facts_of(microtubules()), model, device=device, passes=2, seed=0)  # type: ignore[arg-type]


def test_plain_network_has_no_confidence(tmp_path: Path) -> None:
    plain = tiny_bundle(tmp_path / "plain", bayesian=False).path
    with pytest.raises(BundleError, match="predicts no uncertainty"):
        load(plain)


def test_models_and_channels_must_fit(bundle: Path) -> None:
    with pytest.raises(BundleError, match="561"):
        load({"561": bundle})


def test_device_that_is_not_there(bundle: Path) -> None:
    with pytest.raises(BundleError, match="cannot be used"):
        load(bundle, "cuda:97")


def test_other_pixel_size_is_uncalibrated(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "coarse", pixel_size_um=0.1)
    model = Model(bundle, input_mode="single", optics=KnownOptics(pixel_size_um=0.0626))
    assert model.objections(100.0) == ["the model holds no calibration"]
