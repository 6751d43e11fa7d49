"""Live inference beside a running acquisition.

One thread serves every stream (one channel at one position) in turn.  The recording never waits
for it:

- the acquisition thread copies each frame into a preallocated ring and goes on;
- the network always sees a window of *consecutive* time points.  While the backlog is at most
  ``patience`` frames, every time point is served in order.  Beyond that the engine jumps: the
  window is moved so that it ends at the newest time point, and one result is computed.  Frames the
  old and the new window share are not pushed again, so that what is cached of them is reused;
- the time points passed over get no live result and are counted as skipped.  They are recorded
  like all others and can be super-resolved afterwards with ``tisr infer``;
- the newest result replaces an older one that nobody has looked at (one slot per stream);
- an exception in the inference ends the inference, is reported, and leaves the recording alone.

The intensity scale comes from the first ``warm_up`` time points and is then fixed for the run.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.errors import DataError, TisrScopeError
from tisr_scope.inference.ring import FrameRing
from tisr_scope.types import Prediction

_RATE_MEMORY = 48


class Frame(Protocol):
    """What the engine reads of a frame's description."""

    @property
    def t(self) -> int:
        """Time point."""

    @property
    def channel(self) -> int:
        """Index of the channel in the profile."""

    @property
    def position(self) -> int:
        """Index of the stage position."""


class Predictor(Protocol):
    """Turns consecutive wide-field frames of one stream into predictions."""

    @property
    def window(self) -> int:
        """Time points the network sees at once."""

    @property
    def delay(self) -> int:
        """Time points by which a result is behind the newest frame of its window."""

    def set_scale(self, warm_up: Float[np.ndarray, "n y x"]) -> float:
        """Fix the intensity scale (electrons that become 1) from the first frames."""

    def restart(self) -> None:
        """Forget every frame: the next one is not consecutive."""

    def advance(self, frames: Sequence[Float[np.ndarray, "y x"]]) -> list[Prediction]:
        """Append consecutive frames (electrons) and reconstruct once, with the newest window.

        Time indices of the predictions count from the first frame after the last restart.
        """


@dataclass(frozen=True)
class LiveResult:
    """One prediction and where it belongs."""

    channel: int
    position: int
    prediction: Prediction
    arrival_s: float
    """When the shown frame had arrived, on the engine's clock."""
    lag_frames: int
    """Time points that had arrived after the shown one when its result was ready."""
    lag_s: float
    """Age of the shown frame when its result was ready."""


@dataclass(frozen=True)
class StreamStatus:
    """Counters of one channel at one position."""

    channel: int
    position: int
    time_points: int
    """Complete time points that arrived."""
    predicted: int
    """Results so far."""
    skipped: int
    """Time points passed over because the network was busy."""
    lag_frames: int
    lag_s: float
    camera_rate: float
    """Time points per second that arrive."""
    sr_rate: float
    """Results per second."""
    warm_up_left: int
    """Time points that are still awaited to fix the intensity scale."""
    scale: float | None
    """Electrons that become 1, once fixed."""
    calibrated: bool | None
    """Whether the confidence of the newest result is calibrated; None before the first."""


@dataclass(frozen=True)
class LiveStatus:
    """Snapshot of the engine."""

    streams: tuple[StreamStatus, ...]
    running: bool
    error: str | None
    """Why inference ended early, in words; the recording goes on."""

    @property
    def skipped(self) -> int:
        """Time points passed over, over all streams."""
        return sum(stream.skipped for stream in self.streams)

    @property
    def predicted(self) -> int:
        """Results over all streams."""
        return sum(stream.predicted for stream in self.streams)


def rate(times: Sequence[float], now: float) -> float:
    """Events per second from the times of the last ones; falls when they stop coming."""
    if len(times) < 2:
        return 0.0
    mean_gap = (times[-1] - times[0]) / (len(times) - 1)
    gap = max(mean_gap, now - times[-1] if now - times[-1] > 2 * mean_gap else 0.0)
    return 1 / gap if gap > 0 else 0.0


