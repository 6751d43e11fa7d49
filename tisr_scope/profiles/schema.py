"""An acquisition profile: optics, illumination, light, timing, and nothing that runs.

Every model is frozen and refuses unknown keys, so that a typing error is found before the laser
is switched on.  Units are in the names.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tisr_scope.profiles.fields import Finite, Name, Value
from tisr_scope.profiles.fields import Frozen as Frozen
from tisr_scope.profiles.fields import NonNegative as NonNegative
from tisr_scope.profiles.fields import Positive as Positive
from tisr_scope.profiles.lasers import FixedLaser, Switch, require_powers
from tisr_scope.profiles.lasers import Laser as Laser


class DeviceSetting(Frozen):
    """A device property set once, before the run."""

    device: Name
    property: Name
    value: Value


class Preset(Frozen):
    """A preset of a Micro-Manager configuration group."""

    group: Name
    preset: Name


class Camera(Frozen):
    """The camera, and what turns its counts into photo-electrons.

    electrons = (counts - offset_adu) * electrons_per_adu
    """

    device: Name
    frame_shape: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]
    """Height and width of a frame in pixels."""
    offset_adu: NonNegative = 100.0
    electrons_per_adu: Positive = 0.46
    saturation_adu: Positive = 65535.0


class Deadlines(Frozen):
    """How long a call to a device may take before it counts as hanging.

    A call that does not return in time ends the run, dark.  Where light is on, it goes off
    ``light_s`` after the exposure should have been over, whatever the call.
    """

    camera_s: Positive = 3.0
    """From the end of the exposure to the frame."""
    slm_s: Positive = 3.0
    stage_s: Positive = 20.0
    other_s: Positive = 5.0
    """Lasers, shutters, filters, presets."""
    light_s: Positive = 0.8


class Microscope(Frozen):
    """Micro-Manager configuration and the devices the running order drives."""

    config: Name
    """A ``.cfg`` file: absolute, beside the profile, or one shipped with the package."""
    camera: Camera
    slm: str | None = None
    shutter: str | None = None
    xy_stage: str | None = None
    z_stage: str | None = None
    settings: tuple[DeviceSetting, ...] = ()
    deadlines: Deadlines = Deadlines()


class Optics(Frozen):
    """Detection side of the microscope."""

    numerical_aperture: Annotated[float, Field(gt=0, lt=2)]
    immersion_index: Annotated[float, Field(ge=1, lt=2)] = 1.515
    pixel_size_um: Positive
    """Camera pixel in the sample, in micrometres."""

    @field_validator("pixel_size_um")
    @classmethod
    def _plausible(cls, size: float) -> float:
        if size > 2:
            raise ValueError(
                f"a pixel of {size:g} um in the sample is too large for any microscope; "
                f"did you mean {size / 1000:g} (from {size:g} nm)?"
            )
        return size


class UploadedImages(Frozen):
    """Patterns are computed and uploaded to the SLM as 8-bit images."""

    kind: Literal["image"] = "image"
    slm_pixel_um: Positive
    """One SLM pixel in the sample, in micrometres."""


class PresetPatterns(Frozen):
    """Each pattern is a preset of one configuration group, orientation by orientation."""

    kind: Literal["preset"]
    group: Name
    presets: tuple[Name, ...]
    widefield_preset: Name | None = None


class IndexedPatterns(Frozen):
    """Patterns live in the SLM's firmware and are chosen by a running-order index."""

    kind: Literal["index"]
    device: Name
    property: Name
    first: Annotated[int, Field(ge=0)] = 0
    widefield_index: Annotated[int, Field(ge=0)] | None = None


class Illumination(Frozen):
    """The structured illumination, without the per-channel period."""

    angles_rad: Annotated[tuple[Finite, ...], Field(min_length=1)]
    """Direction of the carrier of each orientation: (x, y) = (cos, sin)."""
    phases: Annotated[int, Field(ge=3)]
    source: Annotated[
        UploadedImages | PresetPatterns | IndexedPatterns, Field(discriminator="kind")
    ]

    @property
    def orientations(self) -> int:
        """Number of pattern orientations."""
        return len(self.angles_rad)

    @property
    def patterns(self) -> int:
        """Number of patterns: orientations times phases."""
        return self.orientations * self.phases

    @field_validator("angles_rad")
    @classmethod
    def _distinct(cls, angles: tuple[float, ...]) -> tuple[float, ...]:
        folded = sorted(a % math.pi for a in angles)
        if len(folded) > 1:
            gaps = [b - a for a, b in zip(folded, [*folded[1:], folded[0] + math.pi], strict=True)]
            if min(gaps) < 0.05:
                raise ValueError("two orientations are the same direction modulo pi")
        return angles

    @model_validator(mode="after")
    def _preset_count(self) -> Illumination:
        if isinstance(self.source, PresetPatterns) and len(self.source.presets) != self.patterns:
            raise ValueError(
                f"{self.patterns} patterns need {self.patterns} presets, "
                f"{len(self.source.presets)} are listed"
            )
        return self


