"""Which writes to devices could make light, found before any of them is made.

A laser's power is set by the running order alone.  Everything else that writes to devices (the
start-up of the ``.cfg``, settings of the profile or the command line, presets of channels and
patterns) is expanded into the single properties it sets, and each is looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pymmcore_plus import CFGGroup, Keyword
from pymmcore_plus.core import CMMCorePlus

from tisr_scope.acquisition.safety import LightGuard
from tisr_scope.errors import LightLimitExceeded
from tisr_scope.profiles.fields import Value, same_value
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.running_order.run_plan import ChannelLight

_PYTHON_DEVICE = "#py "
_STARTUP = f"preset {CFGGroup.System_Startup!s} of group {CFGGroup.System!s}"


@dataclass(frozen=True)
class Write:
    """One property that something sets."""

    device: str
    prop: str
    value: Value
    origin: str
    """What sets it, as named in errors."""

    @property
    def key(self) -> tuple[str, str]:
        """Device and property."""
        return self.device, self.prop

    def makes_light(self, guard: LightGuard) -> bool:
        """Whether this could turn a laser or a lamp on."""
        return guard.makes_light(self.device, self.prop, self.value)


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


def preset_writes(core: CMMCorePlus, guard: LightGuard, group: str, preset: str) -> list[Write]:
    """Properties that a preset sets; a light that is a state device is named as the guard does."""
    origin = f"preset {preset!r} of group {group!r}"
    found = []
    for device, prop, value in core.getConfigData(group, preset):
        write = Write(device, prop, value, origin)
        if prop == Keyword.Label and (device, str(Keyword.State)) in guard.dark:
            state = core.getStateFromLabel(device, value)
            write = Write(device, str(Keyword.State), state, origin)
        if prop == Keyword.State and (device, str(Keyword.Label)) in guard.dark:
            label = core.getStateLabels(device)[int(value)]
            write = Write(device, str(Keyword.Label), label, origin)
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
        if write.makes_light(guard):
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
        if write.makes_light(guard):
            raise LightLimitExceeded(
                f"{write.origin} would light a laser outside the running order",
                where=where,
                remedy="leave it out; the power of each exposure is levels_mw and timelapse_mw",
            )


def planned_by_preset(
    guard: LightGuard, writes: Iterable[Write], channels: Iterable[ChannelLight], where: str
) -> list[Write]:
    """Writes of a preset that make light as the plan does anyway, and are therefore left out.

    Parameters
    ----------
    guard : LightGuard
        Knows the lasers and lamps.
    writes : iterable of Write
        Of one preset.
    channels : iterable of ChannelLight
        Those exposed while the preset is in force.
    where : str
        Named in errors.

    Raises
    ------
    LightLimitExceeded
        If the preset sets a laser to a power that is not in the plan, or turns on another light.
    """
    planned = [(key, value) for channel in channels for key, value in _lit(channel)]
    repeated = []
    for write in writes:
        if not write.makes_light(guard):
            continue
        if not any(write.key == key and same_value(write.value, v) for key, v in planned):
            raise LightLimitExceeded(
                f"{write.origin} sets {write.device}.{write.prop} to {write.value}, which is "
                "no power of the plan",
                where=where,
                remedy="take the laser out of that preset in the .cfg: the running order sets it",
            )
        repeated.append(write)
    return repeated


def _lit(channel: ChannelLight) -> Iterator[tuple[tuple[str, str], Value]]:
    """What the running order sets to light a channel."""
    lasers = [(channel.laser, power) for power in channel.powers_mw]
    for laser, power in lasers + [(o.laser, o.power_mw) for o in channel.other_lasers]:
        if laser.group is None:
            yield laser.key, laser.value_of(power)
        if laser.enable is not None:
            yield (laser.enable.device, laser.enable.property), laser.enable.on
    for lamp in channel.lamps:
        yield (lamp.device, lamp.property), lamp.on
