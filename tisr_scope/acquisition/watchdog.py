"""A deadline for every call to a device.

A driver that does not return takes its thread with it.  The watchdog looks on from a thread of
its own: light that has been on for too long during one call is turned off by other threads, and
a call that passes its deadline ends the process with the reason, dark.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from tisr_scope.errors import DeviceTimeout
from tisr_scope.profiles.schema import Deadlines

LOOK_S = 0.02
CANCEL_S = 0.2
"""After a request to stop, how much longer than its exposure a call may keep the light on."""


HANGING = 75
"""Exit status of a process that was ended because a device did not answer."""


def end_process(reason: str) -> None:
    """End this process with a reason: a call that does not return cannot be ended without it."""
    error = DeviceTimeout(
        f"{reason}; the process was ended",
        where="microscope.deadlines",
        remedy="switch the device off and on, check its cable, then go on with --resume",
    )
    sys.stderr.write(f"error {error}\n")
    sys.stderr.flush()
    os._exit(HANGING)


class Call:
    """One call to a device that is going on."""

    def __init__(self, watchdog: Watchdog, what: str, limit_s: float, exposing_s: float) -> None:
        self.what = what
        self.late = self.stopped = self.darkened = False
        self._watchdog = watchdog
        self.began = time.monotonic()
        self.exposed = self.began + exposing_s
        self.due = self.exposed + limit_s

    def check(self) -> None:
        """Raise if the light had to be turned off during the call.

        Raises
        ------
        DeviceTimeout
        """
        if self.darkened:
            raise DeviceTimeout(
                f"{self.what}: no answer for {time.monotonic() - self.began:.2g} s, the light was "
                "turned off meanwhile",
                where="microscope.deadlines",
                remedy="check the device and its cable; if it is only slow, lengthen "
                "microscope.deadlines in the profile",
            )

    def __enter__(self) -> Call:
        self._watchdog.calls.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watchdog.calls.remove(self)
        if error is None:
            self.check()


class Watchdog:
    """Looks on while devices are called.

    Parameters
    ----------
    deadlines : Deadlines
        Of the profile.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self.calls: list[Call] = []

    def call(self, what: str, limit_s: float, exposing_s: float = 0.0) -> Call:
        """Context of one call.

        Parameters
        ----------
        what : str
            What is being done, for the error.
        limit_s : float
            How long it may take.
        exposing_s : float
            Exposure that is part of it, on top of the limit.
        """
        return Call(self, what, limit_s, exposing_s)

    @contextmanager
    def looking(
        self,
        shines: Callable[[], bool],
        dark: Callable[[], object],
        die: Callable[[str], object] = end_process,
        cancel: threading.Event | None = None,
    ) -> Iterator[None]:
        """Look on as long as the block lasts.

        Parameters
        ----------
        shines : callable
            Whether light may be on.
        dark : callable
            Turns it off from this thread, whatever the others are doing.
        die : callable
            Ends the process with a reason.
        cancel : threading.Event, optional
            Once it is set, light stays on for no longer than the exposure.
        """
        done = threading.Event()

        def look() -> None:
            while not done.wait(LOOK_S):
                now = time.monotonic()
                stopping = cancel is not None and cancel.is_set()
                for call in list(self.calls):
                    over = now - call.exposed
                    if over > self.deadlines.light_s and not call.late:
                        call.late = True
                        call.darkened = shines()
                        if call.darkened:
                            dark()
                    if stopping and over > CANCEL_S and not call.stopped:
                        call.stopped = True
                        call.darkened |= shines()
                        dark()
                    if now > call.due:
                        dark()
                        die(f"{call.what}: no answer for {now - call.began:.2g} s")

        looker = threading.Thread(target=look, name="tisr-watchdog", daemon=True)
        looker.start()
        try:
            yield
        finally:
            done.set()
            looker.join()
