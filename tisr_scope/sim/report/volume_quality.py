"""Quality of a 3D SIM reconstruction in numbers, without a ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tisr_scope.metrics.ring_correlation import Resolution
from tisr_scope.sim.optics.camera_noise import CameraNoise, measure_noise
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.parameters.bands import separate_bands
from tisr_scope.sim.parameters.volume_bands import ORDERS
from tisr_scope.sim.parameters.volume_parameters import VolumeParameters
from tisr_scope.sim.reconstruction.volume_wiener import plan_volume
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings
from tisr_scope.sim.report.fringe_contrast import STRUCTURE_PERCENTILE
from tisr_scope.sim.report.volume_binomial_split import VolumeCorrelation, split_volume_correlation
from tisr_scope.sim.report.volume_reprojection import BandResidual, band_residual

BORDER_PX = 8


@dataclass(frozen=True)
class VolumeQuality:
    """What can be said of one time point of a focal series.

    Attributes
    ----------
    time_point : int
        Counted from 0.
    parameters : VolumeParameters
    optics : VolumeOptics
        Give the limits of resolution.
    modulation_to_noise : array, shape (orientation, order)
        Stripes of orders 1 and 2 at the structures over their noise.
    residual : BandResidual
        What the volume leaves of the bands.
    noise : CameraNoise
        Of the raw frames.
    widefield_correlation, sim_correlation : VolumeCorrelation
        Of two halves of the light.
    section_light : array, shape (orientation, section)
        Mean of every section over the mean of all frames.
    phase_light : array, shape (orientation, phase)
        Mean of the frames of one phase over that of their orientation.
    bleaching, bleaching_se : float
        Light lost from the first frame to the last, and its standard error.
    saturated : float
        Share of the pixels of a frame that are at the top of the camera's range, the largest.
    widefield, volume : array
        Of this time point, for the figure.
    """

    time_point: int
    parameters: VolumeParameters
    optics: VolumeOptics
    modulation_to_noise: Float[np.ndarray, "orientation order"]
    residual: BandResidual
    noise: CameraNoise
    widefield_correlation: VolumeCorrelation
    sim_correlation: VolumeCorrelation
    section_light: Float[np.ndarray, "orientation section"]
    phase_light: Float[np.ndarray, "orientation phase"]
    bleaching: float
    bleaching_se: float
    saturated: float
    widefield: Float[np.ndarray, "z y x"]
    volume: Float[np.ndarray, "z fy fx"]

    @property
    def widefield_resolution(self) -> tuple[Resolution, Resolution]:
        """Across and along the axis."""
        return self.widefield_correlation.resolution

    @property
    def sim_resolution(self) -> tuple[Resolution, Resolution]:
        """Across and along the axis."""
        return self.sim_correlation.resolution

    @property
    def limits_um(self) -> dict[str, tuple[float, float]]:
        """Theoretical limits of wide field and SIM, across and along the axis."""
        optics = self.optics
        return {
            "widefield": (1 / optics.cutoff, 1 / optics.axial_cutoff),
            "sim": (1 / optics.extended_cutoff, 1 / optics.extended_axial_cutoff),
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON types: all numbers and curves, no images."""
        split = {
            name: {
                direction: {
                    **resolution.to_dict(),
                    "limit_um": round(limit, 5),
                    "frequency": _round(curve.frequency),
                    "correlation": _round(curve.correlation),
                }
                for direction, resolution, limit, curve in zip(
                    ("lateral", "axial"),
                    found.resolution,
                    self.limits_um[name],
                    (found.lateral, found.axial),
                    strict=True,
                )
            }
            for name, found in (
                ("widefield", self.widefield_correlation),
                ("sim", self.sim_correlation),
            )
        }
        return {
            "time_point": self.time_point,
            "sim_parameters": self.parameters.to_dict(),
            "modulation_to_noise": _round(self.modulation_to_noise),
            "residual": {
                "band_score": _round(self.residual.score),
                "unexplained": _round(self.residual.unexplained),
            },
            "split_exposure": split,
            "noise": {
                "floor_variance": _round(self.noise.floor),
                "variance_per_light": _round(self.noise.slope),
            },
            "section_light": _round(self.section_light),
            "phase_light": _round(self.phase_light),
            "bleaching": round(self.bleaching, 4),
            "bleaching_se": round(self.bleaching_se, 4),
            "saturated": round(self.saturated, 7),
        }


