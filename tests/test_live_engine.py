"""Live inference: nothing waits for it, windows are consecutive, every count adds up."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from tisr_scope.errors import DataError
from tisr_scope.live.inference_thread import LiveEngine
from tisr_scope.live.ring import FrameRing
from tisr_scope.live.stream import LiveResult, Stream, rate
from tisr_scope.types import Prediction

SHAPE = (16, 20)
WINDOW = 7


@dataclass(frozen=True)
class Info:
    t: int
    channel: int = 0
    position: int = 0


@dataclass
class StandIn:
    """Reads the time point back from the pixels, and records the windows it was shown."""

    seconds: float = 0.0
    fail_at: int | None = None
    nan_at: int | None = None
    window: int = WINDOW
    delay: int = 3
    windows: list[list[int]] = field(default_factory=list)
    pushed: list[int] = field(default_factory=list)
    warm_up: np.ndarray | None = None
    held: list[int] = field(default_factory=list)
    since_restart: int = 0

    def set_scale(self, warm_up: np.ndarray) -> float:
        self.warm_up = warm_up
        return float(warm_up.max())

    def restart(self) -> None:
        self.held = []
        self.since_restart = 0

    def advance(self, frames: Sequence[np.ndarray]) -> list[Prediction]:
        for frame in frames:
            self.held.append(round(float(frame.mean())))
            self.pushed.append(self.held[-1])
            self.since_restart += 1
        self.held = self.held[-self.window :]
        if len(self.held) < self.window:
            return []
        self.windows.append(list(self.held))
        if self.seconds:
            time.sleep(self.seconds)
        if self.fail_at is not None and self.held[-1] >= self.fail_at:
            raise RuntimeError("out of memory")
        value = np.full((32, 40), self.held[self.window // 2], np.float32)
        if self.nan_at is not None and self.held[-1] >= self.nan_at:
            value[3, 4] = np.nan
        index = self.since_restart - 1 - self.delay
        return [Prediction(index, value, value, value, value, calibrated=False)]


def make_stream(predictor: StandIn, channel: int = 0, patterns: int = 1) -> Stream:
    ring = FrameRing(SHAPE, patterns, 24)
    return Stream(channel, 0, ring, predictor, offset_adu=100.0, electrons_per_adu=0.5)


def counts(t: int) -> np.ndarray:
    """A frame that holds t electrons a pixel."""
    return np.full(SHAPE, 100 + 2 * t, np.uint16)


def play(
    engine: LiveEngine, frames: int, gap_s: float, channels: Sequence[int] = (0,)
) -> list[float]:
    """Deliver frames like a camera does; how long each call took."""
    taken = []
    for t in range(frames):
        for channel in channels:
            start = time.perf_counter()
            engine.on_frame(Info(t, channel), counts(t))
            taken.append(time.perf_counter() - start)
        time.sleep(gap_s)
    return taken


def test_fast_network_serves_every_time_point() -> None:
    predictor, results = StandIn(), list[LiveResult]()
    engine = LiveEngine([make_stream(predictor)], warm_up=8, threads=1, sink=results.append)
    engine.start()
    play(engine, 40, 0.004)
    status = engine.finish(5)
    assert [r.prediction.time_index for r in results] == list(range(3, 37))
    # What is shown as time point t is the middle of the window around t.
    assert all(r.prediction.mean[0, 0] == r.prediction.time_index for r in results)
    assert status.skipped == 0
    assert status.predicted == 34
    assert predictor.pushed == list(range(40)), "a frame was pushed twice"
    assert status.error is None


def test_slow_network_skips_counts_and_keeps_windows_consecutive() -> None:
    predictor, results = StandIn(seconds=0.05), list[LiveResult]()
    engine = LiveEngine([make_stream(predictor)], warm_up=8, threads=1, sink=results.append)
    engine.start()
    taken = play(engine, 120, 0.005)
    status = engine.finish(5)
    assert max(taken) < 0.02, "the acquisition thread waited for the network"
    assert status.streams[0].time_points == 120
    assert status.skipped > 50
    assert status.predicted + status.skipped == 120 - 6
    for window in predictor.windows:
        assert np.diff(window).tolist() == [1] * 6, "the network saw frames that do not follow"
    shown = [r.prediction.time_index for r in results]
    assert shown == sorted(set(shown))
    # Newest wins: the lag stays near the delay of the window plus one computation.
    assert max(r.lag_frames for r in results) < 3 + 2 * 0.05 / 0.005
    assert shown[-1] == 116, "the last result must show the end of the run"


def test_jump_reuses_the_frames_both_windows_share() -> None:
    predictor = StandIn()
    stream = make_stream(predictor)
    for t in range(7):
        stream.add(t, counts(t), t / 20)
    assert stream.warm_up(7)
    assert len(stream.step(2, lambda: 1.0)) == 1
    for t in range(7, 11):
        stream.add(t, counts(t), t / 20)
    assert [r.prediction.time_index for r in stream.step(2, lambda: 1.0)] == [7]
    assert predictor.windows == [list(range(7)), list(range(4, 11))]
    assert predictor.pushed == list(range(11))
    for t in range(11, 30):
        stream.add(t, counts(t), t / 20)
    assert [r.prediction.time_index for r in stream.step(2, lambda: 2.0)] == [26]
    assert predictor.windows[-1] == list(range(23, 30))
    stream.close()
    assert stream.status(2.0).skipped + stream.status(2.0).predicted == 30 - 6


def test_scale_comes_from_the_warm_up_and_stays() -> None:
    predictor = StandIn()
    engine = LiveEngine([make_stream(predictor)], warm_up=10, threads=1)
    engine.start()
    play(engine, 30, 0.002)
    status = engine.finish(5)
    assert predictor.warm_up is not None
    assert predictor.warm_up.shape == (10, *SHAPE)
    assert [round(float(frame.mean())) for frame in predictor.warm_up] == list(range(10))
    assert status.streams[0].scale == 9.0


def test_patterns_of_a_time_point_are_averaged() -> None:
    stream = make_stream(StandIn(), patterns=9)
    rng = np.random.default_rng(3)
    frames = rng.integers(100, 65_535, (9, *SHAPE), dtype=np.uint16)
    finished = [stream.add(0, frame, 0.0) for frame in frames]
    assert finished == [False] * 8 + [True]
    expected = (frames.astype(np.float64).mean(0) - 100) * 0.5
    np.testing.assert_allclose(stream.electrons(0), expected, rtol=1e-6)


def test_incomplete_time_point_is_never_shown() -> None:
    ring = FrameRing(SHAPE, 3, 8)
    ring.add(0, counts(0), 0.0)
    ring.add(0, counts(0), 0.0)
    assert ring.newest == -1
    assert ring.mean(0) is None
    ring.add(1, counts(1), 0.0)
    assert ring.mean(1) is None


def test_two_channels_are_served_in_turn() -> None:
    predictors = [StandIn(seconds=0.01), StandIn(seconds=0.01)]
    results: list[LiveResult] = []
    streams = [make_stream(p, channel) for channel, p in enumerate(predictors)]
    engine = LiveEngine(streams, warm_up=7, threads=1, sink=results.append)
    engine.start()
    play(engine, 60, 0.004, channels=(0, 1))
    status = engine.finish(5)
    numbers = [s.predicted for s in status.streams]
    assert abs(numbers[0] - numbers[1]) <= 4, "one channel was served more often"
    for stream in status.streams:
        assert stream.predicted + stream.skipped == 54
    assert {r.channel for r in results} == {0, 1}


def test_newest_result_replaces_one_nobody_took() -> None:
    engine = LiveEngine([make_stream(StandIn())], warm_up=7, threads=1)
    engine.start()
    play(engine, 20, 0.002)
    engine.finish(5)
    result = engine.take(0)
    assert result is not None
    assert result.prediction.time_index == 16
    assert engine.take(0) is None
    assert engine.take(1) is None


@pytest.mark.parametrize("kind", ["fail_at", "nan_at"])
def test_failing_inference_is_reported_and_frames_still_flow(kind: str) -> None:
    engine = LiveEngine([make_stream(StandIn(**{kind: 12}))], warm_up=7, threads=1)
    engine.start()
    play(engine, 40, 0.002)
    status = engine.finish(5)
    assert status.error is not None
    assert ("out of memory" if kind == "fail_at" else "NaN") in status.error
    assert status.streams[0].time_points == 40, "the camera image must stay live"
    newest = engine.newest_widefield(0)
    assert newest is not None
    assert newest[0] == 39


def test_failing_store_is_reported() -> None:
    def full_disk(_: LiveResult) -> None:
        raise OSError(28, "No space left on device")

    engine = LiveEngine([make_stream(StandIn())], warm_up=7, threads=1, sink=full_disk)
    engine.start()
    play(engine, 12, 0.002)
    status = engine.finish(5)
    assert status.error is not None
    assert "No space left" in status.error


def test_frame_of_another_size_is_reported_not_raised() -> None:
    engine = LiveEngine([make_stream(StandIn())], warm_up=7, threads=1)
    engine.start()
    engine.on_frame(Info(0), np.zeros((8, 8), np.uint16))
    status = engine.finish(5)
    assert status.error is not None
    assert "(8, 8)" in status.error


def test_finish_does_not_wait_for_ever() -> None:
    engine = LiveEngine([make_stream(StandIn(seconds=0.2))], warm_up=7, threads=1)
    engine.start()
    play(engine, 24, 0.001)
    start = time.perf_counter()
    engine.finish(0.01)
    assert time.perf_counter() - start < 4.0, "the backlog of 4.8 s was waited for"
    assert not any(thread.name == "live-inference" for thread in threading.enumerate())


def test_memory_does_not_grow_with_the_run() -> None:
    engine = LiveEngine([make_stream(StandIn(seconds=0.001))], warm_up=7, threads=1)
    engine.start()
    tracemalloc.start()
    play(engine, 100, 0.0005)
    before, _ = tracemalloc.get_traced_memory()
    for t in range(100, 1500):
        engine.on_frame(Info(t), counts(t))
        time.sleep(0.0002)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    engine.finish(5)
    # The stand-in itself keeps a list of its windows: about 1 kB each, over at most 1400 of them.
    assert after - before < 3_000_000


@pytest.mark.parametrize(("warm_up", "capacity"), [(5, 24), (16, 12)])
def test_ring_that_cannot_hold_a_window_is_refused(warm_up: int, capacity: int) -> None:
    ring = FrameRing(SHAPE, 1, capacity)
    stream = Stream(0, 0, ring, StandIn(), offset_adu=0, electrons_per_adu=1)
    with pytest.raises(DataError, match="warm-up"):
        LiveEngine([stream], warm_up=warm_up)


def test_rate_of_regular_events_and_of_a_camera_that_stopped() -> None:
    times = [k / 20 for k in range(40)]
    assert rate(times, times[-1]) == pytest.approx(20)
    assert rate(times, times[-1] + 10) == pytest.approx(0.1)
    assert rate(times[:1], 0.0) == 0.0
