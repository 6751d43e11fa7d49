"""The live run of another process, for a window of its own.

The window asks over the command channel what it may do and how things stand; images come from
shared memory.  A window that dies is nothing to the run, and another one can look at it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter

from tisr_scope.acquisition.command_channel import CommandClient, CommandServer
from tisr_scope.child_process import Message
from tisr_scope.errors import TisrScopeError
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.live.live_records import (
    AuditStatus,
    LiveResult,
    SessionStatus,
    SimImage,
    SimStatus,
)
from tisr_scope.live.live_view import LiveView
from tisr_scope.live.session import LiveSession
from tisr_scope.profiles.library import parse_profile
from tisr_scope.running_order.run_plan import RunPlan

ASK_S = 0.1
"""Between two questions how things stand."""
_GRID = TypeAdapter(Grid)
_STATUS = TypeAdapter(SessionStatus)
_SIM = TypeAdapter(SimStatus)
_AUDIT = TypeAdapter(AuditStatus)


class SessionServer:
    """Lets other processes of the same user see and steer a live run.

    Parameters
    ----------
    session : LiveSession
        Replaced by the next one when a client asks for another run.
    """

    def __init__(self, session: LiveSession) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._server = CommandServer(self._answer)

    @property
    def card(self) -> Path:
        """File that a client needs."""
        return self._server.card

    def close(self) -> None:
        """Answer no more."""
        self._server.close()

    def _answer(self, request: Message) -> Message:
        with self._lock:
            do, session = request["do"], self.session
            if do == "start":
                session.start()
            elif do == "stop":
                session.stop()
            elif do == "again":
                session = self.session = session.again()
            elif do != "status":
                raise TisrScopeError(f"{do!r} is no command of a live run")
            sim = session.sim_status()
            return {
                "status": asdict(session.status()),
                "sim": None if sim is None else asdict(sim),
                **session.description(),
            }


class RemoteSession:
    """A live run as the window sees it, over its command channel.

    Parameters
    ----------
    card : Path
        File of the :class:`SessionServer`.

    Raises
    ------
    MicroscopeError
        If nobody answers there.
    """

    def __init__(self, card: Path) -> None:
        self._card = card
        self._client = CommandClient(card)
        self._said: dict[str, Any] = {}
        self._asked_s = 0.0
        self._ask("status")
        self.plan = RunPlan(parse_profile(self._said["profile"], "profile"), "timelapse")
        self.out = Path(self._said["out"])
        self._view = LiveView(self.out, self.plan)

    def _ask(self, do: str) -> None:
        self._said = self._client.ask(do)
        self._asked_s = time.monotonic()

    def _refresh(self) -> None:
        if time.monotonic() - self._asked_s > ASK_S:
            self._ask("status")
            self._view.attach(self._said["rings"], self._said["sim_ring"])

    @property
    def name(self) -> str:
        """Name of the profile."""
        return self.plan.profile.name

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names."""
        return tuple(channel.name for channel in self.plan.channels)

    def grid(self, channel: int) -> Grid:
        """Sizes of the super-resolved images of a channel."""
        return _GRID.validate_python(self._said["grids"][channel])

    def start(self) -> None:
        """Begin, unless it has begun: a window may be opened on a running one."""
        if self.status().phase == "ready":
            self._ask("start")

    def stop(self) -> None:
        """Ask for a clean stop."""
        self._ask("stop")

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it has been reached."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.status().phase not in ("ready", "done", "failed"):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def again(self) -> RemoteSession:
        """A new run of the same kind, in a new folder."""
        self._ask("again")
        return RemoteSession(self._card)

    def status(self) -> SessionStatus:
        """Counters."""
        self._refresh()
        return _STATUS.validate_python(self._said["status"])

    def take(self, channel: int, position: int = 0) -> LiveResult | None:
        """Newest result not looked at yet."""
        self._refresh()
        return self._view.take(channel, position)

    def newest_widefield(
        self, channel: int, position: int = 0
    ) -> tuple[int, Float[np.ndarray, "y x"]] | None:
        """Newest camera image in photo-electrons, with its time point."""
        self._refresh()
        return self._view.newest_widefield(channel, position)

    def take_sim(self) -> SimImage | None:
        """Newest conventional SIM image not looked at yet."""
        self._refresh()
        return self._view.take_sim()

    def sim_status(self) -> SimStatus | None:
        """State of the conventional SIM; None where no patterns are exposed."""
        self._refresh()
        said = self._said["sim"]
        return None if said is None else _SIM.validate_python(said)

    def audit_status(self, channel: int) -> AuditStatus | None:
        """How much of what is shown is true; None where no patterns are exposed."""
        self._refresh()
        said = self._said["audit"].get(self.channels[channel])
        return None if said is None else _AUDIT.validate_python(said)

    def calibration_of(self, channel: int) -> str:
        """Say "calibrated", or why not."""
        self._refresh()
        return str(self._said["calibration"][channel])
