"""The side-band audit beside a recording: how much of what is shown is true.

A thread of its own at low priority.  The acquisition thread copies patterned frames into the set
of their time point; the inference thread hands over each result.  While one result is audited the
newest other one waits and older ones are passed over, so neither thread ever waits for it.
"""

from __future__ import annotations

import csv
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.confidence.audit_alarm import AuditAlarm, in_words
from tisr_scope.confidence.side_band_audit import AuditSums, SideBandAuditor
from tisr_scope.errors import ReconstructionError
from tisr_scope.live.stream import be_humble, describe
from tisr_scope.running_order.run_plan import FrameInfo
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimate import estimate_parameters

WARM_UP_SETS = 4
"""Whose mean gives the stripes."""
HELD_SETS = 12
"""A result comes some time points after its frames."""
MOST_SHOWN = 200
HEADER = ("time_point", "correlation", "standard_error", "alarm")


@dataclass(frozen=True)
class AuditStatus:
    """What a window and the records show."""

    text: str
    """In plain words."""
    correlation: float | None
    """Of the newest audits together with the sample; None where nothing can be told yet."""
    standard_error: float | None
    alarm: str | None
    """Why the image is not to be believed; stays until the run has ended."""
    audited: int
    """Time points audited so far."""
    history: tuple[tuple[int, float], ...]
    """Newest (time point, correlation)."""


class LiveAudit:
    """Audits the results of one channel at one position.

    Parameters
    ----------
    patterns : (orientations, phases)
        As exposed at every time point.
    frame_shape : (height, width)
        Of the camera.
    upscale : int
        Super-resolved pixels per camera pixel.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample.
    nominal : array, shape (orientation, 2)
        Carriers that the profile asks for.
    offset_adu, electrons_per_adu : float
        Camera calibration.
    level : int
        Light level whose frames the results are made of.
    threads : int
        Processor threads; the same as the network's, whose setting is shared.
    """

    def __init__(
        self,
        patterns: tuple[int, int],
        frame_shape: tuple[int, int],
        upscale: int,
        otf: DetectionOtf,
        pixel_um: float,
        nominal: Float[np.ndarray, "orientation 2"],
        *,
        offset_adu: float,
        electrons_per_adu: float,
        level: int = 0,
        threads: int = 1,
    ) -> None:
        self._shape, self._upscale = (*patterns, *frame_shape), upscale
        self._otf, self._pixel_um, self._nominal = otf, pixel_um, nominal
        self._offset_adu, self._electrons_per_adu = offset_adu, electrons_per_adu
        self._level, self._threads = level, threads
        self._sets: OrderedDict[int, tuple[UInt16[np.ndarray, "o p y x"], set[tuple[int, int]]]]
        self._sets = OrderedDict()
        self._waiting: tuple[int, Float[np.ndarray, "fy fx"]] | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._finish = threading.Event()
        # From here on used by the thread alone.
        self._auditor: SideBandAuditor | None = None
        self._next_estimate = WARM_UP_SETS
        self._judge = AuditAlarm()
        # Written by the thread, read by anybody.
        self._rows: list[tuple[int, AuditSums, str | None]] = []
        self._recent: tuple[tuple[int, float], ...] = ()
        self._pooled: AuditSums | None = None
        self._alarm: str | None = None
        self._text = "waiting for the first sets of patterns"
        self._thread = threading.Thread(target=self._run, name="live-audit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self) -> None:
        """Audit what waits, then end the thread."""
        self._finish.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def on_frame(self, info: FrameInfo, frame: UInt16[np.ndarray, "y x"]) -> None:
        """Take a recorded frame over, in the acquisition thread: one copy, no waiting."""
        if info.level != self._level or frame.shape != self._shape[2:] or self._finish.is_set():
            return
        place = (info.orientation, info.phase)
        with self._lock:
            if info.t not in self._sets:
                if len(self._sets) == HELD_SETS:
                    _, (pixels, _) = self._sets.popitem(last=False)
                else:
                    pixels = np.zeros(self._shape, np.uint16)
                self._sets[info.t] = (pixels, set())
            pixels, seen = self._sets[info.t]
            np.copyto(pixels[place], frame)
            seen.add(place)

    def on_result(self, t: int, image: Float[np.ndarray, "fy fx"]) -> None:
        """Take a result over, in the inference thread; one that still waits is replaced."""
        with self._lock:
            self._waiting = (t, image)
        self._wake.set()

    def status(self) -> AuditStatus:
        """State at this moment; safe from any thread."""
        pooled = self._pooled
        told = pooled is not None and bool(np.isfinite(pooled.correlation))
        return AuditStatus(
            text=self._text,
            correlation=float(pooled.correlation) if pooled is not None and told else None,
            standard_error=float(pooled.standard_error) if pooled is not None and told else None,
            alarm=self._alarm,
            audited=len(self._rows),
            history=self._recent,
        )

    def write(self, path: Path) -> None:
        """Write one row for each audited time point as CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            for t, sums, alarm in self._rows:
                told = bool(np.isfinite(sums.correlation))
                numbers = (sums.correlation, sums.standard_error)
                writer.writerow(
                    [t, *(round(float(n), 4) if told else "" for n in numbers), alarm or ""]
                )

    def _run(self) -> None:
        try:
            be_humble(self._threads)
            ended = False
            while not ended:
                self._wake.wait(0.5)
                self._wake.clear()
                ended = self._finish.is_set()
                with self._lock:
                    waiting, self._waiting = self._waiting, None
                if waiting is not None:
                    self._audit(*waiting)
        except Exception as error:  # neither the recording nor the network may notice
            self._text = f"stopped: {describe(error)}"

    def _electrons(self, t: int) -> Float[np.ndarray, "o p y x"] | None:
        """Whole set of a time point; None where it is not held any more."""
        with self._lock:
            pixels, seen = self._sets.get(t, (None, set()))
            if pixels is None or len(seen) < self._shape[0] * self._shape[1]:
                return None
            counts = pixels.copy()
        return (counts - np.float32(self._offset_adu)) * np.float32(self._electrons_per_adu)

    def _audit(self, t: int, image: Float[np.ndarray, "fy fx"]) -> None:
        if self._auditor is None and not self._estimate():
            return
        frames = self._electrons(t)
        if frames is None:
            return
        assert self._auditor is not None
        sums = self._auditor.audit(frames, image).overall
        alarm = self._judge.add(sums)
        self._alarm = alarm or self._alarm
        if np.isfinite(sums.correlation):
            self._recent = (*self._recent, (t, float(sums.correlation)))[-MOST_SHOWN:]
        self._rows.append((t, sums, alarm))
        self._pooled = self._judge.pooled
        assert self._pooled is not None
        self._text = in_words(self._pooled)

    def _estimate(self) -> bool:
        """Find the stripes in the mean of the sets that are held; whether there are any."""
        with self._lock:
            held = list(self._sets)
        sets = [one for one in (self._electrons(t) for t in held) if one is not None]
        if len(sets) < self._next_estimate:
            return False
        try:
            found = estimate_parameters(
                np.mean(sets, axis=0),
                self._otf,
                self._pixel_um,
                nominal=self._nominal,
                allow_weak=True,
                where="live audit",
            )
            shape = (self._shape[2], self._shape[3])
            self._auditor = SideBandAuditor(found, self._otf, shape, self._upscale)
        except ReconstructionError as error:
            self._text = f"cannot be audited yet: {error.what}"
            self._next_estimate = min(2 * self._next_estimate, HELD_SETS)
            return False
        return True
