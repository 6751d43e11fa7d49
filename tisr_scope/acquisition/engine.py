"""The engine: pymmcore-plus' runner with everything it lets pass made an error.

Each step that fails raises; a frame that is missing, or of another shape or type than the
profile says, raises; light is checked before it is set and turned off when it is not needed.
Frames are handed over in the acquisition thread by a plain call, not by a signal, so that they
are never queued on a GUI thread and an error in the handler stops the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from threading import Event
from typing import Any

import numpy as np
from jaxtyping import UInt16
from pymmcore_plus.core import SequencedEvent
from pymmcore_plus.mda import MDAEngine
from pymmcore_plus.metadata import FrameMetaV1
from useq import MDAEvent, MDASequence

from tisr_scope.acquisition.burst_run import BurstRun
from tisr_scope.acquisition.bursts import Steppable, merge
from tisr_scope.acquisition.core import SampleClock
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.acquisition.safety import DoseMeter
from tisr_scope.errors import MicroscopeError
from tisr_scope.profiles.schema import PresetPatterns
from tisr_scope.recording.journal import JournalEntry
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan

Deliver = Callable[[FrameInfo, UInt16[np.ndarray, "y x"], dict[str, Any]], None]
Payload = tuple[np.ndarray, MDAEvent, FrameMetaV1]


class StrictEngine(MDAEngine):
    """Plays a running order on a microscope.

    Parameters
    ----------
    microscope : Microscope
        Loaded and checked.
    plan : RunPlan
        The run.
    deliver : callable
        Takes every frame, in order, in the acquisition thread.
    cancel : threading.Event
        Set to stop after the current exposure.
    bursts : bool
        Let devices step by themselves where they can.
    continues : (float, JournalEntry), optional
        For a recording that goes on: ``time.time()`` of its start, and its last frame.
    """

    def __init__(
        self,
        microscope: Microscope,
        plan: RunPlan,
        deliver: Deliver,
        cancel: Event,
        *,
        dose: DoseMeter,
        bursts: bool = True,
        continues: tuple[float, JournalEntry] | None = None,
    ) -> None:
        super().__init__(microscope.core, use_hardware_sequencing=bursts)
        self.dose = dose
        self._microscope = microscope
        self._plan = plan
        self._camera = plan.profile.microscope.camera
        self._channels = {c.name: c for c in plan.channels}
        self._light = microscope.light
        self._deliver = deliver
        self._cancel = cancel
        self._burst: BurstRun | None = None
        self._exposed: tuple[int, int] | None = None
        self._clock_zero = time.perf_counter()
        self._sample_clock: SampleClock | None = None
        self._sample_zero_s = 0.0
        self._continues = continues
        self._offset_s = 0.0 if continues is None else time.time() - continues[0]
        self._forget()

    def _forget(self) -> None:
        """Assume nothing about what the devices are set to."""
        self._values: dict[tuple[str, str], Any] = {}
        self._shown: object = None
        self._preset: str | None = None
        self._channel: str | None = None
        self._place: tuple[float | None, float | None, float | None] | None = None
        self._exposure: float | None = None

    # ------------------------------------------------------------------ protocol of the runner

    def setup_sequence(self, sequence: MDASequence) -> None:
        """Start from a known state: no sequence running, no light."""
        self._forget()
        self._light.off()
        self._microscope.stop_camera()
        if self._exposed is not None:
            self.dose.charge(*self._exposed, self._light.meter.take()[0], 0.0)
        self._light.meter.take()
        self._clock_zero = time.perf_counter()
        self._sample_clock = self._microscope.sample_clock()
        self._light.measures = self._sample_clock is None
        if self._sample_clock is not None:
            if self._continues is not None:
                self._sample_clock.wait_until(_after(self._continues[1]))
            self._sample_zero_s = self._sample_clock.now_s()

    def event_iterator(self, events: Iterable[MDAEvent]) -> Iterator[MDAEvent]:
        """Events, merged into bursts where the devices can step by themselves."""
        if self._sample_clock is not None:
            events = map(_wait_on_sample_clock, events)
        if self.use_hardware_sequencing:
            events = merge(events, self._steppable())
        return takewhile(lambda _event: not self._cancel.is_set(), events)

    def _steppable(self) -> Steppable:
        """What lasers, pattern index and SLM can step through by themselves."""
        source = self._plan.source
        keys = {laser.key for laser in self._light.lasers.values() if laser.group is None}
        if source is not None and source.kind == "index":
            keys.add((source.device, source.property))
        uploads = source is not None and source.kind == "image"
        slm = self._plan.profile.microscope.slm if uploads else None
        return Steppable.of_core(self._microscope.core, keys, slm)

    def setup_event(self, event: MDAEvent) -> None:
        """Bring every device to where the exposure needs it, light last."""
        members = _members(event)
        self._check_light(members)
        self._microscope.wait_for_camera()
        if self._sample_clock is not None and "start_s" in event.metadata:
            self._sample_clock.wait_until(self._sample_zero_s + event.metadata["start_s"])
        self._place_sample(event)
        self._choose_channel(event)
        self._show_pattern(event)
        self._set_exposure(event)
        if isinstance(event, SequencedEvent):
            self._arm(event)
        self._light.open(event.metadata["channel"])
        self._light.set_powers(self._powers(event))

    def exec_event(self, event: MDAEvent) -> Iterator[Payload]:
        """Expose, check and hand over each frame of an event."""
        if isinstance(event, SequencedEvent):
            assert self._burst is not None  # armed in setup_event
            for member, frame, metadata in self._burst.frames():
                yield self._hand_over(member, frame, metadata)
        else:
            frame, metadata = self._microscope.snap()
            if self._moves_next(event):
                self._light.dark()
            yield self._hand_over(event, frame, metadata)

    def teardown_event(self, event: MDAEvent) -> None:
        """Turn the light off before any wait, and ask the lasers whether it is."""
        last = _members(event)[-1]
        if last.metadata["idle_after"] or not last.keep_shutter_open:
            self._light.dark()
        if not last.keep_shutter_open:
            self._light.close()
        if last.metadata["ends_time_point"]:
            self._light.dark()
            self._light.require_dark()

    def teardown_sequence(self, sequence: MDASequence) -> None:
        """Light off when the runner ends a run, whatever ended it."""
        self._forget()
        self._light.off()
        self._microscope.stop_camera()
        if self._exposed is not None:
            self.dose.charge(*self._exposed, self._light.meter.take()[0], 0.0)

    # ----------------------------------------------------------------------------- setting up

    def _check_light(self, members: tuple[MDAEvent, ...]) -> None:
        for member in members:
            for key, power in self._powers(member):
                self._light.guard.check(*key, power)
        energy = sum(member.metadata["dose_mj"] for member in members)
        self.dose.require(int(members[0].index["p"]), energy)

    def _powers(self, event: MDAEvent) -> list[tuple[tuple[str, str], float]]:
        """What an event sets lasers to."""
        return [
            ((device, prop), float(value))
            for device, prop, value in event.properties or ()
            if (device, prop) in self._light.lasers
        ]

    def _moves_next(self, event: MDAEvent) -> bool:
        """Whether anything but the laser may change before the next exposure."""
        return int(event.index["level"]) == self._plan.levels - 1

    def _place_sample(self, event: MDAEvent) -> None:
        place = (event.x_pos, event.y_pos, event.z_pos)
        if place != self._place and place != (None, None, None):
            self._light.dark()
            self._microscope.move(*place)
        self._place = place

    def _choose_channel(self, event: MDAEvent) -> None:
        name = str(event.metadata["channel"])
        if name == self._channel:
            return
        self._light.dark()
        for preset in self._channels[name].presets:
            self._apply_preset(preset.group, preset.preset)
            self._preset = None
        self._channel = name

    def _apply_preset(self, group: str, preset: str) -> None:
        """Apply a preset in the dark; it may touch any device."""
        self._light.dark()
        self._microscope.apply_preset(group, preset)
        self._values, self._shown, self._exposure = {}, None, None

    def _show_pattern(self, event: MDAEvent) -> None:
        preset = event.metadata["pattern_preset"]
        if preset is not None and preset != self._preset:
            source = self._plan.source
            assert isinstance(source, PresetPatterns)  # the events were made from the same plan
            self._apply_preset(source.group, preset)
            self._preset = preset
        if event.slm_image is not None and event.slm_image is not self._shown:
            self._light.dark()
            self._microscope.show_image(np.asarray(event.slm_image))
            self._shown = event.slm_image
        for device, prop, value in event.properties or ():
            key = (device, prop)
            if key not in self._light.lasers and self._values.get(key) != value:
                self._light.dark()
                self._microscope.set_property(device, prop, value)
                self._values[key] = value

    def _set_exposure(self, event: MDAEvent) -> None:
        if event.exposure is not None and event.exposure != self._exposure:
            self._light.dark()
            self._microscope.set_exposure(event.exposure)
            self._exposure = event.exposure

    def _arm(self, event: SequencedEvent) -> None:
        self._burst = BurstRun(self._microscope, event, self._cancel)
        self._burst.arm()
        for key in event.property_sequences:
            self._values.pop(key, None)
        if event.slm_sequence:
            self._shown = None

    def _gated_mj(self, event: MDAEvent) -> float:
        """Energy of an exposure from lasers that the camera gates in hardware."""
        lit = [p for key, p in self._powers(event) if self._light.lasers[key].gated]
        return sum(lit) * float(event.exposure or 0.0) / 1e3

    # --------------------------------------------------------------------------------- frames

    def _hand_over(
        self, event: MDAEvent, frame: np.ndarray, metadata: Mapping[str, Any]
    ) -> Payload:
        camera = self._camera
        if frame.shape != camera.frame_shape or frame.dtype != np.uint16:
            raise MicroscopeError(
                f"the camera gave a {frame.dtype} frame of {frame.shape} pixels, "
                f"the profile says uint16 and {camera.frame_shape}",
                where=camera.device,
                remedy="set pixel type, binning and region of interest in microscope.settings, "
                "or correct microscope.camera.frame_shape",
            )
        index = event.index
        position, channel = self._exposed = int(index["p"]), int(index["c"])
        energy, on_s = self._light.meter.take()
        energy += self._gated_mj(event)
        seconds = time.perf_counter() - self._clock_zero + self._offset_s
        info = FrameInfo(
            t=int(index["t"]),
            channel=channel,
            position=position,
            orientation=int(index["orientation"]),
            phase=int(index["phase"]),
            level=int(index["level"]),
            power_mw=float(event.metadata["power_mw"]),
            exposure_ms=float(event.exposure or 0.0),
            time_s=seconds,
            dose_mj=self.dose.charge(position, channel, energy, float(event.metadata["dose_mj"])),
            light_ms=round(max(1e3 * on_s, float(event.exposure or 0.0)), 3),
        )
        said = {str(key): _plain(value) for key, value in metadata.items()}
        self._deliver(info, frame, said)
        return (
            frame,
            event,
            {
                "format": "frame-dict",
                "version": "1.0",
                "runner_time_ms": seconds * 1e3,
                "camera_device": camera.device,
                "property_values": (),
                "exposure_ms": info.exposure_ms,
                "pixel_size_um": self._plan.profile.optics.pixel_size_um,
                "mda_event": event,
                "camera_metadata": said,
            },
        )


def _members(event: MDAEvent) -> tuple[MDAEvent, ...]:
    return event.events if isinstance(event, SequencedEvent) else (event,)


def _after(entry: JournalEntry) -> float:
    """Age of a simulated sample just after a frame."""
    return float(entry.camera.get("sim_time_s", 0.0)) + entry.exposure_ms / 1e3


def _wait_on_sample_clock(event: MDAEvent) -> MDAEvent:
    """Move the start time to where the engine, not the runner's wall clock, heeds it."""
    if not event.min_start_time:
        return event
    metadata = {**event.metadata, "start_s": event.min_start_time}
    return event.model_copy(update={"min_start_time": None, "metadata": metadata})


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