class Stream:
    """Ring, predictor and counters of one channel at one position.

    Parameters
    ----------
    channel, position : int
        Indices in the profile.
    ring : FrameRing
        Filled by the acquisition thread.
    predictor : Predictor
        Used by the inference thread only.
    offset_adu, electrons_per_adu : float
        Camera calibration: electrons = (counts - offset) * electrons_per_adu.
    """

    def __init__(
        self,
        channel: int,
        position: int,
        ring: FrameRing,
        predictor: Predictor,
        *,
        offset_adu: float,
        electrons_per_adu: float,
    ) -> None:
        self.channel = channel
        self.position = position
        self.ring = ring
        self.predictor = predictor
        self.scale: float | None = None
        self._offset_adu = offset_adu
        self._electrons_per_adu = electrons_per_adu
        self._arrivals: deque[float] = deque(maxlen=_RATE_MEMORY)
        self._results: deque[float] = deque(maxlen=_RATE_MEMORY)
        self._base = 0
        self._next = 0
        self._expected = predictor.window - 1 - predictor.delay
        self._predicted = 0
        self._skipped = 0
        self._latest: LiveResult | None = None
        self._mailbox: LiveResult | None = None
        self._warm_up = 0
        self._lock = threading.Lock()

    def add(self, t: int, frame: UInt16[np.ndarray, "y x"], now: float) -> bool:
        """Copy a frame in; whether it completed a time point."""
        complete = self.ring.add(t, frame, now)
        if complete:
            self._arrivals.append(now)
        return complete

    def electrons(self, t: int) -> Float[np.ndarray, "y x"] | None:
        """Wide-field image of a time point in photo-electrons; None if no longer held."""
        counts = self.ring.mean(t)
        if counts is None:
            return None
        return (counts - np.float32(self._offset_adu)) * np.float32(self._electrons_per_adu)

    def _frames(self, first: int, last: int) -> list[Float[np.ndarray, "y x"]] | None:
        frames = [self.electrons(t) for t in range(first, last + 1)]
        held = [frame for frame in frames if frame is not None]
        return held if len(held) == len(frames) else None

    def warm_up(self, needed: int) -> bool:
        """Fix the scale once ``needed`` time points are there; whether it is fixed."""
        self._warm_up = needed
        if self.scale is None and self.ring.complete >= needed:
            newest = self.ring.newest
            first = 0 if newest < self.ring.capacity else newest - needed + 1
            frames = self._frames(first, first + needed - 1)
            if frames is not None:
                self.scale = self.predictor.set_scale(np.stack(frames))
        return self.scale is not None

    def plan(self, patience: int) -> tuple[int, int] | None:
        """First and last time point to push next, or None while nothing can be computed."""
        window = self.predictor.window
        newest = self.ring.newest
        target = max(self._next, self._base + window - 1)
        if newest < target:
            return None
        last = target if newest - target <= patience else newest
        return max(self._next, last - window + 1), last

    def step(self, patience: int, clock: Callable[[], float]) -> list[LiveResult]:
        """Compute the next result, if there is one to compute."""
        plan = self.plan(patience)
        if plan is None:
            return []
        first, last = plan
        frames = self._frames(first, last)
        if frames is None:
            # Overwritten while waiting: the next plan starts from what is held now.
            self._restart(max(self.ring.newest - self.predictor.window + 1, self._next))
            return []
        if first > self._next:
            self._restart(first)
        arrivals = [self.ring.arrival_s(t) for t in range(first, last + 1)]
        self._next = last + 1
        predictions = self.predictor.advance(frames)
        now = clock()
        results = []
        for prediction in predictions:
            t = self._base + prediction.time_index
            held = arrivals[t - first] if t >= first else self.ring.arrival_s(t)
            arrival = now if held is None else held
            results.append(self._note(prediction, t, arrival, now))
        return results

    def _restart(self, first: int) -> None:
        self.predictor.restart()
        self._base = self._next = first

    def _note(self, prediction: Prediction, t: int, arrival: float, now: float) -> LiveResult:
        if not np.isfinite(prediction.mean).all():
            raise DataError(
                "the network answered with NaN or infinite values",
                where=f"time point {t}, channel {self.channel}",
                remedy="check the model with 'tisr models check', or train it again",
            )
        shown = Prediction(
            time_index=t,
            mean=prediction.mean,
            epistemic=prediction.epistemic,
            aleatoric=prediction.aleatoric,
            confidence=prediction.confidence,
            calibrated=prediction.calibrated,
        )
        self._skipped += max(t - self._expected, 0)
        self._expected = t + 1
        self._predicted += 1
        self._results.append(now)
        result = LiveResult(
            channel=self.channel,
            position=self.position,
            prediction=shown,
            arrival_s=arrival,
            lag_frames=self.ring.newest - t,
            lag_s=now - arrival,
        )
        with self._lock:
            self._latest = self._mailbox = result
        return result

    def close(self) -> None:
        """Count what will get no result any more as skipped.

        The first and last time points, which no window has in the right place, do not count.
        """
        last = self.ring.newest - self.predictor.delay
        self._skipped += max(last + 1 - self._expected, 0)
        self._expected = max(self._expected, last + 1)

    def take(self) -> LiveResult | None:
        """Newest result, once; None if it was taken already."""
        with self._lock:
            result, self._mailbox = self._mailbox, None
        return result

    def status(self, now: float) -> StreamStatus:
        """Counters at this moment."""
        latest = self._latest
        return StreamStatus(
            channel=self.channel,
            position=self.position,
            time_points=self.ring.complete,
            predicted=self._predicted,
            skipped=self._skipped,
            lag_frames=0 if latest is None else self.ring.newest - latest.prediction.time_index,
            lag_s=0.0 if latest is None else latest.lag_s,
            camera_rate=rate(tuple(self._arrivals), now),
            sr_rate=rate(tuple(self._results), now),
            warm_up_left=max(self._warm_up - self.ring.complete, 0) if self.scale is None else 0,
            scale=self.scale,
            calibrated=None if latest is None else latest.prediction.calibrated,
        )


