"""Spectra of the bands of a focal series, and how neighbouring bands compare.

The carrier is lateral: what two bands have in common is summed over the sections, and from there
on phase, modulation and carrier are found as in two dimensions (``overlap``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor

from tisr_scope.sim.optics.otf import centred_axes, edge_taper, notch
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.parameters.bands import BandSpectra, separate_bands, squared
from tisr_scope.sim.parameters.overlap import NOTCH_DEPTH, NOTCH_WIDTH, Overlap, SamplePower

TAPER_PX = 8
FADE_UM = 1.0
"""Depth over which the series fades from its last section to its first one."""
SPOILT_UM = 0.5
ORDERS = 2


@dataclass(frozen=True)
class VolumeBands:
    """Spectra of the bands of one orientation.

    Attributes
    ----------
    spectra : complex array, shape (band, z, y, x)
        In FFT order; band 0 is the wide field.  The sections are followed by those of the fade.
    noise : array, shape (band,)
        Mean squared magnitude of the noise in every sample.
    light : array, shape (y, x)
        Sum over the sections, over its mean: where the noise is.
    sections : int
        Of the recording, without the fade.
    pixel_um, section_um : float
        Spacing of the samples.
    optics : VolumeOptics
    """

    spectra: Complex[Tensor, "band z y x"]
    noise: Float[Tensor, " band"]
    light: Float[Tensor, "y x"]
    sections: int
    pixel_um: float
    section_um: float
    optics: VolumeOptics

    def frequencies(
        self,
    ) -> tuple[Float[Tensor, "z 1 1"], Float[Tensor, "y 1"], Float[Tensor, " x"]]:
        """Fz, fy and fx, in cycles per micrometre."""
        spacing = (self.section_um, self.pixel_um, self.pixel_um)
        real = self.spectra.real.dtype
        fz, fy, fx = (
            torch.fft.fftfreq(n, d, dtype=real, device=self.spectra.device)
            for n, d in zip(self.spectra.shape[1:], spacing, strict=True)
        )
        return fz[:, None, None], fy[:, None], fx


def fade_length(sections: int, section_um: float) -> int:
    """Sections added so that the end of the series leads smoothly to its beginning."""
    return max(2, math.ceil(FADE_UM / section_um)) + (sections % 2)


def fade_weights(length: int, device: torch.device) -> Float[Tensor, " section"]:
    """Share of the first section in each section of the fade."""
    part = (torch.arange(length, dtype=torch.float32, device=device) + 1) / (length + 1)
    return torch.sin(0.5 * math.pi * part).square()


def faded(volume: Num[Tensor, "*batch z y x"], length: int) -> Num[Tensor, "*batch zz y x"]:
    """Series with ``length`` sections more, that go from the last one over to the first one."""
    weight = fade_weights(length, volume.device)[:, None, None]
    bridge = volume[..., -1:, :, :] * (1 - weight) + volume[..., :1, :, :] * weight
    return torch.cat((volume, bridge), dim=-3)


def volume_bands(
    frames: Float[Tensor, "phase z y x"],
    steps: Float[Tensor, " phase"],
    optics: VolumeOptics,
    pixel_um: float,
    section_um: float,
) -> VolumeBands:
    """Separate the bands of one orientation and transform them.

    Parameters
    ----------
    frames : array, shape (phase, z, y, x)
        Photo-electrons.
    steps : array, shape (phase,)
        Phase of each frame relative to the first.
    optics : VolumeOptics
    pixel_um, section_um : float
        Camera pixel in the sample and distance of the sections.
    """
    sections, height, width = frames.shape[1:]
    optics = replace(optics, depth_um=sections * section_um)
    window = edge_taper((height, width), TAPER_PX, frames.device).to(frames.dtype)
    level = frames.mean()
    planes = ((frames - level) * window).transpose(0, 1)
    band0, bands = separate_bands(planes, steps, ORDERS)
    length = fade_length(sections, section_um)
    spectra = torch.stack(
        [
            torch.fft.fftn(faded(one, length), dim=(-3, -2, -1))
            for one in (band0.to(bands.dtype), *bands.unbind(dim=1))
        ]
    )
    # Shot noise lies where the light is, and the noise measured is its mean under the window.
    across = frames.mean(dim=(0, 1)).clamp(min=0)
    across = across / ((across * window.square()).sum() / window.square().sum())
    found = VolumeBands(
        spectra, torch.zeros(ORDERS + 1), across, sections, pixel_um, section_um, optics
    )
    _, fy, fx = found.frequencies()
    radius = torch.sqrt(fy.square() + fx.square())
    outside = radius > 1.02 * optics.cutoff
    if int(outside.sum()) < 64:
        outside = radius > torch.quantile(radius.flatten(), 0.95)
    power = squared(spectra[..., outside]).mean(dim=(1, 2))
    # Noise goes with the light of a section; those of the fade are means of two and hold less.
    light = frames.mean(dim=(0, 2, 3)).clamp(min=0)
    weight = fade_weights(length, frames.device)
    bridge = (weight.square() * light[0] + (1 - weight).square() * light[-1]).sum()
    lit = float(sections * (light.sum() + bridge) / light.sum())
    noise = power / window.square().mean() * ((sections + length) / lit)
    return replace(found, noise=noise)


def sample_power(bands: VolumeBands) -> SamplePower:
    """Power of the sample's spectrum, taken to be the same in all directions.

    From the plane of axial frequency 0, which is the sum over the sections.
    """
    height, width = bands.spectra.shape[-2:]
    plane = BandSpectra(
        bands.spectra[None, :1, 0],
        bands.noise[None, :1],
        (height * bands.pixel_um, width * bands.pixel_um),
        bands.pixel_um,
        bands.optics.in_one_plane(),
    )
    return SamplePower.measure(plane)


def volume_overlap(
    bands: VolumeBands,
    power: SamplePower,
    order: int,
    carrier: Float[np.ndarray, " 2"],
    amplitudes: tuple[float, float],
) -> Overlap:
    """Bands ``order - 1`` and ``order`` at one common transfer, their product over all sections.

    Parameters
    ----------
    bands : VolumeBands
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
    optics, lower, upper = bands.optics, order - 1, order
    fz, fy, fx = bands.frequencies()
    kx, ky = float(carrier[0]), float(carrier[1])
    width = NOTCH_WIDTH * optics.cutoff
    noise_a, noise_b = float(bands.noise[lower]), float(bands.noise[upper])

    def radius(shift: int) -> Tensor:
        return torch.sqrt((fy + shift * ky).square() + (fx + shift * kx).square())

    def filters(own: int, other: int, towards: int) -> tuple[Tensor, Tensor]:
        """Filter of band ``own`` and, at the same frequencies, that of the other one."""
        h_own = optics.transfer(radius(0), fz, own)
        h_other = optics.transfer(radius(towards), fz, other)
        clear = notch(radius(0), NOTCH_DEPTH, width) * notch(radius(towards), NOTCH_DEPTH, width)
        g = torch.sqrt(radius(-own).square() + fz.square())
        gamma = power(g)
        if towards > 0:
            n_own, n_other, c_own, c_other = noise_a, noise_b, *amplitudes
        else:
            n_own, n_other, c_own, c_other = noise_b, noise_a, amplitudes[1], amplitudes[0]
        spread = gamma * (
            c_own**2 * n_other * h_own.square() + c_other**2 * n_own * h_other.square()
        )
        share = torch.sqrt(gamma / (n_own * n_other + spread)) * clear
        return share * h_other, share * h_own

    for_lower, facing_lower = filters(lower, upper, 1)
    for_upper, facing_upper = filters(upper, lower, -1)
    voxels = math.prod(bands.spectra.shape[1:])
    filtered_a = bands.spectra[lower] * for_lower
    filtered_b = bands.spectra[upper] * for_upper
    variance = noise_b * squared(filtered_a * facing_lower).sum()
    variance = (variance + noise_a * squared(filtered_b * facing_upper).sum()) / voxels**2
    # What lies beyond the ends of the series is unknown, and spoils the sections next to them.
    skipped = min(bands.sections // 3, math.ceil(SPOILT_UM / bands.section_um))
    inner_sections = slice(skipped, bands.sections - skipped)
    kept_sections = bands.sections - 2 * skipped
    za = torch.fft.ifftn(filtered_a)[inner_sections]
    zb = torch.fft.ifftn(filtered_b)[inner_sections]
    height, wide = za.shape[-2:]
    y, x = centred_axes((height, wide), bands.pixel_um, za.device)
    inner = edge_taper((height - 2 * TAPER_PX, wide - 2 * TAPER_PX), 6, za.device)
    inner = torch.nn.functional.pad(inner, [TAPER_PX] * 4).to(za.real.dtype)
    rows, columns = (
        torch.polar(torch.ones_like(axis), -2 * math.pi * k * axis).to(za.dtype)
        for axis, k in ((y, ky), (x, kx))
    )
    product = (za.conj() * zb).sum(dim=0) * (rows[:, None] * inner) * columns
    floor = noise_a * for_lower.square().sum() / voxels**2 * kept_sections
    energy = (squared(za).sum(dim=0) - floor * bands.light) * inner
    kept = inner.square().mean() * kept_sections / bands.spectra.shape[1]
    return Overlap(product[None], energy[None], (variance * kept)[None], y, x, carrier)
