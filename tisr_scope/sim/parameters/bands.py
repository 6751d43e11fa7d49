"""From raw frames to information bands and their spectra.

Band 0 is the wide field; band n is the sample multiplied by ``m_n/2 exp(i (n 2 pi k r + phi_n))``,
with r measured from the centre of the field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float, Num
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import DetectionOtf, edge_taper, frequency_grid

TAPER_PX = 6
"""Width of the sin^2 taper at the edges of the field."""
MAXIMUM_CONDITION = 30.0
"""Of the matrix that mixes the bands: even steps give 2, and it multiplies the noise."""


def check_frames(frames: Float[Tensor, "time orientation phase y x"], where: str) -> None:
    """Refuse frames that no parameter can be taken from.

    Raises
    ------
    ReconstructionError
        For a wrong shape, NaN, frames without light, or stored twice.
    """
    if frames.ndim != 5 or frames.shape[2] < 3 or min(frames.shape[-2:]) < 32:
        raise ReconstructionError(
            f"frames of shape {tuple(frames.shape)} are no SIM stack",
            where=where,
            remedy="give (time, orientation, phase, y, x) with 3 phases or more, 32 px or more",
        )
    if not bool(torch.isfinite(frames).all()):
        raise ReconstructionError(
            "the frames hold NaN or infinite values", where=where, remedy="record them again"
        )
    flat = frames.flatten(3)
    brightest, mean = flat.amax(dim=-1), flat.mean(dim=-1)
    empty = (brightest <= flat.amin(dim=-1)) | (mean <= 0)
    if bool(empty.any()):
        t, o, p = (int(i) for i in empty.nonzero()[0])
        raise ReconstructionError(
            f"no light in frame t={t} orientation={o} phase={p} ({int(empty.sum())} such frames)",
            where=where,
            remedy="check laser, shutter, SLM trigger and the camera offset in the profile",
        )
    _check_repeats(flat, mean, where)


def _check_repeats(
    flat: Float[Tensor, "time orientation phase pixel"],
    mean: Float[Tensor, "time orientation phase"],
    where: str,
) -> None:
    """No two exposures have the same noise: equal frames are one frame stored twice."""
    sequence, means = flat.flatten(0, 2), mean.flatten().cpu()
    order = means.argsort()
    for one, other in zip(order[:-1].tolist(), order[1:].tolist(), strict=True):
        if means[one] == means[other] and torch.equal(sequence[one], sequence[other]):
            first, second = (
                "t={} orientation={} phase={}".format(*np.unravel_index(i, mean.shape))
                for i in sorted((one, other))
            )
            raise ReconstructionError(
                f"the frames {first} and {second} are the same one: a frame was stored twice, "
                "and perhaps another was lost",
                where=where,
                remedy="check the camera's buffer; leave out this time point",
            )


def regular_phases(phases: int, device: torch.device | None = None) -> Float[Tensor, " phase"]:
    """Phase steps ``2 pi j / P``, float64."""
    return 2 * math.pi * torch.arange(phases, dtype=torch.float64, device=device) / phases


def separate_bands(
    frames: Float[Tensor, "*batch phase y x"],
    steps: Float[Tensor, "*orientation phase"],
    orders: int = 1,
) -> tuple[Float[Tensor, "*batch y x"], Complex[Tensor, "*batch order y x"]]:
    """Bands 0 to ``orders`` by least squares, in real space.

    Parameters
    ----------
    frames : array, shape (..., phase, y, x)
        Any intensity scale.
    steps : array, shape (phase,) or (..., phase)
        Phase of each frame relative to the first; broadcast over the leading axes.
    orders : int
        Harmonics of the pattern: 1 for linear SIM, 2 for 5 x 5 nonlinear and for 3D SIM.

    Returns
    -------
    band0 : array, shape (..., y, x)
        The wide field: the mean over evenly stepped phases.
    bands : complex array, shape (..., order, y, x)
        Bands 1 to ``orders``, without their carriers removed.

    Raises
    ------
    ReconstructionError
        If the phases are too few, or too much alike, to tell the bands apart.
    """
    phases = steps.shape[-1]
    if phases < 2 * orders + 1:
        raise ReconstructionError(
            f"{phases} phases cannot separate {orders} orders of the pattern",
            remedy=f"record {2 * orders + 1} phases or more, or ask for fewer orders",
        )
    columns = [torch.ones_like(steps)]
    for n in range(1, orders + 1):
        columns += [2 * torch.cos(n * steps), -2 * torch.sin(n * steps)]
    mixing = torch.stack(columns, dim=-1)  # (..., phase, part): frame = mixing @ parts
    if bool((torch.linalg.cond(mixing) > MAXIMUM_CONDITION).any()):
        raise ReconstructionError(
            f"the {phases} phase steps are too much alike to separate {orders} orders",
            remedy="check the phase steps of the pattern; even steps of 2 pi / phases are best",
        )
    unmix = torch.linalg.pinv(mixing).to(frames.dtype)  # (..., part, phase)
    height, width = frames.shape[-2:]
    parts = (unmix @ frames.flatten(-2)).unflatten(-1, (height, width))
    return parts[..., 0, :, :], torch.complex(parts[..., 1::2, :, :], parts[..., 2::2, :, :])


def squared(values: Complex[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Squared magnitude; quicker than ``abs``, which guards against overflow."""
    return values.real.square() + values.imag.square()


def mirrored(values: Num[Tensor, "*batch y x"]) -> Num[Tensor, "*batch y x"]:
    """Values at the opposite frequencies, in FFT order."""
    return values.flip((-2, -1)).roll((1, 1), (-2, -1))


