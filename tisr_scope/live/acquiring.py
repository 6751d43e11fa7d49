"""The acquisition process, seen by the process that started it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from tisr_scope.child_process import ENDED, Child, Message, error_of
from tisr_scope.errors import MicroscopeError, TisrScopeError
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.running_order.run_plan import RunPlan

MODULE = "tisr_scope.acquisition.acquisition_process"
_NOTHING: Message = {
    "state": "idle",
    "recorded": 0,
    "expected": 0,
    "first_s": 0.0,
    "last_s": 0.0,
    "dose_mj": 0.0,
    "summary": None,
    "error": None,
}


class Acquiring:
    """Starts runs, stops them, and knows how they stand.

    Attributes
    ----------
    status : dict
        What the process last said of itself.
    ended : threading.Event
        Set when no run is going on any more.
    error : TisrScopeError or None
        Why the last run ended early.
    card : Path or None
        Where its command channel is.
    """

    def __init__(self) -> None:
        self.status = dict(_NOTHING)
        self.ended = threading.Event()
        self.error: TisrScopeError | None = None
        self.card: Path | None = None
        self._asked_to_stop = False
        self._begun = False
        self._child = Child(MODULE, self._hear)

    @property
    def process_id(self) -> int:
        """Of the process."""
        return self._child.process.pid

    def record(
        self,
        plan: RunPlan,
        out: Path,
        *,
        profile_path: Path | None = None,
        settings: Sequence[DeviceSetting] = (),
    ) -> None:
        """Begin a run."""
        self.status, self.error, self._asked_to_stop = dict(_NOTHING), None, False
        self._begun = False
        self.ended.clear()
        if not self._child.alive:
            self._child = Child(MODULE, self._hear)
        self._child.say(
            do="record",
            profile=profile_yaml(plan.profile),
            profile_path=None if profile_path is None else str(Path(profile_path).absolute()),
            out=str(out),
            mode=plan.mode,
            settings=[setting.model_dump(mode="json") for setting in settings],
        )

    def stop(self, *, at_once: bool = False) -> None:
        """Ask for the end of the run; ``at_once`` does not wait for the exposure."""
        if at_once or not self._asked_to_stop:
            self._asked_to_stop = True
            self._child.say(do="stop", at_once=at_once)

    def close(self, patience_s: float = 30.0) -> None:
        """Let the process end; its light is off first, so it is never killed."""
        self._child.say(do="quit")
        self._child.leave(patience_s)

    def _hear(self, message: Message) -> None:
        if "commands" in message:
            self.card = Path(message["commands"])
        elif "refused" in message:
            self.error = error_of(message["refused"])
            self.ended.set()
        elif "status" in message:
            status = message["status"]
            self._begun = self._begun or status["state"] != "idle"
            if status["folder"] is not None or status["state"] != "idle":
                self.status = status
            if self._begun and status["state"] == "idle":
                if status["error"] is not None:
                    self.error = error_of(status["error"])
                self.ended.set()
        elif message == ENDED and not self.ended.is_set():
            words = self._child.last_words
            self.error = MicroscopeError(
                "the acquisition process ended" + (f": {words}" if words else ""),
                where=str(self.status.get("folder")),
                remedy="see that the light is off; go on with 'tisr acquire --resume'",
            )
            self.ended.set()
