"""The order of the frames, looked at while they come.

One thread of its own checks the newest complete time point against what was commanded, at most a
share of the time so that the camera never waits for it; what it could not follow is checked when
the run is over.  A wiring that is wrong gives wrong images at every time point: after a few in a
row the run stops, because light on the sample would be spent for nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from tisr_scope.errors import MicroscopeError, TisrScopeError
from tisr_scope.recording.marks import add_marks
from tisr_scope.recording.order_check import OrderChecker, OrderReport, check_order, write_report
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan

IN_A_ROW = 3
"""Time points in a row that contradict the command, after which the run stops."""
SHARE = 0.2
"""Of the time that the check may take while the camera runs."""
PATIENCE_S = 20.0
"""How long is looked at what is left when the run is over."""

Frame = UInt16[np.ndarray, "y x"]
Place = tuple[int, int, int]


class OrderWatch:
    """Collects the frames of each time point and has them checked.

    Parameters
    ----------
    folder : Path
        Of the recording; marks go there.
    plan : RunPlan
        What was commanded.  Without levels or patterns there is nothing to prove.
    """

    def __init__(self, folder: Path, plan: RunPlan) -> None:
        self._folder, self._plan = folder, plan
        self._needed = plan.levels > 1 or bool(plan.angles_rad)
        self._report = OrderReport.of_plan(folder.name, plan)
        self._known: set[Place] = set()
        self._gathered: dict[Place, list[tuple[Frame, dict[str, Any]]]] = {}
        self._in_a_row = 0
        self._error: TisrScopeError | None = None
        self._checkers: dict[tuple[int, int], OrderChecker] = {}
        self._queue: queue.Queue[tuple[Place, list[tuple[Frame, dict[str, Any]]]] | None]
        self._queue = queue.Queue(1)
        self._thread = threading.Thread(target=self._run, name="tisr-order", daemon=True)
        if self._needed:
            self._thread.start()

    def put(self, info: FrameInfo, frame: Frame, camera: dict[str, Any]) -> None:
        """Take a frame in the order of exposure; never waits.

        Raises
        ------
        MicroscopeError
            If several time points in a row contradict what was commanded.
        """
        if not self._needed:
            return
        if self._error is not None:
            raise self._error
        place = (info.t, info.channel, info.position)
        frames = self._gathered.setdefault(place, [])
        frames.append((frame, camera))
        if len(frames) < self._plan.sim_frames:
            return
        # What is older was not completed, and never will be.
        self._gathered = {p: f for p, f in self._gathered.items() if p[0] == info.t and p != place}
        with suppress(queue.Full):  # checked at the end, from disk
            self._queue.put_nowait((place, frames))

    def finish(self, *, complete: bool) -> OrderReport:
        """Stop watching; check from disk what was not, if the run came to its end."""
        if not self._needed:
            return self._report
        self._queue.put(None)
        self._thread.join()
        try:
            if complete:
                check_order(
                    Recording.open(self._folder),
                    seconds=PATIENCE_S,
                    found=self._report,
                    known=self._known,
                )
            else:
                write_report(self._folder, self._report)
        except (TisrScopeError, OSError):
            # The frames are there all the same, and 'tisr verify' looks again.
            self._report.unchecked += 1
        return self._report

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            begun = time.monotonic()
            try:
                self._check(*item)
            except Exception as error:
                self._error = MicroscopeError(
                    f"the order of the frames cannot be checked: {type(error).__name__}: {error}",
                    where=str(self._folder),
                    remedy="report this; the frames so far are recorded",
                )
                self._error.__cause__ = error
            time.sleep((time.monotonic() - begun) * (1 - SHARE) / SHARE)

    def _check(self, place: Place, frames: list[tuple[Frame, dict[str, Any]]]) -> None:
        t, channel, position = place
        checker = self._checkers.setdefault(
            (channel, position), OrderChecker(self._plan, channel, position)
        )
        verdict, marks = checker.check(t, np.stack([f for f, _ in frames]), [s for _, s in frames])
        self._report.add(verdict, marks)
        self._known.add(place)
        bad = [mark for mark in marks if mark.bad]
        add_marks(self._folder, bad)
        self._in_a_row = self._in_a_row + 1 if bad else 0
        if self._in_a_row == IN_A_ROW:
            self._error = MicroscopeError(
                f"the images of {IN_A_ROW} time points in a row contradict what was commanded; "
                f"time point {t + 1}: {bad[0].text}",
                where=str(self._folder),
                remedy="check trigger wiring and sequence order of laser, SLM and camera; "
                "'tisr verify' lists every frame; the light is off, the frames are kept",
            )
