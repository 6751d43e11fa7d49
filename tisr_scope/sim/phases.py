"""Phase steps that are not quite even, from the frames themselves.

Wrong steps mix the bands: band 0 then holds some of bands +1 and -1, and band 1 some of band -1.
Where neighbouring bands overlap they must agree (see :mod:`tisr_scope.sim.overlap`), which they do
at the right steps only.  Every band is a weighted sum of the frames, so the disagreement is a
quadratic form of those weights: its matrix, the products of all filtered frames with each other,
is computed once, and the steps are found without touching an image again.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.optimize import minimize
from torch import Tensor

from tisr_scope.sim.bands import band_spectra, frame_spectra
from tisr_scope.sim.carrier import TYPICAL_AMPLITUDES
from tisr_scope.sim.optics import DetectionOtf
from tisr_scope.sim.overlap import SamplePower, pair_filters

LARGEST_CHANGE_RAD = 1.2
"""Where steps are further off, the patterns are others than those meant."""
ACCEPTED, NAMED = 3.0, 6.0
"""Steps that are asked for are accepted, and those that are not are named, when they differ by so
many standard errors of one frame's phase.  Even steps are found uneven by 1 to 2 of them at 256
pixels and 100 photons, by 6 in the worst tenth at 20 photons."""


def _weights(steps: Float[np.ndarray, " phase"], orders: int) -> Complex[np.ndarray, "band phase"]:
    """Weights of the frames that give bands 0 to ``orders``."""
    signed = np.concatenate([np.arange(orders + 1), -np.arange(1, orders + 1)])
    mixing = np.exp(1j * steps[:, None] * signed[None, :])
    weights: Complex[np.ndarray, "band phase"] = np.linalg.pinv(mixing)[: orders + 1]
    return weights


def _products(
    frames: Float[Tensor, "time phase y x"],
    steps: Float[Tensor, " phase"],
    carrier: Float[np.ndarray, " 2"],
    orders: int,
    otf: DetectionOtf,
    pixel_um: float,
) -> list[Complex[np.ndarray, "time two_p two_p"]]:
    """For every pair of bands: products of all frames, filtered as the lower or the upper one.

    The noise is taken off, and the scale is that of the noise.
    """
    bands = band_spectra(frames, steps.to(frames.device), orders, otf, pixel_um)
    power = SamplePower.measure(bands)
    raw = frame_spectra(frames, otf, pixel_um)
    y, x = raw.positions()
    wave = torch.exp(-2j * math.pi * float(carrier[1]) * y)[:, None] * torch.exp(
        -2j * math.pi * float(carrier[0]) * x
    )
    pixels = raw.shape[0] * raw.shape[1]
    levels = [*TYPICAL_AMPLITUDES, *([TYPICAL_AMPLITUDES[-1]] * orders)]
    result = []
    for n in range(1, orders + 1):
        filters = pair_filters(bands, power, n, carrier, (levels[n - 1], levels[n]))
        root = filters.inner.sqrt()
        lower = torch.fft.ifft2(raw.spectra * filters.lower) * root
        upper = torch.fft.ifft2(raw.spectra * filters.upper) * (root * wave).to(lower.dtype)
        both = torch.cat([lower, upper], dim=1).flatten(2).to(torch.complex128)
        matrix = (both.conj() @ both.mT).cpu().numpy()
        light = float(filters.inner.sum()) / pixels**2
        noise = raw.noise.double()
        floor = (
            torch.cat(
                [
                    noise * filters.lower.square().sum() * light,
                    noise * filters.upper.square().sum() * light,
                ],
                dim=1,
            )
            .cpu()
            .numpy()
        )
        matrix[:, np.arange(matrix.shape[1]), np.arange(matrix.shape[1])] -= floor
        result.append(matrix / floor.mean())
    return result


def refine_steps(
    frames: Float[Tensor, "time phase y x"],
    steps: Float[Tensor, " phase"],
    carrier: Float[np.ndarray, " 2"],
    orders: int,
    otf: DetectionOtf,
    pixel_um: float,
) -> Float[Tensor, " phase"]:
    """Phase steps at which neighbouring bands agree best.

    Parameters
    ----------
    frames : array, shape (time, phase, y, x)
        Of one orientation; the steps are common to all times.
    steps : array, shape (phase,)
        To begin with, relative to the first frame.
    carrier : array, shape (2,)
        kx, ky of the fundamental, cycles per micrometre.
    orders : int
        Harmonics of the pattern.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample.

    Returns
    -------
    steps : array, shape (phase,)
        0 for the first frame.
    """
    matrices = _products(frames, steps, carrier, orders, otf, pixel_um)
    start = steps.cpu().numpy().astype(np.float64)
    phases = start.size

    def disagreement(change: Float[np.ndarray, " rest"]) -> float:
        weights = _weights(start + np.concatenate([[0.0], change]), orders)
        total = 0.0
        for n, matrix in enumerate(matrices, start=1):
            a, b = weights[n - 1], weights[n]
            # Of the product conj(first) second; a and b weigh the same frames.
            aa = np.einsum("p,tpq,q->t", a.conj(), matrix[:, :phases, :phases], a).real
            bb = np.einsum("p,tpq,q->t", b.conj(), matrix[:, phases:, phases:], b).real
            ab = np.einsum("p,tpq,q->t", a.conj(), matrix[:, :phases, phases:], b)
            # Less than its noise is left of a band where there is next to no light.
            total += float((bb - np.abs(ab) ** 2 / np.maximum(aa, 1e-6 * np.abs(ab))).sum())
        return total

    bounds = [(-LARGEST_CHANGE_RAD, LARGEST_CHANGE_RAD)] * (phases - 1)
    best = minimize(disagreement, np.zeros(phases - 1), method="L-BFGS-B", bounds=bounds)
    found = start + np.concatenate([[0.0], best.x])
    return torch.as_tensor(found, device=steps.device)


def step_scatter(change: Float[np.ndarray, " phase"]) -> float:
    """How far phase steps are from others, rms in radians, after the best common shift."""
    turned = np.exp(1j * np.asarray(change))
    turned = turned * np.exp(-1j * np.angle(turned.mean()))
    return float(np.sqrt((np.angle(turned) ** 2).mean()))


def significant(
    found: Float[np.ndarray, " phase"],
    assumed: Float[np.ndarray, " phase"],
    phase_se: Float[np.ndarray, " time"],
    deviations: float,
) -> bool:
    """Whether steps that were found differ from those assumed by more than noise makes them.

    Parameters
    ----------
    found, assumed : array, shape (phase,)
        In radians.
    phase_se : array, shape (time,)
        Standard errors of the phase of all frames of one orientation together.
    deviations : float
        How many of the standard errors they must differ by.
    """
    # Each step rests on one frame of ``phases``, and on all time points.
    error = math.sqrt(found.size / float((1 / np.maximum(phase_se, 1e-6) ** 2).sum()))
    return step_scatter(found - assumed) > deviations * error
