"""Two processes of one run: the parent starts the child, and they exchange lines of JSON.

The child reads its standard input and writes to what was its standard output; whatever a library
prints goes to standard error.  When the parent dies, however it dies, the input ends and the child
knows.  A child is a fresh interpreter (no fork: neither a CUDA context nor a driver survives one),
in a session of its own, so that Ctrl-C in the terminal is heard by the parent alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tisr_scope import errors
from tisr_scope.errors import TisrScopeError

Message = dict[str, Any]
_KEPT_LINES = 40
ENDED: Message = {"ended": True}
"""What a listener gets last: the other side has gone."""


def error_message(error: BaseException) -> Message:
    """An error as a message."""
    if isinstance(error, TisrScopeError):
        kind, what = type(error).__name__, error.what
        return {"kind": kind, "what": what, "where": error.where, "remedy": error.remedy}
    return {"kind": "TisrScopeError", "what": f"{type(error).__name__}: {error}"}


def error_of(message: Message) -> TisrScopeError:
    """The error that a message tells of."""
    kind = getattr(errors, str(message["kind"]), TisrScopeError)
    found: TisrScopeError = kind(
        str(message["what"]), where=message.get("where"), remedy=message.get("remedy")
    )
    return found


class Parent:
    """The child's end.

    Parameters
    ----------
    listen : callable
        Takes every message of the parent, in a thread of its own; :data:`ENDED` at last.
    """

    def __init__(self, listen: Callable[[Message], None]) -> None:
        self._lock = threading.Lock()
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._listen = listen
        self._in = os.fdopen(os.dup(0), encoding="utf-8")
        threading.Thread(target=self._hear, name="tisr-parent", daemon=True).start()

    def say(self, **message: Any) -> None:
        """Send a message; a parent that has gone does not matter here."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()

    def _hear(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._in:
                self._listen(json.loads(line))
        self._listen(ENDED)


class Child:
    """The parent's end: a process, what it says, and whether it still does.

    Parameters
    ----------
    module : str
        Run as ``python -m module``.
    listen : callable
        Takes every message of the child, in a thread of its own; :data:`ENDED` at last.
    arguments : sequence of str
        Of its command line.
    humble : bool
        Leave the processor to others (Windows; elsewhere the child sees to it itself).
    """

    def __init__(
        self,
        module: str,
        listen: Callable[[Message], None],
        arguments: Sequence[str] = (),
        *,
        humble: bool = False,
    ) -> None:
        self.heard_s = time.monotonic()
        """When the child last said something."""
        self._listen = listen
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._lock = threading.Lock()
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
            flags |= subprocess.BELOW_NORMAL_PRIORITY_CLASS if humble else 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            creationflags=flags,
        )
        self._threads = [
            threading.Thread(target=work, name=f"tisr-{self.process.pid}", daemon=True)
            for work in (self._hear, self._hear_errors)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether the process is there, even if it is stopped."""
        return self.process.poll() is None

    @property
    def last_words(self) -> str:
        """Last line the child wrote to standard error."""
        lines = [line for line in self._errors if line.strip()]
        return lines[-1].strip() if lines else ""

    def say(self, **message: Any) -> bool:
        """Send a message; whether the child could take it."""
        assert self.process.stdin is not None
        try:
            with self._lock:
                self.process.stdin.write(json.dumps(message) + "\n")
                self.process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def leave(self, timeout_s: float) -> bool:
        """End its input and wait for its end; whether it has come."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        for thread in self._threads:
            thread.join(timeout_s)
        return True

    def close(self, timeout_s: float) -> None:
        """As :meth:`leave`, and kill it if it does not end."""
        if not self.leave(timeout_s):
            self.kill()

    def kill(self) -> None:
        """End the process at once; never for one that holds a microscope."""
        self.process.kill()
        self.process.wait()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard_s = time.monotonic()
            with contextlib.suppress(ValueError):
                self._listen(json.loads(line))
        self.process.wait()
        self._listen(ENDED)

    def _hear_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.append(line)
