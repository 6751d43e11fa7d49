"""A follower that is started again when it dies, hangs or fails.

A spare process of the same kind waits with its libraries loaded, so that the work goes on within a
few seconds.  A follower that fails again and again without a result in between is given up: its
error is shown, and the recording goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tisr_scope.child_process import ENDED, Child, Message, error_of
from tisr_scope.errors import TisrScopeError

STALLED_S = 2.0
"""Without a pulse for so long while following, a process is taken to hang."""
MOST_FAILURES = 3
"""In a row without progress, after which a follower is given up."""
PREPARE_S = 300.0
_TICK_S = 0.05


class Supervised:
    """One follower: its process, its spare and what it says.

    Parameters
    ----------
    name : str
        For messages.
    module, argument : str
        ``python -m module argument``.
    job : mapping
        First message to each process.
    progress : callable
        Number in a report that grows while the follower does its work.
    spare : bool
        Keep a process waiting.
    """

    def __init__(
        self,
        name: str,
        module: str,
        argument: str,
        job: Message,
        *,
        progress: Callable[[Message], int] = lambda _report: 0,
        spare: bool = True,
    ) -> None:
        self.name = name
        self.restarts = 0
        self.error: str | None = None
        """Why it was given up, in words."""
        self.notice: str | None = None
        """What happened to it last."""
        self.ready: Message | None = None
        self.report: Message = {}
        """The last thing said about the work, also by a process that has died."""
        self._module, self._argument, self._job = module, argument, job
        self._progress, self._keeps_spare = progress, spare
        self._folder: Path | None = None
        self._failures = 0
        self._best = -1
        self._last_error: str | None = None
        self._refused: TisrScopeError | None = None
        self._ended = threading.Event()
        self._known = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.RLock()
        self._spare: Child | None = None
        self._child = self._start()
        self._child.say(**job)
        self._watcher = threading.Thread(target=self._watch, name=f"tisr-{name}", daemon=True)
        self._watcher.start()

    def wait_ready(self, timeout_s: float = PREPARE_S) -> Message:
        """What it said when it was prepared.

        Raises
        ------
        TisrScopeError
            Why it cannot be.
        """
        if not self._known.wait(timeout_s) or (self.ready is None and self._refused is None):
            words = self._child.last_words
            raise TisrScopeError(
                f"the {self.name} process did not get ready" + (f": {words}" if words else ""),
                remedy="try again with --headless, or see whether the machine has memory left",
            )
        if self._refused is not None:
            raise self._refused
        assert self.ready is not None
        return self.ready

    def follow(self, folder: Path) -> None:
        """Follow a recording, also with every process to come."""
        with self._lock:
            self._folder = folder
            self._failures, self._best = 0, -1
            self.report, self.error, self.notice = {}, None, None
            self._ended.clear()
            self._child.say(follow=str(folder))
            if self._keeps_spare and self._spare is None:
                self._spare = self._start()

    def finish(self, within_s: float) -> None:
        """The recording has ended: serve what is left for so long; returns when that is done."""
        if self._folder is None or self.error is not None:
            return
        deadline = time.monotonic() + within_s + STALLED_S + 5.0
        self._child.say(finish_s=within_s)
        while not self._ended.wait(_TICK_S) and self.error is None:
            if time.monotonic() > deadline:
                self.error = f"the {self.name} did not end within {within_s:g} s"
                break
        with self._lock:
            self._folder = None
        if not self._ended.is_set():
            self._child.kill()

    def close(self) -> None:
        """End its processes."""
        with self._lock:
            self._closing.set()
            for child in (self._child, self._spare):
                if child is not None and child.alive:
                    child.close(5.0)

    @property
    def process_id(self) -> int:
        """Of the process that works now."""
        return self._child.process.pid

    def _start(self) -> Child:
        holder: list[Child] = []
        began = threading.Event()

        def listen(message: Message) -> None:
            began.wait(10)
            self._hear(holder[0], message)

        holder.append(Child(self._module, listen, [self._argument], humble=True))
        began.set()
        return holder[0]

    def _hear(self, child: Child, message: Message) -> None:
        if child is not self._child or message == ENDED:
            return
        state = message.get("state")
        if "ready" in message:
            self.ready = message["ready"]
            self._known.set()
        if "error" in message:
            self._fail(message)
            return
        if state in ("following", "ended") and len(message) > 1:
            self.report = message
            if self._progress(message) > self._best:
                self._best = self._progress(message)
                self._failures = 0
        if state == "ended":
            self._ended.set()

    def _fail(self, message: Message) -> None:
        found = error_of(message["error"])
        if self.ready is None:
            self._refused = found
            self._known.set()
            return
        self.notice = f"the {self.name} failed and is started again: {found.what}"
        self._last_error = str(found)
        if len(message) > 2:
            self.report = {key: value for key, value in message.items() if key != "error"}

    def _watch(self) -> None:
        while not self._closing.wait(_TICK_S):
            with self._lock:
                if self._closing.is_set():
                    return
                child = self._child
                silent = time.monotonic() - child.heard_s
                hangs = self._folder is not None and self.ready is not None
                hangs = hangs and child.alive and silent > STALLED_S and self._was_following
                if hangs:
                    self.notice = f"the {self.name} hung and is started again"
                    child.kill()
                if not child.alive:
                    self._replace(child)

    @property
    def _was_following(self) -> bool:
        return self.report.get("state") == "following"

    def _replace(self, dead: Child) -> None:
        """Let the spare go on, unless that is in vain."""
        if self.ready is None:
            self._known.set()  # refused, or died before it could say why
            self._closing.set()
            return
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            self.error = self._last_error or dead.last_words or "it was killed"
            self._closing.set()
            return
        self.restarts += 1
        if self.notice is None:
            self.notice = f"the {self.name} ended and is started again"
        self.report = {key: value for key, value in self.report.items() if key != "state"}
        self._child, self._spare = self._spare or self._start(), None
        self._child.say(**self._job)
        if self._folder is not None:
            self._child.say(follow=str(self._folder))
            if self._keeps_spare:
                self._spare = self._start()
