"""Ctrl-C as a wish to stop, not as a blow in the middle of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(cancel: threading.Event | None) -> Iterator[Callable[[], bool]]:
    """Give a function that says whether to stop: after Ctrl-C, or once ``cancel`` is set.

    A second Ctrl-C interrupts at once.  Signals reach the main thread only; in any other one
    ``cancel`` alone counts.
    """
    pressed = threading.Event()

    def press(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    def stopped() -> bool:
        return pressed.is_set() or (cancel is not None and cancel.is_set())

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
