"""The order of a recording, proven from its images: every time point, or as many as there is time.

What contradicts the command is marked, and stays marked: ``prepare`` and ``reconstruct`` leave
marked time points out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.order_proof.carriers import refined_carriers
from tisr_scope.order_proof.check import check_time_point
from tisr_scope.order_proof.commanded import Commanded, Verdict
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.journal import JournalEntry
from tisr_scope.recording.marks import Mark, add_marks
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.run_plan import RunPlan

VERIFY_NAME = "verify.json"
FIRST_LOOK = 3
"""Time points from which carriers are found where the profile's show no fringes."""


@dataclass
class OrderReport:
    """What was found in a recording."""

    recording: str
    checked: int = 0
    """Time points of one channel and position."""
    unchecked: int = 0
    light_seen: int = 0
    """Of those checked: levels could be told apart."""
    pattern_seen: int = 0
    """Of those checked: fringes could be told apart."""
    light_expected: bool = False
    pattern_expected: bool = False
    marks: list[Mark] = field(default_factory=list)

    @classmethod
    def of_plan(cls, name: str, plan: RunPlan) -> OrderReport:
        """Empty report of a recording."""
        return cls(name, light_expected=plan.levels > 1, pattern_expected=bool(plan.angles_rad))

    def add(self, verdict: Verdict, marks: list[Mark]) -> None:
        """Take in one time point of one channel and position."""
        self.checked += 1
        self.light_seen += verdict.light_seen
        self.pattern_seen += verdict.pattern_seen
        self.marks += marks

    @property
    def wrong(self) -> list[Mark]:
        """What is proven to contradict the command."""
        return [mark for mark in self.marks if mark.kind == "order"]

    @property
    def wrong_time_points(self) -> list[int]:
        """Time points with such a contradiction."""
        return sorted({mark.t for mark in self.wrong})

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"wrong_time_points": self.wrong_time_points}


class OrderChecker:
    """Checks the time points of one channel and position, in any order.

    Parameters
    ----------
    plan : RunPlan
        What was commanded.
    channel, position : int
        Whose frames.
    """

    def __init__(self, plan: RunPlan, channel: int, position: int) -> None:
        self.commanded = Commanded.of_plan(plan, channel)
        self.channel, self.position = channel, position
        self._carriers: Float[np.ndarray, "orientation 2"] | None = None
        self._looked = 0
        self._last: tuple[int, np.ndarray] | None = None

    def check(
        self,
        t: int,
        frames: UInt16[np.ndarray, "frame y x"],
        said: Iterable[dict[str, Any]] = (),
    ) -> tuple[Verdict, list[Mark]]:
        """Verdict on a time point, and its marks."""
        told = list(said)
        verdict = check_time_point(frames, self.commanded, carriers=self._carriers, said=told)
        if not verdict.pattern_seen and self.commanded.carriers and self._looked < FIRST_LOOK:
            self._looked += 1
            other = refined_carriers([frames], self.commanded)
            again = check_time_point(frames, self.commanded, carriers=other, said=told)
            if again.pattern_seen:
                self._carriers, verdict = other, again
        marks = [
            Mark(
                t,
                "doubt" if fault.kind == "ratio" else "order",
                fault.text,
                self.channel,
                self.position,
                fault.frames,
            )
            for fault in verdict.faults
        ]
        stale = self._stale(t, frames)
        return verdict, marks + ([stale] if stale else [])

    def _stale(self, t: int, frames: UInt16[np.ndarray, "frame y x"]) -> Mark | None:
        """A first frame that is the last one of the time point before, once more."""
        before, self._last = self._last, (t, frames[-1])
        if before is None or np.ptp(frames[0]) == 0 or not np.array_equal(before[1], frames[0]):
            return None
        text = f"{self.commanded.place(0)} is the last frame of time point {before[0] + 1} again"
        return Mark(t, "order", text, self.channel, self.position, (0,))


def check_order(
    recording: Recording,
    *,
    write: bool = True,
    seconds: float | None = None,
    found: OrderReport | None = None,
    known: Container[tuple[int, int, int]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> OrderReport:
    """Check the frames of a recording against what its profile commanded.

    Parameters
    ----------
    recording : Recording
        Finished, cancelled or killed.
    write : bool
        Keep marks and report in its folder.
    seconds : float, optional
        Stop looking after this long; what is left is counted as unchecked.
    found : OrderReport, optional
        What was found while the recording was made, to be completed.
    known : container of (t, channel, position), optional
        Places that are in it.
    progress : callable, optional
        Called with (done, total) time points of all channels and positions.
    """
    plan = recording.plan
    report = found or OrderReport.of_plan(recording.name, plan)
    places = [(c, p) for c in range(len(plan.channels)) for p in range(plan.positions)]
    checkers = {place: OrderChecker(plan, *place) for place in places}
    everything = [(t, *place) for t in range(recording.time_points) for place in places]
    jobs = [job for job in everything if job not in known]
    begun = time.monotonic()
    for done, (t, channel, position) in enumerate(jobs):
        if progress is not None:
            progress(done, len(jobs))
        if seconds is not None and time.monotonic() - begun > seconds:
            report.unchecked = len(jobs) - done
            break
        if not recording.is_complete(t):
            continue
        frames = recording.frames(t, channel, position).reshape(-1, *recording.frame_shape)
        said = [entry.camera for entry in _in_order(recording, t, channel, position)]
        report.add(*checkers[channel, position].check(t, frames, said))
    if progress is not None:
        progress(len(jobs), len(jobs))
    if write:
        add_marks(recording.path, [mark for mark in report.marks if mark.bad])
        write_report(recording.path, report)
    return report


def unusable_time_points(recording: Recording, channel: int, position: int) -> dict[int, str]:
    """Time points that are marked, not complete, or contradicted by their images, and why."""
    checker = OrderChecker(recording.plan, channel, position)
    found: dict[int, str] = {}
    for t in range(recording.time_points):
        told = [mark.text for mark in recording.faults(t, channel, position)]
        if recording.is_complete(t):
            frames = recording.frames(t, channel, position).reshape(-1, *recording.frame_shape)
            said = [entry.camera for entry in _in_order(recording, t, channel, position)]
            told += [mark.text for mark in checker.check(t, frames, said)[1] if mark.bad]
        if told:
            found[t] = "; ".join(dict.fromkeys(told))
    return found


def write_report(folder: Path, report: OrderReport) -> None:
    """Keep what was found beside the frames."""
    write_json(folder / VERIFY_NAME, report.as_dict() | {"provenance": provenance()})


def _in_order(recording: Recording, t: int, channel: int, position: int) -> list[JournalEntry]:
    return sorted(recording.entries(t, channel, position), key=lambda entry: entry.index)
