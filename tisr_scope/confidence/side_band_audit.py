"""How much of the detail beyond the diffraction limit is true, from frames a network never saw.

Patterned frames hold the sample moved by the carrier p of the stripes.  Their side band
``C(f) = OTF(f) m/2 exp(i phi) S(f - p)`` reaches sample frequencies f - p that no wide field
carries, and its noise is independent of that of the frames' mean, which is all a network sees.
So the super-resolved image, moved by the same carrier and seen through the same optics, must
agree with the measured side band there; a structure that was made up does not.

The correlation of the two, divided by ``sqrt(1 - noise / power)`` of the measured band, estimates
the correlation of the image with the sample itself.  The noise is measured beyond the support of
the optics.  The phase of the stripes comes from where bands 0 and 1 overlap, not from the image,
so that chance agreement averages to 0.

It cannot see frequencies below the cut-off, which the wide field settles, and nothing can be said
where the sample has no detail above the noise.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import (
    DetectionOtf,
    apodisation,
    centred_axes,
    edge_taper,
    frequency_grid,
)
from tisr_scope.sim.parameters.bands import separate_bands
from tisr_scope.sim.parameters.estimate import SimParameters, refresh_phases

MARGIN_PX = 16
"""By which the image is mirrored past its edges, where light from outside is unknown."""
TAPER_PX = 12
LEAST_APODISATION = 0.1
"""Below it the fall-off of the image is no longer undone: what is left there is rounding."""
LOWEST = 0.1
"""Of the cut-off.  Nearer to camera frequency 0, light that flickers between frames leaks in."""
OUTSIDE = 1.02
RING_WIDTH = 0.5
"""Of the rings, in cycles per micrometre."""
MOST_PHASE_ERROR_RAD = 0.05
"""A phase known so well is taken from its own time point."""
LEAST_SIGNAL = 3.0
"""Standard errors by which the band must stand above its noise."""


@dataclass(frozen=True)
class AuditSums:
    """Sums over frequencies or pixels; they add up over time points, orientations and places.

    Attributes
    ----------
    product : array
        Real part of the predicted band times the conjugate of the measured one.
    predicted, measured : array
        Their squared magnitudes.
    noise : array
        Expected share of noise in ``measured``.
    samples : array
        Independent complex values that were summed.
    """

    product: Float[np.ndarray, "*any"]
    predicted: Float[np.ndarray, "*any"]
    measured: Float[np.ndarray, "*any"]
    noise: Float[np.ndarray, "*any"]
    samples: Float[np.ndarray, "*any"]

    def __add__(self, other: AuditSums) -> AuditSums:
        return AuditSums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __getitem__(self, index: int) -> AuditSums:
        return AuditSums(*(np.asarray(part[index]) for part in astuple(self)))

    def sum(self, axis: int | tuple[int, ...] | None = None) -> AuditSums:
        """Sums over axes, by default all."""
        return AuditSums(*(np.asarray(part.sum(axis=axis)) for part in astuple(self)))

    def inside(self, region: Bool[np.ndarray, "y x"]) -> AuditSums:
        """Sums of maps over a region."""
        return AuditSums(*(np.asarray(part[..., region].sum()) for part in astuple(self)))

    @property
    def signal(self) -> Float[np.ndarray, "*any"]:
        """Power of the sample in the measured band, noise taken off; may be below 0."""
        signal: Float[np.ndarray, "*any"] = self.measured - self.noise
        return signal

    @property
    def correlation(self) -> Float[np.ndarray, "*any"]:
        """Estimated correlation with the sample; NaN where nothing stands above the noise."""
        scatter = self.noise / np.sqrt(np.maximum(self.samples, 1))
        told = (self.signal > LEAST_SIGNAL * scatter) & (self.predicted > 0)
        power = np.where(told, self.predicted * self.signal, 1.0)
        found: Float[np.ndarray, "*any"] = np.where(told, self.product / np.sqrt(power), np.nan)
        return found

    @property
    def standard_error(self) -> Float[np.ndarray, "*any"]:
        """Of the correlation, from the noise of the measured band; NaN where that is NaN."""
        correlation = self.correlation
        samples = np.maximum(self.samples, 1)
        ratio = self.noise / samples / np.where(np.isfinite(correlation), self.signal, 1.0)
        # Of the product, whose real part holds half of the noise, and of the signal's power.
        variance = ratio / 2 + correlation**2 * (samples * ratio**2 + 2 * ratio) / 4
        error: Float[np.ndarray, "*any"] = np.sqrt(variance)
        return error


@dataclass(frozen=True)
class Audit:
    """One super-resolved image against the side bands of its time point.

    Attributes
    ----------
    rings : AuditSums, shape (orientation, ring)
        By sample frequency beyond the cut-off.
    maps : AuditSums, shape (y, x)
        By place on the camera's grid, all orientations together.
    frequency : array, shape (ring,)
        Middle of every ring, cycles per micrometre.
    """

    rings: AuditSums
    maps: AuditSums
    frequency: Float[np.ndarray, " ring"]

    def __add__(self, other: Audit) -> Audit:
        return Audit(self.rings + other.rings, self.maps + other.maps, self.frequency)

    @property
    def overall(self) -> AuditSums:
        """Everything together: "true beyond the diffraction limit"."""
        return self.rings.sum()

    @property
    def by_orientation(self) -> AuditSums:
        """Sums of every orientation."""
        return self.rings.sum(axis=1)

    @property
    def by_frequency(self) -> AuditSums:
        """Sums of every ring."""
        return self.rings.sum(axis=0)


@dataclass(frozen=True)
class _Orientation:
    """What is needed of one orientation, made once."""

    number: int
    wave: Complex[Tensor, "fy fx"]
    """Moves the image by the carrier, margins included."""
    ring: Int64[Tensor, " frequency"]
    """Of every frequency that is passed."""
    passed: Bool[Tensor, "y x"]
    """Camera frequencies at which the sample is beyond the cut-off."""


class SideBandAuditor:
    """Compares super-resolved images with the patterned frames of the same time points.

    Parameters
    ----------
    parameters : SimParameters
        Stripes of the region; orientations that are not usable are left out.
    otf : DetectionOtf
        Detection optics.
    shape : (y, x)
        Of the camera.
    upscale : int
        Super-resolved pixels per camera pixel.

    Raises
    ------
    ReconstructionError
        If no orientation has stripes, or the pixels leave no frequency beyond the cut-off.
    """

    def __init__(
        self,
        parameters: SimParameters,
        otf: DetectionOtf,
        shape: tuple[int, int],
        upscale: int,
    ) -> None:
        self._parameters, self._otf = parameters, otf
        self._shape, self._upscale = shape, upscale
        self._margin = min(MARGIN_PX, min(shape) - 1)
        pixel = parameters.pixel_size_um
        padded = (shape[0] + 2 * self._margin, shape[1] + 2 * self._margin)
        fine = (upscale * padded[0], upscale * padded[1])
        fy, fx = frequency_grid(padded, pixel)
        # From the fine samples to camera pixels, whose centres lie between them.
        quarter = 2 * math.pi * (fy + fx) * (upscale - 1) / 2 * pixel / upscale
        self._transfer = (torch.polar(otf(fy, fx), quarter) / upscale**2).to(torch.complex64)
        self._kept = [_lowest(n, m) for n, m in zip(fine, padded, strict=True)]
        self._window = edge_taper(shape, TAPER_PX).float()
        gy, gx = frequency_grid(shape, pixel)
        self._outside = torch.hypot(gy, gx) > OUTSIDE * otf.cutoff
        if int(self._outside.sum()) < 64:
            raise ReconstructionError(
                "the camera pixels are too coarse to leave noise alone beyond the optics: "
                f"{pixel:g} µm, the cut-off is {otf.cutoff:.2f} cycles/µm",
                remedy="audit recordings with pixels below half the resolution of the wide field",
            )
        edge = otf.cutoff + float(parameters.frequency.max())
        rings = math.ceil((edge - otf.cutoff) / RING_WIDTH)
        self.frequency = otf.cutoff + (np.arange(rings) + 0.5) * RING_WIDTH
        hy, hx = frequency_grid(fine, pixel / upscale)
        fall = apodisation(torch.hypot(hy, hx), edge).clamp(min=LEAST_APODISATION)
        self._restore = (1 / fall).float()
        self._orientations = [
            self._prepare(o, fine, (gy, gx)) for o in np.flatnonzero(parameters.usable).tolist()
        ]
        if not self._orientations:
            raise ReconstructionError(
                "no orientation has stripes to audit with",
                remedy="look at the stripes with 'tisr reconstruct --report'",
            )

    def _prepare(self, o: int, fine: tuple[int, int], grid: tuple[Tensor, Tensor]) -> _Orientation:
        kx, ky = (float(k) for k in self._parameters.carrier[o])
        y, x = centred_axes(fine, self._parameters.pixel_size_um / self._upscale)
        turns = 2 * math.pi * (ky * y[:, None] + kx * x[None, :])
        sample = torch.hypot(grid[0] - ky, grid[1] - kx)
        seen = torch.hypot(grid[0], grid[1])
        cutoff = self._otf.cutoff
        passed = (sample > cutoff) & (seen < cutoff) & (seen > LOWEST * cutoff)
        ring = ((sample[passed] - cutoff) / RING_WIDTH).long().clamp(max=len(self.frequency) - 1)
        wave = torch.polar(torch.ones_like(turns), turns).to(torch.complex64)
        return _Orientation(o, wave, ring, passed)

    def audit(
        self,
        frames: Float[np.ndarray, "orientation phase y x"],
        image: Float[np.ndarray, "fy fx"],
    ) -> Audit:
        """Audit one image.

        Parameters
        ----------
        frames : array, shape (orientation, phase, y, x)
            Patterned frames of its time point, photo-electrons; their mean is all that the network
            may have seen of them.
        image : array, shape (upscale y, upscale x)
            Super-resolved, any intensity scale.

        Raises
        ------
        ReconstructionError
            If frames and image do not belong together.
        """
        fine = (self._shape[0] * self._upscale, self._shape[1] * self._upscale)
        if frames.shape[-2:] != self._shape or image.shape != fine:
            raise ReconstructionError(
                f"frames {frames.shape} and image {image.shape} do not belong to a field of "
                f"{self._shape} pixels, enlarged x{self._upscale}",
                remedy="audit the result with the recording it was made of",
            )
        stack = torch.as_tensor(np.ascontiguousarray(frames), dtype=torch.float32)
        phases, depths = self._stripes(frames)
        sample = self._restored(image)
        rings, maps = [], None
        for one in self._orientations:
            o = one.number
            steps = torch.as_tensor(self._parameters.steps_rad[o])
            own = stack[o] * (stack[o].mean() / stack[o].mean(dim=(-2, -1), keepdim=True))
            _, bands = separate_bands(own, steps)
            turn = complex(np.exp(-1j * phases[o])) * 2 / float(depths[o])
            measured = torch.fft.fft2(bands[0] * turn * self._window)
            predicted = torch.fft.fft2(self._seen(sample * one.wave) * self._window)
            rings.append(self._by_ring(predicted, measured, one))
            here = self._by_place(predicted, measured, one.passed)
            maps = here if maps is None else maps + here
        assert maps is not None
        return Audit(_stacked(rings), maps, self.frequency)

    def _stripes(
        self, frames: Float[np.ndarray, "orientation phase y x"]
    ) -> tuple[Float[np.ndarray, " orientation"], Float[np.ndarray, " orientation"]]:
        """Phases of this moment where the light tells them better than before; depths."""
        held = self._parameters
        phases, error = held.phase_rad[0, :, 0], held.phase_se_rad[0, :, 0]
        try:
            now = refresh_phases(frames, held, self._otf, "audit")
            newer = now.phase_se_rad[0, :, 0] < np.maximum(error, MOST_PHASE_ERROR_RAD)
            phases = np.where(newer, now.phase_rad[0, :, 0], phases)
        except ReconstructionError:
            pass  # too little light to see the stripes of one time point: those of before hold
        return phases, held.pooled_modulation[:, 0]

    def _restored(self, image: Float[np.ndarray, "fy fx"]) -> Float[Tensor, "fy fx"]:
        sample = torch.as_tensor(np.ascontiguousarray(image), dtype=torch.float32)
        sample = sample - sample.mean()
        wide = self._margin * self._upscale
        sample = pad(sample[None, None], (wide,) * 4, mode="reflect")[0, 0]
        restored: Tensor = torch.fft.ifft2(torch.fft.fft2(sample) * self._restore).real
        return restored

    def _seen(self, light: Complex[Tensor, "fy fx"]) -> Complex[Tensor, "y x"]:
        """Light on the fine grid through the optics, at camera pixels, without the margin."""
        spectrum = torch.fft.fft2(light)[self._kept[0]][:, self._kept[1]]
        inner = slice(self._margin, -self._margin)
        seen: Tensor = torch.fft.ifft2(spectrum * self._transfer)[inner, inner]
        return seen

    def _by_ring(
        self, predicted: Tensor, measured: Tensor, one: _Orientation
    ) -> tuple[Float[np.ndarray, " ring"], ...]:
        p, c = predicted[one.passed], measured[one.passed]
        level = _power(measured[self._outside]).mean().expand(p.shape)
        parts = ((p * c.conj()).real, _power(p), _power(c), level, torch.ones_like(level))
        rings = len(self.frequency)
        return tuple(torch.bincount(one.ring, part.double(), rings).numpy() for part in parts)

    def _by_place(self, predicted: Tensor, measured: Tensor, passed: Tensor) -> AuditSums:
        p, c = (torch.fft.ifft2(part * passed) for part in (predicted, measured))
        rest = torch.fft.ifft2(measured * self._outside)
        share = float(passed.double().mean())
        noise = _power(rest) * (share / float(self._outside.double().mean()))
        parts = ((p * c.conj()).real, _power(p), _power(c), noise, torch.full_like(noise, share))
        return AuditSums(*(part.double().numpy() for part in parts))


def _stacked(rings: list[tuple[Float[np.ndarray, " ring"], ...]]) -> AuditSums:
    return AuditSums(*(np.stack(part) for part in zip(*rings, strict=True)))


def _power(values: Complex[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    return values.real.square() + values.imag.square()


def _lowest(fine: int, camera: int) -> Tensor:
    """Indices of the lowest frequencies of an axis, of both signs."""
    positive = (camera + 1) // 2
    return torch.cat([torch.arange(positive), torch.arange(fine - camera // 2, fine)])
