"""The sCMOS sensor: photons in, counts out.

ADU = round(clip(offset + (Poisson(QE N + dark t) + Normal(0, sigma)) / gain)), with a read noise
sigma of its own for every pixel (log-normal: median 1.0, rms 1.6 electrons).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt16

from tisr_scope.simulated_microscope.randomness import generator

_SENSOR_SERIAL = 4711
"""Serial number of the usual chip: its fixed-pattern maps do not follow the seed."""


@dataclass(frozen=True)
class SensorProperties:
    """Figures of a scientific CMOS camera (Hamamatsu Orca-Flash4.0 v3)."""

    quantum_efficiency: float = 0.82
    electrons_per_adu: float = 0.46
    offset_adu: float = 100.0
    read_noise_median_e: float = 1.0
    read_noise_rms_e: float = 1.6
    full_well_e: float = 30_000.0
    dark_e_per_s: float = 0.06
    gain_spread: float = 0.0
    """Relative spread of the gain from pixel to pixel."""
    offset_spread_adu: float = 0.2
    hot_pixels: float = 0.0
    """Part of the pixels that leak."""
    hot_e: float = 0.0
    """Mean charge that a leaking pixel adds to a frame."""


class Sensor:
    """A chip with fixed maps of offset, gain, leakage and read noise."""

    def __init__(
        self,
        shape: tuple[int, int],
        properties: SensorProperties | None = None,
        serial: int = _SENSOR_SERIAL,
    ) -> None:
        self.shape = shape
        self.properties = properties or SensorProperties()
        p = self.properties
        maps = generator(serial, *shape)
        spread = math.sqrt(math.log(p.read_noise_rms_e / p.read_noise_median_e))
        self.read_noise_e = (
            p.read_noise_median_e * np.exp(spread * maps.standard_normal(shape))
        ).astype(np.float32)
        self.offset_map = (p.offset_adu + p.offset_spread_adu * maps.standard_normal(shape)).astype(
            np.float32
        )
        self.gain_map = (1 + p.gain_spread * maps.standard_normal(shape)).astype(np.float32)
        hot = maps.random(shape) < p.hot_pixels
        self.leakage_e = np.where(hot, p.hot_e * maps.exponential(1.0, shape), 0)

    def mean_electrons(
        self,
        electrons: Float[np.ndarray, "*axes y x"],
        exposures: int,
        random: np.random.Generator,
    ) -> Float32[np.ndarray, "*axes y x"]:
        """Mean of several exposures, as the stated gain and the usual offset give it back.

        Parameters
        ----------
        electrons : array
            Mean photo-electrons of each pixel in one exposure.
        exposures : int
            Averaged frames.
        random : Generator
            Which noise.
        """
        usual = SensorProperties()
        mean = np.maximum(electrons, 0).astype(np.float64) + self.leakage_e
        counted = random.poisson(mean * exposures) / exposures
        read = self.read_noise_e / math.sqrt(exposures) * random.standard_normal(mean.shape)
        offset = (self.offset_map - usual.offset_adu) * usual.electrons_per_adu
        found: Float32[np.ndarray, "*axes y x"] = (
            (counted + read) * self.gain_map + offset
        ).astype(np.float32)
        return found

    def expose(
        self, photons: Float[np.ndarray, "y x"] | None, exposure_s: float, seed: int, frame: int
    ) -> UInt16[np.ndarray, "y x"]:
        """Counts of one frame; its noise is a pure function of (seed, frame).

        Parameters
        ----------
        photons : array or None
            Mean photons that reach each pixel during the exposure; None in the dark.
        exposure_s : float
            Exposure time, for the dark current.
        seed, frame : int
            Which noise.
        """
        p = self.properties
        random = generator(seed, 0x5E45, frame)
        dark = p.dark_e_per_s * exposure_s
        if photons is None:
            mean = np.full(self.shape, dark)
        else:
            mean = np.maximum(photons, 0).astype(np.float64)
            mean *= p.quantum_efficiency
            mean += dark
        mean += self.leakage_e
        electrons = random.poisson(mean).astype(np.float32)
        np.minimum(electrons, p.full_well_e, out=electrons)
        noise = random.standard_normal(self.shape, dtype=np.float32)
        noise *= self.read_noise_e
        electrons += noise
        electrons *= self.gain_map / np.float32(p.electrons_per_adu)
        electrons += self.offset_map
        np.rint(electrons, out=electrons)
        np.clip(electrons, 0, 65535, out=electrons)
        return electrons.astype(np.uint16)
