"""Illumination parameters from the raw frames themselves.

The carrier (frequency and direction of the stripes) belongs to the instrument and is estimated
once per region from all time points; phase and modulation depth are estimated per time point
with the carrier held.  Sign and origin follow :mod:`tisr_scope.running_order.patterns`:
``1 + m cos(2 pi (kx x + ky y) + phi + step)`` with x, y from the centre of the field.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.acceptance import (
    NEEDED_EVIDENCE,
    NEEDED_EVIDENCE_LOCAL,
    agreeing,
    check_drift,
    check_harmonics,
    check_steps,
    check_structure,
    predicted,
    refuse,
    suspicious_times,
    weakness,
)
from tisr_scope.sim.parameters.bands import TAPER_PX, check_frames
from tisr_scope.sim.parameters.clipping import check_clipped, clipped_pixels, faded
from tisr_scope.sim.parameters.drift import measure_drift
from tisr_scope.sim.parameters.frame_order import name_disorder
from tisr_scope.sim.parameters.orientation import OrientationEstimate, estimate_orientation

__all__ = [
    "TAPER_PX",
    "SimParameters",
    "estimate_parameters",
    "nominal_carriers",
    "refresh_phases",
]


SURE_EVIDENCE = 4000.0
"""Of an orientation that lets the others be expected; nearly four times the highest by chance."""
AROUND_PREDICTED = 0.08
"""How far from there they are looked for, over the length of the carrier."""


@dataclass(frozen=True)
class SimParameters:
    """Parameters of 2D SIM of one region.

    The pattern of one orientation is
    ``1 + sum over n of m_n cos(n (2 pi k r) + phi_n + n step)``, n = 1 to ``orders``, with r from
    the centre of the field.

    Attributes
    ----------
    carrier : array, shape (orientation, 2)
        kx, ky of the fundamental in cycles per micrometre.
    phase_rad : array, shape (time, orientation, order)
        Phase of each harmonic of the first frame of each orientation, at the centre of the field.
    steps_rad : array, shape (orientation, phase)
        Phase of each frame relative to the first, of the fundamental.
    modulation : array, shape (time, orientation, order)
        Modulation depth m_n: 0 to 1 in linear SIM; harmonics of a saturated response may exceed 1.
    gain : array, shape (time, orientation)
        Factor that gives every orientation the same mean brightness.
    quality : array, shape (orientation,)
        Evidence that the carrier is that of the stripes, see
        :func:`tisr_scope.sim.parameters.orientation.evidence_of`; NaN where it was given.
    carrier_se : array, shape (orientation, 2)
        Standard error of kx and ky from the noise, cycles per micrometre; 0 for a given carrier.
    phase_se_rad, modulation_se : array, shape (time, orientation, order)
        Standard errors of phase and modulation depth.
    usable : bool array, shape (orientation,)
        False where the stripes are too weak for side bands.
    pixel_size_um : float
        Camera pixel in the sample.
    drift_um, drift_se_um : array, shape (time, orientation, 2)
        Where the sample was in every orientation, x and y relative to the first one, and the
        standard errors; 0 where it was not measured.
    remarks : tuple of str
        What makes images worse than they could be, in sentences; empty where all is well.
    """

    carrier: Float[np.ndarray, "orientation 2"]
    phase_rad: Float[np.ndarray, "time orientation order"]
    steps_rad: Float[np.ndarray, "orientation phase"]
    modulation: Float[np.ndarray, "time orientation order"]
    gain: Float[np.ndarray, "time orientation"]
    quality: Float[np.ndarray, " orientation"]
    carrier_se: Float[np.ndarray, "orientation 2"]
    phase_se_rad: Float[np.ndarray, "time orientation order"]
    modulation_se: Float[np.ndarray, "time orientation order"]
    usable: Bool[np.ndarray, " orientation"]
    pixel_size_um: float
    drift_um: Float[np.ndarray, "#time #orientation 2"] = field(
        default_factory=lambda: np.zeros((1, 1, 2))
    )
    drift_se_um: Float[np.ndarray, "#time #orientation 2"] = field(
        default_factory=lambda: np.zeros((1, 1, 2))
    )
    remarks: tuple[str, ...] = ()

    @property
    def orders(self) -> int:
        """Harmonics of the pattern."""
        return int(self.modulation.shape[2])

    @property
    def frequency(self) -> Float[np.ndarray, " orientation"]:
        """|k| in cycles per micrometre."""
        frequency: Float[np.ndarray, " orientation"] = np.hypot(*self.carrier.T)
        return frequency

    @property
    def angle_rad(self) -> Float[np.ndarray, " orientation"]:
        """Direction of the carrier: (x, y) = (cos, sin)."""
        angle: Float[np.ndarray, " orientation"] = np.arctan2(
            self.carrier[:, 1], self.carrier[:, 0]
        )
        return angle

    @property
    def pooled_modulation(self) -> Float[np.ndarray, "orientation order"]:
        """Median over time: modulation depth is a property of the optics, not of the moment."""
        pooled: Float[np.ndarray, "orientation order"] = np.median(self.modulation, axis=0)
        return pooled

    @property
    def step_error_rad(self) -> Float[np.ndarray, " orientation"]:
        """How far the phase steps are from even ones: rms after the best common shift."""
        phases = self.steps_rad.shape[1]
        excess = self.steps_rad - 2 * np.pi * np.arange(phases) / phases
        turned = np.exp(1j * excess)
        turned /= np.exp(1j * np.angle(turned.mean(axis=1, keepdims=True)))
        error: Float[np.ndarray, " orientation"] = np.sqrt((np.angle(turned) ** 2).mean(axis=1))
        return error

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON; None stands for NaN."""
        return {
            **{key: _plain(getattr(self, key)) for key in _ARRAYS},
            "usable": self.usable.tolist(),
            "remarks": list(self.remarks),
            "frequency": _plain(self.frequency),
            "angle_rad": _plain(self.angle_rad),
            "pixel_size_um": self.pixel_size_um,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> SimParameters:
        """Inverse of :meth:`to_dict`."""
        return cls(
            **{
                key: np.array(content[key], np.float64)
                for key in _ARRAYS
                if key in content or not key.startswith("drift")
            },
            usable=np.array(content["usable"], bool),
            remarks=tuple(content.get("remarks", ())),
            pixel_size_um=float(content["pixel_size_um"]),
        )


_ARRAYS = (
    "carrier",
    "phase_rad",
    "steps_rad",
    "modulation",
    "gain",
    "quality",
    "carrier_se",
    "phase_se_rad",
    "modulation_se",
    "drift_um",
    "drift_se_um",
)


def _plain(values: Float[np.ndarray, "*any"]) -> Any:
    rounded = np.round(values, 7).astype(object)
    rounded[~np.isfinite(values)] = None
    return rounded.tolist()


def nominal_carriers(
    angles_rad: tuple[float, ...], period_um: float
) -> Float[np.ndarray, "orientation 2"]:
    """Carriers that a profile asks for, in cycles per micrometre."""
    angles = np.asarray(angles_rad, np.float64)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) / period_um


