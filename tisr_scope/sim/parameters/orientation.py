"""All estimates of one orientation, in their order: bands, carrier, phase steps, harmonics."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.band_crosstalk import Leak, leakage
from tisr_scope.sim.parameters.bands import BandSpectra, band_spectra, regular_phases
from tisr_scope.sim.parameters.coarse_carrier import (
    SEARCH_AROUND_NOMINAL,
    CoarseCarrier,
    coarse_carrier,
)
from tisr_scope.sim.parameters.fine_carrier import compare, refine_carrier
from tisr_scope.sim.parameters.modulation import Harmonics, harmonics
from tisr_scope.sim.parameters.overlap import SamplePower
from tisr_scope.sim.parameters.phases import FoundSteps, refine_steps

STEP_ROUNDS = 2
"""Of phase steps and carrier in turn; each hardly depends on the other."""
APART_SAMPLES = 10.0
"""Nearer peaks are flanks of one: a small sample in a large field has a broad peak."""
ACCEPTED_ERRORS = 2.0
"""Steps that differ from those assumed by less than so many errors are left as they were."""


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
    coarse : CoarseCarrier or None
        The peaks that the carrier was found from; None where it was given.
    evidence : float
        That the carrier is that of the stripes, see :func:`evidence_of`; infinite where it was
        given.
    rival_evidence : float
        The same of the next best peak; 0 where no other one was worth a look.
    leak : Leak
        Share of band -1 in band 1, with these steps.
    measured : FoundSteps or None
        Steps as the frames have them, looked for where the leak hints at others.
    wide : BandSpectra
        Band 0.
    """

    carrier: Float[np.ndarray, " 2"]
    carrier_se: Float[np.ndarray, " 2"]
    steps_rad: Float[np.ndarray, " phase"]
    harmonics: Harmonics
    coarse: CoarseCarrier | None
    evidence: float
    rival_evidence: float
    leak: Leak
    measured: FoundSteps | None
    wide: BandSpectra


def evidence_of(quality: float, depths: Harmonics) -> float:
    """How much speaks for a carrier: each factor is of order 10 by chance, 100 with stripes.

    The height of its peak over the background of the search, the modulation depth over its error,
    and one over the error of the phase: chance agreement has neither one strength nor one phase
    over the field.
    """
    modulation = depths.modulation[:, 0] / np.maximum(depths.modulation_se[:, 0], 1e-12)
    phase = 1 / np.maximum(depths.phase_se_rad[:, 0], 1e-12)
    return float(max(quality, 0.0) * np.median(modulation) * np.median(phase))


def estimate_orientation(
    frames: Float[Tensor, "time phase y x"],
    otf: DetectionOtf,
    pixel_um: float,
    orders: int,
    *,
    nominal: Float[np.ndarray, " 2"] | None = None,
    around: float = SEARCH_AROUND_NOMINAL,
    carrier: Float[np.ndarray, " 2"] | None = None,
    steps: Float[np.ndarray, " phase"] | None = None,
    refine_phases: bool = False,
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
    around : float
        How far, over its length.
    carrier : array, shape (2,), optional
        Known carrier, kept as it is.
    steps : array, shape (phase,), optional
        Known phase steps; even ones if omitted.
    refine_phases : bool
        Estimate the phase steps.
    """
    shifts = regular_phases(frames.shape[1]) if steps is None else torch.as_tensor(steps)
    bands = band_spectra(frames, shifts.to(frames.device), orders, otf, pixel_um)
    power = SamplePower.measure(bands)
    strength, rival = math.inf, 0.0
    if carrier is None:
        coarse = coarse_carrier(bands, nominal, around=around)
        tried = []
        for start, quality in coarse.candidates:
            fine, overlaps = refine_carrier(bands, power, start)
            depths = harmonics(overlaps, fine.covariance)
            tried.append((evidence_of(quality, depths), fine, overlaps, depths))
        order = sorted(range(len(tried)), key=lambda n: -tried[n][0])
        strength, fine, overlaps, depths = tried[order[0]]
        samples = np.array([bands.extent_um[1], bands.extent_um[0]])
        rival = max(
            (
                one[0]
                for one in (tried[n] for n in order[1:])
                if np.hypot(*((one[1].carrier - fine.carrier) * samples)) > APART_SAMPLES
            ),
            default=0.0,
        )
        place, covariance = fine.carrier, fine.covariance
    else:
        place, covariance = np.asarray(carrier, np.float64), np.zeros((2, 2))
        overlaps = compare(bands, power, place, orders)
        coarse = None
        depths = harmonics(overlaps, covariance)
    assumed = shifts.cpu().numpy().astype(np.float64)
    leak = leakage(bands, power, overlaps[0]).first
    measured = None
    if leak.share > 0 and not refine_phases:
        times = slice(None) if leak.at is None else slice(leak.at, leak.at + 1)
        some = replace(bands, spectra=bands.spectra[times], noise=bands.noise[times])
        measured = refine_steps(frames[times], some, power, place, assumed, assumed)
    for _ in range(STEP_ROUNDS if refine_phases else 0):
        before = shifts.cpu().numpy().astype(np.float64)
        found = refine_steps(frames, bands, power, place, before, assumed)
        if found.change_rad < ACCEPTED_ERRORS * found.error_rad:
            break
        shifts = torch.as_tensor(found.steps_rad)
        bands = band_spectra(frames, shifts.to(frames.device), orders, otf, pixel_um)
        if carrier is None:
            fine, overlaps = refine_carrier(bands, power, place)
            place, covariance = fine.carrier, fine.covariance
        else:
            overlaps = compare(bands, power, place, orders)
        depths = harmonics(overlaps, covariance)
        leak = leakage(bands, power, overlaps[0]).first
    wide = replace(bands, spectra=bands.spectra[:, :1], noise=bands.noise[:, :1])
    return OrientationEstimate(
        place,
        np.sqrt(np.diag(covariance)),
        shifts.cpu().numpy().astype(np.float64),
        depths,
        coarse,
        strength,
        rival,
        leak,
        measured,
        wide,
    )
