"""Less light than was recorded: photo-electrons are kept or lost one by one.

Thinning a Poisson number with probability p gives the Poisson number that p of the light would
have given, so a bright recording becomes a dim one with the noise a camera would have seen.  This
holds in photo-electrons only; afterwards the intensity rule is applied as to any dim recording.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tisr_scope.normalise import Normalisation

CURVE_POINTS = 3
CURVE_FRAMES = 4


@dataclass(frozen=True)
class Light:
    """How the wide field of a recording came about.

    Attributes
    ----------
    raw_frames : int
        Raw frames each wide-field image is the mean of.
    read_noise_e : float
        Standard deviation of the camera noise of one raw frame, in electrons.
    """

    raw_frames: int
    read_noise_e: float = 0.0

    def thin(
        self,
        electrons: Float[np.ndarray, "*axes y x"],
        keep: float,
        random: np.random.Generator,
    ) -> Float[np.ndarray, "*axes y x"]:
        """Wide field as it were with the fraction ``keep`` of the light, in electrons.

        The camera does not get quieter with the light: the part of its noise that thinning takes
        away is added again.
        """
        counts = np.rint(np.maximum(electrons, 0) * self.raw_frames)
        # Camera noise below zero is no photon: it is scaled, or clipping would bias the dark.
        rest = electrons * self.raw_frames - counts
        kept = random.binomial(counts.astype(np.int64), keep) + keep * rest
        camera = self.read_noise_e * math.sqrt((1 - keep**2) * self.raw_frames)
        if camera > 0:
            kept = kept + random.normal(0, camera, kept.shape)
        return np.asarray(kept / self.raw_frames, np.float32)


@dataclass(frozen=True)
class ScaleCurve:
    """Intensity scale of a stack against the fraction of light that is kept."""

    log_keep: Float[np.ndarray, " point"]
    log_ratio: Float[np.ndarray, " point"]

    def scale(self, keep: float) -> float:
        """Scale over the one of the whole light."""
        return float(np.exp(np.interp(math.log(keep), self.log_keep, self.log_ratio)))


def scale_curve(
    electrons: Float[np.ndarray, "time y x"],
    light: Light,
    least: float,
    rule: Normalisation,
    where: str,
) -> ScaleCurve:
    """Measure what the intensity rule says of a stack with less light, on a few of its frames."""
    frames = electrons[:: math.ceil(len(electrons) / CURVE_FRAMES)]
    keeps = np.geomspace(least, 1.0, CURVE_POINTS)
    random = np.random.default_rng(0)
    scales = [rule.scale(light.thin(frames, float(k), random), where) for k in keeps]
    return ScaleCurve(np.log(keeps), np.log(np.array(scales) / scales[-1]))
