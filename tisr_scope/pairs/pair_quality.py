"""What the quality control of pairs knows: limits, numbers of time points, what became of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from tisr_scope.errors import DataError

Kind = Literal["order", "motion", "light", "saturation", "registration", "numbers", "gap"]


LIGHT_IS_FINE: tuple[Kind, ...] = ("motion", "registration", "gap")


@dataclass(frozen=True)
class Reason:
    """Why a time point is not good: what kind of fault, and in words with its numbers."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Limits:
    """What a time point, and a run of them, must fulfil.

    Attributes
    ----------
    motion_nm : float
        Largest motion from the first to the last raw frame: about what linear SIM resolves.
    offset_nm : float
        Largest distance of input and target, beyond three standard errors.
    saturated : float
        Largest share of saturated pixels in a raw frame.
    least_frames : int
        Time points in a row that a pair needs: the window of a network.  A recording of which
        nothing is dropped is kept whatever its length.
    keep_all : bool
        Only tell, drop nothing.
    """

    motion_nm: float = 100.0
    offset_nm: float = 40.0
    saturated: float = 1e-3
    least_frames: int = 7
    keep_all: bool = False

    def __post_init__(self) -> None:
        if not (self.motion_nm > 0 and self.offset_nm > 0 and self.saturated >= 0):
            raise DataError("limits of motion and distance are positive, in nanometres")
        if self.least_frames < 1:
            raise DataError(f"a pair needs at least one time point, not {self.least_frames}")


@dataclass(frozen=True)
class TimePoint:
    """Numbers of one time point.

    Attributes
    ----------
    t : int
        Counted from 0.
    frame_means_e : tuple of float
        Light of every raw frame, in the order orientation, phase, level.
    saturated, signal_e, background_e, snr : tuple of float
        For each level, lowest first.
    motion_nm, drift_nm : float or None
        Root mean square motion of structures, and that of the whole field; None where no structure
        is clear enough, many pixels are saturated, or there is only one orientation.
    blank_frames : int
        Raw frames whose pixels are all alike.
    not_finite : int
        NaN or infinite pixels in input and target.
    offset_nm, offset_error_nm : tuple of float or None
        Distance of the wide field of each level from the target, and its standard error; empty
        before there is a target.
    order_faults : tuple of str
        What contradicts the commanded order, or was marked while it was recorded.
    reasons : tuple of Reason
        Why the time point is not good; empty where it is.
    """

    t: int
    frame_means_e: tuple[float, ...]
    saturated: tuple[float, ...]
    signal_e: tuple[float, ...]
    background_e: tuple[float, ...]
    snr: tuple[float, ...]
    motion_nm: float | None
    drift_nm: float | None
    blank_frames: int = 0
    not_finite: int = 0
    offset_nm: tuple[float | None, ...] = ()
    offset_error_nm: tuple[float | None, ...] = ()
    order_faults: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it is a time point as it was commanded, good or not."""
        return not self.order_faults

    @property
    def brightness_e(self) -> float:
        """Light of the highest level over its background, mean over the field."""
        levels = len(self.snr)
        return float(np.mean(self.frame_means_e[levels - 1 :: levels])) - self.background_e[-1]


@dataclass(frozen=True)
class PairQuality:
    """What was found in one recording, channel and position.

    Attributes
    ----------
    name : str
        Of the pair.
    recording, channel : str
    position : int
    levels_mw : tuple of float
    interval_s : float
    points : tuple of TimePoint
    limits : Limits
    runs : tuple of (int, int)
        First and last time point of every stretch that became a pair.
    rejected : str
        Why nothing became a pair; empty otherwise.
    pairs : tuple of str
        Folder of each run.
    remarks : tuple of str
        What the reconstruction found worth saying about the recording as a whole.
    """

    name: str
    recording: str
    channel: str
    position: int
    levels_mw: tuple[float, ...]
    interval_s: float
    points: tuple[TimePoint, ...]
    limits: Limits
    runs: tuple[tuple[int, int], ...] = ()
    rejected: str = ""
    pairs: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[int, ...]:
        """Time points that became part of a pair."""
        return tuple(t for first, last in self.runs for t in range(first, last + 1))

    @property
    def bleached(self) -> float | None:
        """Share of the light lost from the first to the last time point (exponential fit).

        Time points with too much or no light say nothing about it.
        """
        told = [p for p in self.points if all(r.kind in LIGHT_IS_FINE for r in p.reasons)]
        light = np.array([point.brightness_e for point in told])
        if len(light) < 2 or not np.all(light > 0):
            return None
        slope = float(np.polyfit([point.t for point in told], np.log(light), 1)[0])
        return 1 - math.exp(slope * (len(self.points) - 1))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "kept": list(self.kept), "bleached": self.bleached}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> PairQuality:
        """What :meth:`to_dict` gave, also after it went through JSON."""
        told = {key: value for key, value in content.items() if key not in {"kept", "bleached"}}
        points = tuple(_time_point(point) for point in told["points"])
        return cls(
            **{
                **told,
                "points": points,
                "limits": Limits(**told["limits"]),
                "levels_mw": tuple(told["levels_mw"]),
                "runs": tuple((int(a), int(b)) for a, b in told["runs"]),
                "pairs": tuple(told["pairs"]),
                "remarks": tuple(told["remarks"]),
            }
        )


# ------------------------------------------------------------------------------------- inside


def _time_point(content: dict[str, Any]) -> TimePoint:
    told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    told["reasons"] = tuple(Reason(**reason) for reason in content["reasons"])
    return TimePoint(**told)
