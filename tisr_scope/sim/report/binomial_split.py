"""Two halves of the same exposure with independent noise, and their Fourier ring correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from tisr_scope.metrics.ring_correlation import RingCorrelation, ring_correlation
from tisr_scope.sim.optics.camera_noise import CameraNoise
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimate import SimParameters
from tisr_scope.sim.reconstruction.reconstruct import reconstruct
from tisr_scope.sim.reconstruction.widefield import widefield
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings, wiener_parameter

BORDER_PX = 8
SUPPORT = 0.95
"""Of the highest frequency of the SIM image: the outermost rings are apodised to nothing."""


def split_exposure(
    frames: Float[np.ndarray, "orientation phase y x"], noise: CameraNoise, seed: int = 0
) -> tuple[Float[np.ndarray, "orientation phase y x"], Float[np.ndarray, "orientation phase y x"]]:
    """Split every frame into two that add up to it, each with half of the light.

    A pixel D of variance V becomes ``D/2 + n`` and ``D/2 - n``, n normal with variance V/4.  Their
    covariance is ``V/4 - V/4 = 0`` and the variance of each V/2: what two exposures of half the
    time would have, with half of the read noise variance.  Binomial thinning of photo-electrons
    does the same for pure shot noise; this also takes read noise, values below zero and counts of
    unknown gain.

    Both halves come from one exposure.  They share everything that is not noise of pixels: motion,
    drift, bleaching, a wrong background, camera patterns that do not change.

    Parameters
    ----------
    frames : array, shape (orientation, phase, y, x)
        Any unit.
    noise : CameraNoise
        Of the frames.
    seed : int
    """
    random = np.random.default_rng(seed)
    apart = random.normal(0, 0.5 * np.sqrt(noise.variance(frames)))
    return ((frames / 2 + apart).astype(np.float32), (frames / 2 - apart).astype(np.float32))


def split_correlation(
    frames: Float[np.ndarray, "orientation phase y x"],
    moment: SimParameters,
    otf: DetectionOtf,
    noise: CameraNoise,
    settings: WienerSettings | None = None,
    seed: int = 0,
) -> tuple[RingCorrelation, RingCorrelation]:
    """Ring correlation of the halves of the wide field, and of their SIM images.

    The halves are reconstructed with the same parameters and the filter of the whole, so the curve
    tells where noise prevails and nothing else: an artefact of wrong parameters is in both halves
    and counts as resolution.  Its crossing with 1/7 is the resolution of the whole exposure
    (Nieuwenhuizen et al. 2013).

    Parameters
    ----------
    frames : array, shape (orientation, phase, y, x)
        One time point.
    moment : SimParameters
        Of this time point.
    otf : DetectionOtf
    noise : CameraNoise
    settings : WienerSettings, optional
    seed : int

    Returns
    -------
    widefield, sim : RingCorrelation
        Up to the cut-off of the optics, and up to 95 % of the support of the SIM image.
    """
    settings = settings or WienerSettings()
    if settings.parameter is None:
        chosen = wiener_parameter(torch.as_tensor(frames)[None], otf, moment.pixel_size_um)
        settings = replace(settings, parameter=chosen)
    halves = split_exposure(frames, noise, seed)
    camera = [widefield(half) for half in halves]
    fine = [reconstruct(half, moment, otf, settings)[0] for half in halves]
    pixel = moment.pixel_size_um
    upscale = fine[0].shape[0] // camera[0].shape[0]
    reach = otf.cutoff + moment.orders * float((moment.frequency * moment.usable).max())
    return (
        _correlation(camera, BORDER_PX, pixel).up_to(otf.cutoff),
        _correlation(fine, BORDER_PX * upscale, pixel / upscale).up_to(SUPPORT * reach),
    )


def _correlation(
    halves: Sequence[Float[np.ndarray, "y x"]], border: int, pixel_um: float
) -> RingCorrelation:
    first, second = (half[border:-border, border:-border] for half in halves)
    return ring_correlation(first, second, pixel_um)
