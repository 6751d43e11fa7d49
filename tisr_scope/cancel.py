"""One way for a process to be asked to stop, whatever runs in it.

Ctrl-C, SIGTERM, SIGQUIT, SIGHUP (the terminal closes) and on Windows Ctrl-Break and the closing
of the console ask every run of the process to stop: its event is set, the run ends after the
current exposure, everything exposed is kept.  A second signal turns the light off at once and
ends the process.  A signal that was ignored when the process began (``nohup``) stays ignored.

Signals are heard by a thread of their own besides Python's handlers: those run in the main
thread between two steps of Python, and never while a device call there does not return.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

GRACE_S = 2.0
"""How long a run may take to end by itself after a second signal; its light is off by then."""
CONSOLE_GRACE_S = 4.0
"""Windows ends a process about five seconds after its console was closed."""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_HANG_UP = getattr(signal, "SIGHUP", None)


@dataclass(eq=False)
class _Run:
    """One run that can be asked to stop."""

    cancel: threading.Event
    dark: Callable[[], object] | None = None
    tell: Callable[[str], object] | None = None


class _Requests:
    """The runs of this process and what has been asked of them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.runs: list[_Run] = []
        self.shielded = 0
        self.installed = False
        self.forget()

    def forget(self) -> None:
        """Whatever comes next is a first signal."""
        self.first = 0  # number of the first signal
        self.heard = 0  # by the listening thread
        self.handled = 0  # by Python in the main thread

    def stop_all(self) -> None:
        """Ask every run to stop."""
        with self.lock:
            asked = [run for run in self.runs if not run.cancel.is_set()]
            for run in asked:
                run.cancel.set()
        for run in asked:
            # A terminal that has gone must not keep the run from stopping.
            with contextlib.suppress(Exception):
                if run.tell is not None:
                    run.tell("stopping cleanly; once more to stop at once")

    def lit(self) -> list[_Run]:
        """Runs that may have light on."""
        return [run for run in list(self.runs) if run.dark is not None]

    def darken(self) -> None:
        """Turn all light off, whatever the runs are doing."""
        for run in self.lit():
            with contextlib.suppress(Exception):
                if run.dark is not None:
                    run.dark()


_requests = _Requests()


def signalled() -> bool:
    """Whether a signal has asked this process to stop."""
    return max(_requests.heard, _requests.handled) > 0


def exit_code() -> int:
    """What a process returns that a signal stopped: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _requests.first if _requests.first else 1


@contextmanager
def cancellable(
    cancel: threading.Event | None = None,
    *,
    dark: Callable[[], object] | None = None,
    tell: Callable[[str], object] | None = None,
) -> Iterator[threading.Event]:
    """Give an event that signals set as long as the block lasts.

    Blocks nest, and run side by side in threads: a signal sets the event of each.  The outermost
    block of the main thread puts the handlers in place.

    Parameters
    ----------
    cancel : threading.Event, optional
        The run's own event; a new one by default.
    dark : callable, optional
        Turns the light of the run off for good, from any thread; called at a second signal.
    tell : callable, optional
        Takes a sentence for the user at the first signal.
    """
    run = _Run(cancel if cancel is not None else threading.Event(), dark, tell)
    with ExitStack() as stack:
        with _requests.lock:
            if not run.cancel.is_set():
                _requests.forget()
            _requests.runs.append(run)
            stack.callback(_requests.runs.remove, run)
            main = threading.current_thread() is threading.main_thread()
            if main and not _requests.installed:
                stack.enter_context(_listening())
        yield run.cancel


@contextmanager
def uninterrupted() -> Iterator[None]:
    """No repeated signal cuts the block short: it turns the light off."""
    _requests.shielded += 1
    try:
        yield
    finally:
        _requests.shielded -= 1


@contextmanager
def _listening() -> Iterator[None]:
    """Handlers and the listening thread, in place as long as the block lasts."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before: dict[signal.Signals, Any] = {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, _in_main_thread)
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ours,), name="tisr-signals", daemon=True)
    listener.start()
    _requests.installed = True
    try:
        with _console_closing():
            yield
    finally:
        _requests.installed = False
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()
        listener.join()
        ours.close()


def _in_main_thread(number: int, _frame: FrameType | None) -> None:
    """Python's handler, for what only the main thread can do: interrupt itself."""
    _requests.handled += 1
    _requests.first = _requests.first or number
    if _requests.handled == 1:
        _requests.stop_all()
    elif not _requests.shielded and _ends_at_once(number):
        raise KeyboardInterrupt


def _ends_at_once(number: int) -> bool:
    """Whether this signal, repeated, ends the process at once.

    A closing terminal hangs up more than once, and launchers repeat SIGTERM while a checkpoint is
    written: it counts where there is light.
    """
    return number != _HANG_UP and (number == signal.SIGINT or bool(_requests.lit()))


def _listen(ours: socket.socket) -> None:
    """Act on signals where the main thread cannot."""
    while data := ours.recv(64):
        for number in data:
            if number in SIGNALS:
                _requests.heard += 1
                _requests.first = _requests.first or number
                if _requests.heard == 1:
                    _requests.stop_all()
                elif _ends_at_once(number):
                    _requests.darken()
                    threading.Thread(target=_end, args=(number,), daemon=True).start()


def _end(number: int) -> None:
    """End the process unless its runs end, or its main thread hears the signal, in the grace."""
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        if not _requests.lit() and _requests.handled > 1:
            return
        time.sleep(0.02)
    with contextlib.suppress(Exception):
        sys.stderr.write("stopped at once; go on with --resume\n")
        sys.stderr.flush()
    os._exit(128 + number)


def _console_closed(_event: int) -> bool:
    """Windows: the console is closing, the user logs off or the computer shuts down.

    The process is ended as soon as this returns.
    """
    _requests.stop_all()
    deadline = time.monotonic() + CONSOLE_GRACE_S
    while _requests.lit() and time.monotonic() < deadline:
        time.sleep(0.02)
    _requests.darken()
    return True


@contextmanager
def _console_closing() -> Iterator[None]:
    """Hear the closing of a Windows console, which is no signal."""
    if sys.platform == "win32":
        import ctypes
        from ctypes import wintypes

        by_signal = (0, 1)  # Ctrl-C and Ctrl-Break

        def on_event(event: int) -> bool:
            return event not in by_signal and _console_closed(event)

        handler = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)(on_event)
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.SetConsoleCtrlHandler(handler, True)
        try:
            yield
        finally:
            kernel.SetConsoleCtrlHandler(handler, False)
    else:
        yield


def _after_fork() -> None:
    """A forked child has none of the runs, and must not speak into its parent's ear."""
    if _requests.installed:
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) is _in_main_thread:
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default)
        _requests.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
