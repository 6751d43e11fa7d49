"""The running order: which exposure follows which, and what it costs.

Per time point and position every illumination pattern (orientation, then phase) is exposed at
each laser level in turn, lowest first, before the next pattern is shown::

    t > position > channel > orientation > phase > level

Level is the fastest axis, so that the sample has moved least between the low-light input and the
high-light target (Paper: Methods, "Data acquisition").  A time-lapse with even illumination is
the same order with one pattern and one level.

The model holds a ``useq.MDASequence`` for time, position and channel, which every useq tool can
edit, and the SIM plan as numbers.  It serialises to YAML; pixels are made when it is played.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import useq
from pydantic import Field, field_validator

from tisr_scope.errors import ProfileError
from tisr_scope.profiles.schema import (
    Frozen,
    IndexedPatterns,
    Laser,
    NonNegative,
    Positive,
    Preset,
    PresetPatterns,
    Profile,
    UploadedImages,
)
from tisr_scope.running_order.events import exposures
from tisr_scope.running_order.patterns import Pattern

Mode = Literal["paired", "timelapse"]
CHANNEL_GROUP = "tisr_scope"
"""Group name of the channels in useq: they are channels of the profile, not of a .cfg file."""


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What one frame is: its place in the running order and the light it took.

    ``time_s`` counts from the start of the recording; ``dose_mj`` is the energy that had left
    the laser at this position and in this channel when the frame was complete.
    """

    t: int
    channel: int
    position: int
    orientation: int
    phase: int
    level: int
    power_mw: float
    exposure_ms: float
    time_s: float
    dose_mj: float


class ChannelLight(Frozen):
    """Light of one channel of the running order."""

    name: str
    laser: Laser
    powers_mw: tuple[Positive, ...] = Field(min_length=1)
    """Laser power at each level."""
    pattern_period_um: Positive | None = None
    presets: tuple[Preset, ...] = ()


class RunningOrder(Frozen):
    """Every exposure of a run, in order."""

    mode: Mode
    sequence: useq.MDASequence
    """Time points, stage positions and channels."""
    exposure_ms: Positive
    interval_s: NonNegative
    angles_rad: tuple[float, ...] = ()
    """Carrier directions; none means even illumination."""
    phases: int = Field(default=1, ge=1)
    source: UploadedImages | PresetPatterns | IndexedPatterns | None = Field(
        default=None, discriminator="kind"
    )
    slm: str | None = None
    channels: tuple[ChannelLight, ...] = Field(min_length=1)

    @field_validator("sequence")
    @classmethod
    def _only_known_axes(cls, sequence: useq.MDASequence) -> useq.MDASequence:
        unknown = set(sequence.used_axes) - {"t", "p", "c"}
        if unknown:
            raise ValueError(f"axes {sorted(unknown)} cannot be recorded; use t, p and c")
        return sequence

    @property
    def time_points(self) -> int:
        """Number of time points."""
        return max(1, self.sequence.sizes.get("t", 1))

    @property
    def positions(self) -> int:
        """Number of stage positions, at least 1."""
        return max(1, self.sequence.sizes.get("p", 1))

    @property
    def orientations(self) -> int:
        """Number of pattern orientations; 1 for even illumination."""
        return max(1, len(self.angles_rad))

    @property
    def levels(self) -> int:
        """Number of laser levels."""
        return len(self.channels[0].powers_mw)

    @property
    def sim_frames(self) -> int:
        """Frames of one channel at one position and time point."""
        return self.orientations * self.phases * self.levels

    @property
    def exposures_per_time_point(self) -> int:
        """Frames of one time point, over all positions and channels."""
        return self.positions * len(self.channels) * self.sim_frames

    @property
    def exposures(self) -> int:
        """Frames of the whole run."""
        return self.time_points * self.exposures_per_time_point

    @property
    def idle_s(self) -> float:
        """Planned pause after a time point, in seconds."""
        return max(0.0, self.interval_s - self.exposures_per_time_point * self.exposure_ms / 1e3)

    @property
    def duration_s(self) -> float:
        """Shortest possible duration: exposures and intervals, no readout or stage movement."""
        exposing = self.exposures_per_time_point * self.exposure_ms / 1e3
        return (self.time_points - 1) * max(self.interval_s, exposing) + exposing

    def dose_mj(self) -> dict[str, float]:
        """Energy leaving each channel's laser at one position during exposures, in mJ."""
        repeats = self.time_points * self.orientations * self.phases
        return {
            channel.name: repeats * sum(channel.powers_mw) * self.exposure_ms / 1e3
            for channel in self.channels
        }

    def sim_index(self, orientation: int, phase: int, level: int) -> int:
        """Place of a frame on the flattened ``sim`` axis of the file."""
        return (orientation * self.phases + phase) * self.levels + level

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

    def events(
        self, slm_shape: tuple[int, int] | None = None, first_time_point: int = 0
    ) -> Iterator[useq.MDAEvent]:
        """One event per exposure, in order.

        Parameters
        ----------
        slm_shape : (height, width), optional
            SLM pixels; without it events carry pattern parameters but no images.
        first_time_point : int, optional
            Where to go on with an interrupted run; the clock then starts there.
        """
        return exposures(self, slm_shape, first_time_point)


