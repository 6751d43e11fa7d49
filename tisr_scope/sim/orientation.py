"""All estimates of one orientation, in their order: bands, carrier, phase steps, harmonics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.sim.bands import band_spectra, regular_phases
from tisr_scope.sim.carrier import compare, refine_carrier
from tisr_scope.sim.coarse import coarse_carrier
from tisr_scope.sim.modulation import Harmonics, harmonics
from tisr_scope.sim.optics import DetectionOtf
from tisr_scope.sim.overlap import SamplePower
from tisr_scope.sim.phases import refine_steps

STEP_ROUNDS = 2
"""Of phase steps and carrier in turn; each hardly depends on the other."""


@dataclass(frozen=True)
class OrientationEstimate:
    """Illumination of one orientation.

    Attributes
    ----------
    carrier, carrier_se : array, shape (2,)
        kx, ky in cycles per micrometre, and their standard errors.
    steps_rad : array, shape (phase,)
        Phase of each frame relative to the first.
    harmonics : Harmonics
        Phase and modulation depth at every time point.
    quality : float
        Height of the carrier's peak over the background, in its standard deviations; NaN where
        the carrier was given.
    rival : float
        Height of the next peak elsewhere.
    """

    carrier: Float[np.ndarray, " 2"]
    carrier_se: Float[np.ndarray, " 2"]
    steps_rad: Float[np.ndarray, " phase"]
    harmonics: Harmonics
    quality: float
    rival: float


def estimate_orientation(
    frames: Float[Tensor, "time phase y x"],
    otf: DetectionOtf,
    pixel_um: float,
    orders: int,
    *,
    nominal: Float[np.ndarray, " 2"] | None = None,
    carrier: Float[np.ndarray, " 2"] | None = None,
    steps: Float[np.ndarray, " phase"] | None = None,
    refine_phases: bool = False,
    where: str = "SIM stack",
) -> OrientationEstimate:
    """Illumination of one orientation.

    Parameters
    ----------
    frames : array, shape (time, phase, y, x)
        Photo-electrons.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample.
    orders : int
        Harmonics of the pattern.
    nominal : array, shape (2,), optional
        Carrier to search around.
    carrier : array, shape (2,), optional
        Known carrier, kept as it is.
    steps : array, shape (phase,), optional
        Known phase steps; even ones if omitted.
    refine_phases : bool
        Estimate the phase steps.
    where : str
        Name of the region for messages.

    Raises
    ------
    ReconstructionError
        If stripes stand out far from the nominal carrier.
    """
    shifts = regular_phases(frames.shape[1]) if steps is None else torch.as_tensor(steps)
    bands = band_spectra(frames, shifts.to(frames.device), orders, otf, pixel_um)
    power = SamplePower.measure(bands)
    if carrier is None:
        coarse = coarse_carrier(bands, nominal, where)
        fine, overlaps = refine_carrier(bands, power, coarse.carrier)
        place, covariance = fine.carrier, fine.covariance
        quality, rival = coarse.quality, coarse.rival
    else:
        place, covariance = np.asarray(carrier, np.float64), np.zeros((2, 2))
        overlaps = compare(bands, power, place, orders)
        quality, rival = math.nan, math.nan
    if refine_phases:
        for _ in range(STEP_ROUNDS):
            shifts = refine_steps(frames, shifts, place, orders, otf, pixel_um)
            bands = band_spectra(frames, shifts.to(frames.device), orders, otf, pixel_um)
            if carrier is None:
                fine, overlaps = refine_carrier(bands, power, place)
                place, covariance = fine.carrier, fine.covariance
            else:
                overlaps = compare(bands, power, place, orders)
    return OrientationEstimate(
        place,
        np.sqrt(np.diag(covariance)),
        shifts.cpu().numpy().astype(np.float64),
        harmonics(overlaps, covariance),
        quality,
        rival,
    )
