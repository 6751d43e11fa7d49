"""Quality of a SIM reconstruction in numbers, without a ground truth.

No one number tells it.  Ring correlation and decorrelation see noise and not truth; the residual of
the reprojection sees contradictions between frames and not noise; the resolution-scaled error sees
what the wide field sees.  Together with the parameters they cover each other's blind spots, see
:class:`SimQuality`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from tisr_scope.metrics.decorrelation import Decorrelation, decorrelation_analysis
from tisr_scope.metrics.resolution_scaled_error import (
    ResolutionScaledError,
    resolution_scaled_error,
)
from tisr_scope.metrics.ring_correlation import Resolution, RingCorrelation
from tisr_scope.sim.optics.camera_noise import CameraNoise, measure_noise
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimate import SimParameters
from tisr_scope.sim.reconstruction.widefield import widefield
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings
from tisr_scope.sim.report.binomial_split import split_correlation
from tisr_scope.sim.report.fringe_contrast import modulation_to_noise
from tisr_scope.sim.report.reprojection import Residual, reprojection_residual

BORDER_PX = 8


@dataclass(frozen=True)
class SimQuality:
    """What can be said of one time point.

    Attributes
    ----------
    time_point : int
        Counted from 0.
    parameters : SimParameters
        Of this time point, with the modulation pooled over all.
    modulation_to_noise : array, shape (orientation, order)
        Stripes at the structures over their noise, see ``fringe_contrast``.
    residual : Residual
        What the reconstruction leaves of the frames, see :mod:`tisr_scope.sim.report.reprojection`.
    noise : CameraNoise
        Of the raw frames.
    widefield_correlation, sim_correlation : RingCorrelation
        Of two halves of the exposure, see :mod:`tisr_scope.sim.report.binomial_split`.
    decorrelation : Decorrelation
        Of the SIM image.
    scaled_error : ResolutionScaledError
        Of the SIM image to the wide field.
    brightness : array, shape (orientation, phase)
        Mean of every frame over the mean of all.
    bleaching : float
        Light lost from the first frame to the last, from the trend within the orientations.
    bleaching_se : float
        Its standard error.
    saturated : float or None
        Largest share of saturated pixels of a frame; None where the limit is not known.
    widefield, image : array
        Of this time point, for the figure.
    """

    time_point: int
    parameters: SimParameters
    modulation_to_noise: Float[np.ndarray, "orientation order"]
    residual: Residual
    noise: CameraNoise
    widefield_correlation: RingCorrelation
    sim_correlation: RingCorrelation
    decorrelation: Decorrelation
    scaled_error: ResolutionScaledError
    brightness: Float[np.ndarray, "orientation phase"]
    bleaching: float
    bleaching_se: float
    saturated: float | None
    widefield: Float[np.ndarray, "y x"]
    image: Float[np.ndarray, "fy fx"]

    @property
    def widefield_resolution(self) -> Resolution:
        """Of the wide field, from two halves."""
        return self.widefield_correlation.resolution("1/7")

    @property
    def sim_resolution(self) -> Resolution:
        """Of the SIM image, from two halves."""
        return self.sim_correlation.resolution("1/7")

    def to_dict(self) -> dict[str, Any]:
        """JSON types: all numbers and curves, no images."""
        wide, sim = self.widefield_correlation, self.sim_correlation
        return {
            "time_point": self.time_point,
            "sim_parameters": self.parameters.to_dict(),
            "modulation_to_noise": _round(self.modulation_to_noise),
            "residual": {
                "score": round(self.residual.score, 4),
                "slow_score": round(self.residual.slow_score, 4),
                "frame_score": _round(self.residual.frame_score),
                "unexplained": _round(self.residual.unexplained),
                "frequency": _round(self.residual.frequency),
                "ring_score": _round(self.residual.ring_score),
                "map_median": round(float(np.median(self.residual.map)), 4),
                "map_maximum": round(float(self.residual.map.max()), 4),
            },
            "split_exposure": {
                "widefield": self.widefield_resolution.to_dict(),
                "sim": self.sim_resolution.to_dict(),
                "widefield_frequency": _round(wide.frequency),
                "widefield_correlation": _round(wide.correlation),
                "sim_frequency": _round(sim.frequency),
                "sim_correlation": _round(sim.correlation),
            },
            "decorrelation": self.decorrelation.to_dict(),
            "resolution_scaled_error": self.scaled_error.to_dict(),
            "noise": {
                "floor_variance": _round(self.noise.floor),
                "variance_per_light": _round(self.noise.slope),
            },
            "brightness": _round(self.brightness),
            "bleaching": round(self.bleaching, 4),
            "bleaching_se": round(self.bleaching_se, 4),
            "saturated": self.saturated,
        }


def measure_quality(
    frames: Float[np.ndarray, "time orientation phase y x"],
    image: Float[np.ndarray, "time fy fx"],
    parameters: SimParameters,
    otf: DetectionOtf,
    settings: WienerSettings | None = None,
    *,
    time_point: int = 0,
    saturation: float | None = None,
    seed: int = 0,
) -> SimQuality:
    """Measure one time point of a reconstruction.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x)
        As they were reconstructed: background off, any unit.
    image : array, shape (time, upscale y, upscale x)
        What they gave.
    parameters : SimParameters
        As estimated.
    otf : DetectionOtf
        Detection optics.
    settings : WienerSettings, optional
        Of the reconstruction.
    time_point : int
        Which one.
    saturation : float, optional
        Value from which a pixel is saturated.
    seed : int
        Of the random split of the exposure.
    """
    now = np.asarray(frames[time_point], np.float32)
    moment = at_time(parameters, time_point)
    noise = measure_noise(now, otf, parameters.pixel_size_um)
    wide, shown = widefield(now), image[time_point]
    upscale = shown.shape[0] // wide.shape[0]
    camera, fine = split_correlation(now, moment, otf, noise, settings, seed)
    border = BORDER_PX * upscale
    inner = shown[border:-border, border:-border]
    bleaching, error = _bleaching(now)
    return SimQuality(
        time_point=time_point,
        parameters=moment,
        modulation_to_noise=modulation_to_noise(now, moment, otf, noise),
        residual=reprojection_residual(now, moment, otf, noise, settings, seed=seed),
        noise=noise,
        widefield_correlation=camera,
        sim_correlation=fine,
        decorrelation=decorrelation_analysis(inner, parameters.pixel_size_um / upscale),
        scaled_error=resolution_scaled_error(shown, wide, parameters.pixel_size_um),
        brightness=now.mean(axis=(-2, -1)) / now.mean(),
        bleaching=bleaching,
        bleaching_se=error,
        saturated=None
        if saturation is None
        else float((now >= saturation).mean(axis=(-2, -1)).max()),
        widefield=wide,
        image=shown,
    )


def at_time(parameters: SimParameters, t: int) -> SimParameters:
    """Parameters of one time point, with the modulation of all as reconstruction uses it."""
    times = slice(t, t + 1)
    return replace(
        parameters,
        phase_rad=parameters.phase_rad[times],
        phase_se_rad=parameters.phase_se_rad[times],
        modulation=parameters.pooled_modulation[None],
        modulation_se=parameters.modulation_se[times],
        gain=parameters.gain[times],
        drift_um=parameters.drift_um[times],
        drift_se_um=parameters.drift_se_um[times],
    )


def _bleaching(frames: Float[np.ndarray, "orientation phase y x"]) -> tuple[float, float]:
    """Loss of light over all frames, and its standard error.

    From the trend within the orientations, which uneven light between them does not touch.
    """
    light = np.log(np.maximum(frames.mean(axis=(-2, -1)), 1e-300))
    orientations, phases = light.shape
    order = np.arange(phases) - (phases - 1) / 2
    rest = light - light.mean(axis=1, keepdims=True)
    leverage = orientations * float((order**2).sum())
    slope = float((rest * order).sum() / leverage)
    freedom = orientations * (phases - 1) - 1
    spread = float(((rest - slope * order) ** 2).sum() / max(freedom, 1))
    steps = orientations * phases - 1
    loss = 1 - np.exp(slope * steps)
    return float(loss), float((1 - loss) * steps * np.sqrt(spread / leverage))


def _round(values: Float[np.ndarray, "*any"]) -> Any:
    return np.round(values, 4).tolist()
