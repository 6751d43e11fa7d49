"""One stream of a live run: its frames, its predictor, its results and counters."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.errors import DataError, TisrScopeError
from tisr_scope.live.ring import FrameRing
from tisr_scope.types import Prediction

_RATE_MEMORY = 48


@runtime_checkable
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
