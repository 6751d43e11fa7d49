"""What is asked of a live run, what it says and shows while it runs, and its figures afterwards.

Plain records, for processes that hold neither a network nor a window.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from tisr_scope.types import Prediction

Phase = Literal["ready", "preparing", "recording", "paused", "finishing", "done", "failed"]


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
    complete : bool
        Once the run has ended, also serve the time points that were passed over.
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
    complete: bool = False
    sim: bool = True


@dataclass(frozen=True)
class LiveResult:
    """One prediction and where it belongs."""

    channel: int
    position: int
    prediction: Prediction
    arrival_s: float
    """When the shown frame had arrived (``time.perf_counter``)."""
    lag_frames: int
    """Time points that had arrived after the shown one when its result was ready."""
    lag_s: float
    """Age of the shown frame when its result was ready."""


@dataclass(frozen=True)
class StreamStatus:
    """Counters of one channel at one position."""

    channel: int
    position: int
    time_points: int
    """Complete time points that arrived."""
    predicted: int
    """Results so far."""
    skipped: int
    """Time points passed over because the network was busy."""
    lag_frames: int
    lag_s: float
    camera_rate: float
    """Time points per second that arrive."""
    sr_rate: float
    """Results per second."""
    warm_up_left: int
    """Time points that are still awaited to fix the intensity scale."""
    scale: float | None
    """Electrons that become 1, once fixed."""
    calibrated: bool | None
    """Whether the confidence of the newest result is calibrated; None before the first."""


@dataclass(frozen=True)
class LiveStatus:
    """Snapshot of the engine."""

    streams: tuple[StreamStatus, ...]
    running: bool
    error: str | None
    """Why there are no results (any more), in words; the recording goes on."""

    @property
    def skipped(self) -> int:
        """Time points passed over, over all streams."""
        return sum(stream.skipped for stream in self.streams)

    @property
    def predicted(self) -> int:
        """Results over all streams."""
        return sum(stream.predicted for stream in self.streams)


@dataclass(frozen=True)
class SimImage:
    """One conventional SIM image."""

    image: Float[np.ndarray, "fy fx"]
    time_index: int
    """Time point of its newest frame."""


@dataclass(frozen=True)
class SimStatus:
    """Counters and the state of the parameters, for the window."""

    found: bool
    """Whether there are parameters to reconstruct with."""
    text: str
    """State of the parameters in plain words."""
    period_um: float | None
    """Mean period of the stripes, once found."""
    modulation: tuple[float, ...]
    """Modulation depth of every orientation; empty before the carrier is found."""
    images: int
    """Images computed so far."""
    dropped: int
    """Raw frames replaced by newer ones before they were fetched."""
    image_rate: float
    """Images per second."""


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
    notices: tuple[str, ...] = ()
    """What happened to a follower, in words; the recording goes on."""


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
    restarts: dict[str, int]
    """How often each follower had to be started again."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)