class LiveEngine:
    """Serves the streams of a run in one inference thread.

    Parameters
    ----------
    streams : sequence of Stream
        One per channel and position.
    warm_up : int
        Time points from which the intensity scale is fixed, at least one window.
    patience : int
        Backlog, in time points, up to which every one is served in order.
    threads : int, optional
        Threads the network may use; the rest of the machine stays free for the recording.  By
        default one less than there are cores, at least one.
    sink : callable, optional
        Called in the inference thread with every result, in order (the results store).
    prepare : callable, optional
        Called in the inference thread before the first frame (a rehearsal of the network);
        :meth:`wait_ready` returns after it.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        warm_up: int = 16,
        patience: int = 2,
        threads: int | None = None,
        sink: Callable[[LiveResult], None] | None = None,
        prepare: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not streams:
            raise DataError("a live run needs at least one channel")
        for stream in streams:
            smallest = max(stream.predictor.window + patience + 2, warm_up)
            if warm_up < stream.predictor.window or stream.ring.capacity < smallest:
                raise DataError(
                    f"a warm-up of {warm_up} in a ring of {stream.ring.capacity} time points "
                    f"cannot hold windows of {stream.predictor.window}",
                    remedy=f"use a warm-up of at least {stream.predictor.window} time points "
                    f"and a ring of at least {smallest}",
                )
        self._streams = {(s.channel, s.position): s for s in streams}
        self._warm_up = warm_up
        self._patience = patience
        self._threads = max((os.cpu_count() or 2) - 1, 1) if threads is None else threads
        self._sink = sink
        self._prepare = prepare
        self._ready = threading.Event()
        self._clock = clock
        self._wake = threading.Event()
        self._finish = threading.Event()
        self._abandon = threading.Event()
        self._error: BaseException | None = None
        self._deaf = False
        self._thread = threading.Thread(target=self._run, name="live-inference", daemon=True)

    @property
    def error(self) -> BaseException | None:
        """What ended the inference early, if anything did."""
        return self._error

    def start(self) -> None:
        """Start the inference thread."""
        self._thread.start()

    def wait_ready(self) -> None:
        """Wait until the inference thread can take frames.

        Raises
        ------
        Exception
            What the preparation raised; the thread has ended.
        """
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def on_frame(self, info: Frame, frame: UInt16[np.ndarray, "y x"]) -> None:
        """Take a recorded frame over, in the acquisition thread: one copy, no waiting."""
        stream = self._streams.get((info.channel, info.position))
        if stream is None or self._deaf:
            return
        try:
            if stream.add(info.t, frame, self._clock()):
                self._wake.set()
        except Exception as error:  # the recording must go on whatever happens here
            self._deaf = True
            self._error = error

    def finish(self, timeout_s: float | None = None) -> LiveStatus:
        """Serve what is left under the same rules, then end the thread.

        Parameters
        ----------
        timeout_s : float, optional
            Longest time to wait for the last results; after it they are abandoned.
        """
        self._finish.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._abandon.set()
                self._thread.join()
        for stream in self._streams.values():
            stream.close()
        return self.status()

    def status(self) -> LiveStatus:
        """Counters at this moment; safe from any thread."""
        now = self._clock()
        return LiveStatus(
            streams=tuple(stream.status(now) for stream in self._streams.values()),
            running=self._thread.is_alive(),
            error=None if self._error is None else describe(self._error),
        )

    def take(self, channel: int, position: int = 0) -> LiveResult | None:
        """Newest result of a stream that was not taken yet (one-slot mailbox)."""
        stream = self._streams.get((channel, position))
        return None if stream is None else stream.take()

    def newest_widefield(
        self, channel: int, position: int = 0
    ) -> tuple[int, Float[np.ndarray, "y x"]] | None:
        """Newest complete camera image in photo-electrons, with its time point."""
        stream = self._streams.get((channel, position))
        if stream is None:
            return None
        t = stream.ring.newest
        image = stream.electrons(t)
        return None if image is None else (t, image)

    def _run(self) -> None:
        try:
            be_humble(self._threads)
            if self._prepare is not None:
                self._prepare()
            self._ready.set()
            while not self._abandon.is_set():
                finishing = self._finish.is_set()
                self._wake.clear()
                if self._serve() or not self._idle():
                    continue
                if finishing:
                    return
                self._wake.wait(0.5)
        except Exception as error:
            self._error = error
        finally:
            self._ready.set()

    def _serve(self) -> bool:
        """One result for every stream that has one to give; whether there was any."""
        served = False
        for stream in self._streams.values():
            if self._abandon.is_set() or not stream.warm_up(self._warm_up):
                continue
            for result in stream.step(self._patience, self._clock):
                served = True
                if self._sink is not None:
                    self._sink(result)
        return served

    def _idle(self) -> bool:
        return all(
            stream.scale is None or stream.plan(self._patience) is None
            for stream in self._streams.values()
        )


def describe(error: BaseException) -> str:
    """Error in words, with its kind where it is not one of ours."""
    if isinstance(error, TisrScopeError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def be_humble(threads: int) -> None:
    """Leave the processor to the recording: fewer threads and, on Linux, a lower priority."""
    import torch

    torch.set_num_threads(threads)
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
