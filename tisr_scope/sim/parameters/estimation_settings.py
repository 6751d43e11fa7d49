"""The choices of parameter estimation, from the frames as they were recorded to the parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.drift import align_orientations
from tisr_scope.sim.parameters.estimate import SimParameters, estimate_parameters


@dataclass(frozen=True)
class Estimation:
    """How the illumination is estimated, and what is taken off the frames before.

    Attributes
    ----------
    orders : int
        Harmonics of the pattern: 1 for linear SIM, 2 for nonlinear SIM with 5 phases or more.
    refine_phases : bool
        Measure the phase of every frame instead of taking the steps as even.
    allow_weak : bool
        An orientation without usable stripes gives its wide field, instead of an error.
    correct_drift : bool or None
        Move the orientations back onto the first one, by the drift between their wide fields.
        None does so where the drift is beyond doubt.
    accept_doubtful : bool
        Go on with stripes that may be wrong, at the user's own risk; a remark says so.
    background : float or None
        Light that is no signal, taken off every frame, in its unit.  None takes nothing off a
        recording, and off a raw stack the 1st percentile of each orientation.
    """

    orders: int = 1
    refine_phases: bool = False
    allow_weak: bool = False
    background: float | None = None
    correct_drift: bool | None = None
    accept_doubtful: bool = False

    def apply(
        self,
        frames: Float[np.ndarray, "time orientation phase y x"],
        otf: DetectionOtf,
        pixel_um: float,
        *,
        nominal: Float[np.ndarray, "orientation 2"] | None = None,
        saturation: float | None = None,
        where: str = "SIM stack",
    ) -> tuple[Float[np.ndarray, "time orientation phase y x"], SimParameters]:
        """Frames to reconstruct, whose background is off already, and their parameters.

        Raises
        ------
        ReconstructionError
            For unusable frames, or where no stripes are found that can be trusted.
        """
        drift = None
        if self.correct_drift is not False:
            sure_only = self.correct_drift is None
            frames, drift = align_orientations(frames, otf, pixel_um, where, sure_only=sure_only)
        parameters = estimate_parameters(
            frames,
            otf,
            pixel_um,
            nominal=nominal,
            orders=self.orders,
            refine_phases=self.refine_phases,
            allow_weak=self.allow_weak,
            accept_doubtful=self.accept_doubtful,
            saturation_electrons=saturation,
            where=where,
        )
        if drift is not None:
            # As it was, not what is left of it.
            remarks = (*parameters.remarks, *drift.told())
            parameters = replace(
                parameters, drift_um=drift.shift_um, drift_se_um=drift.error_um, remarks=remarks
            )
        return frames, parameters
