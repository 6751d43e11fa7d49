"""Taking one burst: armed in the dark, waited for with a deadline, dark when it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from threading import Event
from typing import Any

import numpy as np
from pymmcore_plus.core import SequencedEvent
from useq import MDAEvent

from tisr_scope.acquisition.light_meter import BurstLight
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.errors import BufferOverflow, MicroscopeError

_POLL_S = 0.0005


class BurstRun:
    """One burst of exposures that the camera takes by itself while armed devices step.

    Parameters
    ----------
    microscope : Microscope
        Loaded; everything that does not step is where it should be.
    event : SequencedEvent
        The burst.
    cancel : threading.Event
        Set to stop; frames already exposed are still taken.
    """

    def __init__(self, microscope: Microscope, event: SequencedEvent, cancel: Event) -> None:
        self._microscope = microscope
        self._core = microscope.core
        self._light = microscope.light
        self._event = event
        self._cancel = cancel
        self._lit = False
        self._exposure_s = float(event.exposure or 0.0) / 1e3
        lasers = self._light.lasers
        stepped = {k for k in event.property_sequences if k in lasers and not lasers[k].gated}
        powers = [
            sum(float(v) for d, p, v in one.properties or () if (d, p) in stepped)
            for one in event.events
        ]
        self._metered = BurstLight(self._light.meter, powers, self._exposure_s)

    def arm(self) -> None:
        """Load and arm everything that steps, in the dark.

        Raises
        ------
        MicroscopeError
        """
        core, event = self._core, self._event
        self._light.dark()
        what = f"a burst of {len(event.events)} exposures cannot be armed"
        try:
            with self._microscope.calling(what, self._microscope.deadlines.slm_s):
                for (device, prop), values in event.property_sequences.items():
                    laser = self._light.lasers.get((device, prop))
                    if laser is not None:
                        self._light.armed((device, prop))
                        values = [f"{laser.value_of(float(v)):g}" for v in values]
                    core.loadPropertySequence(device, prop, values)
                if event.slm_sequence:
                    core.loadSLMSequence(core.getSLMDevice(), list(event.slm_sequence))
                for device, prop in event.property_sequences:
                    core.startPropertySequence(device, prop)
                if event.slm_sequence:
                    core.startSLMSequence(core.getSLMDevice())
        except MicroscopeError as error:
            error.remedy = "check the trigger wiring, or record with --no-bursts"
            raise

    def frames(self) -> Iterator[tuple[MDAEvent, np.ndarray, Mapping[str, Any]]]:
        """Every frame of the burst; the light is off before the last one is given.

        Raises
        ------
        MicroscopeError, BufferOverflow
            If frames are missing.
        """
        core = self._core
        wanted, taken = len(self._event.events), 0
        self._lit = True
        try:
            with self._microscope.calling("the camera did not start a burst", self._patience_s):
                core.startSequenceAcquisition(wanted, 0, True)
            while taken < wanted and self._frame_is_there(taken):
                frame, metadata = core.pop_frame()
                self._metered.frame()
                taken += 1
                if taken == wanted:
                    self._end(taken)
                elif self._cancel.is_set() and self._lit:
                    self._microscope.stop_camera()
                    self._end(taken + core.getRemainingImageCount())
                yield self._event.events[taken - 1], frame, metadata
        finally:
            self._end(taken)
        if taken < wanted:
            self._microscope.stop_camera()
            self._say_what_is_missing(taken)

    @property
    def _patience_s(self) -> float:
        return self._microscope.deadlines.camera_s

    def _frame_is_there(self, taken: int) -> bool:
        """Wait for the next frame; False if there will be none."""
        core = self._core
        deadline = time.monotonic() + self._exposure_s + self._patience_s
        waiting = self._microscope.watchdog.call(
            "waiting for a frame of a burst", math.inf, self._exposure_s
        )
        with waiting:
            while True:
                running = core.isSequenceRunning()
                there = core.getRemainingImageCount()
                if not running:
                    self._end(taken + there)
                if there:
                    return True
                if not running or time.monotonic() > deadline:
                    return False
                waiting.check()
                time.sleep(_POLL_S)

    def _end(self, exposed: int) -> None:
        """Disarm, go dark, and count the light; ``exposed`` frames have been exposed."""
        if not self._lit:
            return
        self._lit, over = False, self._light.meter.clock()
        try:
            self._disarm()
        finally:
            self._light.dark()
            self._metered.end(exposed, over)

    def _disarm(self) -> None:
        core = self._core
        with self._microscope.calling("a burst cannot be disarmed"):
            for device, prop in self._event.property_sequences:
                core.stopPropertySequence(device, prop)
            if self._event.slm_sequence:
                core.stopSLMSequence(core.getSLMDevice())

    def _say_what_is_missing(self, taken: int) -> None:
        camera, wanted = self._microscope.profile.microscope.camera.device, len(self._event.events)
        if self._core.isBufferOverflowed():
            raise BufferOverflow(
                f"the camera buffer overflowed after {taken} of {wanted} frames of a burst",
                where=camera,
                remedy="lengthen the exposure, record to a faster disk, or record with --no-bursts",
            )
        if not self._cancel.is_set():
            raise MicroscopeError(
                f"the camera gave {taken} of {wanted} frames of a burst",
                where=camera,
                remedy="check camera trigger and cable, or record with --no-bursts",
            )
