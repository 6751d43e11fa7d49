"""Micro-Manager devices, in Python, of the simulated SIM microscope.

They are loaded by a ``.cfg`` file through ``UniMMCore``, the World device first.  The start of an
exposure is the camera's trigger: it advances every armed sequence (laser powers, SLM images), the
first exposure showing the first element, and wraps around at the end.  After a sequence is
stopped the device keeps its last value, as real hardware does.

The metadata of a frame (``sim_time_s``, ``bleached_fraction``, ...) is yielded with the frames of
a burst; after a snap, which has no room for it, read the camera's property ``LastFrame`` (JSON).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import DTypeLike
from pymmcore_plus.experimental.unicore import (
    CameraDevice,
    GenericDevice,
    ShutterDevice,
    SLMDevice,
    XYStageDevice,
    pymm_property,
)

from tisr_scope.errors import MicroscopeError
from tisr_scope.simulated_microscope.world import (
    READOUT_S,
    Line,
    PatternKey,
    World,
    current_world,
)
from tisr_scope.simulated_microscope.world_device import Setting, WorldDevice

__all__ = [
    "Laser488",
    "Laser560",
    "SimulatedCamera",
    "SimulatedSLM",
    "SimulatedShutter",
    "SimulatedXYStage",
    "WorldDevice",
]

SEQUENCE_LENGTH = 4096
MAXIMUM_MW = 100.0
"""What a laser can give; the limit of an acquisition is set in its profile."""
V = TypeVar("V")


class Sequencer(Generic[V]):
    """Memory of a device that the camera's trigger steps through."""

    def __init__(self, world: World, apply: Callable[[V], None]) -> None:
        self._values: list[V] = []
        self._next: int | None = None
        self._apply = apply
        self._lock = world.lock
        world.on_trigger(self._advance)

    def load(self, values: Sequence[V]) -> None:
        """Store the values."""
        self._values = list(values)

    def start(self) -> None:
        """Arm: the next exposure uses the first value."""
        if not self._values:
            raise MicroscopeError(
                "a hardware sequence was started before it was loaded",
                where="simulated microscope",
                remedy="load the sequence first",
            )
        with self._lock:
            self._next = 0

    def stop(self) -> None:
        """Disarm; the last value stays."""
        with self._lock:
            self._next = None

    @property
    def running(self) -> bool:
        """Whether exposures advance it."""
        return self._next is not None

    def _advance(self) -> None:
        if self._next is not None:
            self._apply(self._values[self._next])
            self._next = (self._next + 1) % len(self._values)


class SimulatedCamera(CameraDevice):
    """A scientific CMOS camera; its exposure start triggers the other devices."""

    def __init__(self) -> None:
        super().__init__()
        self._world = current_world()
        self._last: dict[str, object] = {}

    @pymm_property(name="Height", limits=(16, 2048), property_type=int)
    def height(self) -> int:
        """Rows of the sensor area in use."""
        return self._world.frame_shape[0]

    @height.setter
    def _set_height(self, value: Setting) -> None:
        self._reshape((int(value), self._world.frame_shape[1]))

    @pymm_property(name="Width", limits=(16, 2048), property_type=int)
    def width(self) -> int:
        """Columns of the sensor area in use."""
        return self._world.frame_shape[1]

    @width.setter
    def _set_width(self, value: Setting) -> None:
        self._reshape((self._world.frame_shape[0], int(value)))

    @pymm_property(name="LastFrame", is_read_only=True)
    def last_frame(self) -> str:
        """Metadata of the last frame as JSON, for snaps."""
        return json.dumps(self._last)

    def get_exposure(self) -> float:
        """Exposure time in milliseconds."""
        return self._world.exposure_ms

    def set_exposure(self, exposure: Setting) -> None:
        """Set the exposure time in milliseconds."""
        if not 0.01 <= float(exposure) <= 10_000:
            raise ValueError(f"exposure of {exposure} ms is outside 0.01 to 10000 ms")
        self._world.exposure_ms = float(exposure)

    def get_readout_time(self) -> float:
        """Time from the end of an exposure to the start of the next, in milliseconds."""
        return READOUT_S * 1e3

    def shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self._world.frame_shape

    def dtype(self) -> DTypeLike:
        """Pixels are 16-bit counts."""
        return np.uint16

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], np.ndarray]
    ) -> Iterator[Mapping[str, object]]:
        """Expose ``n`` frames, or frames until stopped."""
        done = 0
        while n is None or done < n:
            # the buffer first: where there is no room, nothing is exposed
            buffer = get_buffer(self.shape(), self.dtype())
            frame = self._world.expose()
            buffer[:] = frame.image
            self._last = frame.metadata
            done += 1
            yield frame.metadata

    def _reshape(self, shape: tuple[int, int]) -> None:
        if shape != self._world.frame_shape:
            self._world.frame_shape = shape
            self._world.show(None)


