"""The numbers of a 3D report as sentences for those who took the images."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import t as student

from tisr_scope.sim.parameters.volume_bands import SPOILT_UM
from tisr_scope.sim.report.findings import (
    BLEACHING,
    LARGE_CARRIER_ERROR,
    NO_GAIN,
    NOISY_STRIPES,
    SATURATED,
    UNEQUAL_BRIGHTNESS,
    UNEQUAL_MODULATION,
    Finding,
    verdict,
)
from tisr_scope.sim.report.volume_quality import VolumeQuality

WEAK_ORDER = (0.3, 0.2)
"""Modulation of orders 1 and 2 below which they are called weak."""
RESIDUAL, UNEXPLAINED = 1.3, 0.2
"""Both must be exceeded.  With all parameters right up to 0.15 of the structure is left in the
bands of the stripes, which in a bright series is far more than noise."""
SERIOUS_RESIDUAL = 1.5
CERTAIN = 0.995
"""Of the bleaching: its error is the spread of few orientations."""


def volume_findings(quality: VolumeQuality) -> tuple[Finding, ...]:
    """Everything worth saying, the serious ones first."""
    found = [*_stripes(quality), *_residual(quality), *_series(quality), *_light(quality)]
    found += _resolution(quality)
    return tuple(sorted(found, key=lambda one: not one.serious))


def volume_report(quality: VolumeQuality) -> dict[str, Any]:
    """Verdict, findings and all numbers, as JSON types."""
    found = volume_findings(quality)
    return {
        "verdict": verdict(found),
        "warnings": [one.text for one in found],
        "findings": [asdict(one) for one in found],
        **quality.to_dict(),
    }


def _stripes(quality: VolumeQuality) -> list[Finding]:
    parameters, found = quality.parameters, []
    for n, least in enumerate(WEAK_ORDER):
        depth, ratio = parameters.modulation[:, n], quality.modulation_to_noise[:, n]
        weak = np.flatnonzero(depth < least)
        what = ("depth along the axis", "detail across")[n]
        if weak.size:
            text = (
                f"Order {n + 1} of the stripes is weak in orientation "
                f"{', '.join(map(str, weak))} (modulation {depth[weak].min():.2f}): less {what} "
                "is gained there. Check polarisation, focus and the balance of the three beams."
            )
            found.append(Finding("weak_order", text))
        if ratio.min() < NOISY_STRIPES:
            text = (
                f"Order {n + 1} of the stripes: only {ratio.min():.1f} to {ratio.max():.1f} times "
                "the noise of a pixel, even on the structures. Take more light if the sample "
                "allows it."
            )
            found.append(Finding("noisy_stripes", text))
        if depth.min() < UNEQUAL_MODULATION * depth.max():
            text = (
                f"Modulation of order {n + 1} differs between orientations ({depth.min():.2f} to "
                f"{depth.max():.2f}): resolution depends on direction. Check the polarisation "
                "rotator."
            )
            found.append(Finding("unequal_modulation", text))
    extent = min(quality.widefield.shape[1:]) * parameters.pixel_size_um
    # Order 2 slips twice as far as order 1.
    error = 2 * np.hypot(*parameters.carrier_se.T) * extent
    if error.max() > LARGE_CARRIER_ERROR:
        text = (
            f"The stripes of order 2 are known to {error.max():.2f} of a period across the field "
            "only. Take a larger field or more light."
        )
        found.append(Finding("uncertain_carrier", text))
    return found


def _residual(quality: VolumeQuality) -> list[Finding]:
    score, share = quality.residual.score, quality.residual.unexplained
    off = (score > RESIDUAL) & (share > UNEXPLAINED)
    if not off.any():
        return []
    o, n = np.unravel_index(int(np.where(off, share, 0).argmax()), share.shape)
    text = (
        f"The volume does not explain what was measured: in order {n} of orientation {o} "
        f"{100 * share[o, n]:.0f} % of the structure is left, {score[o, n]:.1f} times what noise "
        "leaves. Check modulation and phase of this order, the transfer function, and motion of "
        "the sample."
    )
    return [Finding("residual", text, serious=bool(score[off].max() > SERIOUS_RESIDUAL))]


def _series(quality: VolumeQuality) -> list[Finding]:
    sections, spacing = len(quality.widefield), quality.parameters.section_um
    if sections * spacing >= 4 * SPOILT_UM:
        return []
    text = (
        f"Only {sections} sections ({sections * spacing:.1f} µm): most of them lie within "
        f"{SPOILT_UM:g} µm of the first or the last one, where light from sections that were not "
        "recorded is left. Record above and below the structure of interest."
    )
    return [Finding("few_sections", text)]


def _light(quality: VolumeQuality) -> list[Finding]:
    found, mean = [], quality.section_light.mean(axis=1)
    spread = float(mean.max() / mean.min() - 1)
    if spread > UNEQUAL_BRIGHTNESS:
        text = (
            f"Orientations differ in brightness by {100 * spread:.0f} %; they were equalised. "
            "The dimmer ones carry more noise."
        )
        found.append(Finding("unequal_brightness", text))
    if bleached(quality):
        text = (
            f"{100 * quality.bleaching:.0f} % of the light is lost from the first frame to the "
            "last (bleaching): use less light, or fewer sections."
        )
        found.append(Finding("bleaching", text))
    if quality.saturated > SATURATED:
        text = (
            f"{100 * quality.saturated:.3f} % of the pixels of a frame are saturated: around them "
            "the volume is wrong. Lower the laser power or the exposure."
        )
        found.append(Finding("saturation", text, serious=True))
    return found


def bleached(quality: VolumeQuality) -> bool:
    """Whether light is lost beyond doubt."""
    orientations = len(quality.section_light)
    if orientations < 2:
        return False
    certain = float(student.ppf(CERTAIN, orientations - 1)) * quality.bleaching_se
    return quality.bleaching > max(BLEACHING, certain)


def _resolution(quality: VolumeQuality) -> list[Finding]:
    found = []
    pairs = zip(
        ("Across", "Along the axis"),
        quality.sim_resolution,
        quality.widefield_resolution,
        quality.limits_um["widefield"],
        strict=True,
    )
    for direction, sim, wide, limit in pairs:
        if sim.um is None and sim.note.startswith("no agreement"):
            text = (
                f"{direction} two halves of the light give volumes that do not agree: there is too "
                "little light."
            )
            found.append(Finding("no_resolution", text, serious=True))
        coarse = limit if wide.um is None else wide.um
        if sim.um is not None and sim.um > NO_GAIN * coarse:
            text = (
                f"{direction} SIM is hardly finer than the wide field ({1e3 * sim.um:.0f} and "
                f"{1e3 * coarse:.0f} nm): there is too little light for its side bands."
            )
            found.append(Finding("little_gain", text))
    return found