class Channel(Frozen):
    """One colour."""

    name: Name
    excitation_nm: Positive
    emission_nm: Positive
    laser: Laser
    levels_mw: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=4)]
    """Laser power at each level of the running order, rising."""
    timelapse_mw: Positive
    """Laser power of the low-light time-lapse."""
    pattern_period_um: Positive | None = None
    """Period of the illumination in the sample; needed wherever there are patterns."""
    presets: tuple[Preset, ...] = ()
    """Presets applied when the channel is chosen (filter, dichroic, polariser)."""
    other_lasers: tuple[FixedLaser, ...] = ()
    """Further lasers that shine during every exposure of the channel."""
    lamps: tuple[Switch, ...] = ()
    """Light without a power, on during the exposures of the channel."""
    shutters: tuple[Name, ...] = ()
    """Shutters opened for the channel besides ``microscope.shutter``."""

    @model_validator(mode="after")
    def _light(self) -> Channel:
        if any(b <= a for a, b in zip(self.levels_mw, self.levels_mw[1:], strict=False)):
            raise ValueError(f"levels_mw must rise strictly, got {list(self.levels_mw)}")
        require_powers(self.laser, (*self.levels_mw, self.timelapse_mw))
        return self


class Paired(Frozen):
    """The escalating-intensity running order that gives training pairs."""

    time_points: Annotated[int, Field(ge=1)] = 20
    interval_s: NonNegative = 0.0
    """From the start of one time point to the next; 0 means back to back."""
    exposure_ms: Positive


class Timelapse(Frozen):
    """The long low-light recording that the network super-resolves."""

    time_points: Annotated[int, Field(ge=1)]
    interval_s: NonNegative = 0.0
    exposure_ms: Positive
    widefield: Literal["single", "pattern_mean"] = "single"
    """One evenly lit frame, or all patterns, averaged afterwards."""


class Position(Frozen):
    """A stage position in micrometres."""

    x_um: Finite
    y_um: Finite
    z_um: Finite | None = None
    name: str | None = None


class Profile(Frozen):
    """A whole acquisition, ready to be checked, explained and run."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    microscope: Microscope
    optics: Optics
    illumination: Illumination | None = None
    """Absent on a microscope without structured illumination: time-lapses only."""
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)]
    paired: Paired | None = None
    timelapse: Timelapse | None = None
    positions: tuple[Position, ...] = ()
    light_dose_limit_mj: Positive | None = None
    """Energy that may leave the lasers in one run, per position, in millijoules."""
    output: str = "recordings/{profile}_{mode}_{date}_{time}"
    """Where recordings go when the command line names no folder."""
    model: str | None = None
    """Bundle used live."""

    def timing(self, mode: Literal["paired", "timelapse"]) -> Paired | Timelapse | None:
        """The section of a mode, if the profile has it."""
        return self.paired if mode == "paired" else self.timelapse

    def patterned(self, mode: Literal["paired", "timelapse"]) -> bool:
        """Whether a mode exposes illumination patterns, instead of even light."""
        if mode == "paired":
            return self.paired is not None
        return self.timelapse is not None and self.timelapse.widefield == "pattern_mean"

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        names = [c.name for c in self.channels]
        if len(set(names)) != len(names):
            raise ValueError(f"channel names must differ, got {names}")
        if self.paired is None and self.timelapse is None:
            raise ValueError("a profile needs 'paired', 'timelapse', or both")
        patterned = self.patterned("paired") or self.patterned("timelapse")
        if patterned and self.illumination is None:
            raise ValueError("patterns are asked for, but there is no 'illumination'")
        if self.illumination is not None:
            for channel in self.channels:
                if channel.pattern_period_um is None:
                    raise ValueError(f"channel {channel.name!r} needs pattern_period_um")
                if channel.pattern_period_um < channel.excitation_nm * 1e-3 / (
                    2 * self.optics.immersion_index
                ):
                    raise ValueError(
                        f"pattern_period_um of {channel.name!r} is below lambda / (2 n): "
                        "no such interference pattern exists"
                    )
            if self.illumination.source.kind == "image" and self.microscope.slm is None:
                raise ValueError("uploaded patterns need 'microscope.slm'")
        if self.positions and self.microscope.xy_stage is None:
            raise ValueError("positions need 'microscope.xy_stage'")
        return self
