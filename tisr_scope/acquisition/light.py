"""Everything that can shine, and the one way to turn it on and off.

Lasers, lamps and shutters are written to here and nowhere else.  Power is checked against its
hard limit before every write; light goes on last (shutter, then power, then emission) and off
first (emission, power, shutter).  Off is read back from the devices.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial

from pymmcore_plus import DeviceType
from pymmcore_plus.core import CMMCorePlus

from tisr_scope.acquisition.light_meter import LightMeter
from tisr_scope.acquisition.safety import LightGuard
from tisr_scope.errors import MicroscopeError
from tisr_scope.profiles.fields import Value, same_value
from tisr_scope.profiles.lasers import Laser, Switch
from tisr_scope.profiles.schema import Profile

Key = tuple[str, str]
Write = tuple[str, str, Value]
_MAY_SWITCH_LIGHT = (DeviceType.Generic, DeviceType.State, DeviceType.SignalIO)
BY_HAND = "turn the laser off by hand NOW, then check its connection"


class LightLocked(MicroscopeError):
    """Light was asked for after it had been turned off for good."""


class Light:
    """Lasers, lamps and shutters of a loaded microscope.

    Parameters
    ----------
    core : CMMCorePlus
        With the configuration loaded.
    profile : Profile
        Names what shines and how.
    config : str
        Named in errors.
    set_value : callable
        Sets a property and waits for the device, or raises :class:`MicroscopeError`.
    calling : callable
        Context of a call to a device, which takes what the error would say.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        profile: Profile,
        config: str,
        set_value: Callable[[str, str, Value], None],
        calling: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        self.guard = LightGuard(profile)
        self.meter = LightMeter()
        self.unverified: set[str] = set()
        """Devices that were told to go dark and cannot be asked whether they are."""
        self.measures = True
        """Whether light is timed by the clock on the wall; not where a sample has its own."""
        self._core = core
        self._config = config
        self._set_value = set_value
        self._calling = calling
        self._locked = threading.Event()
        self._lamps = {c.name: c.lamps for c in profile.channels}
        shutter = profile.microscope.shutter
        named = (shutter,) if shutter is not None else ()
        self._shutters = {c.name: (*named, *c.shutters) for c in profile.channels}
        self._before_presets: dict[Key, Value] = {}
        self._opened_by_presets: set[str] = set()
        for laser in self.lasers.values():
            for device, prop, value in self._writes(laser, 0.0):
                self.guard.dark.setdefault((device, prop), value)
        self.forget()

    # ----------------------------------------------------------------------------- what there is

    @property
    def lasers(self) -> dict[Key, Laser]:
        """Every laser by device and property."""
        return self.guard.lasers

    @property
    def shutters(self) -> list[str]:
        """Every shutter that a channel or a preset opens."""
        named = [label for some in self._shutters.values() for label in some]
        return list(dict.fromkeys((*named, *self._opened_by_presets)))

    @property
    def lamps(self) -> list[Switch]:
        """Every lamp of a channel."""
        return list(dict.fromkeys(lamp for some in self._lamps.values() for lamp in some))

    def forget(self) -> None:
        """Assume nothing about what is on."""
        self._powers: dict[Key, float | None] = dict.fromkeys(self.lasers)
        self._open: str | None = None
        """Channel whose shutters are open and lamps are on."""

    # ----------------------------------------------------------------------------------- on

    def open(self, channel: str) -> None:
        """Open the shutters and turn on the lamps of a channel; lasers come after."""
        if self._open == channel:
            return
        self._require_unlocked()
        if self._open is not None:
            self.close()
        self._open = channel
        for label in self._shutters[channel]:
            self._move_shutter(label, True)
        for lamp in self._lamps[channel]:
            self._set_value(lamp.device, lamp.property, lamp.on)
        self._measure()

    def set_powers(self, powers_mw: Sequence[tuple[Key, float]]) -> None:
        """Set lasers, those that go dark first, so that two never shine at once by accident.

        Raises
        ------
        LightLimitExceeded
            Before anything is set.
        """
        for key, power in powers_mw:
            self.guard.check(*key, power)
        for key, power in sorted(powers_mw, key=lambda entry: entry[1] > 0):
            if self._powers[key] != power:
                self._set_power(key, power)

    def _set_power(self, key: Key, power_mw: float) -> None:
        if power_mw > 0:
            self._require_unlocked()
        self._powers[key] = None
        for write in self._writes(self.lasers[key], power_mw):
            self._set_value(*write)
        self._powers[key] = power_mw
        self._measure()

    def armed(self, key: Key) -> None:
        """The power of this laser follows the camera's trigger from now on."""
        self._powers[key] = None

    # ----------------------------------------------------------------------------------- off

    def dark(self) -> None:
        """Lasers that may be on go dark, before anything else moves."""
        self.set_powers([(key, 0.0) for key, power in self._powers.items() if power != 0])

    def close(self) -> None:
        """Lamps off and shutters closed."""
        channel, self._open = self._open, None
        if channel is not None:
            for lamp in self._lamps[channel]:
                self._set_value(lamp.device, lamp.property, lamp.off)
            for label in self._shutters[channel]:
                self._move_shutter(label, False)
        self._measure()

    def remember(self, keys: Sequence[Key]) -> None:
        """Keep what a preset is about to change: :meth:`off` puts it back.

        A preset may open a shutter or turn on a lamp that no channel names.
        """
        for device, prop in keys:
            if (device, prop) in self._before_presets or (device, prop) in self.guard.dark:
                continue
            kind = self._core.getDeviceType(device)
            if kind == DeviceType.Shutter:
                self._opened_by_presets.add(device)
            elif kind in _MAY_SWITCH_LIGHT:
                self._before_presets[device, prop] = self._core.getProperty(device, prop)

    def _undo_presets(self) -> None:
        for key, value in reversed(list(self._before_presets.items())):
            try:
                self._set_value(*key, value)
            except MicroscopeError:
                self.unverified.add(f"{key[0]}.{key[1]}")
                del self._before_presets[key]

    def off(self) -> None:
        """Everything off, whatever it is thought to be, and read back.

        Every step is tried even if another fails.

        Raises
        ------
        MicroscopeError
            Naming each device that did not go dark.
        """
        problems: list[str] = []
        for step in self._off_steps():
            _try(problems, step)
        self.forget()
        self._undo_presets()
        problems += self.lit()
        self._before_presets.clear()
        self._opened_by_presets.clear()
        self._measure()
        if problems:
            raise MicroscopeError(
                f"light may still be on: {'; '.join(problems)}", where=self._config, remedy=BY_HAND
            )
        self._powers = dict.fromkeys(self.lasers, 0.0)

    def lit(self) -> list[str]:
        """Ask every device whether it is dark; those that are not, and say so."""
        found = []
        for device, prop, dark in self._dark_values():
            try:
                reading = self._core.getProperty(device, prop)
            except Exception:
                self.unverified.add(f"{device}.{prop}")
                continue
            if not dark(reading):
                found.append(f"{device}.{prop} reads {reading} after it was turned off")
        for label in self.shutters:
            try:
                is_open = self._core.getShutterOpen(label)
            except Exception:
                self.unverified.add(label)
                continue
            if is_open:
                found.append(f"shutter {label!r} reads open after it was closed")
        return found

    def require_dark(self) -> None:
        """Raise if a laser that was turned off still shines, by its own account.

        Raises
        ------
        MicroscopeError
        """
        found = []
        for key, laser in self.lasers.items():
            with suppress(Exception):
                reading = self._core.getProperty(*key)
                if laser.group is None and not laser.reads_off(reading):
                    found.append(f"{key[0]}.{key[1]} reads {reading} after it was turned off")
        if found:
            raise MicroscopeError(
                f"light may still be on: {'; '.join(found)}", where=self._config, remedy=BY_HAND
            )

    def lock_dark(self, patience_s: float = 1.0) -> list[str]:
        """Turn the light off for good, from any thread, whatever else is going on.

        Every device has a thread of its own, so that one that does not answer keeps no other
        one lit.

        Returns
        -------
        list of str
            What could not be turned off within ``patience_s``.
        """
        self._locked.set()
        problems: list[str] = []
        threads = [
            threading.Thread(target=_try, args=(problems, step), daemon=True)
            for step in self._off_steps()
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + patience_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        silent = sum(thread.is_alive() for thread in threads)
        return problems + ([f"{silent} device(s) did not answer"] if silent else [])

    def shines(self) -> bool:
        """Whether light may be on and has not been locked off."""
        return (
            not self._locked.is_set()
            and self._open is not None
            and (
                any(power != 0 for power in self._powers.values()) or bool(self._lamps[self._open])
            )
        )

    def unlock(self) -> None:
        """Allow light again after :meth:`lock_dark`."""
        self.forget()
        self._locked.clear()

    # ----------------------------------------------------------------------------------- inside

    def _off_steps(self) -> Iterator[Callable[[], object]]:
        """What turns everything off: lasers, lamps, shutters."""
        for laser in self.lasers.values():
            yield partial(self._laser_off, laser)
        for lamp in self.lamps:
            yield partial(self._set_value, lamp.device, lamp.property, lamp.off)
        for label in self.shutters:
            yield partial(self._move_shutter, label, False)

    def _laser_off(self, laser: Laser) -> None:
        with suppress(Exception):
            if self._core.isPropertySequenceable(*laser.key):
                self._core.stopPropertySequence(*laser.key)
        problems: list[str] = []
        for write in self._writes(laser, 0.0):
            _try(problems, partial(self._set_value, *write))
        if problems:
            raise MicroscopeError("; ".join(problems))

    def _writes(self, laser: Laser, power_mw: float) -> list[Write]:
        """Properties that make a laser shine with a power, or go dark, in order."""
        value = laser.value_of(power_mw)
        if laser.group is not None:
            return [(d, p, v) for d, p, v in self._core.getConfigData(laser.group, str(value))]
        power = (*laser.key, value)
        if laser.enable is None:
            return [power]
        switch = (laser.enable.device, laser.enable.property)
        return (
            [power, (*switch, laser.enable.on)]
            if power_mw
            else [
                (*switch, laser.enable.off),
                power,
            ]
        )

    def _dark_values(self) -> Iterator[tuple[str, str, Callable[[Value], bool]]]:
        """Properties that tell whether light is off, and what they answer then."""
        for laser in self.lasers.values():
            if laser.group is None:
                yield (*laser.key, laser.reads_off)
            for device, prop, value in self._writes(laser, 0.0):
                if (device, prop) != laser.key:
                    yield device, prop, partial(same_value, value)
        for lamp in self.lamps:
            yield lamp.device, lamp.property, partial(same_value, lamp.off)
        for key, value in self._before_presets.items():
            yield (*key, partial(same_value, value))

    def _move_shutter(self, label: str, is_open: bool) -> None:
        with self._calling(f"shutter {label!r} did not {'open' if is_open else 'close'}"):
            self._core.setShutterOpen(label, is_open)
            self._core.waitForDevice(label)

    def _measure(self) -> None:
        """Tell the meter what shines now; a burst's powers are added when it is over."""
        way_free = not self.shutters or self._open is not None
        lit = [p for k, p in self._powers.items() if p and not self.lasers[k].gated]
        lamp_on = self._open is not None and bool(self._lamps[self._open])
        self.meter.set(sum(lit), self.measures and way_free and (bool(lit) or lamp_on))

    def _require_unlocked(self) -> None:
        if self._locked.is_set():
            raise LightLocked(
                "the light is locked off",
                where=self._config,
                remedy="the run is being ended; go on with --resume",
            )


def _try(problems: list[str], action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:
        problems.append((str(error) or type(error).__name__).splitlines()[0])
