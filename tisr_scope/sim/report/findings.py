"""The numbers of a quality report as sentences for those who took the images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tisr_scope.sim.report.quality import SimQuality
from tisr_scope.sim.report.reprojection import Residual

WEAK_MODULATION = 0.4
UNEQUAL_MODULATION = 0.6
"""Lowest over highest modulation of the orientations."""
AT_LIMIT = 0.99
NOISY_STRIPES = 0.5
LARGE_CARRIER_ERROR = 0.1
"""In frequency samples of the field: stripes slip by a tenth of a period across it."""
RESIDUAL, SERIOUS_RESIDUAL = 1.03, 1.4
UNEXPLAINED, SERIOUS_UNEXPLAINED = 0.03, 0.08
"""Of the structure in the frames.  In bright frames an error far above the noise can be small."""
MOVING = 0.4
"""Excess of the middle third of the frames over that of the first and the last."""
SLOW_RESIDUAL = 2.0
UNEQUAL_BRIGHTNESS = 0.2
BLEACHING = 0.1
SATURATED = 1e-5
NO_GAIN = 0.8
"""Resolution of SIM over that of the wide field."""


@dataclass(frozen=True)
class Finding:
    """One thing that makes an image worse than it could be.

    Attributes
    ----------
    kind : str
        A name that does not change with the wording.
    text : str
        What it is, and what can be done.
    serious : bool
        Whether fine details may be wrong.
    """

    kind: str
    text: str
    serious: bool = False


def findings(quality: SimQuality) -> tuple[Finding, ...]:
    """Everything worth saying, the serious ones first."""
    found = [
        *_stripes(quality),
        *_residual(quality),
        *_light(quality),
        *_resolution(quality),
        *(Finding("acquisition", _sentence(remark)) for remark in quality.parameters.remarks),
    ]
    return tuple(sorted(found, key=lambda one: not one.serious))


def verdict(found: tuple[Finding, ...]) -> str:
    """One line over all."""
    serious = sum(one.serious for one in found)
    if serious:
        return "Do not trust the fine details yet"
    if found:
        return "Usable, with remarks"
    return "Nothing found against this image"


def report(quality: SimQuality) -> dict[str, Any]:
    """Verdict, findings and all numbers, as JSON types."""
    found = findings(quality)
    return {
        "verdict": verdict(found),
        "warnings": [one.text for one in found],
        "findings": [asdict(one) for one in found],
        **quality.to_dict(),
    }


def _stripes(quality: SimQuality) -> list[Finding]:
    parameters = quality.parameters
    depth = parameters.pooled_modulation[:, 0]
    found = []
    for o in np.flatnonzero(~parameters.usable):
        text = (
            f"Orientation {o} has no usable stripes and adds its wide field only: "
            "details along its direction are not resolved."
        )
        found.append(Finding("weak_orientation", text, serious=True))
    for o in np.flatnonzero(parameters.usable):
        if depth[o] < WEAK_MODULATION:
            text = (
                f"The stripes of orientation {o} are weak (modulation {depth[o]:.2f}). "
                "Check polarisation and focus."
            )
            found.append(Finding("weak_modulation", text))
    for n, ratio in enumerate(quality.modulation_to_noise[parameters.usable].T):
        if ratio.min() < NOISY_STRIPES:
            which = "The stripes" if n == 0 else f"Harmonic {n + 1} of the stripes"
            text = (
                f"{which}: only {ratio.min():.1f} to {ratio.max():.1f} times the noise of a pixel, "
                "even on the structures. Take more light if the sample allows it."
            )
            found.append(Finding("noisy_stripes", text))
    used = depth[parameters.usable]
    if used.size > 1 and used.min() < UNEQUAL_MODULATION * used.max():
        text = (
            f"Modulation differs between orientations ({used.min():.2f} to {used.max():.2f}): "
            "resolution depends on direction. Check the polarisation rotator."
        )
        found.append(Finding("unequal_modulation", text))
    limited = parameters.usable & (depth >= AT_LIMIT)
    if parameters.orders == 1 and limited.any():
        text = (
            "Modulation comes out at its limit of 1 (orientation "
            f"{', '.join(str(o) for o in np.flatnonzero(limited))}): the transfer function is "
            "probably too low near the stripes. Check it, or measure it on beads."
        )
        found.append(Finding("modulation_at_limit", text))
    extent = min(quality.widefield.shape) * parameters.pixel_size_um
    error = np.hypot(*parameters.carrier_se.T) * extent
    unsure = np.flatnonzero((error > LARGE_CARRIER_ERROR) & parameters.usable)
    if unsure.size:
        text = (
            f"The stripes of orientation {', '.join(map(str, unsure))} are known to "
            f"{error[unsure].max():.2f} of a period across the field only. Take a larger field or "
            "more light, or state them in a profile."
        )
        found.append(Finding("uncertain_carrier", text))
    return found


def _residual(quality: SimQuality) -> list[Finding]:
    residual = quality.residual
    found = []
    share = float(residual.unexplained.max())
    if residual.score > RESIDUAL and share > UNEXPLAINED:
        o, p = np.unravel_index(int(residual.frame_score.argmax()), residual.frame_score.shape)
        text = (
            f"The image does not explain the raw frames: what is left is {residual.score:.2f} "
            f"times the noise and {100 * share:.0f} % of the structure, most in orientation {o}, "
            f"phase {p}. {_cause(residual)}"
        )
        serious = residual.score > SERIOUS_RESIDUAL and share > SERIOUS_UNEXPLAINED
        found.append(Finding("residual", text, serious=serious))
    if residual.slow_score > SLOW_RESIDUAL:
        text = (
            f"Over wide areas the frames disagree by {residual.slow_score:.1f} times the noise: "
            "light from out of focus, or light that is not even. Attenuation reduces its traces."
        )
        found.append(Finding("haze", text))
    return found


def _cause(residual: Residual) -> str:
    """Motion makes the first and last frames fit worst, since the image is that of the middle."""
    excess = (residual.frame_score.ravel() ** 2 - 1).clip(min=0)
    first, middle, last = (part.mean() for part in np.array_split(excess, 3))
    if middle < MOVING * min(first, last):
        return (
            "The first and the last frames fit worst, as where the sample moves: record faster, or "
            "correct the drift."
        )
    return "Check the transfer function, phases, and motion of the sample."


def _light(quality: SimQuality) -> list[Finding]:
    found = []
    mean = quality.brightness.mean(axis=1)
    spread = float(mean.max() / mean.min() - 1)
    if spread > UNEQUAL_BRIGHTNESS:
        text = (
            f"Orientations differ in brightness by {100 * spread:.0f} %; they were equalised. "
            "The dimmer ones carry more noise."
        )
        found.append(Finding("unequal_brightness", text))
    if quality.bleaching > max(BLEACHING, 3 * quality.bleaching_se):
        text = (
            f"{100 * quality.bleaching:.0f} % of the light is lost from the first frame to the "
            "last (bleaching): use less light, or fewer frames."
        )
        found.append(Finding("bleaching", text))
    if quality.saturated is not None and quality.saturated > SATURATED:
        text = (
            f"{100 * quality.saturated:.3f} % of the pixels of a frame are saturated: around them "
            "the image is wrong. Lower the laser power or the exposure."
        )
        found.append(Finding("saturation", text, serious=True))
    return found


def _resolution(quality: SimQuality) -> list[Finding]:
    sim, wide = quality.sim_resolution, quality.widefield_resolution
    if sim.um is None and sim.note.startswith("no agreement"):
        text = "Two halves of the light give images that do not agree: there is too little light."
        return [Finding("no_resolution", text, serious=True)]
    if sim.um is not None and wide.um is not None and sim.um > NO_GAIN * wide.um:
        text = (
            f"SIM is hardly finer than the wide field ({1e3 * sim.um:.0f} and "
            f"{1e3 * wide.um:.0f} nm): there is too little light for its side bands."
        )
        return [Finding("little_gain", text)]
    return []


def _sentence(remark: str) -> str:
    return f"{remark[0].upper()}{remark[1:]}."