def estimate_parameters(
    frames: Float[Tensor, "time orientation phase y x"] | Float[np.ndarray, ...],
    otf: DetectionOtf,
    pixel_um: float,
    *,
    nominal: Float[np.ndarray, "orientation 2"] | None = None,
    carrier: Float[np.ndarray, "orientation 2"] | None = None,
    orders: int = 1,
    refine_phases: bool = False,
    allow_weak: bool = False,
    minimum_modulation: float = 0.15,
    accept_doubtful: bool = False,
    saturation_electrons: float | None = None,
    where: str = "SIM stack",
) -> SimParameters:
    """Illumination parameters of one region.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x) or without time
        Photo-electrons with the camera offset removed, highest light level.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample, in micrometres.
    nominal : array, optional
        Carriers that the instrument was set to, cycles per micrometre; found within 3 percent.
        Without it, |k| is searched from 0.5 to 1.1 times the cut-off of the optics.
    carrier : array, optional
        Carriers known from before: they are kept, only phase and modulation are estimated.
    orders : int
        Harmonics of the pattern: 1 for linear SIM, 2 for nonlinear SIM with 5 phases or more.
    refine_phases : bool
        Estimate the phase steps from the frames instead of taking them as even.
    allow_weak : bool
        Mark an orientation without usable stripes in ``usable`` instead of refusing the region.
    minimum_modulation : float
        Of the fundamental; below it an orientation is not usable.
    accept_doubtful : bool
        Use what was most likely where it cannot be told from chance, and say so in a remark.
    saturation_electrons : float, optional
        Value from which a pixel is saturated.
    where : str
        Name of the region for messages.

    Raises
    ------
    ReconstructionError
        For unusable frames, too few phases, or where no stripes are found that can be trusted.
    """
    stack = torch.as_tensor(frames)
    stack = (stack[None] if stack.ndim == 4 else stack).to(torch.float32)
    check_frames(stack, where)
    clipped = clipped_pixels(stack, saturation_electrons)
    clipping = check_clipped(clipped, where)
    stack = faded(stack, clipped)
    orientations, phases = stack.shape[1:3]
    for name, given in (("nominal", nominal), ("carrier", carrier)):
        if given is not None and given.shape != (orientations, 2):
            raise ReconstructionError(
                f"{name} carriers of shape {given.shape} for {orientations} orientations",
                where=where,
                remedy="give one (kx, ky) per orientation",
            )
    if phases < 2 * orders + 1:
        raise ReconstructionError(
            f"{phases} phases cannot separate {orders} orders of the pattern",
            where=where,
            remedy=f"record {2 * orders + 1} phases or more, or ask for fewer orders",
        )
    found = [
        estimate_orientation(
            stack[:, o],
            otf,
            pixel_um,
            orders,
            nominal=None if nominal is None else nominal[o],
            carrier=None if carrier is None else carrier[o],
            refine_phases=refine_phases,
        )
        for o in range(orientations)
    ]
    local = [nominal is not None] * orientations
    if nominal is None and carrier is None:
        local = _guided(stack, found, otf, orders, refine_phases)
        if agreeing(np.stack([one.carrier for one in found])):
            local = [True] * orientations
    needed = [NEEDED_EVIDENCE_LOCAL if near else NEEDED_EVIDENCE for near in local]
    weak = [weakness(one, o, needed[o], minimum_modulation, where) for o, one in enumerate(found)]
    check_structure(found, where)
    drift = measure_drift([one.wide for one in found])
    for t in suspicious_times(found, weak)[:1]:
        name_disorder(stack[t], otf, pixel_um, where)
    remarks = [*clipping, *(reason.what for reason in weak if reason is not None)]
    if accept_doubtful and any(weak):
        remarks.append("the stripes were accepted at the user's own risk (--accept-doubtful)")
        weak = [None] * orientations
    refuse(weak, allow_weak)
    usable = [reason is None for reason in weak]
    try:
        check_harmonics(found, usable, where)
    except ReconstructionError:
        name_disorder(stack[0], otf, pixel_um, where)
        raise
    remarks += check_steps(found, usable, where)
    remarks += check_drift(drift, where)
    modulation = np.stack([one.harmonics.modulation for one in found], axis=1)
    return SimParameters(
        carrier=np.stack([one.carrier for one in found]),
        phase_rad=np.stack([one.harmonics.phase_rad for one in found], axis=1),
        steps_rad=np.stack([one.steps_rad for one in found]),
        # Linear fluorescence cannot go below 0; the harmonics of a saturated response may exceed 1.
        modulation=modulation.clip(max=1.0) if orders == 1 else modulation,
        gain=_gain(stack),
        quality=np.array([np.nan if one.coarse is None else one.evidence for one in found]),
        carrier_se=np.stack([one.carrier_se for one in found]),
        phase_se_rad=np.stack([one.harmonics.phase_se_rad for one in found], axis=1),
        modulation_se=np.stack([one.harmonics.modulation_se for one in found], axis=1),
        usable=np.array(usable),
        pixel_size_um=pixel_um,
        drift_um=drift.shift_um,
        drift_se_um=drift.error_um,
        remarks=tuple(remarks),
    )


