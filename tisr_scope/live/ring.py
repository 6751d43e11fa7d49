"""Preallocated memory between the acquisition thread and the inference thread.

The writer overwrites the oldest time point and never waits for the reader; the lock is held for
the copy of one frame only.  Patterns of one time point are summed as they arrive.
"""

from __future__ import annotations

import threading

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.errors import DataError


class FrameRing:
    """The last ``capacity`` time points of one channel at one position.

    Parameters
    ----------
    frame_shape : tuple of int
        Height and width of a camera frame in pixels.
    patterns : int
        Frames of one time point, which are averaged (1 with even light).
    capacity : int
        Time points that are kept.
    """

    def __init__(self, frame_shape: tuple[int, int], patterns: int, capacity: int) -> None:
        if patterns < 1 or capacity < 1:
            raise DataError(
                f"a ring needs patterns and capacity, got {patterns} and {capacity}",
                remedy="give at least one of each",
            )
        self.frame_shape = frame_shape
        self.patterns = patterns
        self.capacity = capacity
        self._sums = np.zeros((capacity, *frame_shape), np.uint32)
        self._indices = np.full(capacity, -1, np.int64)
        self._times = np.zeros(capacity, np.float64)
        self._lock = threading.Lock()
        self._current = -1
        self._seen = 0
        self._newest = -1
        self._complete = 0

    @property
    def newest(self) -> int:
        """Index of the newest complete time point, -1 before the first."""
        return self._newest

    @property
    def complete(self) -> int:
        """Complete time points seen so far."""
        return self._complete

    @property
    def nbytes(self) -> int:
        """Memory held, fixed from the start."""
        return self._sums.nbytes + self._indices.nbytes + self._times.nbytes

    def add(self, t: int, frame: UInt16[np.ndarray, "y x"], time_s: float) -> bool:
        """Copy one frame in.

        Parameters
        ----------
        t : int
            Time point the frame belongs to; never falls.
        frame : uint16 array, shape (y, x)
            Camera counts.
        time_s : float
            When it arrived, on the clock of the caller.

        Returns
        -------
        bool
            Whether the time point is now complete.

        Raises
        ------
        DataError
            If the frame has another shape than the ring, or ``t`` falls.
        """
        if frame.shape != self.frame_shape:
            raise DataError(
                f"a frame of {frame.shape} pixels arrived, {self.frame_shape} were announced",
                where=f"time point {t}",
                remedy="set camera.frame_shape of the profile to what the camera delivers",
            )
        if t < self._current:
            raise DataError(
                f"time point {t} arrived after {self._current}", remedy="deliver frames in order"
            )
        slot = t % self.capacity
        with self._lock:
            if t != self._current:
                self._current, self._seen = t, 0
                self._indices[slot] = -1
                np.copyto(self._sums[slot], frame)
            else:
                self._sums[slot] += frame
            self._seen += 1
            if self._seen != self.patterns:
                return False
            self._indices[slot] = t
            self._times[slot] = time_s
            self._newest = t
            self._complete += 1
            return True

    def mean(self, t: int) -> Float[np.ndarray, "y x"] | None:
        """Mean counts over the patterns of time point ``t``; None if it is no longer held."""
        slot = t % self.capacity
        with self._lock:
            if t < 0 or self._indices[slot] != t:
                return None
            sums = self._sums[slot].copy()
        return np.asarray(sums / np.float32(self.patterns), dtype=np.float32)

    def arrival_s(self, t: int) -> float | None:
        """When time point ``t`` was complete; None if it is no longer held."""
        slot = t % self.capacity
        with self._lock:
            return float(self._times[slot]) if t >= 0 and self._indices[slot] == t else None
