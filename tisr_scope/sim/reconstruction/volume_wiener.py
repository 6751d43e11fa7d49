"""Volumes from focal series of three-beam SIM, by a generalised Wiener filter in 3D.

Every band is multiplied by its transfer function, enlarged twice across, and moved by its carrier
in real space; the sum is divided by the sum of the squared transfer functions, which are computed
at the moved frequencies themselves.  Along the axis the sections stay as they are: they must be
close enough for the extended cut-off, and then nothing finer is there.

Negative values are kept: they are the two-sided noise of a linear estimate around zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import apodisation, centred_axes, notch
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.parameters.bands import crop_axis, separate_bands
from tisr_scope.sim.parameters.overlap import SamplePower
from tisr_scope.sim.parameters.volume_bands import (
    ORDERS,
    fade_length,
    faded,
    sample_power,
    volume_bands,
)
from tisr_scope.sim.parameters.volume_parameters import VolumeParameters
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings

UPSCALE = 2
BORDER_PX = 12
"""Repeated edge pixels around the field, which fade out."""


@dataclass(frozen=True)
class _Grid:
    """Samples of the enlarged volume, borders and fade included."""

    shape: tuple[int, int, int]
    pixel_um: float
    section_um: float
    device: torch.device

    def frequencies(self) -> tuple[Tensor, Tensor, Tensor]:
        steps = (self.section_um, self.pixel_um, self.pixel_um)
        fz, fy, fx = (
            torch.fft.fftfreq(n, d, device=self.device)
            for n, d in zip(self.shape, steps, strict=True)
        )
        return fz[:, None, None], fy[:, None], fx


class VolumePlan:
    """Everything that depends on the parameters alone, ready for any number of time points.

    Parameters
    ----------
    parameters : VolumeParameters
    optics : VolumeOptics
    settings : WienerSettings
    shape : tuple of int
        Sections, height and width of the series.
    power : SamplePower
        Of the sample, for the noise given.
    noise : float
        Power of the noise of a band in the samples of the spectrum of ``power``.
    device : str or torch.device
    """

    def __init__(
        self,
        parameters: VolumeParameters,
        optics: VolumeOptics,
        settings: WienerSettings,
        shape: tuple[int, int, int],
        power: SamplePower,
        noise: float,
        device: str | torch.device = "cpu",
    ) -> None:
        self.parameters, self.shape = parameters, shape
        self.optics = replace(optics, depth_um=shape[0] * parameters.section_um)
        self.device = torch.device(device)
        self.length = fade_length(shape[0], parameters.section_um)
        full = (shape[0] + self.length, shape[1] + 2 * BORDER_PX, shape[2] + 2 * BORDER_PX)
        self.coarse = _Grid(full, parameters.pixel_size_um, parameters.section_um, self.device)
        self.fine = _Grid(
            (full[0], UPSCALE * full[1], UPSCALE * full[2]),
            parameters.pixel_size_um / UPSCALE,
            parameters.section_um,
            self.device,
        )
        depth = parameters.modulation / 2
        self.amplitude = np.concatenate(
            [np.ones((len(depth), 1)), depth * np.exp(1j * parameters.phase_rad)], axis=1
        )
        fz, fy, fx = self.coarse.frequencies()
        radius = torch.sqrt(fy.square() + fx.square())
        self.weights = [
            self.optics.transfer(radius, fz, n) * self._share(radius, settings)
            for n in range(ORDERS + 1)
        ]
        self.gain = self._gain(settings, power, noise)

    def _share(
        self, radius: Float[Tensor, "y x"], settings: WienerSettings
    ) -> Float[Tensor, "y x"]:
        """Weight of a band around its centre, where attenuation takes away what is out of focus."""
        width = settings.attenuation_width * self.optics.cutoff
        return notch(radius, settings.attenuation, width)

    def _gain(
        self, settings: WienerSettings, power: SamplePower, noise: float
    ) -> Float[Tensor, "z y x"]:
        """Apodisation over the sum of the squared transfer functions of all bands."""
        fz, fy, fx = self.fine.frequencies()
        total = torch.zeros(self.fine.shape, device=self.device)
        for (kx, ky), amplitude in zip(
            self.parameters.carrier, np.abs(self.amplitude), strict=True
        ):
            for order in range(-ORDERS, ORDERS + 1):
                # The band holds at g what the camera saw at g + order k.
                radius = torch.sqrt((fy + order * ky).square() + (fx + order * kx).square())
                share = float(amplitude[abs(order)]) ** 2 * self._share(radius, settings)
                # Plane by plane: on the fine grid a table is read with many large indices.
                for plane, height in zip(total, fz, strict=True):
                    plane += share * self.optics.transfer(radius, height, order).square()
        lateral = fy.square() + fx.square()
        if settings.parameter is None:
            floor = noise / power(torch.sqrt(lateral + fz.square()))
        else:
            floor = torch.full((), settings.parameter**2, device=self.device)
        rho = torch.sqrt(
            lateral / self.optics.extended_cutoff**2
            + (fz / self.optics.extended_axial_cutoff).square()
        )
        soft = apodisation(rho, 1.0, settings.apodisation_power) * (rho < 1)
        gain: Tensor = soft / (total + floor)
        # Light is neither made nor lost: the mean of the volume is that of the wide field.
        return gain / (gain[0, 0, 0] * len(self.amplitude))

    def _enlarged(self, spectrum: Tensor) -> Tensor:
        """Real-space band on the fine grid, pixel centres kept (``align_corners=False``)."""
        for axis, small, large in zip(
            (-2, -1), self.coarse.shape[1:], self.fine.shape[1:], strict=True
        ):
            # Between the centres of fine and coarse pixels lies a part of a pixel.
            f = torch.fft.fftfreq(small, device=self.device)
            moved = torch.polar(torch.ones_like(f), 2 * math.pi * f * (0.5 / UPSCALE - 0.5))
            spectrum = spectrum * (moved[:, None] if axis == -2 else moved)
            low = crop_axis(spectrum, axis, small)
            positive = (small + 1) // 2
            head, tail = low.narrow(axis, 0, positive), low.narrow(axis, positive, small - positive)
            gap = list(low.shape)
            gap[axis] = large - small
            spectrum = torch.cat((head, head.new_zeros(gap), tail), dim=axis)
        band: Tensor = torch.fft.ifftn(spectrum, dim=(-3, -2, -1)) * UPSCALE**2
        return band

    def volume(self, frames: Float[Tensor, "orientation phase z y x"]) -> Float[Tensor, "z fy fx"]:
        """Reconstruct one time point.

        Parameters
        ----------
        frames : tensor, shape (orientation, phase, z, y, x)
            Photo-electrons.

        Returns
        -------
        volume : tensor, shape (z, 2 y, 2 x)
            In photo-electrons per camera pixel and raw frame.
        """
        steps = torch.as_tensor(self.parameters.steps_rad, device=self.device)
        y, x = centred_axes(self.fine.shape[1:], self.fine.pixel_um, self.device)
        total = torch.zeros(self.fine.shape, device=self.device)
        level = frames.mean()
        for o, (kx, ky) in enumerate(self.parameters.carrier):
            series = (frames[o].to(self.device, torch.float32) - level) * float(
                self.parameters.gain[o]
            )
            band0, others = separate_bands(series.transpose(0, 1), steps, ORDERS)
            for order, band in enumerate((band0, *others.unbind(dim=1))):
                wide = faded(_bordered(band), self.length)
                spectrum = torch.fft.fftn(wide, dim=(-3, -2, -1)) * self.weights[order]
                placed = self._enlarged(spectrum)
                if order:
                    rows, columns = (
                        torch.polar(torch.ones_like(a), -2 * math.pi * order * k * a).to(
                            torch.complex64
                        )
                        for a, k in ((y, ky), (x, kx))
                    )
                    placed = placed * rows[:, None] * columns
                    # The opposite band is the conjugate, and only the real part is kept.
                    placed = 2 * placed * complex(np.conj(self.amplitude[o, order]))
                total += placed.real
        volume = torch.fft.ifftn(torch.fft.fftn(total) * self.gain).real
        border = UPSCALE * BORDER_PX
        inner: Tensor = volume[: self.shape[0], border:-border, border:-border]
        return inner + level


def _bordered(band: Tensor) -> Tensor:
    """Band with its edge pixels repeated outwards, where they fade to 0."""
    if band.is_complex():
        return torch.complex(_bordered(band.real), _bordered(band.imag))
    wide = functional.pad(band, [BORDER_PX] * 4, mode="replicate")
    rise = torch.sin(
        0.5 * math.pi * (torch.arange(BORDER_PX, device=band.device) + 0.5) / BORDER_PX
    ).square()
    for axis in (-2, -1):
        line = torch.ones(wide.shape[axis], device=band.device)
        line[:BORDER_PX], line[-BORDER_PX:] = rise, rise.flip(0)
        wide = wide * (line[:, None] if axis == -2 else line)
    return wide


def plan_volume(
    frames: Float[Tensor, "orientation phase z y x"],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    settings: WienerSettings | None = None,
    device: str | torch.device = "cpu",
) -> VolumePlan:
    """Plan for the light level and sample of these frames."""
    settings = settings or WienerSettings()
    if settings.positivity:
        raise ReconstructionError(
            "positivity is for two-dimensional images", remedy="leave it at 0 for volumes"
        )
    steps = torch.as_tensor(parameters.steps_rad)
    pixel, section = parameters.pixel_size_um, parameters.section_um
    bands = volume_bands(frames[0].to(torch.float32).cpu(), steps, optics, pixel, section)
    power = sample_power(bands)
    shape = (frames.shape[2], frames.shape[3], frames.shape[4])
    noise = float(bands.noise.mean())
    return VolumePlan(parameters, optics, settings or WienerSettings(), shape, power, noise, device)


def reconstruct_volume(
    frames: Float[Tensor, "time orientation phase z y x"] | Float[np.ndarray, ...],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    settings: WienerSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, "time z fy fx"]:
    """Super-resolved volumes of one region.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, z, y, x) or without time
        Photo-electrons with the camera offset removed.
    parameters : VolumeParameters
        Of this region; they serve all time points.
    optics : VolumeOptics
    settings : WienerSettings, optional
        Without positivity.
    device : str or torch.device
    progress : callable, optional
        Called with (done, total) time points.

    Returns
    -------
    volume : float32 array, shape (time, z, 2 y, 2 x)
        In photo-electrons per camera pixel and raw frame; negative values kept.

    Raises
    ------
    ReconstructionError
        If frames and parameters do not belong together.
    """
    series = frames[None] if frames.ndim == 5 else frames
    return np.stack(
        list(
            volumes(series, parameters, optics, settings, device=device, progress=progress),
        )
    )


def volumes(
    series: Iterable[Float[Tensor, "orientation phase z y x"] | Float[np.ndarray, ...]],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    settings: WienerSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Float[np.ndarray, "z fy fx"]]:
    """The same one time point after the other, so that only one is held in memory."""
    wanted = (len(parameters.carrier), len(parameters.steps_rad))
    total = len(series) if isinstance(series, Sized) else 0
    plan: VolumePlan | None = None
    for t, one in enumerate(series):
        if progress:
            progress(t, total)
        frames = torch.as_tensor(one).to(torch.float32)
        known = frames.shape[2:] if plan is None else plan.shape
        if frames.ndim != 5 or (tuple(frames.shape[:2]), frames.shape[2:]) != (wanted, known):
            raise ReconstructionError(
                f"frames of shape {tuple(frames.shape)} do not fit parameters of {wanted} "
                "(orientation, phase)",
                remedy="give (orientation, phase, z, y, x), or estimate the parameters anew",
            )
        plan = plan or plan_volume(frames, parameters, optics, settings, device)
        yield plan.volume(frames).cpu().numpy()
    if progress:
        progress(total, total)
