"""What is asked of a live run, what it says while it runs, and its figures afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tisr_scope.live.inference_thread import LiveStatus

Phase = Literal["ready", "preparing", "recording", "finishing", "done", "failed"]


@dataclass(frozen=True)
class LiveOptions:
    """How the network is run beside the recording.

    Attributes
    ----------
    device : str
        Where the network runs: ``cpu``, ``cuda``, ``cuda:1``.
    passes : int
        Monte Carlo passes; the calibration is valid for one number.
    threads : int, optional
        Processor threads of the network; by default one less than there are cores.
    warm_up : int
        Time points from which the intensity scale is fixed.
    patience : int
        Backlog, in time points, up to which every one is served in order.
    drain_s : float
        Longest wait for the last results after the recording has ended.
    seed : int
        Seed of the Monte Carlo masks.
    audit : bool
        Measure how much of the results is true where the time-lapse exposes patterns.
    sim : bool
        Compute conventional SIM beside the network where the time-lapse exposes patterns.  Only
        a window shows it: headless runs leave it out.
    """

    device: str = "cpu"
    passes: int = 6
    threads: int | None = None
    warm_up: int = 16
    patience: int = 2
    drain_s: float = 30.0
    seed: int = 0
    audit: bool = True
    sim: bool = True


@dataclass(frozen=True)
class SessionStatus:
    """What a window or a progress bar shows."""

    phase: Phase
    recorded: int
    """Exposures taken."""
    expected: int
    """Exposures of the whole run."""
    elapsed_s: float
    remaining_s: float | None
    dose_mj: float
    """Energy that has left the lasers, at the position that got most."""
    live: LiveStatus
    error: str | None
    """Why the recording ended early, in words."""


@dataclass(frozen=True)
class LiveSummary:
    """Figures of a finished live run, as saved in ``live_summary.json``."""

    folder: str
    model: dict[str, str]
    """Model of each channel."""
    time_points: int
    exposures_recorded: int
    exposures_expected: int
    missing_on_disk: int
    seconds: float
    camera_rate: float
    """Camera frames per second over the whole run."""
    time_point_rate: float
    """Time points per second over the whole run."""
    sr_rate: float
    """Super-resolved frames per second over the whole run, all channels."""
    predicted: int
    skipped: int
    lag_s_median: float
    lag_s_max: float
    dose_mj: float
    scale_electrons: dict[str, float | None]
    calibrated: bool
    calibration: dict[str, str]
    """For each channel "calibrated", or why it is not."""
    audit: dict[str, str]
    """For each audited channel how much of its detail is true, and the alarm if there was one."""
    stopped_early: bool
    inference_error: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)
