"""Where the stripes' carrier lies, to the nearest half frequency sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.sim.optics.otf import notch
from tisr_scope.sim.parameters.bands import BandSpectra, crop_axis, smooth_length, squared

SEARCH_WITHOUT_NOMINAL = (0.5, 1.1)
"""Carrier over cut-off that is searched when no nominal carrier is known."""
LOOKED_AT = (0.3, 1.4)
"""Likewise, where a carrier is noticed but not taken: optics are stated wrongly then."""
SEARCH_AROUND_NOMINAL = 0.03
COARSE_NOTCH = 0.2
COARSE_TIME_POINTS = 5
"""Enough to find the peak; its exact place is taken from all time points."""
NEIGHBOURHOOD_SAMPLES = 4
"""Around the peak, where its own flanks lie."""
SMOOTHING_SAMPLES = 3.0
"""Over which chance agreement is averaged, so that the peak's own structure does not lower it."""
CANDIDATES = 4
"""Peaks that are looked at closely where the highest one does not stand out."""
CLEAR_QUALITY, CLEAR_RIVAL = 60.0, 0.5
"""A peak so high over the background, and over its rival, needs no second candidate."""


@dataclass(frozen=True)
class CoarseCarrier:
    """Highest peak of the agreement between bands 0 and 1.

    Attributes
    ----------
    carrier : array, shape (2,)
        kx, ky to half a frequency sample.
    quality : float
        Height over the background of the search ring, in its standard deviations.
    rival : float
        Height of the next peak elsewhere in the searched region, likewise.
    mirrored : bool
        Whether that peak lies at the opposite shift, as it does where band -1 is not separated.
    elsewhere : array, shape (2,), or None
        Where a peak twice as high lies, far from the nominal carrier or outside the search.
    candidates : tuple of (array, float)
        Places and qualities of the highest peaks, this one first; only this one where it is clear.
    """

    carrier: Float[np.ndarray, " 2"]
    quality: float
    rival: float
    mirrored: bool
    elsewhere: Float[np.ndarray, " 2"] | None
    candidates: tuple[tuple[Float[np.ndarray, " 2"], float], ...] = ()


@dataclass(frozen=True)
class AgreementMap:
    """Agreement of two bands at shifts k, at every half sample along y and x.

    Attributes
    ----------
    power : array, shape (half y, half x, ky, kx)
        In units of chance agreement: 1 on average where the bands have nothing in common.
    ky, kx : array
        Shifts at half 0, in cycles per micrometre.
    step : tuple of float
        Spacing of ky and kx; a half is half of it.
    """

    power: Float[Tensor, "halfy halfx ky kx"]
    ky: Float[Tensor, " ky"]
    kx: Float[Tensor, " kx"]
    step: tuple[float, float]