def _guided(
    stack: Float[Tensor, "time orientation phase y x"],
    found: list[OrientationEstimate],
    otf: DetectionOtf,
    orders: int,
    refine_phases: bool,
) -> list[bool]:
    """Look again at doubtful orientations where those beyond doubt let them expect.

    Replaces entries of ``found``, and says which.
    """
    carriers = np.stack([one.carrier for one in found])
    sure = [one.evidence > SURE_EVIDENCE for one in found]
    replaced = [False] * len(found)
    for o, one in enumerate(found):
        if one.evidence >= NEEDED_EVIDENCE:
            continue
        for place in predicted(carriers, sure, o):
            again = estimate_orientation(
                stack[:, o],
                otf,
                one.wide.pixel_um,
                orders,
                nominal=place,
                around=AROUND_PREDICTED,
                refine_phases=refine_phases,
            )
            if again.evidence > (found[o].evidence if replaced[o] else NEEDED_EVIDENCE_LOCAL):
                found[o], replaced[o] = again, True
    return replaced


def refresh_phases(
    frames: Float[Tensor, "time orientation phase y x"] | Float[np.ndarray, ...],
    parameters: SimParameters,
    otf: DetectionOtf,
    where: str = "SIM stack",
) -> SimParameters:
    """Phases and brightness of new frames; carrier, steps and modulation are those known before.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x) or without time
        Photo-electrons, of the same optics and field.
    parameters : SimParameters
        Of earlier frames.
    otf : DetectionOtf
        Detection optics.
    where : str
        Name of the region for messages.

    Raises
    ------
    ReconstructionError
        For unusable frames, or frames that do not belong to the parameters.
    """
    stack = torch.as_tensor(frames)
    stack = (stack[None] if stack.ndim == 4 else stack).to(torch.float32)
    check_frames(stack, where)
    if tuple(stack.shape[1:3]) != parameters.steps_rad.shape:
        raise ReconstructionError(
            f"frames of shape {tuple(stack.shape)} do not fit parameters of "
            f"{parameters.steps_rad.shape} (orientation, phase)",
            where=where,
            remedy="estimate the parameters from these frames",
        )
    found = [
        estimate_orientation(
            stack[:, o],
            otf,
            parameters.pixel_size_um,
            parameters.orders,
            carrier=parameters.carrier[o],
            steps=parameters.steps_rad[o],
        )
        for o in range(stack.shape[1])
    ]
    drift = measure_drift([one.wide for one in found])
    usable = parameters.usable.tolist()
    steps = check_steps(found, usable, where, refuse=False)
    times = stack.shape[0]
    error = np.sqrt(np.mean(np.square(parameters.modulation_se), axis=0))
    return replace(
        parameters,
        phase_rad=np.stack([one.harmonics.phase_rad for one in found], axis=1),
        phase_se_rad=np.stack([one.harmonics.phase_se_rad for one in found], axis=1),
        modulation=np.repeat(parameters.pooled_modulation[None], times, axis=0),
        modulation_se=np.repeat(error[None], times, axis=0),
        gain=_gain(stack),
        drift_um=drift.shift_um,
        drift_se_um=drift.error_um,
        remarks=(*steps, *check_drift(drift, where, refuse=False)),
    )


def _gain(stack: Float[Tensor, "time orientation phase y x"]) -> Float[np.ndarray, "time o"]:
    brightness = stack.mean(dim=(2, 3, 4), dtype=torch.float64).cpu().numpy()
    gain: Float[np.ndarray, "time o"] = brightness.mean(axis=1, keepdims=True) / brightness
    return gain
