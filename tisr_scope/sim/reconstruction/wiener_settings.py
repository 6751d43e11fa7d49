"""How the bands of a SIM image are put together, and the Wiener parameter for a light level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import DetectionOtf, edge_taper, frequency_grid
from tisr_scope.sim.parameters.bands import noise_power
from tisr_scope.sim.parameters.estimate import TAPER_PX


@dataclass(frozen=True)
class WienerSettings:
    """How the bands are put together.

    Attributes
    ----------
    parameter : float or None
        Wiener parameter w; None chooses it from the photon level, see :func:`wiener_parameter`.
    apodisation_power : float
        Power of the cosine that falls to 0 at cut-off + orders x |k|: more is softer.
    attenuation : float
        Depth (0 to 1) of the notch around the centre of every side band and, against haze, of
        the wide-field band; 0 leaves it out.
    attenuation_width : float
        Its sigma as a fraction of the cut-off.
    positivity : int
        Rounds in which negative light is ruled out, see ``positivity``; 0 gives
        the linear image.  10 bring nearly all of the gain; fewer than 5 leave the image too bright.
        Meant for dark backgrounds, with every offset taken off.
    """

    parameter: float | None = None
    apodisation_power: float = 1.0
    attenuation: float = 0.0
    attenuation_width: float = 0.2
    positivity: int = 0

    def __post_init__(self) -> None:
        valid = (
            (self.parameter is None or 0 < self.parameter < 10)
            and self.apodisation_power >= 0
            and 0 <= self.attenuation < 1
            and self.attenuation_width > 0
            and self.positivity >= 0
        )
        if not valid:
            raise ReconstructionError(
                f"{self} is out of range",
                remedy="0 < parameter < 10, apodisation_power >= 0, 0 <= attenuation < 1, "
                "positivity >= 0",
            )


def wiener_parameter(
    frames: Float[Tensor, "time orientation phase y x"], otf: DetectionOtf, pixel_um: float
) -> float:
    """Wiener parameter for the light level: 1.5 over the signal-to-noise ratio, 0.03 to 0.25.

    The signal is the range of the wide field (1 to 99.5 percent), the noise that of one raw
    pixel, measured at frequencies where the optics pass nothing; neither depends on the gain or
    the offset of the camera.  On simulated microtubules the choice is within 0.2 dB of the best.
    """
    first = frames[0].to(torch.float64)
    dark, bright = np.percentile(first.mean(dim=(0, 1)).cpu().numpy(), (1, 99.5))
    shape = (first.shape[-2], first.shape[-1])
    window = edge_taper(shape, TAPER_PX, first.device)
    few = first[:, 0]  # one frame of each orientation holds enough noise, and is quicker
    spectrum = torch.fft.fft2((few - few.mean(dim=(-2, -1), keepdim=True)) * window)
    fy, fx = frequency_grid(shape, pixel_um, first.device)
    power = noise_power(spectrum, torch.sqrt(fy.square() + fx.square()), otf)
    noise = math.sqrt(float(power.mean() / window.square().sum()))
    return float(np.clip(1.5 * noise / max(bright - dark, 1e-9), 0.03, 0.25))