def noise_power(
    spectrum: Complex[Tensor, "time y x"], radius: Float[Tensor, "y x"], otf: DetectionOtf
) -> Float[Tensor, " time"]:
    """Mean power where the optics pass nothing."""
    outside = radius > 1.02 * otf.cutoff
    if int(outside.sum()) < 64:
        # Coarse pixels leave no frequency outside the optics; the largest ones come closest.
        outside = radius > torch.quantile(radius.flatten(), 0.95)
    share = outside.to(spectrum.real.dtype).flatten() / outside.sum()
    return squared(spectrum).flatten(-2) @ share


@dataclass(frozen=True)
class BandSpectra:
    """Spectra of the bands of one orientation, cropped to what the optics pass.

    Fewer samples of the same spacing: every transform that follows is smaller, and nothing that
    carries signal is lost.

    Attributes
    ----------
    spectra : complex array, shape (time, band, y, x)
        In FFT order; band 0 is the wide field.
    noise : array, shape (time, band)
        Mean squared magnitude of the noise in every sample, had the field not been tapered.
    extent_um : tuple of float
        Height and width of the field; their inverse is the spacing of the frequencies.
    pixel_um : float
        Of the camera, in the sample.
    otf : DetectionOtf
        Detection optics.
    """

    spectra: Complex[Tensor, "time band y x"]
    noise: Float[Tensor, "time band"]
    extent_um: tuple[float, float]
    pixel_um: float
    otf: DetectionOtf

    @property
    def shape(self) -> tuple[int, int]:
        """Samples along y and x."""
        return self.spectra.shape[-2], self.spectra.shape[-1]

    def frequencies(self) -> tuple[Float[Tensor, "y 1"], Float[Tensor, "1 x"]]:
        """Fy (column) and fx (row) of the samples, in cycles per micrometre."""
        device, real = self.spectra.device, self.spectra.real.dtype
        fy, fx = (
            torch.fft.fftfreq(n, extent / n, dtype=real, device=device)
            for n, extent in zip(self.shape, self.extent_um, strict=True)
        )
        return fy[:, None], fx[None, :]

    def positions(self) -> tuple[Float[Tensor, " y"], Float[Tensor, " x"]]:
        """Physical y and x of the samples of an inverse transform, from the centre, float64.

        Sample 0 is the centre of camera pixel 0; the others divide the field evenly.
        """
        y, x = (
            torch.arange(n, dtype=torch.float64, device=self.spectra.device) * (extent / n)
            - (extent - self.pixel_um) / 2
            for n, extent in zip(self.shape, self.extent_um, strict=True)
        )
        return y, x


def smooth_length(n: int) -> int:
    """Smallest number with no prime factor above 5 that is not below n: a fast FFT length."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def crop_axis(values: Tensor, dim: int, length: int) -> Tensor:
    """Keep the ``length`` lowest frequencies, of both signs, of an axis in FFT order."""
    n = values.shape[dim]
    if length >= n:
        return values
    positive, negative = (length + 1) // 2, length // 2
    return torch.cat(
        [values.narrow(dim, 0, positive), values.narrow(dim, n - negative, negative)], dim
    )


def band_spectra(
    frames: Float[Tensor, "time phase y x"],
    steps: Float[Tensor, " phase"],
    orders: int,
    otf: DetectionOtf,
    pixel_um: float,
) -> BandSpectra:
    """Separate the bands of one orientation and transform them.

    Parameters
    ----------
    frames : array, shape (time, phase, y, x)
        Of one orientation.
    steps : array, shape (phase,)
        Phase of each frame relative to the first.
    orders : int
        Harmonics of the pattern.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample.
    """
    height, width = frames.shape[-2:]
    window = edge_taper((height, width), TAPER_PX, frames.device).to(frames.dtype)
    # A constant tapered at the edges would spread around frequency 0.
    level = frames.mean(dim=(1, 2, 3), keepdim=True)
    band0, bands = separate_bands((frames - level) * window, steps, orders)
    return _transform((band0, *bands.unbind(dim=1)), window, otf, pixel_um)


def frame_spectra(
    frames: Float[Tensor, "time phase y x"], otf: DetectionOtf, pixel_um: float
) -> BandSpectra:
    """Spectra of the frames themselves, the phase in the place of the band."""
    height, width = frames.shape[-2:]
    window = edge_taper((height, width), TAPER_PX, frames.device).to(frames.dtype)
    level = frames.mean(dim=(1, 2, 3), keepdim=True)
    return _transform(((frames - level) * window).unbind(dim=1), window, otf, pixel_um)


def _transform(
    images: Sequence[Tensor], window: Float[Tensor, "y x"], otf: DetectionOtf, pixel_um: float
) -> BandSpectra:
    height, width = window.shape
    extent = (height * pixel_um, width * pixel_um)
    lengths = [smooth_length(2 * math.floor(otf.cutoff * e) + 3) for e in extent]
    fy, fx = frequency_grid((height, width), pixel_um, window.device)
    radius = torch.sqrt(fy.square() + fx.square())
    spectra, noise = [], []
    for image in images:
        full = torch.fft.fft2(image)
        noise.append(noise_power(full, radius, otf))
        spectra.append(crop_axis(crop_axis(full, -2, lengths[0]), -1, lengths[1]))
    return BandSpectra(
        torch.stack(spectra, dim=1),
        torch.stack(noise, dim=1) / window.square().mean(),
        extent,
        pixel_um,
        otf,
    )
