"""Whether a reconstructed volume explains the bands it was made from.

Every measured band is compared with what the estimate of the sample gives in its place: moved by
the carrier, times modulation and phase, through the transfer function of its order.  Where bands
overlap the same detail was measured several times; if parameters and optics are right these
measurements agree and only noise is left.

What it cannot see is the same as in two dimensions, see :mod:`tisr_scope.sim.report.reprojection`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional

from tisr_scope.sim.optics.camera_noise import CameraNoise
from tisr_scope.sim.optics.otf import centred_axes, edge_taper
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.parameters.bands import separate_bands
from tisr_scope.sim.parameters.volume_bands import ORDERS, SPOILT_UM, fade_length, faded
from tisr_scope.sim.parameters.volume_parameters import VolumeParameters
from tisr_scope.sim.reconstruction.volume_wiener import UPSCALE, plan_volume
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings
from tisr_scope.sim.report.volume_binomial_split import series_variance

WIENER = 0.02
"""Wiener parameter of the volume that is compared: little, as damped details would be missed."""
MARGIN_PX = 16
BORDER_PX = 8
"""Left out on every side: light from outside the field is unknown."""
TAPER_PX = 8
SLOW = 0.2
"""Of the lateral cut-off.  Further in, haze and the core of the transfer function disagree, which
no stripe parameter causes."""
PASSED = 0.2
"""Of the highest transfer of the band.  Near the edges, where little is passed, more is left though
all parameters are right."""


@dataclass(frozen=True)
class BandResidual:
    """What a volume leaves of the bands, in units of what noise leaves.

    Attributes
    ----------
    score : array, shape (orientation, order)
        Root mean square over the frequencies that the band holds well, orders 0 to 2; 1 is noise
        alone.
    unexplained : array, shape (orientation, order)
        Root mean square of what is more than noise, over that of the structure in the band.
    """

    score: Float[np.ndarray, "orientation order"]
    unexplained: Float[np.ndarray, "orientation order"]


def reproject_band(
    volume: Float[Tensor, "z fy fx"],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    orientation: int,
    order: int,
) -> Complex[Tensor, "z y x"]:
    """Band that a sample would give: moved, modulated, seen by the camera.

    Parameters
    ----------
    volume : tensor, shape (z, 2 y, 2 x)
        Sample on the fine grid.
    parameters : VolumeParameters
    optics : VolumeOptics
        With the depth of the series.
    orientation, order : int
    """
    sections, height, width = volume.shape
    margin = UPSCALE * MARGIN_PX
    wide = functional.pad(volume[None], (margin,) * 4, mode="reflect")[0]
    wide = faded(wide, fade_length(sections, parameters.section_um))
    pixel = parameters.pixel_size_um
    y, x = centred_axes((wide.shape[1], wide.shape[2]), pixel / UPSCALE)
    kx, ky = (order * float(k) for k in parameters.carrier[orientation])
    turns = 2 * math.pi * (ky * y[:, None] + kx * x)
    light = wide * torch.polar(torch.ones_like(turns), turns).to(torch.complex64)
    rows, columns = height // UPSCALE + 2 * MARGIN_PX, width // UPSCALE + 2 * MARGIN_PX
    spectrum = torch.fft.fftn(light)
    spectrum = spectrum[:, _kept(wide.shape[1], rows)][:, :, _kept(wide.shape[2], columns)]
    fz = torch.fft.fftfreq(wide.shape[0], parameters.section_um)[:, None, None]
    fy, fx = torch.fft.fftfreq(rows, pixel)[:, None], torch.fft.fftfreq(columns, pixel)
    # From the fine samples to camera pixels, whose centres lie between them.
    quarter = 2 * math.pi * (fy + fx) * (UPSCALE - 1) / 2 * pixel / UPSCALE
    transfer = optics.transfer(torch.sqrt(fy.square() + fx.square()), fz, order)
    seen = torch.fft.ifftn(spectrum * torch.polar(transfer, quarter.expand_as(transfer)))
    inner = slice(MARGIN_PX, -MARGIN_PX)
    band: Tensor = seen[:sections, inner, inner] / UPSCALE**2
    return band * _amplitude(parameters, orientation, order)


def band_residual(
    frames: Float[np.ndarray, "orientation phase z y x"],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    noise: CameraNoise,
    settings: WienerSettings | None = None,
    *,
    seed: int = 0,
) -> BandResidual:
    """Reconstruct, reproject and compare the bands of one time point.

    Parameters
    ----------
    frames : array, shape (orientation, phase, z, y, x)
        One time point.
    parameters : VolumeParameters
    optics : VolumeOptics
    noise : CameraNoise
        Of the frames.
    settings : WienerSettings, optional
        Of the reconstruction; damping and apodisation are left out.
    seed : int
        Of the noise that is pushed through the same steps.
    """
    plain = replace(settings or WienerSettings(), parameter=WIENER, apodisation_power=0.0)
    series = torch.from_numpy(frames)
    plan = plan_volume(series, parameters, optics, plain)
    random = np.random.default_rng(seed)
    spread = np.sqrt(series_variance(frames, noise))
    grains = torch.from_numpy(spread * random.standard_normal(frames.shape, dtype=np.float32))
    level = float(series.mean())
    found, expected = (
        _measured_and_predicted(one, plan.volume(one), parameters, plan.optics, light)
        for one, light in ((series, level), (grains, 0.0))
    )
    # The filter keeps the mean and not the scale of details, so one factor is free.
    measured, predicted = (torch.stack(part) for part in zip(*found, strict=True))
    scale = (measured * predicted.conj()).real.sum() / predicted.abs().square().sum()
    orientations = len(frames)
    powers = np.empty((3, orientations, ORDERS + 1))
    for place, (seen, made) in enumerate(found):
        o, n = divmod(place, ORDERS + 1)
        passed = _passed(seen.shape, parameters, plan.optics, n)
        noise_seen, noise_made = expected[place]
        for row, part in enumerate((seen - scale * made, noise_seen - scale * noise_made, seen)):
            powers[row, o, n] = float(torch.fft.fftn(part)[passed].abs().square().sum())
        powers[2, o, n] -= float(torch.fft.fftn(noise_seen)[passed].abs().square().sum())
    rest, floor, structure = powers
    return BandResidual(
        score=np.sqrt(rest / floor),
        unexplained=np.sqrt((rest - floor).clip(min=0) / structure.clip(min=1e-300)),
    )


def _measured_and_predicted(
    series: Float[Tensor, "orientation phase z y x"],
    volume: Float[Tensor, "z fy fx"],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    level: float,
) -> list[tuple[Tensor, Tensor]]:
    """Bands of all orientations and orders, windowed; without what an even sample gives."""
    pairs = []
    steps = torch.as_tensor(parameters.steps_rad)
    sections, height, width = series.shape[2:]
    window = _window(sections, height, width, parameters.section_um)
    y, x = centred_axes((height, width), parameters.pixel_size_um)
    even = series.mean()
    for o, (kx, ky) in enumerate(parameters.carrier):
        moved = (series[o] - even) * float(parameters.gain[o])
        band0, others = separate_bands(moved.transpose(0, 1), steps, ORDERS)
        bands = (band0.to(others.dtype), *others.unbind(dim=1))
        for n, band in enumerate(bands):
            made = reproject_band(volume - even, parameters, optics, o, n)
            if n:
                radius = torch.tensor([n * math.hypot(kx, ky)])
                share = float(optics.transfer(radius, torch.zeros(1), n))
                turns = 2 * math.pi * n * (float(ky) * y[:, None] + float(kx) * x)
                wave = torch.polar(torch.ones_like(turns), turns).to(band.dtype)
                band = band - level * share * _amplitude(parameters, o, n) * wave
            pairs.append((band * window, made * window))
    return pairs


def _amplitude(parameters: VolumeParameters, orientation: int, order: int) -> complex:
    if order == 0:
        return 1.0 + 0j
    depth = float(parameters.modulation[orientation, order - 1])
    phase = float(parameters.phase_rad[orientation, order - 1])
    return 0.5 * depth * complex(math.cos(phase), math.sin(phase))


def _window(sections: int, height: int, width: int, section_um: float) -> Float[Tensor, "z y x"]:
    """Fades across, and from the sections that are spoilt by what lies beyond the ends."""
    skipped = min(sections // 3, math.ceil(SPOILT_UM / section_um))
    deep = torch.zeros(sections)
    deep[skipped : sections - skipped] = torch.hann_window(sections - 2 * skipped + 2)[1:-1]
    inner = edge_taper((height - 2 * BORDER_PX, width - 2 * BORDER_PX), TAPER_PX)
    return deep[:, None, None] * functional.pad(inner, [BORDER_PX] * 4).float()


def _passed(
    shape: torch.Size, parameters: VolumeParameters, optics: VolumeOptics, order: int
) -> Tensor:
    sections, height, width = shape
    fz = torch.fft.fftfreq(sections, parameters.section_um)[:, None, None]
    fy, fx = (torch.fft.fftfreq(n, parameters.pixel_size_um) for n in (height, width))
    transfer = optics.transfer(torch.sqrt(fy[:, None].square() + fx.square()), fz, order)
    radius = torch.sqrt(fy[:, None].square() + fx.square())
    return (transfer > PASSED * transfer.max()) & (radius > SLOW * optics.cutoff)


def _kept(fine: int, camera: int) -> Tensor:
    """Indices of the lowest frequencies of an axis, of both signs."""
    positive = (camera + 1) // 2
    return torch.cat([torch.arange(positive), torch.arange(fine - camera // 2, fine)])
