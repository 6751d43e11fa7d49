"""When an estimate of the illumination is good enough to be used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.parameters.band_crosstalk import expected_leak
from tisr_scope.sim.parameters.bands import squared
from tisr_scope.sim.parameters.coarse_carrier import CoarseCarrier
from tisr_scope.sim.parameters.drift import Drift
from tisr_scope.sim.parameters.orientation import OrientationEstimate

MINIMUM_QUALITY = 30.0
MINIMUM_QUALITY_NEAR_NOMINAL = 20.0
"""Even light gives up to 24 where the whole ring is searched and 18 near a nominal carrier, at 96
to 512 pixels; stripes at 20 photons give 500 at 256 x 256 pixels."""
MAXIMUM_RIVAL = 0.6
"""Second peak of the carrier search over the first.  At 256 pixels it stays below 0.2; in fields of
64 pixels, where few filaments look alike in many places, 95 % of the carriers below 0.6 are right
and half of those above 0.7 are wrong."""
MINIMUM_HARMONIC = 0.02
MINIMUM_STRUCTURE = 1.5
"""Wide field over its noise; 1 in an even field, 20 in filaments at 20 photons."""
STRUCTURE_BAND = (0.1, 0.5)
"""Where it is measured, over the cut-off."""
REMARKED_STEPS_RAD = math.radians(5)
NAMED_ERRORS = 4.0
"""What contradicts the steps assumed must be so many errors away from them."""
REFUSED_STEPS_RAD = math.radians(25)
REMARKED_DRIFT_UM = 0.01
"""Turns the phase of details of 0.1 um by a tenth of a period."""
REFUSED_DRIFT_UM = 0.1


def weakness(
    one: OrientationEstimate, orientation: int, quality: float, modulation: float, where: str
) -> ReconstructionError | None:
    """Why an orientation cannot be trusted; None if it can."""
    doubt = None if one.coarse is None else _doubt(one, one.coarse, orientation, quality, where)
    if doubt is not None:
        return doubt
    depth = float(np.median(one.harmonics.modulation[:, 0]))
    if not depth >= modulation:
        return ReconstructionError(
            f"modulation depth {depth:.2f} of orientation {orientation} is too low "
            f"({modulation:g} is needed)",
            where=where,
            remedy="check polarisation, focus and the pattern on the SLM, or take more light",
        )
    return None


def _doubt(
    one: OrientationEstimate, peak: CoarseCarrier, orientation: int, quality: float, where: str
) -> ReconstructionError | None:
    """Why a carrier may be another one than that of the stripes."""
    if peak.elsewhere is not None:
        period, angle = 1 / np.hypot(*peak.elsewhere), np.arctan2(*peak.elsewhere[::-1]) % np.pi
        return ReconstructionError(
            f"stripes of orientation {orientation} stand out where the profile does not expect "
            f"them: period {period:.4f} um, angle {angle:.3f} rad",
            where=where,
            remedy="check pattern period and angles, and the order of the orientations",
        )
    if peak.quality < quality:
        return ReconstructionError(
            f"no stripes stand out in orientation {orientation} "
            f"(peak {peak.quality:.1f} deviations over the background, {quality:.3g} are needed)",
            where=where,
            remedy="check the order of the frames and the optics, state the nominal carrier, "
            "or take more light",
        )
    # Where little light is, chance alone comes near the peak; a rival must be more than chance.
    if peak.rival <= max(MAXIMUM_RIVAL * peak.quality, quality):
        return None
    if peak.mirrored and not one.leak.large:
        return None  # the steps that were found since then do separate band -1
    if peak.mirrored:
        return ReconstructionError(
            f"the phases of orientation {orientation} cannot be told apart: band 1 holds "
            f"{100 * peak.rival / peak.quality:.0f} % as much of band -1, as where two frames show "
            "the same pattern",
            where=where,
            remedy="check that every pattern is shown once, and that no frame was lost",
        )
    return ReconstructionError(
        f"the carrier of orientation {orientation} is ambiguous: a second peak is "
        f"{100 * peak.rival / peak.quality:.0f} % as high as the first",
        where=where,
        remedy="state the nominal carrier (pattern period and angles), or check that "
        "orientations and phases are in the stated order",
    )


def refuse(weak: Sequence[ReconstructionError | None], allow_weak: bool) -> None:
    """Raise the first reason, unless weak orientations are allowed and others are left."""
    reasons = [reason for reason in weak if reason is not None]
    if reasons and (not allow_weak or len(reasons) == len(weak)):
        raise reasons[0]


def check_harmonics(
    found: Sequence[OrientationEstimate], usable: Sequence[bool], where: str
) -> None:
    """Refuse orders that the pattern does not have."""
    for orientation, one in enumerate(found):
        if not usable[orientation]:
            continue
        depth = np.median(one.harmonics.modulation, axis=0)
        times = one.harmonics.modulation.shape[0]
        error = np.median(one.harmonics.modulation_se, axis=0) / math.sqrt(times)
        for n in range(1, depth.size):
            needed = max(MINIMUM_HARMONIC, 4 * float(error[n]))
            if depth[n] < needed:
                raise ReconstructionError(
                    f"harmonic {n + 1} of the pattern of orientation {orientation} does not stand "
                    f"out of the noise (modulation {depth[n]:.3f}, {needed:.3f} is needed)",
                    where=where,
                    remedy=f"reconstruct with {n} orders, or raise the saturating light",
                )


def check_structure(found: Sequence[OrientationEstimate], where: str) -> None:
    """Refuse an even field, in which no stripes can be seen.

    Raises
    ------
    ReconstructionError
        If the wide field of an orientation is no more than its noise.
    """
    for orientation, one in enumerate(found):
        wide = one.wide
        fy, fx = wide.frequencies()
        radius = torch.sqrt(fy.square() + fx.square()) / wide.otf.cutoff
        inside = (radius > STRUCTURE_BAND[0]) & (radius < STRUCTURE_BAND[1])
        power = squared(wide.spectra[:, 0])[:, inside].mean()
        if float(power) < MINIMUM_STRUCTURE * float(wide.noise[:, 0].mean()):
            raise ReconstructionError(
                f"the wide field of orientation {orientation} holds no structure, in which alone "
                "stripes can be seen",
                where=where,
                remedy="choose a field with structure in focus, or give the parameters of "
                "another one",
            )


def contradiction(one: OrientationEstimate, orientation: int) -> tuple[str, bool] | None:
    """What is wrong with the phase steps of an orientation, and whether they can be used."""
    leak, found = one.leak, one.measured
    when = "" if leak.at is None else f" at t={leak.at}"
    if leak.large and leak.sure:
        text = f"the frames of orientation {orientation}{when} do not have the phase steps stated"
        return f"{text}: band 1 holds {100 * leak.share:.0f} % as much of band -1", False
    if found is None:
        return None
    # Steps found in noise do not explain the leak that they were looked for because of.
    sure = found.change_rad > max(REMARKED_STEPS_RAD, NAMED_ERRORS * found.error_rad)
    if not (sure and 0.5 < expected_leak(found.steps_rad, one.steps_rad) / leak.share < 2):
        text = f"band 1 of orientation {orientation}{when} holds {100 * leak.share:.0f} % as much"
        return (f"{text} of band -1: frames may not belong here", True) if leak.sure else None
    measured, assumed = (
        ", ".join(f"{angle:.0f}" for angle in np.degrees(steps) % 360)
        for steps in (found.steps_rad, one.steps_rad)
    )
    text = f"the phase steps of orientation {orientation}{when} are {measured} degrees"
    advice = "they can be estimated from the frames (refined phases)"
    return f"{text}, not {assumed}; {advice}", found.change_rad < REFUSED_STEPS_RAD


def suspicious_times(
    found: Sequence[OrientationEstimate], weak: Sequence[ReconstructionError | None]
) -> list[int]:
    """Time points whose frames may be in another order than stated."""
    times = []
    for orientation, (one, reason) in enumerate(zip(found, weak, strict=True)):
        wrong = contradiction(one, orientation)
        if reason is not None or one.leak.likely or (wrong is not None and not wrong[1]):
            times.append(one.leak.at or 0)
    return sorted(times)


def check_steps(
    found: Sequence[OrientationEstimate],
    usable: Sequence[bool],
    where: str,
    refuse: bool = True,
) -> list[str]:
    """Remarks about phase steps; by choice refuse those that no image can be made with.

    Raises
    ------
    ReconstructionError
        If steps are so far off that the bands cannot be told apart.
    """
    remarks = []
    for orientation, one in enumerate(found):
        wrong = contradiction(one, orientation)
        if wrong is None or not usable[orientation]:
            continue
        text, bearable = wrong
        if refuse and not bearable:
            raise ReconstructionError(
                text,
                where=where,
                remedy="check that no frame was lost or shown twice, and the order of the patterns",
            )
        remarks.append(text)
    return remarks


def check_drift(drift: Drift, where: str, refuse: bool = True) -> list[str]:
    """Remarks about movement between orientations; by choice refuse what no image can bear.

    Raises
    ------
    ReconstructionError
        If the sample moved by more than about the resolution of SIM.
    """
    length = np.hypot(*np.moveaxis(drift.shift_um, -1, 0))
    sure = length > 4 * np.hypot(*np.moveaxis(drift.error_um, -1, 0))
    t, o = np.unravel_index(int((length * sure).argmax()), length.shape)
    moved = float(length[t, o] * sure[t, o])
    if moved <= REMARKED_DRIFT_UM:
        return []
    text = f"the sample moved by {moved:.3f} um from orientation 0 to {o} at t={t}"
    if refuse and moved > REFUSED_DRIFT_UM:
        raise ReconstructionError(
            text,
            where=where,
            remedy="correct the drift between orientations, or record faster and on a steady stage",
        )
    return [f"{text}: correct the drift between orientations"]
