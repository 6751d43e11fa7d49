"""The one truth about a run: what its profile makes of it, in numbers.

Engine, recorder, reader and live session take a plan and nothing else, so that they cannot
disagree about how many frames there are, what they are called, or how far apart they lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from tisr_scope.errors import ProfileError
from tisr_scope.profiles.fields import Frozen, Positive
from tisr_scope.profiles.lasers import FixedLaser, Laser, Switch
from tisr_scope.profiles.schema import (
    IndexedPatterns,
    Paired,
    Preset,
    PresetPatterns,
    Profile,
    Timelapse,
    UploadedImages,
)
from tisr_scope.running_order.patterns import Pattern

Mode = Literal["paired", "timelapse"]


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What one frame is: its place in the running order and the light it took.

    ``time_s`` counts from the start of the recording; ``dose_mj`` is the energy that had left
    the lasers at this position and in this channel when the frame was complete, and ``light_ms``
    how long light was on for this frame, from the command to shine to the command to stop.
    """

    t: int
    channel: int
    position: int
    orientation: int
    phase: int
    level: int
    time_s: float
    power_mw: float
    exposure_ms: float
    dose_mj: float
    light_ms: float = field(default=0.0, kw_only=True)

    @property
    def index(self) -> tuple[int, int, int, int, int, int]:
        """``(t, position, channel, orientation, phase, level)``."""
        return (self.t, self.position, self.channel, self.orientation, self.phase, self.level)


class ChannelLight(Frozen):
    """Light of one channel of a run."""

    name: str
    laser: Laser
    powers_mw: tuple[Positive, ...]
    """Laser power at each level."""
    pattern_period_um: Positive | None = None
    presets: tuple[Preset, ...] = ()
    other_lasers: tuple[FixedLaser, ...] = ()
    lamps: tuple[Switch, ...] = ()
    shutters: tuple[str, ...] = ()

    def powers_of(self, level: int) -> dict[tuple[str, str], float]:
        """Power of each laser that shines at a level, in mW."""
        powers = {other.laser.key: other.power_mw for other in self.other_lasers}
        powers[self.laser.key] = self.powers_mw[level]
        return powers


