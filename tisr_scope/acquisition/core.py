"""Micro-Manager's core with what a strict recording needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pymmcore
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import UniMMCore


class Core(UniMMCore):
    """The core, with a snap that keeps what the camera says about the frame."""

    def snap_frame(self) -> tuple[NDArray[Any], dict[str, Any]]:
        """One exposure: the frame and the camera's own metadata."""
        camera = self._py_camera()
        if camera is None:
            pymmcore.CMMCore.snapImage(self)
            return self.getImage(), {}
        frames: list[NDArray[Any]] = []

        def buffer(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
            frames.append(np.zeros(shape, dtype))
            return frames[-1]

        with camera:
            exposure = camera.start_sequence(1, buffer)
            metadata = dict(next(iter(exposure), {}))
        if not frames:
            raise RuntimeError("the camera gave no frame")
        return frames[0], metadata

    def pop_frame(self) -> tuple[NDArray[Any], dict[str, Any]]:
        """The oldest frame of a running burst, with the camera's metadata as it gave it."""
        if self._py_camera() is None:
            frame, text = self.popNextImageAndMD()
            return frame, dict(text)
        frame, metadata = self._pop_or_raise()
        return frame, dict(metadata)


class SampleClock:
    """Time of a simulated sample that does not live in real time.

    Any device with the properties ``Realtime`` (0) and ``Time_s`` is one.  Waiting between time
    points then means setting ``Time_s``, and a long time-lapse takes no longer than its frames.
    """

    def __init__(self, core: Core, device: str) -> None:
        self._core = core
        self._device = device

    @classmethod
    def of_core(cls, core: Core) -> Self | None:
        """The clock of the loaded configuration, or None where time is real."""
        for label in core.getLoadedDevices():
            if core.hasProperty(label, "Time_s") and core.hasProperty(label, "Realtime"):
                real = float(core.getProperty(label, "Realtime")) != 0
                return None if real else cls(core, label)
        return None

    def now_s(self) -> float:
        """Age of the sample."""
        return float(self._core.getProperty(self._device, "Time_s"))

    def wait_until(self, time_s: float) -> None:
        """Let time pass in the dark; a time that has passed already is no wait."""
        if time_s > self.now_s():
            self._core.setProperty(self._device, "Time_s", time_s)
