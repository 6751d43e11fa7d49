"""Which writes to devices could make light, found before any of them is made.

A laser's power is set by the running order alone.  Everything else that writes to devices (the
start-up of the ``.cfg``, settings of the profile or the command line, presets of channels and
patterns) is expanded into the single properties it sets, and each is looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pymmcore_plus import CFGGroup, Keyword
from pymmcore_plus.core import CMMCorePlus

from tisr_scope.acquisition.safety import LightGuard
from tisr_scope.errors import LightLimitExceeded
from tisr_scope.profiles.schema import DeviceSetting

_PYTHON_DEVICE = "#py "
_STARTUP = f"preset {CFGGroup.System_Startup!s} of group {CFGGroup.System!s}"


@dataclass(frozen=True)
class Write:
    """One property that something sets."""

    device: str
    prop: str
    value: str | float | int
    origin: str
    """What sets it, as named in errors."""

    @property
    def key(self) -> tuple[str, str]:
        """Device and property."""
        return self.device, self.prop

    def is_number(self, number: float) -> bool:
        """Whether the value is this number."""
        try:
            return float(self.value) == number
        except ValueError:
            return False


def startup_writes(config_text: str) -> list[Write]:
    """Properties that loading a ``.cfg`` sets: its ``Property`` lines and the start-up preset."""
    found = []
    for number, raw in enumerate(config_text.splitlines(), start=1):
        command = raw.strip().removeprefix(_PYTHON_DEVICE).strip().split(",")
        if command[0] == "Property" and len(command) == 4:
            found.append(Write(command[1], command[2], command[3], f"line {number}"))
        if command[:3] == ["ConfigGroup", CFGGroup.System, CFGGroup.System_Startup]:
            device, prop, value = (*command[3:], "", "", "")[:3]
            found.append(Write(device, prop, value, f"line {number} ({_STARTUP})"))
    return found


def setting_writes(settings: Iterable[DeviceSetting]) -> list[Write]:
    """Properties that settings of the profile or the command line set."""
    return [
        Write(s.device, s.property, s.value, f"the setting {s.device}.{s.property} = {s.value}")
        for s in settings
    ]


def preset_writes(core: CMMCorePlus, group: str, preset: str) -> list[Write]:
    """Properties that a preset sets, labels of state devices as the state they mean."""
    origin = f"preset {preset!r} of group {group!r}"
    found = []
    for device, prop, value in core.getConfigData(group, preset):
        write = Write(device, prop, value, origin)
        if prop == Keyword.Label and core.hasProperty(device, Keyword.State):
            state = core.getStateFromLabel(device, value)
            write = Write(device, str(Keyword.State), state, origin)
        found.append(write)
    return found


def refuse_startup(guard: LightGuard, config_text: str, where: str) -> None:
    """Refuse a configuration that would light a laser while it is loaded.

    Devices that do not load after it would leave it lit, with nobody to turn it off.

    Raises
    ------
    LightLimitExceeded
    """
    for write in startup_writes(config_text):
        if write.key in guard.limits and not write.is_number(0):
            raise LightLimitExceeded(
                f"{write.origin} of the configuration sets {write.device}.{write.prop} to "
                f"{write.value}: a laser would shine while the microscope is loaded",
                where=where,
                remedy="set it to 0 in that line: the running order sets the power",
            )


def refuse_settings(guard: LightGuard, writes: Iterable[Write], where: str) -> None:
    """Refuse settings that set the power of a laser to anything but off.

    Raises
    ------
    LightLimitExceeded
    """
    for write in writes:
        if write.key in guard.limits and not write.is_number(0):
            raise LightLimitExceeded(
                f"{write.origin} would light a laser outside the running order",
                where=where,
                remedy="leave it out; the power of each exposure is levels_mw and timelapse_mw",
            )


def planned_by_preset(
    guard: LightGuard, writes: Iterable[Write], planned_mw: Iterable[float], where: str
) -> list[Write]:
    """Writes of a preset to a laser that repeat a power of the plan, and are therefore left out.

    Parameters
    ----------
    guard : LightGuard
        Knows the lasers.
    writes : iterable of Write
        Of one preset.
    planned_mw : iterable of float
        Powers the running order uses while the preset is in force.
    where : str
        Named in errors.

    Raises
    ------
    LightLimitExceeded
        If the preset sets a laser to a power that is not in the plan.
    """
    planned = tuple(planned_mw)
    repeated = []
    for write in writes:
        if write.key not in guard.limits or write.is_number(0):
            continue
        if not any(write.is_number(power) for power in planned):
            raise LightLimitExceeded(
                f"{write.origin} sets {write.device}.{write.prop} to {write.value}, which is "
                "no power of the plan",
                where=where,
                remedy="take the laser out of that preset in the .cfg: the running order sets it",
            )
        repeated.append(write)
    return repeated
