"""Phase steps that are not quite even, from the frames themselves.

Wrong steps mix the bands: band 0 then holds some of bands +1 and -1, and band 1 some of band -1.
Where neighbouring bands overlap they must agree (see ``overlap``), which they do
at the right steps only; and band 1 must hold nothing of band -1 (see
``band_crosstalk``), which tells more where light is scarce.  Every band is a weighted
sum of the frames, so both are quadratic forms of those weights: their matrix, the products of all
filtered frames with each other, is computed once, and the steps are found without touching an
image again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.optimize import minimize
from torch import Tensor

from tisr_scope.sim.parameters.band_crosstalk import leakage
from tisr_scope.sim.parameters.bands import BandSpectra, frame_spectra, mirrored, squared
from tisr_scope.sim.parameters.fine_carrier import TYPICAL_AMPLITUDES, compare
from tisr_scope.sim.parameters.overlap import SamplePower, pair_filters

TYPICAL_ERROR_RAD = math.radians(15)
"""Of steps as they are set; what the frames do not tell stays near the steps assumed."""
LARGEST_CHANGE_RAD = 1.2
"""Where steps are further off, the patterns are others than those meant."""
CURVATURE_STEP_RAD = 0.02


@dataclass(frozen=True)
class FoundSteps:
    """Phase steps and how far they can be trusted.

    Attributes
    ----------
    steps_rad : array, shape (phase,)
        0 for the first frame.
    change_rad, error_rad : float
        Distance from the steps assumed, rms after the best common shift, and what noise makes it.
    """

    steps_rad: Float[np.ndarray, " phase"]
    change_rad: float
    error_rad: float


def _weights(steps: Float[np.ndarray, " phase"], orders: int) -> Complex[np.ndarray, "band phase"]:
    """Weights of the frames that give bands 0 to ``orders``."""
    signed = np.concatenate([np.arange(orders + 1), -np.arange(1, orders + 1)])
    mixing = np.exp(1j * steps[:, None] * signed[None, :])
    weights: Complex[np.ndarray, "band phase"] = np.linalg.pinv(mixing)[: orders + 1]
    return weights


def _products(
    frames: Float[Tensor, "time phase y x"],
    bands: BandSpectra,
    power: SamplePower,
    carrier: Float[np.ndarray, " 2"],
) -> list[tuple[Complex[np.ndarray, "time two_p two_p"], Float[np.ndarray, " time"]]]:
    """For every pair of bands: products of all frames, filtered as the lower or the upper one.

    The noise is taken off, and the scale is that of the logarithm of the likelihood.  With them
    comes the weight of the pair.
    """
    raw = frame_spectra(frames, bands.otf, bands.pixel_um)
    y, x = raw.positions()
    wave = torch.exp(-2j * math.pi * float(carrier[1]) * y)[:, None] * torch.exp(
        -2j * math.pi * float(carrier[0]) * x
    )
    pixels = raw.shape[0] * raw.shape[1]
    orders = bands.spectra.shape[1] - 1
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
        sums = [noise_sum.square().sum() * light for noise_sum in (filters.lower, filters.upper)]
        floor = torch.cat([raw.noise.double() * one for one in sums], dim=1).cpu().numpy()
        matrix[:, np.arange(matrix.shape[1]), np.arange(matrix.shape[1])] -= floor
        result.append((matrix * pixels, _worth(bands, filters.upper, n) ** 2))
    return result


def _worth(
    bands: BandSpectra, upper: Float[Tensor, "y x"], order: int
) -> Float[np.ndarray, " time"]:
    """Signal in what steps that are wrong would mix into a band, over signal and noise.

    The signal tells of wrong steps; noise that happens to agree only seems to.  To the square it
    weighs the disagreement of the bands so that steps come out best from 20 photons to 500.
    """
    share = upper.square().double()
    noise = bands.noise[:, order].double()
    power = squared(mirrored(bands.spectra[:, order])).double()
    signal = ((share * power).sum(dim=(-2, -1)) - noise * share.sum()).clamp(min=0)
    chance = noise.square() * share.square().sum()
    worth: Float[np.ndarray, " time"] = (signal / (signal + chance)).cpu().numpy()
    return worth


def refine_steps(
    frames: Float[Tensor, "time phase y x"],
    bands: BandSpectra,
    power: SamplePower,
    carrier: Float[np.ndarray, " 2"],
    start: Float[np.ndarray, " phase"],
    assumed: Float[np.ndarray, " phase"],
) -> FoundSteps:
    """Phase steps at which neighbouring bands agree best and hold nothing of each other.

    Parameters
    ----------
    frames : array, shape (time, phase, y, x)
        Of one orientation; the steps are common to all times.
    bands : BandSpectra
        Of these frames, separated with the steps to begin with.
    power : SamplePower
        Of their sample.
    carrier : array, shape (2,)
        kx, ky of the fundamental, cycles per micrometre.
    start, assumed : array, shape (phase,)
        Steps to begin with, and steps as they were set.
    """
    orders, phases = bands.spectra.shape[1] - 1, start.size
    pairs = _products(frames, bands, power, carrier)
    mixed = leakage(bands, power, compare(bands, power, carrier, 1)[0])
    chance = mixed.variance * (bands.shape[0] * bands.shape[1]) ** 2

    def cost(change: Float[np.ndarray, " rest"]) -> float:
        steps = start + np.concatenate([[0.0], change])
        weights = _weights(steps, orders)
        away = steps - assumed
        total = float(((away - away.mean()) ** 2).sum()) / (2 * TYPICAL_ERROR_RAD**2)
        for n, (matrix, worth) in enumerate(pairs, start=1):
            a, b = weights[n - 1], weights[n]
            # Of the product conj(first) second; a and b weigh the same frames.
            aa = np.einsum("p,tpq,q->t", a.conj(), matrix[:, :phases, :phases], a).real
            bb = np.einsum("p,tpq,q->t", b.conj(), matrix[:, phases:, phases:], b).real
            ab = np.einsum("p,tpq,q->t", a.conj(), matrix[:, :phases, phases:], b)
            # Less than its noise is left of a band where there is next to no light.
            apart = bb - np.abs(ab) ** 2 / np.maximum(aa, 1e-6 * np.abs(ab) + 1e-300)
            total += float((worth * apart).sum())
            if n == 1:
                leak = np.einsum("p,tpq,q->t", a.conj(), matrix[:, :phases, phases:].conj(), b)
                total += float((np.abs(leak) ** 2 / chance).sum())
        return total

    bounds = [(-LARGEST_CHANGE_RAD, LARGEST_CHANGE_RAD)] * (phases - 1)
    best = minimize(cost, np.zeros(phases - 1), method="L-BFGS-B", bounds=bounds).x
    steps = start + np.concatenate([[0.0], best])
    inside = bool((np.abs(best) < LARGEST_CHANGE_RAD).all())
    error = _error(cost, best) if inside else math.inf
    return FoundSteps(steps, step_scatter(steps - assumed), error)


def _error(
    cost: Callable[[Float[np.ndarray, " rest"]], float], best: Float[np.ndarray, " rest"]
) -> float:
    """Rms over the frames of what noise makes of the steps, from the curvature of the cost."""
    n, h = best.size, CURVATURE_STEP_RAD
    curvature = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            one, other = h * np.eye(n)[i], h * np.eye(n)[j]
            curvature[i, j] = (
                cost(best + one + other)
                - cost(best + one - other)
                - cost(best - one + other)
                + cost(best - one - other)
            ) / (4 * h * h)
    covariance = np.zeros((n + 1, n + 1))
    covariance[1:, 1:] = np.linalg.pinv(curvature)
    centred = np.eye(n + 1) - 1 / (n + 1)
    variance = float(np.trace(centred @ covariance @ centred)) / (n + 1)
    return math.sqrt(variance) if variance > 0 else math.inf


def step_scatter(change: Float[np.ndarray, " phase"]) -> float:
    """How far phase steps are from others, rms in radians, after the best common shift."""
    turned = np.exp(1j * np.asarray(change))
    turned = turned * np.exp(-1j * np.angle(turned.mean()))
    return float(np.sqrt((np.angle(turned) ** 2).mean()))
