"""Live inference: what comes next, for every stream of a run in turn.

- the network always sees a window of *consecutive* time points.  While the backlog is at most
  ``patience`` time points, every one is served in order.  Beyond that the loop jumps: the window
  is moved so that it ends at the newest time point, and one result is computed.  Frames the old
  and the new window share are not pushed again, so that what is cached of them is reused;
- the time points passed over get no live result and are counted as skipped.  They are recorded
  like all others, and can be served afterwards (``complete``);
- frames are asked for, never handed over: whoever records does not know that there is a network.

The intensity scale comes from the first ``warm_up`` time points and is then fixed for the run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from tisr_scope.errors import DataError
from tisr_scope.live.frame_source import FrameSource
from tisr_scope.live.live_records import LiveResult, LiveStatus
from tisr_scope.live.stream import Stream, be_humble, describe, network_threads

POLL_S = 0.002
"""Between two looks for a new frame."""


class InferenceLoop:
    """Serves the streams of a run until the run has ended.

    Parameters
    ----------
    source : FrameSource
        Of all streams.
    streams : sequence of Stream
        One per channel and position.
    warm_up : int
        Time points from which the intensity scale is fixed, at least one window.
    patience : int
        Backlog, in time points, up to which every one is served in order.
    complete : bool
        Serve what was passed over once the run has ended.
    threads : int, optional
        Threads the network may use; the rest of the machine stays free for the recording.  By
        default one less than there are cores, at least one.
    sink : callable, optional
        Called with every result, in the order they are computed.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        source: FrameSource,
        streams: Sequence[Stream],
        *,
        warm_up: int = 16,
        patience: int = 2,
        complete: bool = False,
        threads: int | None = None,
        sink: Callable[[LiveResult], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not streams:
            raise DataError("a live run needs at least one channel")
        for stream in streams:
            if warm_up < stream.predictor.window:
                raise DataError(
                    f"a warm-up of {warm_up} time points cannot hold windows of "
                    f"{stream.predictor.window}",
                    remedy=f"use a warm-up of at least {stream.predictor.window} time points",
                )
        self._source = source
        self._streams = tuple(streams)
        self._warm_up = warm_up
        self._patience = patience
        self._complete = complete
        self.threads = network_threads(threads)
        self._sink = sink
        self._clock = clock
        self._deadline: float | None = None
        self._stopped = threading.Event()
        self._running = False
        self.error: BaseException | None = None

    def run(self) -> LiveStatus:
        """Serve until the source has ended and nothing is left, or until told to stop.

        Raises
        ------
        Exception
            What the network or the sink raised; kept as ``error`` too.
        """
        self._running = True
        patience: int | None = self._patience
        try:
            be_humble(self.threads)
            while not self._over():
                ended = self._source.ended
                self._source.refresh()
                for stream in self._streams:
                    stream.note_arrivals(self._clock())
                if self._serve(patience):
                    continue
                if ended and (patience is None or not self._complete):
                    break
                if ended:
                    patience = None  # from now on what was passed over
                else:
                    self._stopped.wait(POLL_S)
        except Exception as error:
            self.error = error
            raise
        finally:
            for stream in self._streams:
                stream.close()
            self._running = False
        return self.status()

    def stop(self, within_s: float = 0.0) -> None:
        """Serve what is left for so long, then end; safe from any thread."""
        self._deadline = self._clock() + within_s
        if within_s <= 0:
            self._stopped.set()

    def _over(self) -> bool:
        late = self._deadline is not None and self._clock() > self._deadline
        return late or self._stopped.is_set()

    def status(self) -> LiveStatus:
        """Counters at this moment; safe from any thread."""
        now = self._clock()
        return LiveStatus(
            streams=tuple(stream.status(now) for stream in self._streams),
            running=self._running,
            error=None if self.error is None else describe(self.error),
        )

    def _serve(self, patience: int | None) -> bool:
        """One result for every stream that has one to give; whether there was any."""
        served = False
        for stream in self._streams:
            if self._over() or not stream.warm_up(self._warm_up):
                continue
            for result in stream.step(patience, self._clock):
                served = True
                if self._sink is not None:
                    self._sink(result)
        return served
