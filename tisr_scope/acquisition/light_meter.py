"""How long light was on and how much energy left the lasers, from command to command."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


class LightMeter:
    """Adds up power times time between the commands that change the light.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._power_mw = 0.0
        self._shines = False
        self._since = clock()
        self._energy_mj = 0.0
        self._on_s = 0.0

    def set(self, power_mw: float, shines: bool) -> None:
        """Light is this from now on."""
        self._advance()
        self._power_mw, self._shines = power_mw, shines

    def add(self, energy_mj: float, on_s: float) -> None:
        """Light that was on without a command, in a burst."""
        self._energy_mj += energy_mj
        self._on_s += on_s

    def take(self) -> tuple[float, float]:
        """Energy in mJ and seconds of light since the last time this was asked."""
        self._advance()
        taken = self._energy_mj, self._on_s
        self._energy_mj = self._on_s = 0.0
        return taken

    def _advance(self) -> None:
        now = self.clock()
        if self._shines:
            self._energy_mj += self._power_mw * (now - self._since)
            self._on_s += now - self._since
        self._since = now


class BurstLight:
    """Light of lasers that the camera's trigger steps, which no command tells the meter of.

    Each power lasts from its trigger to the next one, the last until the command to go dark.
    Triggers follow evenly from the first frame to the end of the burst, because frames may be
    fetched in heaps.

    Parameters
    ----------
    meter : LightMeter
        What the light is added to: an exposure's worth with each frame, the rest at the end.
    powers_mw : sequence of float
        One for each exposure of the burst.
    exposure_s : float
        Length of an exposure.
    """

    def __init__(self, meter: LightMeter, powers_mw: Sequence[float], exposure_s: float) -> None:
        self._meter = meter
        self._powers = powers_mw
        self._exposure_s = exposure_s
        self._arrivals: list[float] = []
        self._ended = False

    def frame(self) -> None:
        """The next frame has arrived."""
        power = self._powers[len(self._arrivals)]
        self._arrivals.append(self._meter.clock())
        if not self._ended:
            self._meter.add(power * self._exposure_s, self._exposure_s if power else 0.0)

    def end(self, exposed: int, over_s: float) -> None:
        """It is dark now; ``exposed`` exposures were over at ``over_s`` on the meter's clock."""
        self._ended = True
        powers = self._powers[:exposed]
        if not any(powers):
            return
        period = self._exposure_s
        if len(powers) > 1 and self._arrivals:
            period = max(period, (over_s - self._arrivals[0]) / (len(powers) - 1))
        tail_s = max(0.0, self._meter.clock() - over_s)
        counted = self._powers[: len(self._arrivals)]
        self._meter.add(
            sum(powers) * period + powers[-1] * tail_s - sum(counted) * self._exposure_s,
            len(powers) * period + tail_s - len(counted) * self._exposure_s,
        )
