"""The side-band audit beside a recording: how much of what is shown is true.

A thread of its own at low priority.  The network hands over each result; the patterned frames of
its time point are then asked for.  While one result is audited the newest other one waits and
older ones are passed over, so that the network never waits for it.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tisr_scope.confidence.audit_alarm import AuditAlarm, in_words
from tisr_scope.confidence.side_band_audit import AuditSums, SideBandAuditor
from tisr_scope.errors import ReconstructionError
from tisr_scope.live.live_records import AuditStatus
from tisr_scope.live.stream import be_humble, describe
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimate import estimate_parameters

WARM_UP_SETS = 4
"""Whose mean gives the stripes."""
MOST_SETS = 12
MOST_SHOWN = 200
HEADER = ("time_point", "correlation", "standard_error", "alarm")


class LiveAudit:
    """Audits the results of one channel at one position.

    Parameters
    ----------
    frames : callable
        Gives the patterned frames (orientation, phase, y, x) of a time point in photo-electrons;
        None where they are not held any more.
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
    threads : int
        Processor threads; the same as the network's, whose setting is shared.
    """

    def __init__(
        self,
        frames: Callable[[int], Float[np.ndarray, "o p y x"] | None],
        frame_shape: tuple[int, int],
        upscale: int,
        otf: DetectionOtf,
        pixel_um: float,
        nominal: Float[np.ndarray, "orientation 2"],
        *,
        threads: int = 1,
    ) -> None:
        self._frames, self._shape, self._upscale = frames, frame_shape, upscale
        self._otf, self._pixel_um, self._nominal = otf, pixel_um, nominal
        self._threads = threads
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

    def _audit(self, t: int, image: Float[np.ndarray, "fy fx"]) -> None:
        if self._auditor is None and not self._estimate(t):
            return
        frames = self._frames(t)
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

    def _estimate(self, t: int) -> bool:
        """Find the stripes in the mean of the newest sets; whether there are any."""
        first = t - self._next_estimate + 1
        sets = [one for one in map(self._frames, range(first, t + 1)) if one is not None]
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
            self._auditor = SideBandAuditor(found, self._otf, self._shape, self._upscale)
        except ReconstructionError as error:
            self._text = f"cannot be audited yet: {error.what}"
            self._next_estimate = min(2 * self._next_estimate, MOST_SETS)
            return False
        return True
