"""Controller, light and recorder in a process of their own: ``python -m`` this module.

Nothing else is in it: no network, no window, so that neither a fault of a graphics card nor one of
a window system can take the recording with it, or the code that turns the light off.  It obeys its
parent over standard input, and whoever may read its card over a command channel:

========== ==============================================================================
``record``  ``profile`` (YAML), ``out``, ``mode``, and as of :func:`acquire`: ``profile_path``,
            ``settings``, ``time_points``, ``resume``, ``bursts``
``stop``    after the current exposure; with ``at_once`` the light goes off now
``status``  what it does and has done
``quit``    stop, then end
========== ==============================================================================

When its parent dies it stops in the same way: dark, and everything exposed is kept.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.acquisition.command_channel import CommandServer
from tisr_scope.cancel import cancellable
from tisr_scope.child_process import ENDED, Message, Parent, error_message
from tisr_scope.errors import MicroscopeError
from tisr_scope.profiles.library import parse_profile
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.running_order.run_plan import FrameInfo

PULSE_S = 0.1


class AcquisitionProcess:
    """What runs in it.  The main thread records; commands come in threads of their own."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Message] = queue.Queue()
        self._cancel = threading.Event()
        self._quit = threading.Event()
        self._state = "idle"
        self._forget()
        self._server = CommandServer(self.answer)
        self._parent = Parent(self._obey)
        self._parent.say(commands=str(self._server.card))
        threading.Thread(target=self._pulse, name="tisr-pulse", daemon=True).start()

    def _forget(self) -> None:
        self._recorded = 0
        self._expected = 0
        self._first_s = self._last_s = 0.0
        self._dose: dict[int, dict[int, float]] = {}
        self._folder: str | None = None
        self._summary: Message | None = None
        self._error: Message | None = None

    def status(self) -> Message:
        """What it does and has done; ``first_s`` and ``last_s`` are of ``time.perf_counter``."""
        dose = max((sum(list(d.values())) for d in list(self._dose.values())), default=0.0)
        return {
            "state": self._state,
            "folder": self._folder,
            "recorded": self._recorded,
            "expected": self._expected,
            "first_s": self._first_s,
            "last_s": self._last_s,
            "dose_mj": dose,
            "summary": self._summary,
            "error": self._error,
        }

    def answer(self, request: Message) -> Message:
        """Do what is asked.

        Raises
        ------
        MicroscopeError
            If it cannot be done now, or is not known.
        """
        do = request.get("do")
        if do == "record":
            if self._state != "idle":
                raise MicroscopeError("the microscope is recording", remedy="stop it first")
            self._forget()
            self._cancel.clear()
            self._state = "preparing"
            self._jobs.put(request)
        elif do in ("stop", "quit"):
            self._cancel.set()
            if request.get("at_once"):
                # As by two signals: the light is locked off, the process ends within two seconds.
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGTERM)
            if do == "quit":
                self._quit.set()
        elif do != "status":
            raise MicroscopeError(f"{do!r} is no command of the acquisition process")
        return self.status()

    def run(self) -> None:
        """Record what is asked for, until told to quit."""
        with cancellable(self._quit):
            while not self._quit.is_set():
                try:
                    job = self._jobs.get(timeout=0.1)
                except queue.Empty:
                    continue
                self._record(job)
        self._server.close()

    def _record(self, job: Message) -> None:
        try:
            profile = parse_profile(job["profile"], job.get("profile_path") or "profile")
            path = job.get("profile_path")
            self._folder = job["out"]
            summary = acquire(
                profile,
                Path(job["out"]),
                job["mode"],
                profile_path=None if path is None else Path(path),
                settings=[DeviceSetting.model_validate(s) for s in job.get("settings", ())],
                on_frame=self._on_frame,
                progress=self._on_progress,
                cancel=self._cancel,
                time_points=job.get("time_points"),
                resume=bool(job.get("resume")),
                bursts=bool(job.get("bursts", True)),
            )
            self._summary = summary.as_dict()
        except BaseException as error:
            self._error = error_message(error)
            if not isinstance(error, Exception):
                self._quit.set()
        self._state = "idle"
        self._say_status()

    def _on_frame(self, info: FrameInfo, _frame: UInt16[np.ndarray, "y x"]) -> None:
        self._last_s = time.perf_counter()
        self._first_s = self._first_s or self._last_s
        self._dose.setdefault(info.position, {})[info.channel] = info.dose_mj
        self._state = "recording"

    def _on_progress(self, done: int, total: int) -> None:
        self._recorded, self._expected = done, total

    def _obey(self, request: Message) -> None:
        """The parent's commands; it has no use for answers, but for errors."""
        if request == ENDED:
            request = {"do": "quit"}
        try:
            self.answer(request)
        except Exception as error:
            self._parent.say(refused=error_message(error))

    def _pulse(self) -> None:
        while not self._quit.wait(PULSE_S):
            self._say_status()

    def _say_status(self) -> None:
        self._parent.say(status=self.status())


def main(_arguments: Any = None) -> None:
    """Entry point of the process."""
    AcquisitionProcess().run()


if __name__ == "__main__":
    main()
