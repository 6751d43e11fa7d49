"""When an estimate of the illumination is good enough to be used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.parameters.band_crosstalk import expected_leak
from tisr_scope.sim.parameters.bands import squared
from tisr_scope.sim.parameters.coarse_carrier import SEARCH_WITHOUT_NOMINAL, CoarseCarrier
from tisr_scope.sim.parameters.drift import Drift
from tisr_scope.sim.parameters.orientation import OrientationEstimate

NEEDED_EVIDENCE = 1200.0
NEEDED_EVIDENCE_LOCAL = 500.0
"""That a carrier is right: of a whole ring, and where it was searched around a place or all
orientations agree.  Set by hand on simulated stacks: of 648 orientations without fringes the
highest reached 1,084, of 216 stacks the highest lowest-of-three 630."""
SAME_LENGTH, SAME_SPACING_RAD = 0.08, math.radians(5)
"""Instruments turn one pattern by equal angles; carriers of chance do not agree with that."""
MAXIMUM_RIVAL = 0.3
"""Evidence of another carrier over the first one's, where it is more than chance can give."""
MIRRORED_RIVAL = 0.6
"""Height of the peak at the opposite shift over the first one's."""
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
    one: OrientationEstimate, orientation: int, evidence: float, modulation: float, where: str
) -> ReconstructionError | None:
    """Why an orientation cannot be trusted; None if it can."""
    doubt = None if one.coarse is None else _doubt(one, one.coarse, orientation, evidence, where)
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
    one: OrientationEstimate, peak: CoarseCarrier, orientation: int, needed: float, where: str
) -> ReconstructionError | None:
    """Why a carrier may be another one than that of the stripes."""
    if peak.elsewhere is not None:
        ratio = float(np.hypot(*peak.elsewhere)) / one.wide.otf.cutoff
        low, high = SEARCH_WITHOUT_NOMINAL
        seen = f"stripes of orientation {orientation} stand out at {_named(peak.elsewhere)}"
        if not low <= ratio <= high:
            return ReconstructionError(
                f"{seen}, {ratio:.2f} of the cut-off of the optics: outside the search of {low:g} "
                f"to {high:g}",
                where=where,
                remedy="check --numerical-aperture, --emission-nm and --pixel-size-um; if they are "
                "right, state the stripes with --angles-deg and --period-um",
            )
        return ReconstructionError(
            f"{seen}, where they are not expected",
            where=where,
            remedy="check pattern period and angles, and the order of the orientations",
        )
    if one.evidence < needed:
        return ReconstructionError(
            f"no stripes stand out in orientation {orientation}: the most likely ones, at "
            f"{_named(one.carrier)}, have {one.evidence:.0f} of {needed:.0f} needed to tell them "
            "from chance",
            where=where,
            remedy="check the order of the frames and the optics, or take more light; if you know "
            "the stripes, state them with --angles-deg and --period-um, or --from another stack; "
            "--accept-doubtful goes on at your own risk",
        )
    # Steps that are wrong leave both bands in one: then the two shifts compete.
    competes = peak.rival > MIRRORED_RIVAL * max(peak.quality, 0.0)
    if peak.mirrored and competes and one.leak.large:
        return ReconstructionError(
            f"the phases of orientation {orientation} cannot be told apart: band 1 holds "
            f"{100 * peak.rival / peak.quality:.0f} % as much of band -1, as where two frames show "
            "the same pattern",
            where=where,
            remedy="check that every pattern is shown once, and that no frame was lost",
        )
    if one.rival_evidence > max(MAXIMUM_RIVAL * one.evidence, needed) and not peak.mirrored:
        return ReconstructionError(
            f"the carrier of orientation {orientation} is ambiguous: beside {_named(one.carrier)} "
            f"another one has {100 * one.rival_evidence / one.evidence:.0f} % as much evidence",
            where=where,
            remedy="state the stripes with --angles-deg and --period-um, or check that "
            "orientations and phases are in the stated order; --accept-doubtful goes on at your "
            "own risk",
        )
    return None


def _named(carrier: Float[np.ndarray, " 2"]) -> str:
    """Period and angle of a carrier, as the options take them."""
    angle = math.degrees(math.atan2(carrier[1], carrier[0])) % 180
    return f"period {1 / np.hypot(*carrier):.4f} um and angle {angle:.1f} degrees"


def agreeing(carriers: Float[np.ndarray, "orientation 2"]) -> bool:
    """Whether three carriers or more have one length and are turned by equal angles."""
    count = len(carriers)
    length = np.hypot(*carriers.T)
    angles = np.sort(np.arctan2(carriers[:, 1], carriers[:, 0]) % np.pi)
    gaps = np.diff(np.append(angles, angles[0] + np.pi))
    even = np.abs(gaps - np.pi / count).max() < SAME_SPACING_RAD
    return count > 2 and bool(length.max() < (1 + SAME_LENGTH) * length.min() and even)


def predicted(
    carriers: Float[np.ndarray, "orientation 2"], sure: Sequence[bool], orientation: int
) -> list[Float[np.ndarray, " 2"]]:
    """Where the carrier of an orientation lies if all are turned by equal angles.

    Parameters
    ----------
    carriers : array, shape (orientation, 2)
    sure : sequence of bool
        Which of them are beyond doubt.
    orientation : int
        That is looked for.

    Returns
    -------
    places : list of array
        One for each sense of rotation that the sure ones allow.
    """
    known = np.flatnonzero(sure)
    if not known.size or len(carriers) < 3:
        return []
    length = float(np.hypot(*carriers[known].T).mean())
    angle = np.arctan2(carriers[:, 1], carriers[:, 0])
    places = []
    for sense in (1, -1):
        # Modulo a half turn: a carrier and its opposite are one pattern.
        origin = angle[known] - sense * known * np.pi / len(carriers)
        mean = np.angle(np.exp(2j * origin).mean()) / 2
        away = np.abs(np.angle(np.exp(2j * (origin - mean)))).max() / 2
        if away < SAME_SPACING_RAD:
            turn = mean + sense * orientation * np.pi / len(carriers)
            places.append(length * np.array([np.cos(turn), np.sin(turn)]))
    return places


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