class SimulatedSLM(SLMDevice):
    """An 8-bit SLM imaged onto the field, four times finer than the camera; dark at start-up."""

    def __init__(self) -> None:
        super().__init__()
        self._world = current_world()
        self._loaded: PatternKey | None = None
        self._exposure_ms = 0.0
        self._sequence = Sequencer[PatternKey](self._world, self._world.show)

    def shape(self) -> tuple[int, int]:
        """Height and width: four times the camera's."""
        return self._world.slm_shape

    def dtype(self) -> DTypeLike:
        """Pixels are 8-bit."""
        return np.uint8

    def set_image(self, pixels: np.ndarray) -> None:
        """Load an image; it is shown by :meth:`display_image`."""
        self._loaded = _pattern(pixels)

    def get_image(self) -> np.ndarray:
        """The image loaded last."""
        if self._loaded is None:
            return np.zeros(self.shape(), np.uint8)
        return self._loaded.image.copy()

    def display_image(self) -> None:
        """Show the loaded image."""
        self._world.show(self._loaded)

    def set_exposure(self, interval_ms: Setting) -> None:
        """Accepted and kept; an image stays until the next one."""
        self._exposure_ms = float(interval_ms)

    def get_exposure(self) -> float:
        """The interval set last."""
        return self._exposure_ms

    def get_sequence_max_length(self) -> int:
        """Images that fit into the memory."""
        return SEQUENCE_LENGTH

    def send_sequence(self, sequence: Sequence[np.ndarray]) -> None:
        """Load images for the trigger to step through."""
        known: dict[int, PatternKey] = {}
        self._sequence.load([known.setdefault(id(a), _pattern(a)) for a in sequence])

    def start_sequence(self) -> None:
        """Arm: the next exposure shows the first image."""
        self._sequence.start()

    def stop_sequence(self) -> None:
        """Disarm; the last image stays."""
        self._sequence.stop()


class Laser(GenericDevice):
    """A laser line with a power in milliwatts, off at start-up."""

    LINE = ""

    def __init__(self) -> None:
        super().__init__()
        self._line = current_world().lines.setdefault(self.LINE, Line())
        self._sequence = Sequencer[float](current_world(), self._apply)

    @pymm_property(name="Power_mW", limits=(0.0, MAXIMUM_MW), sequence_max_length=SEQUENCE_LENGTH)
    def power(self) -> float:
        """Power in the sample, in milliwatts."""
        return self._line.power_mw

    @power.setter
    def _set_power(self, value: Setting) -> None:
        self._apply(float(value))

    @power.sequence_loader
    def _load(self, values: Sequence[Setting]) -> None:
        self._sequence.load([float(v) for v in values])

    @power.sequence_starter
    def _start(self) -> None:
        self._sequence.start()

    @power.sequence_stopper
    def _stop(self) -> None:
        self._sequence.stop()

    def shutdown(self) -> None:
        """Light off."""
        self._apply(0.0)

    def _apply(self, value: float) -> None:
        self._line.power_mw = float(value)


class Laser488(Laser):
    """The 488 nm laser."""

    LINE = "488"


class Laser560(Laser):
    """The 560 nm laser."""

    LINE = "560"


class SimulatedShutter(ShutterDevice):
    """Blocks all lasers; closed at start-up."""

    def __init__(self) -> None:
        super().__init__()
        self._world = current_world()

    def get_open(self) -> bool:
        """Whether light reaches the sample."""
        return self._world.shutter_open

    def set_open(self, open: bool) -> None:
        """Open or close."""
        self._world.shutter_open = bool(open)


class SimulatedXYStage(XYStageDevice):
    """Moves the sample; what is in view follows from the position and the seed."""

    def __init__(self) -> None:
        super().__init__()
        self._world = current_world()
        self._origin = (0.0, 0.0)

    def set_position_um(self, x: Setting, y: Setting) -> None:
        """Move to a position in micrometres."""
        origin_x, origin_y = self._origin
        self._world.stage_um = (float(x) + origin_x, float(y) + origin_y)

    def get_position_um(self) -> tuple[float, float]:
        """Position in micrometres."""
        (x, y), (origin_x, origin_y) = self._world.stage_um, self._origin
        return x - origin_x, y - origin_y

    def home(self) -> None:
        """Go to the hardware's zero."""
        self._world.stage_um = (0.0, 0.0)

    def stop(self) -> None:
        """Moves are immediate: there is nothing to stop."""

    def set_origin_x(self) -> None:
        """Call the present x zero."""
        self._origin = (self._world.stage_um[0], self._origin[1])

    def set_origin_y(self) -> None:
        """Call the present y zero."""
        self._origin = (self._origin[0], self._world.stage_um[1])


def _pattern(pixels: np.ndarray) -> PatternKey:
    image = np.array(pixels, np.uint8, copy=True)
    return PatternKey(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), image)
