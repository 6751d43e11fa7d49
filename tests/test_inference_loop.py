"""Live inference: windows are consecutive, the newest wins, every count adds up."""

from __future__ import annotations

import contextlib
import threading
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.errors import DataError
from tisr_scope.inference.image_facts import ImageFacts
from tisr_scope.live.inference_loop import InferenceLoop
from tisr_scope.live.live_records import LiveResult, LiveStatus
from tisr_scope.live.stream import Stream, rate
from tisr_scope.types import Prediction

SHAPE = (16, 20)
WINDOW = 7


class Memory:
    """A source of frames that hold their time point as electrons."""

    path = Path("memory")
    plan = None

    def __init__(self, channels: int = 1) -> None:
        self.count = [0] * channels
        self.ended = False
        self.late: set[int] = set()
        names = tuple(str(c) for c in range(channels))
        optics = KnownOptics(pixel_size_um=0.06)
        self.facts = ImageFacts(
            "memory", names, 1, SHAPE, (optics,) * channels, "single", None, 0.05
        )

    def refresh(self) -> None:
        pass

    def newest(self, channel: int, position: int) -> int:
        return self.count[channel] - 1

    def electrons(self, t: int, channel: int, position: int) -> np.ndarray | None:
        if t in self.late or not 0 <= t < self.count[channel]:
            return None
        return np.full(SHAPE, t, np.float32)

    def patterns(self, t: int, channel: int, position: int) -> None:
        return None

    def arrival_s(self, t: int, channel: int, position: int) -> float | None:
        return t / 20

    def time_s(self, t: int, channel: int, position: int) -> float | None:
        return t / 20

    def interval_s(self) -> float:
        return 0.05


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

    def use_scale(self, scale: float) -> None:
        pass

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


def played(
    predictors: Sequence[StandIn], frames: int, gap_s: float, **options: object
) -> tuple[list[LiveResult], LiveStatus]:
    """A loop beside a camera; the results it gave and its last status."""
    source = Memory(len(predictors))
    results: list[LiveResult] = []
    streams = [Stream(channel, 0, source, p) for channel, p in enumerate(predictors)]
    settings = {"warm_up": 8, "threads": 1, "sink": results.append, **options}
    loop = InferenceLoop(source, streams, **settings)  # type: ignore[arg-type]

    def run() -> None:
        with contextlib.suppress(RuntimeError, DataError, OSError):
            loop.run()

    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(frames):
        for channel in range(len(predictors)):
            source.count[channel] += 1
        time.sleep(gap_s)
    source.ended = True
    thread.join(30)
    assert not thread.is_alive()
    return results, loop.status()


def test_fast_network_serves_every_time_point() -> None:
    predictor = StandIn()
    results, status = played([predictor], 40, 0.006, patience=40)
    assert [r.prediction.time_index for r in results] == list(range(3, 37))
    # What is shown as time point t is the middle of the window around t.
    assert all(r.prediction.mean[0, 0] == r.prediction.time_index for r in results)
    assert (status.skipped, status.predicted) == (0, 34)
    assert predictor.pushed == list(range(40)), "a frame was pushed twice"
    assert status.error is None


def test_slow_network_skips_counts_and_keeps_windows_consecutive() -> None:
    predictor = StandIn(seconds=0.05)
    results, status = played([predictor], 120, 0.005)
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


def test_what_was_passed_over_is_served_after_the_end_if_asked() -> None:
    predictor = StandIn(seconds=0.02)
    results, status = played([predictor], 80, 0.004, complete=True)
    assert sorted(r.prediction.time_index for r in results) == list(range(3, 77))
    assert all(r.prediction.mean[0, 0] == r.prediction.time_index for r in results)
    assert (status.skipped, status.predicted) == (0, 74)
    for window in predictor.windows:
        assert np.diff(window).tolist() == [1] * 6


def test_jump_reuses_the_frames_both_windows_share() -> None:
    predictor, source = StandIn(), Memory()
    stream = Stream(0, 0, source, predictor)
    source.count = [7]
    assert stream.warm_up(7)
    assert [r.prediction.time_index for r in stream.step(2, lambda: 1.0)] == [3]
    source.count = [11]
    assert [r.prediction.time_index for r in stream.step(2, lambda: 1.0)] == [7]
    assert predictor.windows == [list(range(7)), list(range(4, 11))]
    assert predictor.pushed == list(range(11))
    source.count = [30]
    assert [r.prediction.time_index for r in stream.step(2, lambda: 2.0)] == [26]
    assert predictor.windows[-1] == list(range(23, 30))
    stream.close()
    assert stream.status(2.0).skipped + stream.status(2.0).predicted == 30 - 6


