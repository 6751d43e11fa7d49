"""Whether the phase steps are what they are taken for, from bands that were separated with them.

Steps that are wrong by a little leave some of band -1 in band 1: ``X1 = c S(f - k) + r conj(c)
S(f + k)``.  Band 0 agrees with band 1 at the shift k; what it has in common with band 1 at the
shift -k is that leak.  With steps ``phi_p + e_p`` it is the mean of ``i e_p exp(i 2 phi_p)``, up to
sign, so steps scattered by e rms leave ``|r| = e / sqrt(2)`` in three phases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tisr_scope.sim.parameters.bands import BandSpectra, mirrored, squared
from tisr_scope.sim.parameters.overlap import BLOCK_PX, Overlap, SamplePower

TYPICAL_AMPLITUDE = 0.4
"""Of band 1; it only weighs chance."""
CHANCE = 2.2
"""Chance agreement of filaments over that of a sample without any order, rms."""
SUSPICIOUS_SHARE = 0.05
"""Steps scattered by 4 degrees rms."""
LARGE_LEAK = 0.4
LIKELY, SURE = 3.0, 6.0
"""Errors over which a share is worth a closer look, and is no chance: small fields of few filaments
give up to 5."""


@dataclass(frozen=True)
class Leak:
    """Share of band -1 in band 1, where it is more than noise makes it; else 0.

    Attributes
    ----------
    share, error : float
        And what noise and chance give.
    at : int or None
        Time point; None for all.
    """

    share: float
    error: float
    at: int | None

    @property
    def large(self) -> bool:
        """More than slight errors of the steps give, if it is not chance."""
        return self.share >= LARGE_LEAK

    @property
    def likely(self) -> bool:
        """Whether it is worth a look at every frame."""
        return self.share > LIKELY * self.error

    @property
    def sure(self) -> bool:
        """Whether chance can be ruled out."""
        return self.share > SURE * self.error


@dataclass(frozen=True)
class Leakage:
    """Share of band -1 in band 1, at every time point.

    Attributes
    ----------
    ratio : complex array, shape (time,)
        0 where the steps are right.
    error : array, shape (time,)
        Root mean square of the ratio that noise and chance give.
    variance : array, shape (time,)
        The same for the sum of the products of both bands.
    """

    ratio: Complex[np.ndarray, " time"]
    error: Float[np.ndarray, " time"]
    variance: Float[np.ndarray, " time"]

    @property
    def first(self) -> Leak:
        """Of all time points if all have it, else of the first that does."""
        odd = _suspicious(np.abs(self.ratio), self.error)
        if odd.any() and not odd.all():
            at = int(odd.argmax())
            return Leak(float(np.abs(self.ratio[at])), float(self.error[at]), at)
        # Chance, which lies in the sample, does not get less with time.
        weight = 1 / self.error**2
        share = float(np.abs((weight * self.ratio).sum() / weight.sum()))
        error = float(1 / np.sqrt(weight.mean()))
        return Leak(share * bool(_suspicious(np.array([share]), error)[0]), error, None)


def _suspicious(
    share: Float[np.ndarray, " time"], error: Float[np.ndarray, " time"] | float
) -> Bool[np.ndarray, " time"]:
    """Where wrong steps are likely enough to measure them."""
    found: Bool[np.ndarray, " time"] = (share > SUSPICIOUS_SHARE) & (share > 1.5 * error)
    return found


def expected_leak(
    steps: Float[np.ndarray, " phase"], assumed: Float[np.ndarray, " phase"]
) -> float:
    """Share of band -1 in band 1 where frames of some steps are separated with others."""
    wanted, unwanted = (np.exp(1j * (sign * steps - assumed)).mean() for sign in (1, -1))
    return float(np.abs(unwanted) / max(np.abs(wanted), 1e-12))


def leakage(bands: BandSpectra, power: SamplePower, one: Overlap) -> Leakage:
    """Share of band -1 in band 1.

    Parameters
    ----------
    bands : BandSpectra
        Of one orientation.
    power : SamplePower
        Of its sample.
    one : Overlap
        Of its bands 0 and 1, the carrier removed.
    """
    filters, pixels = one.filters, bands.shape[0] * bands.shape[1]
    assert filters is not None
    filtered = bands.spectra[:, 0] * filters.lower
    # Band 0 is real: its mirrored filter gives the conjugate image.
    lower = torch.fft.ifft2(filtered)
    other = torch.fft.ifft2(bands.spectra[:, 1] * mirrored(filters.upper))
    rows, columns = (
        torch.polar(torch.ones_like(axis), 2 * math.pi * float(k) * axis).to(other.dtype)
        for axis, k in ((one.y, one.carrier[1]), (one.x, one.carrier[0]))
    )
    turned = lower * other * filters.inner * rows[:, None] * columns[None, :]
    common = turned.sum(dim=(-2, -1))
    fy, fx = bands.frequencies()
    ky, kx = float(one.carrier[1]), float(one.carrier[0])
    far = power(torch.hypot(fy + 2 * ky, fx + 2 * kx))
    there = bands.otf(fy + ky, fx + kx).square() * far * TYPICAL_AMPLITUDE**2
    chance = (squared(filtered) * (filters.facing_lower.square() * there)).sum(dim=(-2, -1))
    chance = chance * filters.inner.square().mean() / pixels**2
    agreed = one.product.sum(dim=(-2, -1)).to(torch.complex128).cpu().numpy()
    size = np.maximum(np.abs(agreed), 1e-300)
    ratio = common.to(torch.complex128).cpu().numpy() / np.where(agreed == 0, size, agreed.conj())
    variance = CHANCE**2 * (one.variance + chance).double().cpu().numpy()
    # A few objects agree by chance where they lie: what does not follow the light of band 1 alike
    # over the field is no leak.
    share = torch.as_tensor(ratio).to(turned)[:, None, None]
    rest = block_sums(turned) - share * block_sums(one.product).conj()
    variance = np.maximum(variance, squared(rest).sum(dim=(-2, -1)).double().cpu().numpy())
    return Leakage(ratio, np.sqrt(variance) / size, variance)


def block_sums(values: Complex[Tensor, "time y x"]) -> Complex[Tensor, "time row column"]:
    """Sums over blocks of the field."""
    real, imaginary = (
        avg_pool2d(part[:, None], BLOCK_PX, ceil_mode=True, divisor_override=1)[:, 0]
        for part in (values.real, values.imag)
    )
    return torch.complex(real, imaginary)
