"""The sCMOS sensor: photons in, counts out.

ADU = round(clip(offset + (Poisson(QE N + dark t) + Normal(0, sigma)) / gain)), with a read noise
sigma of its own for every pixel (log-normal: median 1.0, rms 1.6 electrons).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.simulated_microscope.randomness import generator

_SENSOR_SERIAL = 4711
"""Every simulated camera is the same chip: its fixed-pattern maps do not follow the seed."""


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


class Sensor:
    """A chip with fixed maps of offset and read noise."""

    def __init__(self, shape: tuple[int, int], properties: SensorProperties | None = None) -> None:
        self.shape = shape
        self.properties = properties or SensorProperties()
        p = self.properties
        maps = generator(_SENSOR_SERIAL, *shape)
        spread = math.sqrt(math.log(p.read_noise_rms_e / p.read_noise_median_e))
        self.read_noise_e = (
            p.read_noise_median_e * np.exp(spread * maps.standard_normal(shape))
        ).astype(np.float32)
        self.offset_map = (p.offset_adu + 0.2 * maps.standard_normal(shape)).astype(np.float32)

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
        electrons = random.poisson(mean).astype(np.float32)
        np.minimum(electrons, p.full_well_e, out=electrons)
        noise = random.standard_normal(self.shape, dtype=np.float32)
        noise *= self.read_noise_e
        electrons += noise
        electrons /= p.electrons_per_adu
        electrons += self.offset_map
        np.rint(electrons, out=electrons)
        np.clip(electrons, 0, 65535, out=electrons)
        return electrons.astype(np.uint16)
