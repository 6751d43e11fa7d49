"""The one world that all devices of a simulated microscope share.

Light is computed from what the devices really do: the image the SLM shows, the powers the lasers
are set to, whether the shutter is open, how long the camera exposes.  A wrong order of events
therefore gives wrong images.

Time: with ``realtime`` off, the sample's clock advances by exposure plus readout with every frame
and by nothing else, so a run is a pure function of the frames exposed.  With ``realtime`` on, an
exposure takes its real time and the sample also ages while nobody looks.

Bleaching: the fluorescence left after a dose D (power times exposure times mean intensity of the
pattern, in millijoules) is exp(-D / bleach_dose), the solution of dF = -F (I t / E_b) for the mean
light.  The patterns of one orientation add up to even light, so the local pattern is neglected,
and the truth at any frame needs only the one number recorded with that frame.

Joining: devices are made without arguments, so :func:`new_world` (called by the ``World`` device)
opens a world and :func:`current_world` (called by the devices loaded after it) joins it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from tisr_scope.errors import MicroscopeError
from tisr_scope.simulated_microscope.cache import Cache
from tisr_scope.simulated_microscope.camera import Sensor
from tisr_scope.simulated_microscope.cell import Cell
from tisr_scope.simulated_microscope.detection import IncoherentOtf, Transfer, cutoff
from tisr_scope.simulated_microscope.light import SLM_OVERSAMPLING, PatternLight
from tisr_scope.simulated_microscope.randomisation import draw_conditions, sensor_of
from tisr_scope.simulated_microscope.scene import Brightness, Scene, View
from tisr_scope.simulated_microscope.specimens import find_specimen

REFERENCE_MW_MS = 10.0
"""Power times exposure at which ``peak_photons`` is defined: 1 mW for 10 ms."""

READOUT_S = 0.0005
"""Time between the end of one exposure and the start of the next."""


@dataclass
class Line:
    """One laser line with the fluorophore it excites."""

    power_mw: float = 0.0
    specimen: str = "microtubules"
    emission_nm: float = 525.0


@dataclass(frozen=True)
class Exposure:
    """One frame and what is known about it."""

    image: UInt16[np.ndarray, "y x"]
    metadata: dict[str, object]


@dataclass
class World:
    """State of the simulated microscope and its sample.

    Attributes
    ----------
    seed : int
        Chooses the sample and the noise; a new seed is a new, unbleached sample.
    peak_photons : float
        Photons in the brightest pixels of a raw frame at 1 mW and 10 ms.
    background : float
        Cytosolic haze as a share of ``peak_photons``.
    bleach_dose_mj : float
        Dose that leaves 1/e of the fluorescence; 0 switches bleaching off.
    randomised : bool
        Let the seed draw cell, optics, light and camera from ``randomisation.yaml``; the specimen
        stays the stated one.  ``peak_photons`` and ``background`` have no meaning then.
    """

    seed: int = 1
    frame_shape: tuple[int, int] = (128, 128)
    pixel_um: float = 0.0626
    numerical_aperture: float = 1.49
    modulation: float = 0.8
    peak_photons: float = 20.0
    background: float = 0.06
    bleach_dose_mj: float = 1000.0
    realtime: bool = False
    randomised: bool = False
    exposure_ms: float = 10.0
    shutter_open: bool = False
    stage_um: tuple[float, float] = (0.0, 0.0)
    lines: dict[str, Line] = field(default_factory=dict)
    frames: int = 0
    """Frames exposed since the seed was set."""

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self._slm: PatternKey | None = None
        self._triggers: list[Callable[[], None]] = []
        self._sample_time_s = 0.0
        self._wall_zero = time.monotonic()
        self._dose_mj: dict[tuple[str, float, float], float] = {}
        self._sensors: Cache[Sensor] = Cache(1)
        self._lights: Cache[PatternLight] = Cache(24)
        self._cells: Cache[Cell] = Cache(4)
        self.scene = Scene()

    # -- what the devices tell ------------------------------------------------------------

    @property
    def slm_shape(self) -> tuple[int, int]:
        """Height and width of the SLM."""
        height, width = self.frame_shape
        return height * SLM_OVERSAMPLING, width * SLM_OVERSAMPLING

    def show(self, pattern: PatternKey | None) -> None:
        """Show an image on the SLM; None, as after start-up, is dark."""
        with self.lock:
            self._slm = pattern

    def on_trigger(self, advance: Callable[[], None]) -> None:
        """Call ``advance`` at the start of every exposure: the camera's trigger output."""
        with self.lock:
            self._triggers.append(advance)

    def new_sample(self, seed: int) -> None:
        """Put an untouched sample, chosen by the seed, under the microscope."""
        with self.lock:
            self.seed = seed
            self.frames = 0
            self._dose_mj.clear()
            self.set_time(0.0)

    # -- time -----------------------------------------------------------------------------

    def time_s(self) -> float:
        """Age of the sample."""
        if self.realtime:
            return time.monotonic() - self._wall_zero
        return self._sample_time_s

    def set_time(self, seconds: float) -> None:
        """Set the age of the sample."""
        self._sample_time_s = seconds
        self._wall_zero = time.monotonic() - seconds

    # -- light ----------------------------------------------------------------------------

    def expose(self) -> Exposure:
        """Expose one frame: trigger, collect light, read out, bleach, advance the clock."""
        with self.lock:
            for advance in self._triggers:
                advance()
            exposure_s = self.exposure_ms * 1e-3
            start_s = self.time_s()
            middle_s = start_s + exposure_s / 2
            light = self._light()
            bleached = {name: self.bleached_fraction(name) for name in self.lines}
            photons = None
            for name, line in self.lines.items():
                if light is not None and line.power_mw > 0:
                    part = self.photons(name, middle_s, light) * np.float32(1 - bleached[name])
                    photons = part if photons is None else photons + part
                    key = (name, *self.stage_um)
                    dose = line.power_mw * exposure_s * light.mean
                    self._dose_mj[key] = self._dose_mj.get(key, 0.0) + dose
            image = self._sensor().expose(photons, exposure_s, self.seed, self.frames)
            metadata: dict[str, object] = {
                "sim_time_s": middle_s,
                "sim_frame": self.frames,
                "shutter_open": self.shutter_open,
                "exposure_ms": self.exposure_ms,
                "stage_x_um": self.stage_um[0],
                "stage_y_um": self.stage_um[1],
                "seed": self.seed,
            }
            # flat, because Micro-Manager turns every value into a string
            for name, line in self.lines.items():
                metadata[f"power_mw_{name}"] = line.power_mw
                metadata[f"bleached_fraction_{name}"] = bleached[name]
            self.frames += 1
            end_s = start_s + exposure_s + READOUT_S
            self._sample_time_s = end_s
        if self.realtime:
            time.sleep(max(0.0, self._wall_zero + end_s - time.monotonic()))
        return Exposure(image, metadata)

    def bleached_fraction(self, line: str) -> float:
        """Share of a fluorophore that is lost where the stage stands now."""
        if self.bleach_dose_mj == 0:
            return 0.0
        dose = self._dose_mj.get((line, *self.stage_um), 0.0)
        return -math.expm1(-dose / self.bleach_dose_mj)

    def photons(
        self,
        line: str,
        time_s: float,
        light: PatternLight | None = None,
        transfer: Transfer | None = None,
        upscale: int = 1,
    ) -> Float32[np.ndarray, "y x"]:
        """Mean photons of an unbleached fluorophore, at the present power and exposure.

        ``transfer`` is the detection OTF where None; the rest as in :meth:`Scene.photons`.  Of a
        randomised cell, another ``transfer`` shows the structure in focus alone.
        """
        of = self.lines[line]
        if self.randomised:
            cell = self._cell(line)
            share = of.power_mw * self.exposure_ms / REFERENCE_MW_MS
            efficiency = self._sensor().properties.quantum_efficiency
            brightest = np.float32(share * cell.of.peak_electrons / efficiency)
            if transfer is None:
                return cell.image(time_s, light) * brightest
            return cell.truth(time_s, transfer, upscale) * brightest
        if transfer is None:
            transfer = IncoherentOtf(cutoff(self.numerical_aperture, of.emission_nm))
        peak = self.peak_photons * of.power_mw * self.exposure_ms / REFERENCE_MW_MS
        brightness = Brightness(
            emitter=peak * find_specimen(of.specimen).emitter_photons, haze=peak * self.background
        )
        view = View(of.specimen, self.seed, self.stage_um, self.frame_shape, self.pixel_um)
        return self.scene.photons(view, transfer, time_s, brightness, light, upscale)

    def _light(self) -> PatternLight | None:
        pattern = self._slm
        if pattern is None or not self.shutter_open:
            return None
        key = (pattern.digest, self.modulation, self.pixel_um)
        light = self._lights.get(
            key,
            lambda: PatternLight(
                pattern.image, self.modulation, self.pixel_um / SLM_OVERSAMPLING, key
            ),
        )
        return None if light.dark else light

    def _sensor(self) -> Sensor:
        if not self.randomised:
            return self._sensors.get(self.frame_shape, lambda: Sensor(self.frame_shape))
        key = (self.frame_shape, self.seed)
        return self._sensors.get(
            key,
            lambda: Sensor(self.frame_shape, sensor_of(draw_conditions(self.seed)), self.seed),
        )

    def _cell(self, line: str) -> Cell:
        of = self.lines[line]
        view = View(of.specimen, self.seed, self.stage_um, self.frame_shape, self.pixel_um)
        key = (view, self.numerical_aperture, of.emission_nm)
        return self._cells.get(
            key,
            lambda: Cell(
                draw_conditions(self.seed, specimen=of.specimen),
                view,
                self.numerical_aperture,
                of.emission_nm,
            ),
        )


@dataclass(frozen=True)
class PatternKey:
    """An SLM image and a digest to recognise it by."""

    digest: bytes
    image: UInt8[np.ndarray, "y x"]


# -- joining --------------------------------------------------------------------------------

_loading = threading.local()


def new_world() -> World:
    """Open a world that the devices loaded next, in this thread, will join."""
    world = World()
    _loading.world = world
    return world


@contextmanager
def joined_world() -> Iterator[None]:
    """Give back afterwards the world that devices join now."""
    before = getattr(_loading, "world", None)
    try:
        yield
    finally:
        _loading.world = before


def current_world() -> World:
    """The world opened last in this thread.

    Raises
    ------
    MicroscopeError
        If no ``World`` device was loaded before.
    """
    world = getattr(_loading, "world", None)
    if world is None:
        raise MicroscopeError(
            "a simulated device was loaded before the World device",
            where="Micro-Manager configuration",
            remedy="make '#py pyDevice,World,tisr_scope.simulated_microscope.devices,WorldDevice' "
            "the first device",
        )
    assert isinstance(world, World)
    return world
