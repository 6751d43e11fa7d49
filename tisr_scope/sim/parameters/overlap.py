"""How two neighbouring bands compare where they overlap.

Bands a = n - 1 and b = n hold the same part of the sample's spectrum S at frequencies that differ
by the carrier k.  With ``g`` the frequency in the sample, ``Xa = ca S(g) Ha + noise`` and
``Xb = cb S(g) Hb + noise``.  For a Gaussian sample of power Gamma(g) the likelihood of ca, cb and k
depends on the data through ``sum over g of W conj(Xa) Xb`` with

    W = Ha Hb Gamma / (Na Nb + Gamma (|ca|^2 Ha^2 Nb + |cb|^2 Hb^2 Na)).

Each band receives its share of W so that both come to one common transfer: then the product of
the two in real space has, at every place of the sample, the phase of ``conj(ca) cb``.  What is
left of the other phases is noise, and its scatter over the field gives the standard errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from tisr_scope.sim.optics.otf import notch
from tisr_scope.sim.parameters.bands import TAPER_PX, BandSpectra, mirrored, squared

NOTCH_DEPTH, NOTCH_WIDTH = 0.99, 0.1
"""Haze lies at the lowest frequencies and carries no stripes; width in cut-off frequencies."""
INNER_RISE_PX = 6
"""Width over which products are faded in from where the taper of the field ends.

