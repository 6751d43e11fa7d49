"""Devices of a test bench: each frame shows what light really reached it, some misbehave.

The frame of exposure number ``n`` holds, on top of seeded noise, the power of each laser and the
checksum of the SLM image in its first pixels, so that a test reads the truth from the pixels.
Faults are switched on through the ``Bench`` device's property ``Fault``.
"""

from __future__ import annotations

import ctypes
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

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


class Bench:
    """What the devices share."""

    current: Bench

    def __init__(self) -> None:
        self.powers = {"A": 0.0, "B": 0.0}
        self.power_log: list[tuple[str, float]] = []
        self.shutter = False
        self.shutter_log: list[bool] = []
        self.slm = np.zeros((32, 32), np.uint8)
        self.filter = "none"
        self.lamp = 0
        self.emission = "Off"
        self.index = -1
        self.exposure = 1.0
        self.stage = (0.0, 0.0)
        self.frames = 0
        self.fault = ""
        self.fault_frame = 0
        self.delay_s = 0.0
        self.upload_s = 0.0
        self.armed: list[Callable[[], None]] = []
        self.lit_while_moving = False
        self.hung_at = 0.0
        self.log: list[tuple[str, float]] = []
        """Every change of light and everything that moves, in order."""
        self.light_mj = 0.0
        """Energy that reached the sample, by the clock on the wall."""
        self._since = time.perf_counter()

    def note(self, what: str, value: float = 0.0) -> None:
        """Something changes now."""
        now = time.perf_counter()
        if self.shutter:
            self.light_mj += sum(self.powers.values()) * (now - self._since)
        self._since = now
        self.log.append((what, value))

    def keep(self) -> None:
        """Write the light to a file, if asked to: hardware that outlives its process."""
        if name := os.environ.get("BENCH_STATE"):
            lit = self.shutter and any(self.powers.values())
            a, b = self.powers.values()
            new = Path(f"{name}.new")
            new.write_text(f"{'lit' if lit else 'dark'} {a} {b} {self.shutter}")
            new.replace(name)

    def may_hang(self, what: str) -> None:
        """Never return, as a driver may, if that is the fault; nothing in Python ends it."""
        if self.fault == f"hang {what}" and self.frames >= self.fault_frame:
            self.hung_at = time.perf_counter()
            library = ctypes.CDLL(None)
            mutex = ctypes.create_string_buffer(64)
            library.pthread_mutex_lock(mutex)
            library.pthread_mutex_lock(mutex)

    def moves(self, what: str) -> None:
        """Something moves that must not move in the light."""
        self.may_hang(what)
        self.note(what)
        if any(self.powers.values()):
            self.lit_while_moving = True