def measure_volume_quality(
    frames: Float[np.ndarray, "orientation phase z y x"],
    volume: Float[np.ndarray, "z fy fx"],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    settings: WienerSettings | None = None,
    *,
    axes: str = "OZP",
    saturated: float = 0.0,
    device: str | torch.device = "cpu",
    time_point: int = 0,
    seed: int = 0,
) -> VolumeQuality:
    """Measure one time point of a reconstruction.

    Parameters
    ----------
    frames : array, shape (orientation, phase, z, y, x)
        As they were reconstructed: background off, any unit.
    volume : array, shape (z, 2 y, 2 x)
        What they gave.
    parameters : VolumeParameters
        As estimated.
    optics : VolumeOptics
    settings : WienerSettings, optional
        Of the reconstruction.
    axes : str
        Order in which the frames were taken, slowest first.
    saturated : float
        Share of saturated pixels, see :func:`saturated_share`.
    device : str or torch.device
        Where the halves are reconstructed.
    time_point : int
        Which one.
    seed : int
        Of the random split of the light.
    """
    now = np.asarray(frames, np.float32)
    pixel, section = parameters.pixel_size_um, parameters.section_um
    otf = incoherent_otf(optics.numerical_aperture, optics.emission_nm)
    noise = measure_noise(now.reshape(now.shape[0], -1, *now.shape[-2:]), otf, pixel)
    plan = plan_volume(torch.from_numpy(now), parameters, optics, settings, device)

    def made(part: Float[np.ndarray, "o p z y x"]) -> Float[np.ndarray, "z fy fx"]:
        found: Float[np.ndarray, "z fy fx"] = plan.volume(torch.from_numpy(part)).cpu().numpy()
        return found

    wide, sim = split_volume_correlation(now, noise, optics, made, pixel, section, seed)
    light = now.mean(axis=(-2, -1), dtype=np.float64)
    phases = light.mean(axis=2)
    bleaching, error = light_lost(light, axes)
    return VolumeQuality(
        time_point=time_point,
        parameters=parameters,
        optics=optics,
        modulation_to_noise=volume_modulation_to_noise(now, parameters, optics, noise),
        residual=band_residual(now, parameters, optics, noise, settings, seed=seed),
        noise=noise,
        widefield_correlation=wide,
        sim_correlation=sim,
        section_light=light.mean(axis=1) / light.mean(),
        phase_light=phases / phases.mean(axis=1, keepdims=True),
        bleaching=bleaching,
        bleaching_se=error,
        saturated=saturated,
        widefield=now.mean(axis=(0, 1)),
        volume=np.asarray(volume),
    )


def volume_modulation_to_noise(
    frames: Float[np.ndarray, "orientation phase z y x"],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    noise: CameraNoise,
) -> Float[np.ndarray, "orientation order"]:
    """Root mean square amplitude of the stripes at the structures over that of its noise.

    As ``modulation_to_noise``, over the brightest tenth of all
    voxels.  Every section is cut off where the optics pass nothing across.

    Parameters
    ----------
    frames : array, shape (orientation, phase, z, y, x)
    parameters : VolumeParameters
    optics : VolumeOptics
    noise : CameraNoise
        Of the frames.
    """
    fy, fx = (np.fft.fftfreq(n, parameters.pixel_size_um) for n in frames.shape[-2:])
    passed = np.hypot(fy[:, None], fx) < optics.cutoff
    inner = (..., slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))
    wide = np.fft.ifft2(np.fft.fft2(frames.mean(axis=(0, 1))) * passed).real[inner]
    bright = wide >= np.percentile(wide, STRUCTURE_PERCENTILE)
    steps = torch.as_tensor(parameters.steps_rad)
    # The filter takes noise from a pixel's neighbours, which on thin structures are darker.
    spread = np.fft.fft2(np.abs(np.fft.ifft2(passed)) ** 2)
    ratio = np.empty((len(frames), ORDERS))
    for o, series in enumerate(frames):
        _, bands = separate_bands(torch.from_numpy(series).transpose(0, 1), steps, ORDERS)
        filtered = np.fft.ifft2(np.fft.fft2(bands.numpy()) * passed)[inner]
        light = np.fft.ifft2(np.fft.fft2(series.mean(axis=0)) * spread).real[inner][bright].mean()
        # Even steps: a band is a mean of the frames, each turned by a phase.
        expected = (passed.mean() * noise.floor[o] + noise.slope[o] * light) / len(steps)
        power = (np.abs(filtered) ** 2).swapaxes(0, 1)[:, bright].mean(axis=1)
        ratio[o] = np.sqrt(np.maximum(power / max(float(expected), 1e-300) - 1, 0))
    return ratio


def saturated_share(counts: Float[np.ndarray, "*frames y x"]) -> float:
    """Largest share of saturated pixels of a frame, from a pile at the highest value of all.

    The limit of the camera is not known: pixels count as saturated where more of them lie at the
    very maximum of all frames than in the tenth below it.

    Parameters
    ----------
    counts : array, shape (..., y, x)
        Raw, as the file holds them.
    """
    top = counts.max()
    full = np.count_nonzero(counts == top, axis=(-2, -1))
    near = np.count_nonzero(counts > 0.9 * top) - int(full.sum())
    pixels = counts.shape[-2] * counts.shape[-1]
    return float(full.max()) / pixels if full.sum() > max(near, 1) else 0.0


def light_lost(
    light: Float[np.ndarray, "orientation phase section"], axes: str
) -> tuple[float, float]:
    """Loss of light from the first frame to the last, and its standard error.

    From the trend over the phases, which light that differs between orientations and structure that
    differs between sections do not touch.  Stripes on the structures change the mean a little too,
    alike in all sections, so the error is that of the orientations.

    Parameters
    ----------
    light : array, shape (orientation, phase, section)
        Mean of every frame.
    axes : str
        Order in which the frames were taken, slowest first.
    """
    taken = dict(zip("OPZ", light.shape, strict=True))
    order = [axis for axis in axes if axis in taken]
    stride = int(np.prod([taken[axis] for axis in order[order.index("P") + 1 :]]))
    steps = (light.size - 1) / stride
    logs = np.log(np.maximum(light.mean(axis=2), 1e-300))
    place = np.arange(logs.shape[1]) - (logs.shape[1] - 1) / 2
    slopes = logs @ place / float((place**2).sum())
    kept = float(np.exp(slopes.mean() * steps))
    spread = float(slopes.std(ddof=1)) / np.sqrt(len(slopes)) if len(slopes) > 1 else np.inf
    return 1 - kept, kept * steps * spread


def _round(values: Float[np.ndarray, "*any"]) -> Any:
    return np.round(values, 4).tolist()
