"""The stripes' carrier to a fraction of a frequency sample, with its covariance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float

from tisr_scope.sim.parameters.bands import BandSpectra, squared
from tisr_scope.sim.parameters.overlap import (
    Overlap,
    PairFilters,
    SamplePower,
    blocks,
    moments,
    overlap,
    pair_filters,
    shifted,
)

TYPICAL_AMPLITUDES = (1.0, 0.4, 0.15)
"""|c| of the bands before they are known; they only weigh noise against noise."""
CLIMB_STEPS = 12


@dataclass(frozen=True)
class FineCarrier:
    """Carrier to a fraction of a frequency sample.

    Attributes
    ----------
    carrier : array, shape (2,)
        kx, ky in cycles per micrometre.
    covariance : array, shape (2, 2)
        Of kx and ky, from the noise.
    """

    carrier: Float[np.ndarray, " 2"]
    covariance: Float[np.ndarray, "2 2"]


def _slope(
    overlaps: Sequence[Overlap], shift: Float[np.ndarray, " 2"]
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, "2 2"]]:
    """Gradient and curvature, over the shift, of the agreement of all bands."""
    gradient, curvature = np.zeros(2), np.zeros((2, 2))
    for one in overlaps:
        m: Complex[np.ndarray, "time 3 3"] = moments(one, shift)
        weight = 1 / np.maximum(one.variance.double().cpu().numpy(), 1e-300)
        value = m[:, 0, 0]
        first = -2j * np.pi * np.stack([m[:, 0, 1], m[:, 1, 0]])
        second = -4 * np.pi**2 * np.array([[m[:, 0, 2], m[:, 1, 1]], [m[:, 1, 1], m[:, 2, 0]]])
        gradient += 2 * (weight * (value.conj() * first).real).sum(axis=-1)
        crossed = (first[:, None].conj() * first[None, :]).real
        curvature += 2 * (weight * (crossed + (value.conj() * second).real)).sum(axis=-1)
    return gradient, curvature


def survey(
    overlaps: Sequence[Overlap], samples: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, " 2"]:
    """Best of the shifts up to one sample either way, a quarter of a sample apart."""
    grid = np.linspace(-1, 1, 9)
    total = np.zeros((grid.size, grid.size))
    for one in overlaps:
        left, right = (
            torch.exp(
                -2j
                * math.pi
                * torch.as_tensor(grid * sample, device=axis.device)[:, None]
                * axis[None, :]
            ).to(one.product.dtype)
            for axis, sample in ((one.y, samples[1]), (one.x, samples[0]))
        )
        power = squared(left @ one.product @ right.mT)
        total += (power / one.variance[:, None, None]).sum(dim=0).double().cpu().numpy()
    row, column = np.unravel_index(int(total.argmax()), total.shape)
    place: Float[np.ndarray, " 2"] = np.array([grid[column], grid[row]]) * samples
    return place


def climb(
    overlaps: Sequence[Overlap],
    samples: Float[np.ndarray, " 2"],
    place: Float[np.ndarray, " 2"],
) -> Float[np.ndarray, " 2"]:
    """Shift at the top of the peak, by Newton's method; samples are those of kx and ky."""
    for _ in range(CLIMB_STEPS):
        gradient, curvature = _slope(overlaps, place)
        values, vectors = np.linalg.eigh(curvature * np.outer(samples, samples))
        # Uphill along every axis, even where the peak is not yet convex.
        step = vectors @ ((vectors.T @ (gradient * samples)) / np.maximum(np.abs(values), 1e-300))
        length = np.hypot(*step)
        step *= min(1.0, 0.25 / max(length, 1e-300))
        place = place + step * samples
        if length < 1e-4:  # the next step is its square
            break
    return place


def refine_carrier(
    bands: BandSpectra,
    power: SamplePower,
    start: Float[np.ndarray, " 2"],
    amplitudes: Sequence[float] = TYPICAL_AMPLITUDES,
) -> tuple[FineCarrier, list[Overlap]]:
    """Carrier from all pairs of neighbouring bands and all time points.

    Parameters
    ----------
    bands : BandSpectra
        Of one orientation.
    power : SamplePower
        Of its sample.
    start : array, shape (2,)
        Carrier to about one frequency sample.
    amplitudes : sequence of float
        Expected |c| of the bands, from band 0.

    Returns
    -------
    fine : FineCarrier
        Carrier and its covariance.
    overlaps : list of Overlap
        Of bands 0-1, 1-2, ..., with that carrier removed.
    """
    samples = np.array([1 / bands.extent_um[1], 1 / bands.extent_um[0]])
    carrier = np.asarray(start, np.float64)
    orders = bands.spectra.shape[1] - 1
    pairs = compare(bands, power, carrier, orders, amplitudes)
    carrier = carrier + climb(pairs, samples, survey(pairs, samples))
    pairs = compare(bands, power, carrier, orders, amplitudes)
    rest = climb(pairs, samples, np.zeros(2))
    # Too little for other filters; only the wave is still to be taken off.
    final = [shifted(one, rest) for one in pairs]
    return FineCarrier(carrier + rest, carrier_covariance(final)), final


def compare(
    bands: BandSpectra,
    power: SamplePower,
    carrier: Float[np.ndarray, " 2"],
    orders: int,
    amplitudes: Sequence[float] = TYPICAL_AMPLITUDES,
) -> list[Overlap]:
    """Overlaps of bands 0-1, 1-2, ... at a carrier."""
    levels = [*amplitudes, *([amplitudes[-1]] * orders)]
    result = []
    for n in range(1, orders + 1):
        filters: PairFilters = pair_filters(bands, power, n, carrier, (levels[n - 1], levels[n]))
        result.append(overlap(bands, filters, n, carrier))
    return result


def carrier_covariance(overlaps: Sequence[Overlap]) -> Float[np.ndarray, "2 2"]:
    """Covariance of kx and ky: scatter of the gradient over the field, over the curvature.

    At the true carrier the products have one phase everywhere.  Their components across it are
    noise, of whatever strength it has at each place, and it is these that move the peak.
    """
    scatter, curvature = np.zeros((2, 2)), np.zeros((2, 2))
    for one in overlaps:
        product, _, centres = blocks(one)
        for t in range(product.shape[0]):
            total = product[t].sum()
            weight = abs(total) / max(float(one.variance[t]), 1e-300)
            turned = product[t] * np.exp(-1j * np.angle(total))
            along, across = turned.real, turned.imag
            arm = 2 * np.pi * (centres - (along @ centres) / along.sum())
            scatter += weight**2 * (arm.T * across**2) @ arm
            curvature += weight * (arm.T * along) @ arm
    inverse = np.linalg.pinv(curvature)
    covariance: Float[np.ndarray, "2 2"] = inverse @ scatter @ inverse
    return covariance
