"""Where a follower takes its frames from: a recording that may still be growing.

The files are the truth and are enough, also over a network drive.  On the machine that records,
the newest frames come from shared memory as well, a few milliseconds after their exposure; what
has left it is read from the files.  Either way the reader asks, and whoever records never waits.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import RecordingError
from tisr_scope.inference.image_facts import ImageFacts
from tisr_scope.recording.frame_ring import FrameRing, attach
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.run_plan import RunPlan

REFRESH_S = 0.1
"""Between two looks at the journal."""
_REMEMBERED = 4096


class FrameSource(Protocol):
    """Wide-field time points, complete ones only, of channels and positions."""

    @property
    def path(self) -> Path:
        """What is followed."""

    @property
    def plan(self) -> RunPlan | None:
        """Of the run, if it is one of ours."""

    @property
    def facts(self) -> ImageFacts:
        """What its images are."""

    def refresh(self) -> None:
        """Look for what is new."""

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""

    def newest(self, channel: int, position: int) -> int:
        """Newest complete time point, -1 before the first."""

    def electrons(self, t: int, channel: int, position: int) -> Float[np.ndarray, "y x"] | None:
        """Wide-field image in photo-electrons; None if it cannot be had yet."""

    def patterns(
        self, t: int, channel: int, position: int
    ) -> Float[np.ndarray, "orientation phase y x"] | None:
        """What the image is the mean of, in photo-electrons; None if it cannot be had."""

    def arrival_s(self, t: int, channel: int, position: int) -> float | None:
        """When it arrived, on the clock of ``time.perf_counter``; None if that is not known."""

    def time_s(self, t: int, channel: int, position: int) -> float | None:
        """Its time on the clock of the recording; None if it is not complete."""

    def interval_s(self) -> float:
        """Mean time between time points, planned or measured."""


class RecordingSource:
    """A recording of ours, growing or finished.

    Parameters
    ----------
    recording : Recording
        Opened.
    level : int
        Laser level of a paired recording, from 0 (lowest).
    local : bool
        Look for the newest frames in shared memory.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        level: int = 0,
        local: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.recording = recording
        self.path = recording.path
        self.plan: RunPlan | None = recording.plan
        self.facts = ImageFacts.of_plan(recording.plan, level)
        self.ring: FrameRing | None = None
        self._local = local
        self._level = level
        self._clock = clock
        self._seen: OrderedDict[int, float] = OrderedDict()
        self._looked_s = 0.0
        self._ended = recording.ended
        self._attach()
        self._first_seen()

    def refresh(self) -> None:
        """Look at the journal, a few times a second."""
        if not self._ended and self._clock() - self._looked_s > REFRESH_S:
            # The summary is looked for first: it is written after the last line of the journal.
            ended = self.recording.ended
            self.recording.refresh()
            self._looked_s = self._clock()
            self._ended = ended
            self._attach()
            self._first_seen()

    @property
    def ended(self) -> bool:
        """Whether the summary has been written."""
        return self._ended

    def newest(self, channel: int, position: int) -> int:
        """Newest complete time point."""
        stored = self.recording.time_points - 1
        return stored if self.ring is None else max(stored, self.ring.newest(channel, position))

    def electrons(self, t: int, channel: int, position: int) -> Float[np.ndarray, "y x"] | None:
        """Mean over the patterns of one level, from memory or else from the files."""
        frames = self.patterns(t, channel, position)
        return None if frames is None else frames.mean(axis=(0, 1), dtype=np.float32)

    def patterns(
        self, t: int, channel: int, position: int
    ) -> Float[np.ndarray, "orientation phase y x"] | None:
        """Every pattern of one level, from memory or else from the files."""
        if self.ring is not None:
            counts = self.ring.patterns(t, channel, position, self._level)
            if counts is not None:
                return self.recording.electrons(counts)
        if not 0 <= t < self.recording.time_points:
            return None
        try:
            frames = self.recording.frames(t, channel, position, checked=True)
        except RecordingError:
            if self._ended:
                raise
            return None  # a network drive may show the journal before the pixels
        return self.recording.electrons(frames[:, :, self._level])

    def arrival_s(self, t: int, channel: int, position: int) -> float | None:
        """When its last frame was exposed, or else when its line was first seen."""
        found = None if self.ring is None else self.ring.arrival_s(t, channel, position)
        return self._seen.get(t) if found is None else found

    def time_s(self, t: int, channel: int, position: int) -> float | None:
        """Mean time of its frames."""
        if t < self.recording.time_points:
            return self.recording.time_s(t, channel, position)
        return None if self.ring is None else self.ring.time_s(t, channel, position)

    def interval_s(self) -> float:
        """Measured time between time points, the planned one before there are two."""
        count = self.recording.time_points
        if count < 2:
            return self.recording.plan.nominal_interval_s
        return (self.recording.time_s(count - 1) - self.recording.time_s(0)) / (count - 1)

    def _attach(self) -> None:
        if self.ring is None and self._local and not self._ended:
            self.ring = attach(self.recording.path, self.recording.plan)

    def _first_seen(self) -> None:
        now = self._clock()
        newest = self.recording.time_points - 1
        for t in range(max(next(reversed(self._seen), -1) + 1, newest - _REMEMBERED), newest + 1):
            self._seen[t] = now
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
