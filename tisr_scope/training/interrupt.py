"""Ctrl-C and SIGTERM as a wish to stop, not as a blow in the middle of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what SLURM sends before a job's time is over."""


@contextmanager
def interruptible(cancel: threading.Event | None) -> Iterator[Callable[[], bool]]:
    """Give a function that says whether to stop: after a signal, or once ``cancel`` is set.

    A second Ctrl-C interrupts at once.  A signal that the caller already handles is left to the
    caller.  Signals reach the main thread only; in any other one ``cancel`` alone counts.
    """
    pressed = threading.Event()

    def press(number: int, frame: FrameType | None) -> None:
        if pressed.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed.set()

    def stopped() -> bool:
        return pressed.is_set() or (cancel is not None and cancel.is_set())

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    plain = (signal.SIG_DFL, signal.default_int_handler)
    before = {s: signal.getsignal(s) for s in SIGNALS}
    taken = [s for s, handler in before.items() if handler in plain]
    for number in taken:
        signal.signal(number, press)
    try:
        yield stopped
    finally:
        for number in taken:
            signal.signal(number, before[number])