def running_order(profile: Profile, mode: Mode) -> RunningOrder:
    """Running order of one mode of a profile.

    Raises
    ------
    ProfileError
        If the profile does not describe this mode, or has no way to light the sample evenly.
    """
    plan = profile.paired if mode == "paired" else profile.timelapse
    if plan is None:
        other = "timelapse" if mode == "paired" else "paired"
        raise ProfileError(
            f"profile {profile.name!r} has no {mode!r} section",
            where=mode,
            remedy=f"add a {mode!r} section to the profile, or record with mode {other!r}",
        )
    patterned = mode == "paired" or (
        profile.timelapse is not None and profile.timelapse.widefield == "pattern_mean"
    )
    illumination = profile.illumination
    source = illumination.source if illumination is not None else None
    if not patterned:
        _require_even_light(source)
    positions = [
        useq.AbsolutePosition(x=p.x_um, y=p.y_um, z=p.z_um, name=p.name) for p in profile.positions
    ]
    sequence = useq.MDASequence(
        axis_order=tuple("tpc"),
        time_plan=useq.TIntervalLoops(
            interval=timedelta(seconds=plan.interval_s), loops=plan.time_points
        ),
        stage_positions=tuple(positions),
        channels=tuple(
            useq.Channel(config=c.name, group=CHANNEL_GROUP, exposure=plan.exposure_ms)
            for c in profile.channels
        ),
    )
    return RunningOrder(
        mode=mode,
        sequence=sequence,
        exposure_ms=plan.exposure_ms,
        interval_s=plan.interval_s,
        angles_rad=illumination.angles_rad if patterned and illumination is not None else (),
        phases=illumination.phases if patterned and illumination is not None else 1,
        source=source,
        slm=profile.microscope.slm,
        channels=tuple(
            ChannelLight(
                name=c.name,
                laser=c.laser,
                powers_mw=c.levels_mw if mode == "paired" else (c.timelapse_mw,),
                pattern_period_um=c.pattern_period_um,
                presets=c.presets,
            )
            for c in profile.channels
        ),
    )


def frame_bytes(profile: Profile) -> int:
    """Size of one raw frame on disk."""
    height, width = profile.microscope.camera.frame_shape
    return 2 * height * width


def explain(profile: Profile, mode: Mode) -> str:
    """Say in words what a run exposes: order, exposures, duration, light dose, bytes.

    Raises
    ------
    ProfileError
        If the profile does not describe this mode.
    """
    order = running_order(profile, mode)
    camera = profile.microscope.camera
    steps = ["time point"]
    steps += ["stage position"] if order.positions > 1 else []
    steps += ["channel"] if len(order.channels) > 1 else []
    steps += ["orientation", "phase"] if order.angles_rad else []
    steps += ["laser level"] if order.levels > 1 else []
    light = (
        f"{order.orientations} orientations x {order.phases} phases x {order.levels} laser level(s)"
        if order.angles_rad
        else "one evenly lit exposure"
    )
    rhythm = (
        f"a new time point every {order.interval_s:g} s"
        if order.interval_s
        else "time points back to back"
    )
    lines = [
        f"{profile.name}, mode {mode}",
        f"  order        {' > '.join(steps)}   (the last one changes fastest)",
        f"  per channel  {light}, {order.exposure_ms:g} ms each",
        f"  exposures    {order.exposures} = {order.time_points} time points x "
        f"{order.positions} position(s) x {len(order.channels)} channel(s) x "
        f"{order.sim_frames} frame(s)",
        f"  duration     at least {_duration(order.duration_s)}, {rhythm}",
    ]
    doses = order.dose_mj()
    for channel in order.channels:
        powers = ", ".join(f"{power:g}" for power in channel.powers_mw)
        lines.append(
            f"  {channel.name:<12} {powers} mW: {doses[channel.name]:.4g} mJ leave "
            f"{channel.laser.device} during exposures, per position"
        )
    limit = profile.light_dose_limit_mj
    total = sum(doses.values())
    if limit is None:
        lines.append(f"  light dose   {total:.4g} mJ per position, no limit set")
    else:
        verdict = "within" if total <= limit * (1 + 1e-9) else "OVER"
        lines.append(
            f"  light dose   {total:.4g} mJ per position, {verdict} the limit of {limit:g}"
        )
    size = order.exposures * frame_bytes(profile)
    height, width = camera.frame_shape
    lines.append(f"  on disk      {_size(size)} ({height} x {width} pixels, 16 bit)")
    if order.interval_s and order.idle_s == 0:
        lines.append(
            "  note         a time point takes longer than the interval of "
            f"{order.interval_s:g} s: time points will follow back to back"
        )
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _size(size: float) -> str:
    units = ["TB", "GB", "MB", "kB", "bytes"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop()
    return f"{size:.3g} {units[-1]}"


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