What the filters make of tapered data has no common phase: with it, noiseless carriers are wrong by
0.005 samples, without it by less than 0.0001.
"""
BLOCKS = 24
"""Per axis at most, for the scatter over the field."""
BLOCK_PX = 8
"""Least side of a block: the products of neighbouring samples are not independent."""
SPECTRUM_BINS = 24


@dataclass(frozen=True)
class SamplePower:
    """Power of the sample's spectrum, ``exp(level) |f|^-slope``, from the wide field."""

    level: float
    slope: float

    @classmethod
    def measure(cls, bands: BandSpectra) -> SamplePower:
        """Fit where the wide field stands out of its noise."""
        fy, fx = bands.frequencies()
        step = bands.otf.cutoff / SPECTRUM_BINS
        number = (torch.sqrt(fy.square() + fx.square()) / step).round().long().flatten()
        number = number.clamp(max=SPECTRUM_BINS)
        power = squared(bands.spectra[:, 0]).mean(dim=0).flatten()
        sums = torch.zeros(SPECTRUM_BINS + 1, dtype=power.dtype, device=power.device)
        count = sums.index_add(0, number, torch.ones_like(power)).double().cpu().numpy()
        total = sums.index_add(0, number, power).double().cpu().numpy()
        frequency = step * np.arange(SPECTRUM_BINS + 1)
        transfer = bands.otf.radial(torch.tensor(frequency)).numpy()
        noise = float(bands.noise[:, 0].mean())
        signal = total / np.maximum(count, 1) - noise
        good = (signal > 0.3 * noise) & (transfer > 0.02)
        good &= (count > 0) & (frequency > NOTCH_WIDTH * bands.otf.cutoff)
        if good.sum() < 3:
            # Next to nothing but noise: any fall-off gives about the same weights.
            inside = slice(2, SPECTRUM_BINS // 2)
            mean = max(float(signal[inside].mean()), 1e-3 * noise + 1e-30)
            return cls(math.log(mean), 0.0)
        slope, level = np.polyfit(
            np.log(frequency[good]), np.log(signal[good] / transfer[good] ** 2), 1
        )
        return cls(float(level), float(-slope))

    def __call__(self, radius: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
        """Power at radial frequencies in cycles per micrometre."""
        return torch.exp(self.level - self.slope * torch.log(radius.clamp(min=0.05)))


@dataclass(frozen=True)
class Overlap:
    """Bands n - 1 and n at one common transfer, in real space, the carrier removed.

    Attributes
    ----------
    product : complex array, shape (time, y, x)
        ``conj(za) zb exp(-2 pi i k r)``, faded out towards the edges.
    energy : array, shape (time, y, x)
        ``|za|^2`` without the noise, faded alike.
    variance : array, shape (time,)
        Of the sum of the products, for noise that is the same everywhere.
    y, x : array
        Positions from the centre of the field, in micrometres.
    carrier : array, shape (2,)
        kx, ky that was removed.
    filters : PairFilters, optional
        That brought the bands to one transfer, in two dimensions.
    """

    product: Complex[Tensor, "time y x"]
    energy: Float[Tensor, "time y x"]
    variance: Float[Tensor, " time"]
    y: Float[Tensor, " y"]
    x: Float[Tensor, " x"]
    carrier: Float[np.ndarray, " 2"]
    filters: PairFilters | None = None


@dataclass(frozen=True)
class PairFilters:
    """Share of the weight that each of two bands receives, and the margin left out.

    ``facing_lower`` is the filter of the upper band at the frequencies of the lower one, f + k,
    and ``facing_upper`` that of the lower band at those of the upper one.
    """

    lower: Float[Tensor, "y x"]
    upper: Float[Tensor, "y x"]
    facing_lower: Float[Tensor, "y x"]
    facing_upper: Float[Tensor, "y x"]
    inner: Float[Tensor, "y x"]


def pair_filters(
    bands: BandSpectra,
    power: SamplePower,
    order: int,
    carrier: Float[np.ndarray, " 2"],
    amplitudes: tuple[float, float],
) -> PairFilters:
    """Filters that bring bands ``order - 1`` and ``order`` to one common transfer.

    Parameters
    ----------
    bands : BandSpectra
        Of one orientation.
    power : SamplePower
        Of its sample.
    order : int
        Of the upper band.
    carrier : array, shape (2,)
        kx, ky of the fundamental.
    amplitudes : tuple of float
        Expected |c| of both bands.
    """
    fy, fx = bands.frequencies()
    kx, ky = float(carrier[0]), float(carrier[1])
    otf, width = bands.otf, NOTCH_WIDTH * bands.otf.cutoff
    noise_a, noise_b = (float(n) for n in bands.noise[:, order - 1 : order + 1].mean(dim=0))
    own = otf(fy, fx)
    own_notch = notch(torch.sqrt(fy.square() + fx.square()), NOTCH_DEPTH, width)
    py, px = fy + ky, fx + kx
    ahead = otf(py, px)
    clear = own_notch * notch(torch.sqrt(py.square() + px.square()), NOTCH_DEPTH, width)
    # Seen from the other band the partner lies at f - k.
    behind, clear_behind = mirrored(ahead), mirrored(clear)

    def share(sample_order: int, h_a: Tensor, h_b: Tensor) -> Float[Tensor, "y x"]:
        gy, gx = fy - sample_order * ky, fx - sample_order * kx
        gamma = power(torch.sqrt(gy.square() + gx.square()))
        spread = gamma * (
            amplitudes[0] ** 2 * noise_b * h_a.square()
            + amplitudes[1] ** 2 * noise_a * h_b.square()
        )
        return torch.sqrt(gamma / (noise_a * noise_b + spread)) * (own > 0)

    inside_a = share(order - 1, own, ahead) * clear
    inside_b = share(order, behind, own) * clear_behind
    inner = _inner(bands)
    return PairFilters(inside_a * ahead, inside_b * behind, inside_a * own, inside_b * own, inner)


def _inner(bands: BandSpectra) -> Float[Tensor, "y x"]:
    sides = []
    for axis, extent in zip(bands.positions(), bands.extent_um, strict=True):
        depth = (extent / 2 - axis.abs()) / bands.pixel_um - TAPER_PX
        sides.append(torch.sin((depth / INNER_RISE_PX).clamp(0, 1) * (math.pi / 2)).square())
    window: Tensor = sides[0][:, None] * sides[1][None, :]
    return window.to(bands.noise.dtype)


def overlap(
    bands: BandSpectra,
    filters: PairFilters,
    order: int,
    carrier: Float[np.ndarray, " 2"],
) -> Overlap:
    """Compare bands ``order - 1`` and ``order`` of one orientation."""
    y, x = bands.positions()
    pixels = bands.shape[0] * bands.shape[1]
    filtered = bands.spectra[:, order - 1] * filters.lower
    lower = torch.fft.ifft2(filtered)
    other = bands.spectra[:, order] * filters.upper
    upper = torch.fft.ifft2(other)
    wave_y = torch.polar(torch.ones_like(y), -2 * math.pi * float(carrier[1]) * y)
    wave_x = torch.polar(torch.ones_like(x), -2 * math.pi * float(carrier[0]) * x)
    product = lower.conj() * upper
    product = (
        product * (wave_y.to(product.dtype)[:, None] * filters.inner) * wave_x.to(product.dtype)
    )
    noise_a, noise_b = bands.noise[:, order - 1], bands.noise[:, order]
    floor = noise_a * filters.lower.square().sum() / pixels**2
    energy = (squared(lower) - floor[:, None, None]) * filters.inner
    # Noise of one band times the other band, as the other is weighted.
    variance = noise_b * squared(filtered * filters.facing_lower).sum(dim=(-2, -1))
    variance = variance + noise_a * squared(other * filters.facing_upper).sum(dim=(-2, -1))
    variance = variance * filters.inner.square().mean() / pixels**2
    return Overlap(product, energy, variance, y, x, carrier, filters)


def shifted(one: Overlap, shift: Float[np.ndarray, " 2"]) -> Overlap:
    """The same with a little more of the carrier removed, kx and ky in cycles per micrometre."""
    rows, columns = (
        torch.polar(torch.ones_like(axis), -2 * math.pi * float(k) * axis).to(one.product.dtype)
        for axis, k in ((one.y, shift[1]), (one.x, shift[0]))
    )
    product = one.product * rows[:, None] * columns
    return replace(one, product=product, carrier=one.carrier + shift)


def moments(overlap: Overlap, shift: Float[np.ndarray, " 2"]) -> Complex[np.ndarray, "time 3 3"]:
    """``sum of product y^i x^j exp(-2 pi i shift r)`` over the field, i and j 0 to 2."""
    y, x = overlap.y, overlap.x

    def ladder(axis: Tensor, k: float) -> Tensor:
        wave = torch.polar(torch.ones_like(axis), -2 * math.pi * k * axis)
        return torch.stack([wave, wave * axis, wave * axis.square()])

    left, right = ladder(y, float(shift[1])), ladder(x, float(shift[0]))
    kind = overlap.product.dtype
    inner = (left.to(kind) @ overlap.product).to(torch.complex128)
    result: Complex[np.ndarray, "time 3 3"] = (inner @ right.mT).cpu().numpy()
    return result


def blocks(
    overlap: Overlap,
) -> tuple[Complex[np.ndarray, "time b"], Float[np.ndarray, "time b"], Float[np.ndarray, "b 2"]]:
    """Sums over blocks of the field: products, energies, and the centres (x, y) of the blocks."""
    sums, centres = [], []
    for axis in (overlap.y, overlap.x):
        n = axis.shape[0]
        number = max(2, min(BLOCKS, n // BLOCK_PX))
        index = (torch.arange(n, device=axis.device) * number) // n
        member = torch.zeros(number, n, dtype=axis.dtype, device=axis.device)
        member[index, torch.arange(n, device=axis.device)] = 1
        sums.append(member)
        centres.append(((member @ axis) / member.sum(dim=1)).cpu().numpy())
    rows, columns = sums
    kind = overlap.energy.dtype

    def add(field: Tensor) -> np.ndarray:
        return (rows.to(kind) @ field @ columns.to(kind).T).flatten(1).double().cpu().numpy()

    product = add(overlap.product.real) + 1j * add(overlap.product.imag)
    place_y, place_x = np.meshgrid(*centres, indexing="ij")
    return product, add(overlap.energy), np.stack([place_x.ravel(), place_y.ravel()], axis=1)