@dataclass(frozen=True)
class RunPlan:
    """One run of a profile.

    Parameters
    ----------
    profile : Profile
        What the user asked for.
    mode : {"paired", "timelapse"}
        Which of its sections.

    Raises
    ------
    ProfileError
        If the profile does not describe this mode, or has no way to light the sample evenly.
    """

    profile: Profile
    mode: Mode

    def __post_init__(self) -> None:
        if self.profile.timing(self.mode) is None:
            other = "timelapse" if self.mode == "paired" else "paired"
            raise ProfileError(
                f"profile {self.profile.name!r} has no {self.mode!r} section",
                where=self.mode,
                remedy=f"add a {self.mode!r} section to the profile, or record with mode {other!r}",
            )
        if not self.patterned:
            _require_even_light(self.source)

    # ---------------------------------------------------------------------------------- counts

    @cached_property
    def patterned(self) -> bool:
        """Whether illumination patterns are exposed, instead of even light."""
        return self.profile.patterned(self.mode)

    @property
    def time_points(self) -> int:
        """Number of time points."""
        return self._timing.time_points

    @property
    def positions(self) -> int:
        """Number of stage positions, at least 1."""
        return max(1, len(self.profile.positions))

    @cached_property
    def sim_shape(self) -> tuple[int, int, int]:
        """Numbers of orientations, phases and levels of one channel; ones for even light."""
        illumination = self.profile.illumination
        levels = len(self.channels[0].powers_mw)
        if illumination is None or not self.patterned:
            return (1, 1, levels)
        return (illumination.orientations, illumination.phases, levels)

    @property
    def orientations(self) -> int:
        """Number of pattern orientations; 1 for even illumination."""
        return self.sim_shape[0]

    @property
    def phases(self) -> int:
        """Number of phases; 1 for even illumination."""
        return self.sim_shape[1]

    @property
    def levels(self) -> int:
        """Number of laser levels."""
        return self.sim_shape[2]

    @cached_property
    def sim_frames(self) -> int:
        """Frames of one channel at one position and time point."""
        return math.prod(self.sim_shape)

    @cached_property
    def exposures_per_time_point(self) -> int:
        """Frames of one time point, over all positions and channels."""
        return self.positions * len(self.channels) * self.sim_frames

    @property
    def exposures(self) -> int:
        """Frames of the whole run."""
        return self.time_points * self.exposures_per_time_point

    # ---------------------------------------------------------------------------------- timing

    @property
    def exposure_ms(self) -> float:
        """Exposure of every frame."""
        return self._timing.exposure_ms

    @property
    def interval_s(self) -> float:
        """From the start of one time point to the next, as asked for; 0 means back to back."""
        return self._timing.interval_s

    @property
    def exposing_s(self) -> float:
        """Exposure of all frames of a time point."""
        return self.exposures_per_time_point * self.exposure_ms / 1e3

    @property
    def nominal_interval_s(self) -> float:
        """Interval between time points that can be expected: exposures take their time."""
        return max(self.interval_s, self.exposing_s)

    @property
    def idle_s(self) -> float:
        """Planned pause after a time point, in seconds."""
        return max(0.0, self.interval_s - self.exposing_s)

    @property
    def duration_s(self) -> float:
        """Shortest possible duration: exposures and intervals, no readout or stage movement."""
        return (self.time_points - 1) * self.nominal_interval_s + self.exposing_s

    # ----------------------------------------------------------------------------------- light

    @cached_property
    def channels(self) -> tuple[ChannelLight, ...]:
        """Light of each channel."""
        return tuple(
            ChannelLight(
                name=c.name,
                laser=c.laser,
                powers_mw=c.levels_mw if self.mode == "paired" else (c.timelapse_mw,),
                pattern_period_um=c.pattern_period_um,
                presets=c.presets,
                other_lasers=c.other_lasers,
                lamps=c.lamps,
                shutters=c.shutters,
            )
            for c in self.profile.channels
        )

    @property
    def angles_rad(self) -> tuple[float, ...]:
        """Carrier directions; none means even illumination."""
        illumination = self.profile.illumination
        return illumination.angles_rad if illumination is not None and self.patterned else ()

    @property
    def source(self) -> UploadedImages | PresetPatterns | IndexedPatterns | None:
        """How patterns come onto the SLM."""
        illumination = self.profile.illumination
        return None if illumination is None else illumination.source

    def pattern(self, channel: int, orientation: int, phase: int) -> Pattern | None:
        """Parameters of a pattern, or None for even illumination."""
        period = self.channels[channel].pattern_period_um
        if not self.angles_rad or period is None:
            return None
        return Pattern(
            period_um=period,
            angle_rad=self.angles_rad[orientation],
            phase_rad=2 * math.pi * phase / self.phases,
        )

    def dose_mj(self) -> dict[str, float]:
        """Energy leaving each channel's lasers at one position during exposures, in mJ.

        Light that is on longer than the exposures, because nothing gates it, comes on top.
        """
        exposures_s = self.time_points * self.orientations * self.phases * self.exposure_ms / 1e3
        return {
            channel.name: exposures_s
            * sum(sum(channel.powers_of(level).values()) for level in range(self.levels))
            for channel in self.channels
        }

    # --------------------------------------------------------------------------- frames on disk

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        return self.profile.microscope.camera.frame_shape

    @property
    def bytes(self) -> int:
        """Size of all raw frames on disk, 16 bits a pixel."""
        return 2 * math.prod(self.frame_shape) * self.exposures

    def sim_index(self, orientation: int, phase: int, level: int) -> int:
        """Place of a frame on the flattened ``sim`` axis of the file."""
        return (orientation * self.phases + phase) * self.levels + level

    def sim_place(self, sim: int) -> tuple[int, int, int]:
        """Orientation, phase and level of a place on the ``sim`` axis."""
        pattern, level = divmod(sim, self.levels)
        return (*divmod(pattern, self.phases), level)

    def place_name(self, channel: int, position: int) -> str:
        """Name of what is made of one channel and position, in files and folders."""
        name = self.channels[channel].name
        return name if self.positions == 1 else f"{name}_p{position}"

    @property
    def _timing(self) -> Paired | Timelapse:
        timing = self.profile.timing(self.mode)
        assert timing is not None  # checked when the plan was made
        return timing


def _require_even_light(source: UploadedImages | PresetPatterns | IndexedPatterns | None) -> None:
    """Refuse to guess what the SLM shows during an evenly lit time-lapse."""
    if isinstance(source, PresetPatterns) and source.widefield_preset is None:
        raise ProfileError(
            "an evenly lit time-lapse needs the preset that shows no pattern",
            where="illumination.source.widefield_preset",
            remedy="name that preset, or set timelapse.widefield to 'pattern_mean'",
        )
    if isinstance(source, IndexedPatterns) and source.widefield_index is None:
        raise ProfileError(
            "an evenly lit time-lapse needs the running-order index that shows no pattern",
            where="illumination.source.widefield_index",
            remedy="give that index, or set timelapse.widefield to 'pattern_mean'",
        )
