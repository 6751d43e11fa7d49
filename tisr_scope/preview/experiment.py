"""What the window asks of what it shows.

A :class:`Source` can be looked at: a finished or growing recording, or results.  An
:class:`Experiment` also runs: :class:`tisr_scope.live.run_live.LiveSession` is one.  The window
knows neither the microscope nor the network, and nothing here needs Qt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from tisr_scope.inference.result_arrays import Grid
from tisr_scope.live.live_records import (
    AuditStatus,
    LiveResult,
    SessionStatus,
    SimImage,
    SimStatus,
)

Image = Float[np.ndarray, "y x"]


@dataclass(frozen=True)
class ChannelImages:
    """Images of one channel, each with the time point that it shows.

    Attributes
    ----------
    widefield : array, shape (y, x), optional
        In photo-electrons.
    sr, confidence : arrays, shape (fy, fx), optional
        Super-resolution on the normalised scale; confidence from 0 to 1.
    sim : array, shape (fy, fx), optional
        Conventional SIM, in photo-electrons.
    widefield_t, sr_t, sim_t : int
        Time points counted from 0; -1 without an image.
    calibrated : bool
        Whether the confidence is calibrated.
    scale_electrons : float, optional
        Photo-electrons of the input that are 1 on the normalised scale.
    """

    widefield: Image | None = None
    widefield_t: int = -1
    sr: Image | None = None
    confidence: Image | None = None
    sr_t: int = -1
    sim: Image | None = None
    sim_t: int = -1
    calibrated: bool = False
    scale_electrons: float | None = None


@dataclass(frozen=True)
class TimePoint:
    """What the panels show: images of every channel, meant to be of one time point.

    An image whose own time point differs from ``t`` is marked by its panel.
    """

    t: int
    channels: dict[int, ChannelImages]
    time_s: float | None = None
    """Seconds from the first time point, where known."""


class Source(Protocol):
    """Something that can be looked at."""

    @property
    def name(self) -> str:
        """Name of the profile or folder."""

    @property
    def out(self) -> Path:
        """Folder of the run."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names."""

    def grid(self, channel: int) -> Grid:
        """Sizes of the super-resolved images."""

    def calibration_of(self, channel: int) -> str:
        """Say "calibrated", or why not."""


class Experiment(Source, Protocol):
    """Something that runs, and is looked at while it runs."""

    def start(self) -> None:
        """Begin: the light goes on."""

    def stop(self) -> None:
        """Ask for a clean stop."""

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it has been reached."""

    def again(self) -> Experiment:
        """A new run of the same kind, in a new folder."""

    def status(self) -> SessionStatus:
        """Counters."""

    def take(self, channel: int, position: int = 0) -> LiveResult | None:
        """Newest result not looked at yet."""

    def newest_widefield(self, channel: int, position: int = 0) -> tuple[int, Image] | None:
        """Newest camera image and its time point."""

    def audit_status(self, channel: int) -> AuditStatus | None:
        """How much of what is shown is true; None where no patterns are exposed."""

    def take_sim(self) -> SimImage | None:
        """Newest conventional SIM image of the first channel not looked at yet."""

    def sim_status(self) -> SimStatus | None:
        """State of the conventional SIM; None where no patterns are exposed."""


class StoredSource(Source, Protocol):
    """Something on disk, finished or growing."""

    @property
    def positions(self) -> int:
        """Number of stage positions."""

    @property
    def time_points(self) -> int:
        """Time points that can be shown now."""

    def resolved(self, channel: int, position: int = 0) -> list[int]:
        """Time points that have been super-resolved, rising."""

    def refresh(self) -> bool:
        """Look for what has been written since; whether there is more."""

    def at(self, t: int, position: int = 0) -> TimePoint:
        """Read one time point of every channel."""
