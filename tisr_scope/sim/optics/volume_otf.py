"""Detection and illumination in three dimensions: the transfer function of a focal series.

Scalar optics with an evenly filled pupil.  A lens records a cap of the sphere |k| = n / wavelength;
the incoherent transfer function is that cap correlated with itself (Frieden 1967; Gustafsson et
al. 2008).  Seen at one lateral frequency it says how the overlap of the pupil with its shifted
self is spread over axial frequencies; its sum over them is the transfer function in focus.

Three beams illuminate: the stripes of half the lateral carrier change along the axis with
``kz1 = (n / wavelength) (1 - cos theta)``, and since they move with the focus, their band is seen
through a transfer function that is shifted by +-kz1 along the axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import DetectionOtf, cutoff_frequency

LATERAL_SAMPLES = 97
AXIAL_SAMPLES = 65
PUPIL_SAMPLES = 200_000
"""Spread evenly without a lattice, whose rows would show in the table."""
CORE = 0.05
"""Of the lateral cut-off.  Further in the axial spread goes to 0 and the density has no bound."""


@dataclass(frozen=True)
class VolumeOptics:
    """Detection of a focal series with three-beam illumination.

    Attributes
    ----------
    numerical_aperture, emission_nm, immersion_index : float
        Of the detection.
    excitation_na, excitation_nm : float
        Aperture at which the outer beams leave the objective, and their wavelength.
    depth_um : float, optional
        Of the focal series.  A short one blurs the spectrum along the axis, so that it reaches
        a little beyond its cut-off; None is a series without end.
    measured : array, shape (kr, kz), optional
        Transfer of a bead, see :mod:`tisr_scope.sim.optics.volume_psf`, in even steps from 0 to the
        cut-offs; the closed form if omitted.
    """

    numerical_aperture: float
    emission_nm: float
    immersion_index: float
    excitation_na: float
    excitation_nm: float
    depth_um: float | None = None
    measured: Float[np.ndarray, "kr kz"] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        n = self.immersion_index
        fits = 0 < self.numerical_aperture < n and 0 < self.excitation_na < n
        if not (fits and self.emission_nm > 0 and self.excitation_nm > 0):
            raise ReconstructionError(
                f"apertures of {self.numerical_aperture} and {self.excitation_na} in an index of "
                f"{n} at {self.emission_nm} and {self.excitation_nm} nm are no optics",
                remedy="both apertures must be below the index, wavelengths are in nanometres",
            )

    @property
    def cutoff(self) -> float:
        """Lateral cut-off of the detection, in cycles per micrometre."""
        return cutoff_frequency(self.numerical_aperture, self.emission_nm)

    @property
    def axial_cutoff(self) -> float:
        """(n - sqrt(n^2 - NA^2)) / wavelength, in cycles per micrometre."""
        n = self.immersion_index
        return (n - math.sqrt(n**2 - self.numerical_aperture**2)) / (1e-3 * self.emission_nm)

    def axial_edge(self, kr: Float[np.ndarray, " kr"]) -> Float[np.ndarray, " kr"]:
        """Largest axial frequency that is detected at lateral ones, up to the cut-off.

        It is 0 at kr = 0: the missing cone.
        """
        sphere = self.immersion_index / (1e-3 * self.emission_nm)
        rim = self.cutoff / 2
        edge: Float[np.ndarray, " kr"] = np.sqrt(sphere**2 - (kr - rim) ** 2)
        return edge - math.sqrt(sphere**2 - rim**2)

    @property
    def carrier(self) -> float:
        """Lateral frequency k1 of the stripes of order 1; order 2 has twice of it."""
        return self.excitation_na / (1e-3 * self.excitation_nm)

    @property
    def axial_carrier(self) -> float:
        """Axial frequency kz1 of the stripes of order 1."""
        n = self.immersion_index
        return (n - math.sqrt(n**2 - self.excitation_na**2)) / (1e-3 * self.excitation_nm)

    @property
    def extended_cutoff(self) -> float:
        """Lateral cut-off of the reconstruction."""
        return self.cutoff + 2 * self.carrier

    @property
    def extended_axial_cutoff(self) -> float:
        """Axial cut-off of the reconstruction."""
        return self.axial_cutoff + self.axial_carrier

    @cached_property
    def _table(self) -> Float[Tensor, "kr kz"]:
        density = self.measured
        if density is None:
            density = _density(self.numerical_aperture, self.emission_nm, self.immersion_index)
        if self.depth_um is not None:
            density = _blurred(density, self.axial_cutoff, self.depth_um)
        # The core of the closed form has no bound.
        core = math.ceil(CORE * (LATERAL_SAMPLES - 1))
        return torch.from_numpy(np.minimum(density / density[core:].max(), 1.0))

    @property
    def _reach(self) -> float:
        """Axial frequency of the last column of the table."""
        return self.axial_cutoff + (0.0 if self.depth_um is None else 1 / self.depth_um)

    def transfer(
        self, kr: Float[Tensor, "*#grid"], kz: Float[Tensor, "*#grid"], order: int = 0
    ) -> Float[Tensor, "*grid"]:
        """Transfer of a band at lateral and axial frequencies of the recorded series.

        Parameters
        ----------
        kr, kz : tensor
            Cycles per micrometre; kr >= 0.
        order : int
            Of the band: 1 is seen through two transfer functions shifted by +-kz1.
        """
        if abs(order) == 1:
            up, down = kz + self.axial_carrier, kz - self.axial_carrier
            return (self.transfer(kr, up) + self.transfer(kr, down)) / 2
        table = self._table.to(device=kr.device, dtype=kr.dtype)
        row = kr / self.cutoff * (LATERAL_SAMPLES - 1)
        column = kz.abs() / self._reach * (AXIAL_SAMPLES - 1)
        row, column = row + torch.zeros_like(column), column + torch.zeros_like(row)
        outside = (row >= LATERAL_SAMPLES - 1) | (column >= AXIAL_SAMPLES - 1)
        r = row.clamp(max=LATERAL_SAMPLES - 1.001)
        c = column.clamp(max=AXIAL_SAMPLES - 1.001)
        r0, c0 = r.long(), c.long()
        pr, pc = r - r0, c - c0
        low = table[r0, c0] * (1 - pc) + table[r0, c0 + 1] * pc
        high = table[r0 + 1, c0] * (1 - pc) + table[r0 + 1, c0 + 1] * pc
        value: Tensor = low * (1 - pr) + high * pr
        return value.masked_fill(outside, 0.0)

    def in_one_plane(self) -> DetectionOtf:
        """Transfer at axial frequency 0: that of the sum over the focal series."""
        values = self._table[:, 0].tolist()
        step = self.cutoff / (LATERAL_SAMPLES - 1)
        return DetectionOtf(self.numerical_aperture, self.emission_nm, step, tuple(values))


@lru_cache(maxsize=8)
def _density(
    numerical_aperture: float, emission_nm: float, index: float
) -> Float[np.ndarray, "kr kz"]:
    """Density over axial frequencies: rows at kr, columns at kz, from 0 to the cut-offs."""
    rim, sphere = numerical_aperture / (1e-3 * emission_nm), index / (1e-3 * emission_nm)
    axial = sphere - math.sqrt(sphere**2 - rim**2)
    # Additive recurrence of the plastic number: even in two dimensions.
    golden = 1.32471795724474602596
    place = (np.arange(PUPIL_SAMPLES)[:, None] * [1 / golden, 1 / golden**2]) % 1
    qx, qy = rim * (2 * place[:, 0] - 1), rim * place[:, 1]  # the lower half is the mirror image
    table = np.zeros((LATERAL_SAMPLES, AXIAL_SAMPLES))
    for row in range(LATERAL_SAMPLES):
        half = rim * row / (LATERAL_SAMPLES - 1)
        squares = [(qx + side) ** 2 + qy**2 for side in (half, -half)]
        both = (squares[0] < rim**2) & (squares[1] < rim**2)
        heights = [np.sqrt(sphere**2 - s[both]) for s in squares]
        place = np.abs(heights[0] - heights[1]) / axial * (AXIAL_SAMPLES - 1)
        below = np.minimum(place.astype(int), AXIAL_SAMPLES - 2)
        part = place - below
        table[row] += np.bincount(below, 1 - part, AXIAL_SAMPLES)
        table[row] += np.bincount(below + 1, part, AXIAL_SAMPLES)
    table[:, 0] *= 2  # the two signs of kz share every other sample, this one has both already
    return table


def _blurred(
    table: Float[np.ndarray, "kr kz"], axial: float, depth_um: float
) -> Float[np.ndarray, "kr kz"]:
    """What a series of finite depth makes of it, on columns that reach 1 / depth further."""
    columns = np.linspace(0, axial, AXIAL_SAMPLES)
    wider = np.linspace(0, axial + 1 / depth_um, AXIAL_SAMPLES)
    share = np.where(columns == 0, 0.5, 1.0)
    kernel = sum(np.sinc(depth_um * (wider[:, None] - s * columns)) for s in (1, -1)) * share
    blurred: Float[np.ndarray, "kr kz"] = np.maximum(table @ kernel.T, 0)
    return blurred