def test_a_frame_that_cannot_be_read_yet_is_waited_for() -> None:
    predictor, source = StandIn(), Memory()
    stream = Stream(0, 0, source, predictor)
    source.count, source.late = [9], {8}
    stream.warm_up(7)
    assert [r.prediction.time_index for r in stream.step(0, lambda: 1.0)] == []
    source.late = set()
    assert [r.prediction.time_index for r in stream.step(0, lambda: 1.0)] == [5]
    assert predictor.windows == [list(range(2, 9))]


def test_another_process_goes_on_where_the_last_one_ended() -> None:
    predictor, source = StandIn(), Memory()
    source.count = [40]
    stream = Stream(0, 0, source, predictor, done=[3, 4, 5, 20])
    stream.use_scale(11.0)
    assert stream.warm_up(8)
    assert predictor.warm_up is None, "the scale was measured again"
    assert [r.prediction.time_index for r in stream.step(40, lambda: 1.0)] == [21]
    assert [r.prediction.time_index for r in stream.step(2, lambda: 1.0)] == [36]
    gaps = []
    while found := stream.step(None, lambda: 1.0):
        gaps += [r.prediction.time_index for r in found]
    assert gaps == [*range(6, 20), *range(22, 36)]
    stream.close()
    assert (stream.status(1.0).skipped, stream.status(1.0).predicted) == (0, 34)


def test_scale_comes_from_the_first_time_points_and_stays() -> None:
    predictor = StandIn()
    _, status = played([predictor], 30, 0.002, warm_up=10)
    assert predictor.warm_up is not None
    assert predictor.warm_up.shape == (10, *SHAPE)
    assert [round(float(frame.mean())) for frame in predictor.warm_up] == list(range(10))
    assert status.streams[0].scale == 9.0


def test_a_run_that_ends_during_the_warm_up_is_judged_by_what_it_has() -> None:
    predictor = StandIn()
    results, _ = played([predictor], 9, 0.002, warm_up=16, patience=9)
    assert [r.prediction.time_index for r in results] == [3, 4, 5]
    assert predictor.warm_up is not None
    assert len(predictor.warm_up) == 9


def test_two_channels_are_served_in_turn() -> None:
    predictors = [StandIn(seconds=0.01), StandIn(seconds=0.01)]
    results, status = played(predictors, 60, 0.004)
    numbers = [s.predicted for s in status.streams]
    assert abs(numbers[0] - numbers[1]) <= 4, "one channel was served more often"
    for stream in status.streams:
        assert stream.predicted + stream.skipped == 54
    assert {r.channel for r in results} == {0, 1}


@pytest.mark.parametrize("kind", ["fail_at", "nan_at"])
def test_failing_inference_is_reported(kind: str) -> None:
    _, status = played([StandIn(**{kind: 12})], 40, 0.002)  # type: ignore[arg-type]
    assert status.error is not None
    assert ("out of memory" if kind == "fail_at" else "NaN") in status.error
    assert not status.running
    assert status.streams[0].time_points == 40


def test_failing_store_is_reported() -> None:
    def full_disk(_: LiveResult) -> None:
        raise OSError(28, "No space left on device")

    _, status = played([StandIn()], 12, 0.002, sink=full_disk)
    assert status.error is not None
    assert "No space left" in status.error


@pytest.mark.parametrize("within_s", [0.0, 0.1])
def test_stop_does_not_wait_for_the_backlog(within_s: float) -> None:
    source = Memory()
    source.count = [500]
    stream = Stream(0, 0, source, StandIn(seconds=0.05))
    loop = InferenceLoop(source, [stream], warm_up=7, patience=500, threads=1)
    thread = threading.Thread(target=loop.run)
    thread.start()
    start = time.perf_counter()
    loop.stop(within_s)
    thread.join(10)
    assert time.perf_counter() - start < within_s + 2.0, "the backlog of 25 s was waited for"


def test_memory_does_not_grow_with_the_run() -> None:
    source = Memory()
    stream = Stream(0, 0, source, StandIn())
    stream.warm_up(7)

    def serve(last: int) -> None:
        for count in range(source.count[0], last):
            source.count = [count + 1]
            stream.note_arrivals(count / 20)
            stream.warm_up(7)
            stream.step(2, lambda: 0.0)

    serve(200)
    tracemalloc.start()
    serve(201)
    before, _ = tracemalloc.get_traced_memory()
    serve(1500)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The stand-in itself keeps a list of its windows: about 1 kB each.
    assert after - before < 2_500_000


def test_warm_up_that_cannot_hold_a_window_is_refused() -> None:
    source = Memory()
    with pytest.raises(DataError, match="warm-up"):
        InferenceLoop(source, [Stream(0, 0, source, StandIn())], warm_up=5)


def test_rate_of_regular_events_and_of_a_camera_that_stopped() -> None:
    times = [k / 20 for k in range(40)]
    assert rate(times, times[-1]) == pytest.approx(20)
    assert rate(times, times[-1] + 10) == pytest.approx(0.1)
    assert rate(times[:1], 0.0) == 0.0