class BenchDevice(GenericDevice):
    """Switches of the bench; load it first."""

    def __init__(self) -> None:
        super().__init__()
        Bench.current = Bench()
        self.bench = Bench.current

    @pymm_property(name="Fault", property_type=str)
    def fault(self) -> str:
        return self.bench.fault

    @fault.setter
    def _set_fault(self, value: str) -> None:
        name, _, frame = str(value).partition("@")
        self.bench.fault, self.bench.fault_frame = name, int(frame or 0)

    @pymm_property(name="Delay_s", limits=(0.0, 10.0))
    def delay(self) -> float:
        return self.bench.delay_s

    @delay.setter
    def _set_delay(self, value: float) -> None:
        self.bench.delay_s = float(value)

    @pymm_property(name="Upload_s", limits=(0.0, 10.0))
    def upload(self) -> float:
        return self.bench.upload_s

    @upload.setter
    def _set_upload(self, value: float) -> None:
        self.bench.upload_s = float(value)

    @pymm_property(name="Lamp", limits=(0, 1), property_type=int)
    def lamp(self) -> int:
        return self.bench.lamp

    @lamp.setter
    def _set_lamp(self, value: int) -> None:
        self.bench.note("lamp", float(value))
        self.bench.lamp = int(float(value))

    @pymm_property(name="Emission", property_type=str)
    def emission(self) -> str:
        return self.bench.emission

    @emission.setter
    def _set_emission(self, value: str) -> None:
        self.bench.note(f"emission {value}")
        self.bench.emission = str(value)

    @pymm_property(name="Filter", property_type=str)
    def filter(self) -> str:
        return self.bench.filter

    @filter.setter
    def _set_filter(self, value: str) -> None:
        self.bench.filter = str(value)
        self.bench.moves("filter")

    @pymm_property(name="Index", limits=(0, 99), property_type=int, sequence_max_length=64)
    def index(self) -> int:
        return self.bench.index

    @index.setter
    def _set_index(self, value: int) -> None:
        self.bench.index = int(float(value))
        self.bench.moves("index")

    @index.sequence_loader
    def _load_index(self, values: Sequence[int]) -> None:
        self._sequence = [int(float(v)) for v in values]

    @index.sequence_starter
    def _start_index(self) -> None:
        self._next = 0
        self.bench.armed.append(self._step)

    @index.sequence_stopper
    def _stop_index(self) -> None:
        if getattr(self, "_step", None) in self.bench.armed:
            self.bench.armed.remove(self._step)

    def _step(self) -> None:
        self.bench.index = self._sequence[self._next]
        self._next += 1


class _Laser(GenericDevice):
    line = ""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench.current
        self._sequence: list[float] = []
        self._next = 0

    def _apply(self, value: float) -> None:
        self.bench.note(self.line, value)
        self.bench.powers[self.line] = value
        self.bench.keep()
        self.bench.power_log.append((self.line, value))

    def _step(self) -> None:
        self._apply(self._sequence[self._next])
        self._next += 1

    def _disarm(self) -> None:
        if self._step in self.bench.armed:
            self.bench.armed.remove(self._step)


def _laser(line: str, sequence: int) -> type[_Laser]:
    class Laser(_Laser):
        @pymm_property(name="Power_mW", limits=(0.0, 50.0), sequence_max_length=sequence)
        def power(self) -> float:
            return self.bench.powers[self.line]

        @power.setter
        def _set_power(self, value: float) -> None:
            self.bench.may_hang("laser")
            if self.bench.fault == "laser refuses" and float(value) > 0:
                raise RuntimeError("interlock is open")
            if self.bench.fault == "laser stuck" and self.bench.frames > 2:
                raise RuntimeError("no answer from the laser")
            if self.bench.fault == "laser ignores" and self.bench.frames > 2:
                return
            self._apply(float(value))

        @pymm_property(name="Boost_mW", limits=(0.0, 50.0))
        def boost(self) -> float:
            return self.bench.powers[self.line]

        @boost.setter
        def _set_boost(self, value: float) -> None:
            self._apply(float(value))

        @power.sequence_loader
        def _load(self, values: Sequence[float]) -> None:
            if self.bench.fault == "laser refuses":
                raise RuntimeError("interlock is open")
            self._sequence = [float(v) for v in values]

        @power.sequence_starter
        def _start(self) -> None:
            self._next = 0
            self.bench.armed.append(self._step)

        @power.sequence_stopper
        def _stop(self) -> None:
            self._disarm()

    Laser.line = line
    return Laser


LaserA = _laser("A", 8)
LaserB = _laser("B", 0)


class Shutter(ShutterDevice):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench.current

    def get_open(self) -> bool:
        return self.bench.shutter

    def set_open(self, open: bool) -> None:
        self.bench.may_hang("shutter")
        if self.bench.fault == "shutter stuck" and open:
            raise RuntimeError("shutter does not move")
        if self.bench.fault == "shutter ignores" and not open:
            return
        self.bench.note("shutter", float(open))
        self.bench.shutter = open
        self.bench.keep()
        self.bench.shutter_log.append(open)


