"""Light off is the default state.

Limits are checked before light is set, the dose before it is given, and however a run ends
(finished, failed, cancelled, Ctrl-C, a termination signal, interpreter exit) the lasers go to
zero and the shutter closes.  A killed process or a dead computer cannot run code: for those the
laser needs a hardware gate (camera exposure output, watchdog or interlock).
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tisr_scope.cancel import cancellable, uninterrupted
from tisr_scope.errors import LightLimitExceeded
from tisr_scope.profiles.schema import Profile


class LightGuard:
    """Knows every laser of a profile and the power each may never exceed."""

    def __init__(self, profile: Profile) -> None:
        self.limits: dict[tuple[str, str], float] = {}
        for channel in profile.channels:
            key = (channel.laser.device, channel.laser.property)
            known = self.limits.get(key, channel.laser.hard_limit_mw)
            self.limits[key] = min(known, channel.laser.hard_limit_mw)

    @property
    def lasers(self) -> list[tuple[str, str]]:
        """Device and property of every laser."""
        return list(self.limits)

    def check(self, device: str, prop: str, power_mw: float) -> None:
        """Refuse a power that is over the limit, negative or not a number.

        Raises
        ------
        LightLimitExceeded
        """
        limit = self.limits[device, prop]
        if not 0 <= power_mw <= limit:
            raise LightLimitExceeded(
                f"{power_mw:g} mW was asked of {device}, its hard limit is {limit:g} mW",
                where=f"{device}.{prop}",
                remedy="lower the power in the profile; raise hard_limit_mw only if the sample "
                "and the laser class allow it",
            )


class DoseMeter:
    """Energy that left the lasers while frames were exposed, per position and channel.

    Parameters
    ----------
    limit_mj : float or None
        Most energy per position over all channels.
    """

    def __init__(self, limit_mj: float | None) -> None:
        self.limit_mj = limit_mj
        self._spent: dict[tuple[int, int], float] = {}

    def at_position(self, position: int) -> float:
        """Energy at a position over all channels, in mJ."""
        return sum(mj for (p, _), mj in self._spent.items() if p == position)

    def spent(self, position: int, channel: int) -> float:
        """Energy at a position in one channel, in mJ."""
        return self._spent.get((position, channel), 0.0)

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

    def charge(self, position: int, channel: int, energy_mj: float) -> float:
        """Add an exposure; returns the energy at this position and channel so far, in mJ."""
        key = (position, channel)
        self._spent[key] = self._spent.get(key, 0.0) + energy_mj
        return self._spent[key]


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
