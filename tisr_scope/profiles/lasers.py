"""Light sources as Micro-Manager shows them: a power, a way to be off, perhaps an enable switch.

Powers in a profile are milliwatts in the sample.  What a device takes may be volts, percent, DAC
counts, named states or presets: ``calibration`` or ``steps`` say which milliwatts those are.
"""

from __future__ import annotations

import builtins
from bisect import bisect_left
from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from tisr_scope.profiles.fields import (
    Finite,
    Frozen,
    Name,
    NonNegative,
    Positive,
    Value,
    same_value,
)


class Switch(Frozen):
    """A property with a value that means on and one that means off."""

    device: Name
    property: Name
    on: Value
    off: Value


class Laser(Frozen):
    """One laser line, with the limit that is never exceeded.

    ``device.property`` takes the power in milliwatts, unless one of these says otherwise:

    ``calibration``
        ``[value, mW]`` pairs, rising, straight lines between them (volts, percent, DAC counts).
    ``steps``
        ``[mW, value]`` pairs: only these powers exist (states, labels).  With ``group`` the
        values are presets of that configuration group, and so is ``off_value``.
    """

    device: Name
    property: Name = "Power_mW"
    hard_limit_mw: Positive
    off_value: Value = 0
    """What the property is set to when the laser is to be dark."""
    enable: Switch | None = None
    """Emission or enable property, switched on after the power is set and off before it."""
    calibration: Annotated[tuple[tuple[Finite, NonNegative], ...], Field(min_length=2)] | None = (
        None
    )
    steps: Annotated[tuple[tuple[Positive, Value], ...], Field(min_length=1)] | None = None
    group: Name | None = None
    gated: bool = False
    """Whether the camera's exposure output gates the laser in hardware: light is then on during
    exposures only, and only they count as light dose."""

    @builtins.property
    def key(self) -> tuple[str, str]:
        """Device and property, which name the laser."""
        return self.device, self.property

    @model_validator(mode="after")
    def _one_scale(self) -> Laser:
        if self.calibration is not None and self.steps is not None:
            raise ValueError(f"{self.device}: give either 'calibration' or 'steps'")
        if self.group is not None and self.steps is None:
            raise ValueError(f"{self.device}: presets of a 'group' need 'steps'")
        if self.calibration is not None and any(
            b[0] <= a[0] or b[1] <= a[1] for a, b in pairwise(self.calibration)
        ):
            raise ValueError(f"{self.device}: 'calibration' must rise in both columns")
        return self

    def value_of(self, power_mw: float) -> Value:
        """What the device is set to for a power; 0 mW is ``off_value``.

        Raises
        ------
        ValueError
            If the laser has no such power.
        """
        if power_mw == 0:
            return self.off_value
        if self.steps is not None:
            for power, value in self.steps:
                if same_value(power, power_mw):
                    return value
            known = ", ".join(f"{power:g}" for power, _ in self.steps)
            raise ValueError(f"{self.device} has no step of {power_mw:g} mW, only {known}")
        if self.calibration is None:
            return power_mw
        powers = [power for _, power in self.calibration]
        if not powers[0] <= power_mw <= powers[-1]:
            raise ValueError(
                f"{power_mw:g} mW is outside the calibration of {self.device}, "
                f"{powers[0]:g} to {powers[-1]:g} mW"
            )
        upper = max(1, bisect_left(powers, power_mw))
        (x0, y0), (x1, y1) = self.calibration[upper - 1 : upper + 1]
        return x0 + (x1 - x0) * (power_mw - y0) / (y1 - y0)

    def is_off(self, value: Value) -> bool:
        """Whether a value of the power property means dark."""
        return same_value(value, self.off_value)

    def reads_off(self, value: Value) -> bool:
        """Whether what the device answers means dark; a measured power is never exactly nothing.

        Within one percent of the way from dark to the highest power it counts as dark.
        """
        top = self.calibration[-1][0] if self.calibration else self.hard_limit_mw
        try:
            reading, dark = float(value), float(self.off_value)
        except ValueError:
            return self.is_off(value)
        if self.steps is not None:
            return self.is_off(value)
        return abs(reading - dark) <= 0.01 * abs(top - dark)


class FixedLaser(Frozen):
    """A laser that shines at one power during every exposure of a channel (activation, bleach)."""

    laser: Laser
    power_mw: Positive

    @model_validator(mode="after")
    def _possible(self) -> FixedLaser:
        require_powers(self.laser, (self.power_mw,))
        return self


def require_powers(laser: Laser, powers_mw: tuple[float, ...]) -> None:
    """Refuse powers that a laser may not or cannot give.

    Raises
    ------
    ValueError
    """
    for power in powers_mw:
        if power > laser.hard_limit_mw:
            raise ValueError(
                f"{power:g} mW is over the hard limit of {laser.hard_limit_mw:g} mW of "
                f"{laser.device}"
            )
        if laser.is_off(laser.value_of(power)):
            raise ValueError(f"{power:g} mW of {laser.device} is what 'off_value' calls dark")
