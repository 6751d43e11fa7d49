"""Light off is the default state.

Limits are checked before light is set, the dose before it is given, and however a run ends
(finished, failed, cancelled, Ctrl-C, a termination signal, interpreter exit) the lasers go to
zero and the shutter closes.  A killed process or a dead computer cannot run code: for those the
laser needs a hardware gate (camera exposure output, watchdog or interlock).
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from tisr_scope.cancel import cancellable, uninterrupted
from tisr_scope.errors import LightLimitExceeded
from tisr_scope.profiles.fields import Value, same_value
from tisr_scope.profiles.lasers import Laser
from tisr_scope.profiles.schema import Profile
from tisr_scope.running_order.run_plan import FrameInfo

Spent = dict[tuple[int, int], float]
"""Energy in mJ by position and channel."""


class LightGuard:
    """Knows every laser of a profile, the power each may never exceed, and how each is dark."""

    def __init__(self, profile: Profile) -> None:
        self.lasers: dict[tuple[str, str], Laser] = {}
        self.dark: dict[tuple[str, str], Value] = {}
        """Every property that can make light, with the value that means none."""
        for channel in profile.channels:
            for laser in (channel.laser, *(other.laser for other in channel.other_lasers)):
                known = self.lasers.get(laser.key, laser)
                self.lasers[laser.key] = min(known, laser, key=lambda one: one.hard_limit_mw)
                if laser.group is None:
                    self.dark[laser.key] = laser.off_value
                if laser.enable is not None:
                    self.dark[laser.enable.device, laser.enable.property] = laser.enable.off
            for lamp in channel.lamps:
                self.dark[lamp.device, lamp.property] = lamp.off

    @property
    def devices(self) -> set[str]:
        """Labels of the devices that can make light."""
        return {device for device, _ in (*self.lasers, *self.dark)}

    def makes_light(self, device: str, prop: str, value: Value) -> bool:
        """Whether setting a property to a value can make light."""
        key = (device, prop)
        return key in self.dark and not same_value(value, self.dark[key])

    def check(self, device: str, prop: str, power_mw: float) -> None:
        """Refuse a power that is over the limit, negative or not a number.

        Raises
        ------
        LightLimitExceeded
        """
        limit = self.lasers[device, prop].hard_limit_mw
        if not 0 <= power_mw <= limit:
            raise LightLimitExceeded(
                f"{power_mw:g} mW was asked of {device}, its hard limit is {limit:g} mW",
                where=f"{device}.{prop}",
                remedy="lower the power in the profile; raise hard_limit_mw only if the sample "
                "and the laser class allow it",
            )


class DoseMeter:
    """Energy that left the lasers, per position and channel.

    Parameters
    ----------
    limit_mj : float or None
        Most energy per position over all channels.
    """

    def __init__(self, limit_mj: float | None) -> None:
        self.limit_mj = limit_mj
        self._measured: Spent = {}
        self._exposed: Spent = {}

    def at_position(self, position: int) -> float:
        """Energy at a position over all channels, in mJ."""
        return sum(self.spent(p, c) for p, c in self._measured if p == position)

    def spent(self, position: int, channel: int) -> float:
        """Energy at a position in one channel, in mJ.

        Light is on for the exposures at least, whatever the clock of a simulation says.
        """
        place = (position, channel)
        return max(self._measured.get(place, 0.0), self._exposed.get(place, 0.0))

    def require(self, position: int, energy_mj: float) -> None:
        """Refuse an exposure that would go over the limit.

        Raises
        ------
        LightLimitExceeded
        """
        total = self.at_position(position) + energy_mj
        # Rounding of many small sums must not stop a run planned to end exactly at the limit.
        if self.limit_mj is not None and total > self.limit_mj * (1 + 1e-9):
            raise LightLimitExceeded(
                f"position {position} would receive {total:.4g} mJ, "
                f"the limit is {self.limit_mj:g} mJ",
                where="light_dose_limit_mj",
                remedy="use fewer time points, less power or shorter exposures, or raise the "
                "limit in the profile",
            )

    def charge(
        self, position: int, channel: int, measured_mj: float, exposed_mj: float | None = None
    ) -> float:
        """Add light.

        Parameters
        ----------
        position, channel : int
            Where it went.
        measured_mj : float
            From the command to shine to the command to stop.
        exposed_mj : float, optional
            During exposures; as much as was measured by default.

        Returns
        -------
        float
            Energy at this position and channel so far, in mJ.
        """
        place = (position, channel)
        exposed = measured_mj if exposed_mj is None else exposed_mj
        self._measured[place] = self._measured.get(place, 0.0) + measured_mj
        self._exposed[place] = self._exposed.get(place, 0.0) + exposed
        return self.spent(position, channel)


def spent_light(journal: Iterable[FrameInfo]) -> Spent:
    """Energy at each position and channel by the end of a journal, in mJ."""
    spent: Spent = {}
    for entry in journal:
        place = (entry.position, entry.channel)
        spent[place] = max(spent.get(place, 0.0), entry.dose_mj)
    return spent


@contextmanager
def light_off_afterwards(
    light_off: Callable[[], None], cancel: threading.Event, dark: Callable[[], object]
) -> Iterator[None]:
    """Call ``light_off`` however the block ends, and turn signals into a clean cancel.

    Parameters
    ----------
    light_off : callable
        Turns everything off and says what it could not.
    cancel : threading.Event
        Set by a first signal (:mod:`tisr_scope.cancel`).
    dark : callable
        Turns the light off for good from any thread, called at a second signal.
    """
    with cancellable(cancel, dark=dark):
        atexit.register(light_off)
        try:
            yield
        finally:
            try:
                with uninterrupted():
                    light_off()
            finally:
                atexit.unregister(light_off)
