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
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.errors import DataError
from tisr_scope.live.stream import LiveResult, Stream, StreamStatus, be_humble, describe


@runtime_checkable
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
        self.threads = max((os.cpu_count() or 2) - 1, 1) if threads is None else threads
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
            be_humble(self.threads)
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