def agreement(bands: BandSpectra, largest: float, coherent: bool = False) -> AgreementMap:
    """How far bands 0 and 1 agree at every shift, in units of chance agreement.

    For weighted bands X0, X1 this is ``|sum conj(X0(f)) X1(f + k)|^2`` over the sum of the squared
    magnitudes of its terms: about 1 where their phases have nothing in common, the number of
    independent frequencies in the overlap where they agree.  The correlation alone is drawn to
    small shifts, where more of the bands overlaps; beyond the cut-off of the optics the carrier
    would be lost altogether.

    Parameters
    ----------
    bands : BandSpectra
        Of one orientation.
    largest : float
        Shift up to which the map reaches, cycles per micrometre.
    coherent : bool
        Whether the pattern is the same in all images, as in the sections of a focal series.
    """
    height, width = bands.shape
    fy, fx = bands.frequencies()
    radius = torch.sqrt(fy.square() + fx.square())
    # Not the weight of the refinement: where noise is strong it would prefer short shifts.
    weight = notch(radius, 0.999, COARSE_NOTCH * bands.otf.cutoff) ** 2 * bands.otf(fy, fx)
    step = (1 / bands.extent_um[0], 1 / bands.extent_um[1])
    reach = [math.ceil(largest / s) + 2 for s in step]
    # Room for the largest shift, so that no shift wraps onto another one.
    full = [smooth_length(n + r + 1) for n, r in zip((height, width), reach, strict=True)]
    kept = [min(2 * r + 1, n) for r, n in zip(reach, full, strict=True)]

    def field(spectrum: Tensor) -> Tensor:
        # Counted from the lowest frequency: a wave that both factors of a product have in common.
        tall = torch.fft.ifft(torch.fft.fftshift(spectrum, dim=(-2, -1)), n=full[0], dim=-2)
        wide: Tensor = torch.fft.ifft(tall, n=full[1], dim=-1)
        return wide

    def shifts(product: Tensor) -> Tensor:
        wide = crop_axis(torch.fft.fft(product, dim=-1), -1, kept[1])
        total: Tensor = crop_axis(torch.fft.fft(wide, dim=-2), -2, kept[0])
        return total * (full[0] * full[1])

    lower, upper = (bands.spectra[:, n] * weight for n in (0, 1))
    correlation = shifts(field(lower).conj() * field(upper))
    power_a, power_b = (squared(s) for s in (lower, upper))
    kind = lower.dtype
    smooth = _lag_window(full, lower.device).to(power_a.dtype)
    spread = field(power_a.mean(dim=0).to(kind)).conj() * field(power_b.sum(dim=0).to(kind))
    chance = shifts(spread * smooth).real.clamp(min=0)
    chance = chance + 1e-4 * chance.max()
    halves = []
    for half_y in (False, True):
        along = (correlation - correlation.roll(-1, -2)) / math.sqrt(2) if half_y else correlation
        row = []
        for half_x in (False, True):
            # Seen from the centre of the field, neighbouring shifts differ by a factor of -1;
            # half way between them both hold the same share of a carrier.
            both = (along - along.roll(-1, -1)) / math.sqrt(2) if half_x else along
            total = squared(both.sum(dim=0)) if coherent else squared(both).sum(dim=0)
            row.append(total / chance)
        halves.append(torch.stack(row))
    ky, kx = (
        torch.cat([torch.arange((n + 1) // 2), torch.arange(-(n // 2), 0)]).double() * s
        for n, s in zip(kept, step, strict=True)
    )
    device = lower.device
    return AgreementMap(torch.stack(halves), ky.to(device), kx.to(device), step)


def _lag_window(full: Sequence[int], device: torch.device) -> Float[Tensor, "y x"]:
    """Window that averages the transform of what it multiplies over some samples."""
    rows, columns = (
        torch.exp(
            -2 * (math.pi * SMOOTHING_SAMPLES * torch.fft.fftfreq(n, dtype=torch.float64)).square()
        ).to(device)
        for n in full
    )
    return rows[:, None] * columns[None, :]


def coarse_carrier(
    bands: BandSpectra,
    nominal: Float[np.ndarray, " 2"] | None = None,
    coherent: bool = False,
    *,
    around: float = SEARCH_AROUND_NOMINAL,
) -> CoarseCarrier:
    """Carrier to half a frequency sample, and how far its peak stands out.

    Parameters
    ----------
    bands : BandSpectra
        Of one orientation.
    nominal : array, shape (2,), optional
        Where it should lie; else a ring of 0.5 to 1.1 cut-off frequencies is searched.
    coherent : bool
        Whether the pattern is the same in all images, as in the sections of a focal series.
    around : float
        How far from the nominal carrier is searched, over its length.
    """
    otf = bands.otf
    low, high = (edge * otf.cutoff for edge in SEARCH_WITHOUT_NOMINAL)
    asked = 0.0 if nominal is None else (1 + around) * float(np.hypot(*nominal))
    times = bands.spectra.shape[0]
    used = times if coherent else COARSE_TIME_POINTS
    some = np.unique(np.linspace(0, times - 1, used).round().astype(int))
    few = BandSpectra(bands.spectra[some], bands.noise[some], bands.extent_um, bands.pixel_um, otf)
    found = agreement(few, max(LOOKED_AT[1] * otf.cutoff, asked), coherent)
    power = found.power
    half = torch.tensor([0.0, 0.5], dtype=torch.float64, device=power.device)
    ky = (found.ky[None, :] + half[:, None] * found.step[0])[:, None, :, None]
    kx = (found.kx[None, :] + half[:, None] * found.step[1])[None, :, None, :]
    shift = torch.sqrt(ky.square() + kx.square())
    ring = (shift >= low) & (shift <= high)
    if nominal is None:
        searched, trust = ring, torch.ones_like(power)
        noticed = (shift >= LOOKED_AT[0] * otf.cutoff) & (shift <= LOOKED_AT[1] * otf.cutoff)
    else:
        reach = max(around * float(np.hypot(*nominal)), 1.5 / min(bands.extent_um))
        distance = torch.minimum(
            torch.hypot(kx - nominal[0], ky - nominal[1]),
            torch.hypot(kx + nominal[0], ky + nominal[1]),
        )
        searched = distance <= reach
        # Of two peaks about as high, as few and smooth objects give, the nearer one is meant.
        trust = torch.exp(-0.5 * (distance / reach).square()).to(power.dtype)
        noticed = ring
    zero = torch.zeros((), dtype=power.dtype, device=power.device)
    background = power[0, 0][ring[0, 0]][::4]  # enough for a median, and quicker
    centre = float(background.median())
    spread = 1.4826 * float((background - centre).abs().median()) + 1e-30
    left = torch.where(searched, power * trust, zero)
    height, place = _highest(left, power, kx, ky)
    peaks = [(place, (height - centre) / spread)]

    def without(centre: Float[np.ndarray, " 2"], values: Tensor) -> Tensor:
        across = ((kx - centre[0]) / found.step[1]).square()
        apart = across + ((ky - centre[1]) / found.step[0]).square()
        return torch.where(apart > NEIGHBOURHOOD_SAMPLES**2, values, zero)

    left = without(place, left)
    rival, rival_place = _highest(left, left, kx, ky)
    opposite = np.abs(rival_place + place) / np.array([found.step[1], found.step[0]])
    quality, second = peaks[0][1], (rival - centre) / spread
    if quality < CLEAR_QUALITY or second > CLEAR_RIVAL * quality:
        for _ in range(CANDIDATES - 1):
            other, other_place = _highest(left, power, kx, ky)
            peaks.append((other_place, (other - centre) / spread))
            left = without(other_place, left)
    unasked, unasked_place = _highest(torch.where(noticed, power, zero), power, kx, ky)
    elsewhere = unasked_place if unasked > 2 * height else None
    return CoarseCarrier(
        place,
        quality,
        second,
        bool((opposite < NEIGHBOURHOOD_SAMPLES).all()),
        elsewhere,
        tuple(peaks),
    )


def _highest(
    allowed: Float[Tensor, "halfy halfx ky kx"],
    power: Float[Tensor, "halfy halfx ky kx"],
    kx: Tensor,
    ky: Tensor,
) -> tuple[float, Float[np.ndarray, " 2"]]:
    """Power and place (kx, ky) of the peak among the shifts that are allowed."""
    best = np.unravel_index(int(allowed.argmax()), allowed.shape)
    place = np.array([float(kx[0, best[1], 0, best[3]]), float(ky[best[0], 0, best[2], 0])])
    return float(power[best]), place
