"""Simulated time-lapses of tubes with an infallible truth, at two speeds and two signals.

The same curved, bending and drifting tubes are seen at two intervals: from frame to frame they
move by a fraction of a pixel, or by pixels.  Every sequence exists at few and at many photons, as
the two laser levels of a pair.  The truth is the noiseless specimen, band-limited to what SIM can
reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float32

from tisr_scope.simulated_microscope.camera import Sensor, SensorProperties
from tisr_scope.simulated_microscope.detection import (
    MARGIN_PX,
    CosineApodisation,
    IncoherentOtf,
    Renderer,
    cutoff,
)
from tisr_scope.simulated_microscope.emitters import Field
from tisr_scope.simulated_microscope.specimens import MICROTUBULES
from tisr_scope.simulated_microscope.strands import Strands
from tisr_scope.types import PairedStack

PIXEL_UM, UPSCALE = 0.0626, 2
NUMERICAL_APERTURE, EMISSION_NM, PATTERN_PER_UM = 1.49, 525.0, 5.5
BACKGROUND = 0.05
"""Even light under the tubes, as a share of the brightest pixels."""

TUBES = replace(
    MICROTUBULES,
    per_um2=0.3,
    tube_radius_um=(0.02, 0.08),
    wobble_rms_um=0.06,
    wobble_period_s=(10.0, 40.0),
    drift_um=0.7,
    drift_period_s=(25.0, 60.0),
    dynamic_fraction=0.0,
    crowding=0.2,
)
"""Wider than microtubules, and longer on their way: it is the interval that sets the speed."""

INTERVAL_S = {"small": 0.1, "large": 0.8}
"""Between frames, by the motion that it makes; see :func:`motion_px`."""

PHOTONS = {"low": 8.0, "high": 100.0}
"""Photons in the brightest pixels of a frame, by signal."""

MOTIONS, SIGNALS = tuple(INTERVAL_S), tuple(PHOTONS)


@dataclass(frozen=True)
class Condition:
    """One of the four sets of test sequences."""

    motion: str
    signal: str

    def __str__(self) -> str:
        return f"{self.motion} motion, {self.signal} signal"


CONDITIONS = tuple(Condition(m, s) for s in SIGNALS for m in MOTIONS)


def sequence(motion: str, seed: int, *, size_px: int, frames: int) -> PairedStack:
    """One time-lapse; its wide-field levels are the signals, its target is the truth.

    Parameters
    ----------
    motion : {"small", "large"}
    seed : int
        Of the tubes, and of the noise.
    size_px : int
        Height and width of the input, in camera pixels.
    frames : int
    """
    half = (size_px / 2 + MARGIN_PX) * PIXEL_UM
    tubes = Strands(TUBES, seed, Field(0.0, 0.0, half, half))
    edge = cutoff(NUMERICAL_APERTURE, EMISSION_NM)
    wide = Renderer((size_px, size_px), PIXEL_UM, IncoherentOtf(edge))
    fine = Renderer(
        (UPSCALE * size_px, UPSCALE * size_px),
        PIXEL_UM / UPSCALE,
        CosineApodisation(edge + PATTERN_PER_UM),
    )
    light, truth = [], []
    for t in range(frames):
        seen = tubes.at(t * INTERVAL_S[motion])
        light.append(wide.render(seen.x_um, seen.y_um, seen.brightness))
        truth.append(fine.render(seen.x_um, seen.y_um, seen.brightness))
    noiseless = np.stack(light)
    relative = noiseless / np.percentile(noiseless, 99.9) + BACKGROUND
    widefield = [
        _recorded(peak * relative, 10 * seed + number)
        for number, peak in enumerate(PHOTONS.values())
    ]
    return PairedStack(
        name=f"{motion} motion, sample {seed}",
        channel="488",
        widefield=np.stack(widefield),
        target=np.stack(truth),
        pixel_size_um=PIXEL_UM,
        interval_s=INTERVAL_S[motion],
    )


def _recorded(
    photons: Float32[np.ndarray, "time y x"], seed: int
) -> Float32[np.ndarray, "time y x"]:
    """Photo-electrons that the camera reports, with shot noise and read noise."""
    camera = SensorProperties()
    sensor = Sensor((photons.shape[1], photons.shape[2]), camera)
    counts = np.stack([sensor.expose(p, 0.01, seed, t) for t, p in enumerate(photons)])
    electrons = (counts.astype(np.float32) - camera.offset_adu) * camera.electrons_per_adu
    return electrons.astype(np.float32)


def motion_px(motion: str, seed: int = 1, *, frames: int = 7) -> float:
    """Root mean square path of the labels from one frame to the next, in camera pixels."""
    tubes = Strands(TUBES, seed, Field(0.0, 0.0, 4.0, 4.0))
    seen = [tubes.at(t * INTERVAL_S[motion]) for t in range(frames)]
    steps = [np.mean((b.x_um - a.x_um) ** 2 + (b.y_um - a.y_um) ** 2) for a, b in pairwise(seen)]
    return math.sqrt(float(np.mean(steps))) / PIXEL_UM