class SLM(SLMDevice):
    max_length = 0

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench.current
        self._image = np.zeros((32, 32), np.uint8)
        self._sequence: list[np.ndarray] = []
        self._next = 0

    def shape(self) -> tuple[int, int]:
        return (24, 32) if self.bench.fault == "slm shape" and self.bench.frames > 1 else (32, 32)

    def dtype(self) -> DTypeLike:
        return np.uint8

    def set_image(self, pixels: np.ndarray) -> None:
        if self.bench.fault == "slm refuses":
            raise RuntimeError("SLM is not connected")
        self._image = pixels.copy()

    def display_image(self) -> None:
        self.bench.moves("slm")
        time.sleep(self.bench.upload_s)
        self.bench.slm = self._image

    def set_exposure(self, interval_ms: float) -> None: ...

    def get_exposure(self) -> float:
        return 0.0

    def get_sequence_max_length(self) -> int:
        return self.max_length

    def send_sequence(self, sequence: Sequence[np.ndarray]) -> None:
        self._sequence = [np.array(image) for image in sequence]

    def start_sequence(self) -> None:
        self._next = 0
        self.bench.armed.append(self._step)

    def stop_sequence(self) -> None:
        if self._step in self.bench.armed:
            self.bench.armed.remove(self._step)

    def _step(self) -> None:
        self.bench.slm = self._sequence[self._next]
        self._next += 1


class SequencedSLM(SLM):
    max_length = 64


class Stage(XYStageDevice):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench.current

    def set_position_um(self, x: float, y: float) -> None:
        self.bench.moves("stage")
        self.bench.stage = (x, y)

    def get_position_um(self) -> tuple[float, float]:
        return self.bench.stage

    def home(self) -> None: ...

    def stop(self) -> None: ...

    def set_origin_x(self) -> None: ...

    def set_origin_y(self) -> None: ...


class Camera(CameraDevice):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench.current

    def get_exposure(self) -> float:
        return self.bench.exposure

    def set_exposure(self, exposure: float) -> None:
        self.bench.moves("exposure")
        self.bench.exposure = exposure

    def shape(self) -> tuple[int, int]:
        return (16, 24)

    def dtype(self) -> DTypeLike:
        return np.uint16

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], np.ndarray]
    ) -> Iterator[Mapping[str, object]]:
        for _ in range(n if n is not None else 10**9):
            yield self._expose(get_buffer)

    def _expose(
        self, get_buffer: Callable[[Sequence[int], DTypeLike], np.ndarray]
    ) -> Mapping[str, object]:
        bench = self.bench
        bench.may_hang("camera")
        due = bench.frames == bench.fault_frame
        if bench.fault == "snap fails" and due:
            raise RuntimeError("camera cable is loose")
        shape = (16, 20) if bench.fault == "frame shape" and due else self.shape()
        for step in list(bench.armed):
            step()
        if bench.delay_s:
            time.sleep(bench.delay_s)
        image = get_buffer(shape, self.dtype())
        image[:] = expected_frame(
            bench.frames,
            bench.powers if bench.shutter else {"A": 0.0, "B": 0.0},
            bench.slm,
            shape,
        )
        bench.frames += 1
        return {"bench_frame": bench.frames - 1, "sim_time_s": 0.25 * (bench.frames - 1)}


def expected_frame(
    number: int, powers: Mapping[str, float], slm: np.ndarray, shape: Sequence[int] = (16, 24)
) -> np.ndarray:
    """Pixels of an exposure: noise, then laser powers in uW and the SLM image's checksum."""
    image = np.random.default_rng(number).integers(90, 200, shape).astype(np.uint16)
    image[0, 0] = round(1e3 * powers["A"])
    image[0, 1] = round(1e3 * powers["B"])
    image[0, 2] = zlib.crc32(np.ascontiguousarray(slm).data) & 0xFFFF
    return image
