"""One stream of a live run: its frames, its predictor, its results and counters."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError, TisrScopeError
from tisr_scope.live.frame_source import FrameSource
from tisr_scope.live.live_records import LiveResult, StreamStatus
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

    def use_scale(self, scale: float) -> None:
        """Take an intensity scale that was fixed before."""

    def set_scale(self, warm_up: Float[np.ndarray, "n y x"]) -> float:
        """Fix the intensity scale (electrons that become 1) from the first frames."""

    def restart(self) -> None:
        """Forget every frame: the next one is not consecutive."""

    def advance(self, frames: Sequence[Float[np.ndarray, "y x"]]) -> list[Prediction]:
        """Append consecutive frames (electrons) and reconstruct once, with the newest window.

        Time indices of the predictions count from the first frame after the last restart.
        """


def rate(times: Sequence[float], now: float) -> float:
    """Events per second from the times of the last ones; falls when they stop coming."""
    if len(times) < 2:
        return 0.0
    mean_gap = (times[-1] - times[0]) / (len(times) - 1)
    gap = max(mean_gap, now - times[-1] if now - times[-1] > 2 * mean_gap else 0.0)
    return 1 / gap if gap > 0 else 0.0


class Stream:
    """Predictor, results and counters of one channel at one position.

    Parameters
    ----------
    channel, position : int
        Indices in the recording.
    source : FrameSource
        Where its frames come from.
    predictor : Predictor
        Used by the inference loop only.
    done : collection of int
        Time points that have their result already, from an earlier process.
    """

    def __init__(
        self,
        channel: int,
        position: int,
        source: FrameSource,
        predictor: Predictor,
        *,
        done: Collection[int] = (),
    ) -> None:
        self.channel = channel
        self.position = position
        self.predictor = predictor
        self.scale: float | None = None
        self._source = source
        self._before = predictor.window - 1 - predictor.delay
        """Time points of a window before the one that it shows."""
        self._results: deque[float] = deque(maxlen=_RATE_MEMORY)
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=_RATE_MEMORY)
        self._done = set(done)
        self._first = self._next = max(self._done, default=self._before - 1) + 1 - self._before
        self._latest: LiveResult | None = None
        self._ended = False
        self._warm_up = 0
        self._gap = self._before

    @property
    def newest(self) -> int:
        """Newest complete time point, -1 before the first."""
        return self._source.newest(self.channel, self.position)

    def _frames(self, first: int, last: int) -> list[Float[np.ndarray, "y x"]] | None:
        frames: list[Float[np.ndarray, "y x"]] = []
        for t in range(first, last + 1):
            frame = self._source.electrons(t, self.channel, self.position)
            if frame is None:
                return None
            frames.append(frame)
        return frames

    def warm_up(self, needed: int) -> bool:
        """Fix the scale once the first ``needed`` time points are there; whether it is fixed.

        A recording that has ended with fewer is judged by those it has, if they fill a window.
        """
        self._warm_up = needed
        count = min(self.newest + 1, needed)
        enough = needed if not self._source.ended else self.predictor.window
        if self.scale is None and count >= enough:
            frames = self._frames(0, count - 1)
            if frames is not None:
                self.scale = self.predictor.set_scale(np.stack(frames))
        return self.scale is not None

    def use_scale(self, scale: float) -> None:
        """Take the scale that an earlier process has fixed."""
        self.predictor.use_scale(scale)
        self.scale = scale

    def note_arrivals(self, now: float) -> None:
        """Count what has arrived, for the camera's rate."""
        newest = self.newest
        if newest >= 0 and (not self._arrivals or self._arrivals[-1][1] != newest):
            self._arrivals.append((now, newest))

    def _first_gap(self) -> int | None:
        """First time point that could have a result and has none."""
        while self._gap in self._done:
            self._gap += 1
        return self._gap if self._gap <= self.newest - self.predictor.delay else None

    def plan(self, patience: int | None) -> int | None:
        """Time point that ends the next window, or None while nothing can be computed.

        Parameters
        ----------
        patience : int or None
            Backlog up to which every time point is served in order; beyond it the newest is next.
            None serves what is missing, oldest first.
        """
        if patience is None:
            gap = self._first_gap()
            return None if gap is None else gap + self.predictor.delay
        newest = self.newest
        target = max(self._next, self._first + self.predictor.window - 1)
        if newest < target:
            return None
        return target if newest - target <= patience else newest

    def step(self, patience: int | None, clock: Callable[[], float]) -> list[LiveResult]:
        """Compute the next result, if there is one to compute."""
        last = self.plan(patience)
        if last is None:
            return []
        first = last - self.predictor.window + 1
        # The frames that both windows share are not pushed again.
        if not first <= self._next <= last:
            self.predictor.restart()
            self._first = self._next = first
        frames = self._frames(self._next, last)
        if frames is None:
            return []
        self._next = last + 1
        now_done = self.predictor.advance(frames)
        now = clock()
        return [self._note(found, self._first + found.time_index, now) for found in now_done]

    def _note(self, prediction: Prediction, t: int, now: float) -> LiveResult:
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
        arrival = self._source.arrival_s(t, self.channel, self.position)
        self._done.add(t)
        self._results.append(now)
        self._latest = LiveResult(
            channel=self.channel,
            position=self.position,
            prediction=shown,
            arrival_s=now if arrival is None else arrival,
            lag_frames=self.newest - t,
            lag_s=0.0 if arrival is None else now - arrival,
        )
        return self._latest

    def close(self) -> None:
        """Count what will get no result any more as skipped.

        The first and last time points, which no window has in the right place, do not count.
        """
        self._ended = True

    @property
    def skipped(self) -> int:
        """Time points without a result before the newest one; of the whole run once it is over."""
        last = self.newest - self.predictor.delay if self._ended else max(self._done, default=-1)
        return max(last + 1 - self._before, 0) - len(self._done)

    def status(self, now: float) -> StreamStatus:
        """Counters at this moment."""
        latest = self._latest
        return StreamStatus(
            channel=self.channel,
            position=self.position,
            time_points=self.newest + 1,
            predicted=len(self._done),
            skipped=self.skipped,
            lag_frames=0 if latest is None else self.newest - latest.prediction.time_index,
            lag_s=0.0 if latest is None else latest.lag_s,
            camera_rate=self._camera_rate(now),
            sr_rate=rate(tuple(self._results), now),
            warm_up_left=0 if self.scale is not None else max(self._warm_up - self.newest - 1, 0),
            scale=self.scale,
            calibrated=None if latest is None else latest.prediction.calibrated,
        )

    def _camera_rate(self, now: float) -> float:
        if len(self._arrivals) < 2:
            return 0.0
        (begin, first), (end, last) = self._arrivals[0], self._arrivals[-1]
        gap = (end - begin) / (last - first)
        return 1 / max(gap, now - end if now - end > max(2 * gap, 0.5) else 0.0)


def describe(error: BaseException) -> str:
    """Error in words, with its kind where it is not one of ours."""
    if isinstance(error, TisrScopeError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def network_threads(asked: int | None) -> int:
    """Processor threads of the network: one less than there are cores, if nothing is asked."""
    return max((os.cpu_count() or 2) - 1, 1) if asked is None else asked


def be_humble(threads: int) -> None:
    """Leave the processor to the recording: fewer threads and, on Linux, a lower priority."""
    import torch

    torch.set_num_threads(threads)
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, 10)
