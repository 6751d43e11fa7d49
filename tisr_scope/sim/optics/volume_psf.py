"""Transfer function of a focal series from the recorded image of one small bead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Num

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.volume_otf import AXIAL_SAMPLES, LATERAL_SAMPLES, VolumeOptics

MINIMUM_DEPTH = 3.0
"""Of the bead's series over the inverse of the axial cut-off: below, the cone is not resolved."""


def with_measured_psf(
    optics: VolumeOptics,
    psf: Num[np.ndarray, "z y x"],
    pixel_um: float,
    section_um: float,
    where: str = "bead series",
) -> VolumeOptics:
    """Optics whose transfer is measured; cut-offs and stripes stay as they were.

    The transform of the bead, its centre at the origin, is averaged over lateral directions and
    both signs of kz.  Where the lens passes nothing, there is noise only, and it is set to 0.

    Parameters
    ----------
    optics : VolumeOptics
        Its cut-offs say where the measurement ends.
    psf : array, shape (z, y, x)
        One bead in the wide field, well below the resolution, background included.
    pixel_um, section_um : float
        Of that series.
    where : str
        Named in errors.

    Raises
    ------
    ReconstructionError
        If it is no series of one bead, too short, or sampled too coarsely.
    """
    values = np.asarray(psf, np.float64)
    usable = values.ndim == 3 and min(values.shape[1:]) >= 16 and bool(np.isfinite(values).all())
    if not usable or values.max() <= np.median(values):
        raise ReconstructionError(
            f"an array of shape {values.shape} is no focal series of a bead",
            where=where,
            remedy="give (z, y, x) with 16 x 16 pixels or more and one bead in the middle",
        )
    depth = len(values) * section_um
    least = MINIMUM_DEPTH / optics.axial_cutoff
    coarse = pixel_um > 0.5 / optics.cutoff or section_um > 0.5 / optics.axial_cutoff
    if depth < least or coarse:
        raise ReconstructionError(
            f"sections every {section_um:g} um over {depth:.2f} um and pixels of {pixel_um:g} um "
            "do not hold the transfer function",
            where=where,
            remedy=f"record {least:.1f} um or more, a section every "
            f"{0.5 / optics.axial_cutoff:.3f} um, pixels of {0.5 / optics.cutoff:.3f} um or less",
        )
    light = values - np.median(np.concatenate([values[:, 0], values[:, -1]], axis=None))
    z = np.arange(len(light)) * section_um
    centre = _centre(light)
    kz = np.linspace(0, optics.axial_cutoff, AXIAL_SAMPLES)
    fy, fx = (np.fft.fftfreq(n, pixel_um) for n in light.shape[1:])
    planes = np.fft.fft2(light)
    # Half a plane of frequencies holds all, and the real part both signs of kz.
    waves = np.exp(-2j * np.pi * kz[:, None] * (z - centre[0] * section_um))
    spectrum = np.tensordot(waves, planes, 1)
    back = fy[:, None] * centre[1] * pixel_um + fx * centre[2] * pixel_um
    spectrum = (spectrum * np.exp(2j * np.pi * back)).real
    kr = np.hypot(fy[:, None], fx)
    lateral = np.linspace(0, optics.cutoff, LATERAL_SAMPLES)
    step = max(1 / (light.shape[1] * pixel_um), 1 / (light.shape[2] * pixel_um))
    ring = np.rint(kr / step).astype(int).ravel()
    count = np.maximum(np.bincount(ring), 1)
    rings = np.stack([np.bincount(ring, plane.ravel()) / count for plane in spectrum])
    places = np.bincount(ring, kr.ravel()) / count
    table = np.stack([np.interp(lateral, places, row) for row in rings], axis=1)
    edge = optics.axial_edge(lateral)[:, None] + 1 / depth
    return replace(optics, measured=np.where(kz <= edge, table, 0).clip(min=0))


def _centre(light: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, " 3"]:
    """Centre of mass of the brightest part, in samples."""
    peak = np.unravel_index(int(light.argmax()), light.shape)
    lower = [max(int(p) - 3, 0) for p in peak]
    part = light[tuple(slice(a, int(p) + 4) for a, p in zip(lower, peak, strict=True))]
    part = part.clip(min=0.2 * float(part.max())) - 0.2 * float(part.max())
    total = part.sum()
    return np.array(
        [
            low + part.sum(axis=tuple({0, 1, 2} - {axis})) @ np.arange(part.shape[axis]) / total
            for axis, low in enumerate(lower)
        ]
    )
