"""From raw frames to information bands, and how two bands compare.

Band 0 is the wide field; band n is the sample multiplied by ``m_n/2 exp(i (n 2 pi k r + phi_n))``,
with r measured from the centre of the field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics import DetectionOtf, frequency_grid, notch

EMPHASIS_BINS = 24
EMPHASIS_FLOOR = 0.02
MAXIMUM_CONDITION = 30.0
"""Of the matrix that mixes the bands: even steps give 2, and it multiplies the noise."""


def check_frames(
    frames: Float[Tensor, "time orientation phase y x"],
    where: str,
    saturation_electrons: float | None,
) -> None:
    """Refuse frames that no parameter can be taken from.

    Raises
    ------
    ReconstructionError
        For a wrong shape, NaN, frames without light, or saturated frames.
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
    spread = frames.flatten(3).std(dim=-1)
    empty = (spread <= 0) | (frames.flatten(3).mean(dim=-1) <= 0)
    if bool(empty.any()):
        t, o, p = (int(i) for i in empty.nonzero()[0])
        raise ReconstructionError(
            f"no light in frame t={t} orientation={o} phase={p} ({int(empty.sum())} such frames)",
            where=where,
            remedy="check laser, shutter, SLM trigger and the camera offset in the profile",
        )
    if saturation_electrons is not None:
        full = (frames >= saturation_electrons).flatten(3).double().mean(dim=-1)
        if float(full.max()) > 1e-3:
            raise ReconstructionError(
                f"{100 * float(full.max()):.1f} % of the pixels of a frame are saturated",
                where=where,
                remedy="lower the laser power of the highest level or the exposure",
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


def band_correlation(
    band0: Complex[Tensor, "time y x"], band1: Complex[Tensor, "time y x"]
) -> Float[Tensor, "yy xx"]:
    """How far two bands agree at every shift k, in units of chance agreement.

    For weighted bands X0, X1 this is ``|sum conj(X0(f)) X1(f + k)|^2`` over the sum of the squared
    magnitudes of its terms: about 1 where their phases have nothing in common, the number of
    independent frequencies in the overlap where they agree.  The correlation alone is drawn to
    small shifts, where more of the bands overlaps; beyond the cut-off of the optics the carrier
    would be lost altogether.

    Parameters
    ----------
    band0, band1 : complex array, shape (time, y, x)
        Spectra, each weighted by the transfer function; 0 where that is 0.

    Returns
    -------
    map : array, shape (2 y, 2 x)
        Mean over time, at shifts in FFT order with the frequency spacing of the input.
    """
    height, width = band0.shape[-2:]
    double = (2 * height, 2 * width)

    def field(spectrum: Tensor) -> Tensor:
        # Zero padding in frequency, so that large shifts do not wrap onto small ones.
        centred = torch.fft.fftshift(spectrum, dim=(-2, -1))
        padded = torch.zeros(*spectrum.shape[:-2], *double, dtype=centred.dtype).to(centred)
        padded[..., height // 2 : height // 2 + height, width // 2 : width // 2 + width] = centred
        image: Tensor = torch.fft.ifft2(torch.fft.ifftshift(padded, dim=(-2, -1)))
        return image

    def shifts(a: Tensor, b: Tensor) -> Tensor:
        # sum over f of conj(A(f)) B(f + k)
        total: Tensor = torch.fft.fft2(a.conj() * b) * (double[0] * double[1])
        return total

    def power(spectrum: Tensor) -> Tensor:
        return spectrum.abs().square().to(spectrum.dtype)

    agreement = shifts(field(band0), field(band1)).abs().square()
    chance = shifts(field(power(band0)), field(power(band1))).real.clamp(min=0)
    floor = 1e-4 * chance.amax(dim=(-2, -1), keepdim=True)
    return (agreement / (chance + floor)).mean(dim=0)


def noise_power(
    spectrum: Complex[Tensor, "time y x"], radius: Float[Tensor, "y x"], otf: DetectionOtf
) -> Float[Tensor, " time"]:
    """Mean power where the optics pass nothing."""
    outside = radius > 1.02 * otf.cutoff
    if int(outside.sum()) < 64:
        # Coarse pixels leave no frequency outside the optics; the largest ones come closest.
        outside = radius > torch.quantile(radius.flatten(), 0.95)
    return spectrum.abs().square()[..., outside].mean(dim=-1)


@dataclass(frozen=True)
class Emphasis:
    """Weight of a band's frequencies: little haze, little noise; a function of |f| alone.

    Haze lies at the lowest frequencies of both bands and carries no stripes; noise prevails from
    where the spectrum of the wide field drowns in it.
    """

    otf: DetectionOtf
    step: float
    gain: Float[Tensor, " bin"]

    @classmethod
    def measure(
        cls, spectrum0: Complex[Tensor, "time y x"], otf: DetectionOtf, pixel_um: float
    ) -> Emphasis:
        """Emphasis for the bands of one orientation."""
        shape = (spectrum0.shape[-2], spectrum0.shape[-1])
        fy, fx = frequency_grid(shape, pixel_um, spectrum0.device)
        radius = torch.sqrt(fy.square() + fx.square())
        step = otf.cutoff / EMPHASIS_BINS
        number = (radius / step).round().long().clamp(max=EMPHASIS_BINS + 1).flatten()
        power = spectrum0.abs().square().mean(dim=0).flatten()
        sums = torch.zeros(EMPHASIS_BINS + 2, dtype=power.dtype, device=power.device)
        count = sums.index_add(0, number, torch.ones_like(power)).clamp(min=1)
        mean = sums.index_add(0, number, power) / count
        noise = noise_power(spectrum0, radius, otf).mean()
        gain = (1 - noise / mean.clamp(min=1e-30)).clamp(EMPHASIS_FLOOR, 1)
        return cls(otf, step, gain)

    def __call__(self, radius: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
        """Weight at radial frequencies in cycles per micrometre."""
        position = (radius / self.step).clamp(max=EMPHASIS_BINS + 1 - 1e-3)
        below = position.long()
        part = position - below
        gain = self.gain[below] * (1 - part) + self.gain[below + 1] * part
        return gain * notch(radius, 0.99, 0.1 * self.otf.cutoff)
