"""A live session made of drawn filaments, for tests of the window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from tisr_scope.inference.result_arrays import Grid
from tisr_scope.live.live_records import (
    AuditStatus,
    LiveResult,
    LiveStatus,
    SessionStatus,
    SimImage,
    SimStatus,
    StreamStatus,
)
from tisr_scope.types import Prediction

SIZE = 128


def filaments(t: float, channel: int) -> np.ndarray:
    """Smooth lines that move with time, on the fine grid."""
    image = np.zeros((2 * SIZE, 2 * SIZE), np.float32)
    rng = np.random.default_rng(channel)
    s = np.linspace(-40, 2 * SIZE + 40, 1500)
    for _ in range(14):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-90, 90)
        bend = 14 * np.sin(s / rng.uniform(25, 60) + rng.uniform(0, 6) + t / 20)
        along, across = s - SIZE, offset + bend
        x = SIZE + along * np.cos(angle) - across * np.sin(angle)
        y = SIZE + along * np.sin(angle) + across * np.cos(angle)
        inside = (x >= 0) & (y >= 0) & (x < 2 * SIZE) & (y < 2 * SIZE)
        image[y[inside].astype(int), x[inside].astype(int)] += rng.uniform(0.5, 1.0)
    return image


class FakeSession:
    """Counts its own ticks as time points; started, stopped and joined like the real one."""

    name = "simulated_microtubules"
    out = Path("recordings/cell_01")
    channels = ("488", "560")

    def __init__(self, calibrated: bool = True, sim: SimStatus | None = None) -> None:
        self.calibrated = calibrated
        self.sim = sim
        self.audit: AuditStatus | None = None
        self.t = 0
        self.light_on = False
        self.calls: list[str] = []
        self.error: str | None = None
        self.live_error: str | None = None
        self.ended = False
        self.successor: FakeSession | None = None

    def grid(self, channel: int) -> Grid:
        return Grid((2 * SIZE, 2 * SIZE), 0.0313, 0.05, 2)

    def start(self) -> None:
        self.calls.append("start")
        self.light_on = True

    def stop(self) -> None:
        self.calls.append("stop")
        self.light_on = False
        self.ended = True

    def join(self, timeout_s: float | None = None) -> bool:
        self.calls.append("join")
        return not self.light_on

    def again(self) -> FakeSession:
        self.successor = FakeSession(self.calibrated, self.sim)
        return self.successor

    def status(self) -> SessionStatus:
        stream = StreamStatus(0, 0, self.t, self.t // 4, 3 * self.t // 4, 7, 0.35, 20.0, 5.1,
                              0, 112.0, self.calibrated)  # fmt: skip
        streams = (stream, replace(stream, channel=1, camera_rate=10.0))
        phase = "recording" if self.light_on else "done" if self.ended else "ready"
        if self.error is not None:
            phase = "failed"
        return SessionStatus(
            phase=phase,
            recorded=2 * self.t,
            expected=1600,
            elapsed_s=self.t / 20,
            remaining_s=(800 - self.t) / 20,
            dose_mj=0.09 * self.t,
            live=LiveStatus(streams, running=self.light_on, error=self.live_error),
            error=self.error,
        )

    def take(self, channel: int, position: int = 0) -> LiveResult | None:
        if not self.t:
            return None
        clean = gaussian_filter(filaments(self.t, channel), 1.3) * 6
        rng = np.random.default_rng(self.t)
        mean = (clean + rng.normal(0, 0.01, clean.shape)).astype(np.float32)
        doubt = 0.75 * clean / (clean + 0.25) * (0.4 + 0.6 * np.linspace(0, 1, 2 * SIZE))
        confidence = np.clip(0.98 - doubt, 0, 1).astype(np.float32)
        prediction = Prediction(self.t - 1, mean, mean, mean, confidence, self.calibrated)
        return LiveResult(channel, position, prediction, 0.0, 7, 0.35)

    def newest_widefield(self, channel: int, position: int = 0) -> tuple[int, np.ndarray] | None:
        if not self.t:
            return None
        blurred = zoom(gaussian_filter(filaments(self.t, channel), 4), 0.5, order=1)
        photons = np.random.default_rng(self.t).poisson(300 * blurred.clip(0) + 2)
        return self.t, photons.astype(np.float32)

    def sim_status(self) -> SimStatus | None:
        return self.sim

    def take_sim(self) -> SimImage | None:
        if not self.t or self.sim is None or not self.sim.found:
            return None
        noise = np.random.default_rng(self.t).normal(0, 0.1, (2 * SIZE, 2 * SIZE))
        image = 20 * (gaussian_filter(filaments(self.t, 0), 1.6) * 6 + gaussian_filter(noise, 1))
        return SimImage(image.astype(np.float32), self.t)

    def audit_status(self, channel: int) -> AuditStatus | None:
        return self.audit

    def calibration_of(self, channel: int) -> str:
        return "calibrated" if self.calibrated else "the number of passes is 3, calibrated was 6"
