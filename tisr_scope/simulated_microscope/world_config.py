"""The world of a simulated microscope from the text of its configuration, without a core.

Used to look at the sample again after a run: what the devices would have set is applied to a
world of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from pymmcore_plus.experimental.unicore import Device

from tisr_scope.errors import MicroscopeError
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.simulated_microscope import devices
from tisr_scope.simulated_microscope.world import World, joined_world

_PREFIX = "#py "
# Recordings keep their configuration: those made before version 0.2 name the devices as they were.
_DEVICE_MODULES = (devices.__name__, "tisr_scope.simulation.devices")


def is_simulation(config_text: str) -> bool:
    """Whether a Micro-Manager configuration loads the simulated microscope."""
    return any(command[0] == "pyDevice" for command in _commands(config_text))


def load_world(
    config_text: str, settings: Iterable[DeviceSetting] = (), where: str = "configuration"
) -> tuple[World, dict[str, str]]:
    """The world a configuration describes, with device settings applied in order.

    Parameters
    ----------
    config_text : str
        Text of the ``.cfg`` file.
    settings : iterable of DeviceSetting
        Applied after it; those of devices that are not simulated are left out.
    where : str
        Named in errors.

    Returns
    -------
    world : World
    lines : dict
        Name of the laser line of each laser's device label.

    Raises
    ------
    MicroscopeError
        If it is no simulated microscope, or a setting is refused.
    """
    loaded: dict[str, Device] = {}
    world: World | None = None
    wanted: list[tuple[str, str, object]] = []
    with joined_world():
        for name, *rest in _commands(config_text):
            if name == "pyDevice":
                label, _, class_name = rest
                device = loaded[label] = getattr(devices, class_name)()
                if isinstance(device, devices.WorldDevice):
                    world = device.world
            else:
                wanted.append((rest[0], rest[1], rest[2]))
    if world is None:
        raise MicroscopeError(
            "the configuration loads no simulated World",
            where=where,
            remedy="give a recording made with a simulated microscope",
        )
    wanted += [(s.device, s.property, s.value) for s in settings]
    for label, prop, value in wanted:
        if label in loaded:
            try:
                loaded[label].set_property_value(prop, value)
            except (KeyError, ValueError) as error:
                raise MicroscopeError(
                    f"the setting {label}.{prop} = {value!r} is refused: {error}",
                    where=where,
                    remedy="correct the configuration or the profile's settings",
                ) from error
    lines = {
        label: device.LINE for label, device in loaded.items() if isinstance(device, devices.Laser)
    }
    return world, lines


def _commands(config_text: str) -> list[list[str]]:
    """Commands that load simulated devices or set a property, split at the commas."""
    commands = []
    for line in config_text.splitlines():
        command = line.strip().removeprefix(_PREFIX).strip().split(",")
        simulated = len(command) == 4 and command[0] == "pyDevice" and command[2] in _DEVICE_MODULES
        if simulated or (len(command) == 4 and command[0] == "Property"):
            commands.append(command)
    return commands
