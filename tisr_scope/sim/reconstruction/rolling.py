"""A SIM image after every single raw frame: the newest frame of every pattern, put together.

The reconstruction is linear, so a new frame changes the image by the difference to the frame of
the same pattern that it replaces.  Only that difference is transformed; the sum of all bands is
kept in Fourier space and set up anew now and then, which bounds the rounding of the sums.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimate import SimParameters
from tisr_scope.sim.reconstruction.wiener import WienerPlan
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings, wiener_parameter

RENEWAL = 256
"""Changes after which the sum is set up anew."""


class RollingReconstruction:
    """Keeps the newest frame of every pattern and the image they make.

    Parameters
    ----------
    parameters : SimParameters
        Of one time point; held until :meth:`renew`.
    otf : DetectionOtf
        Detection optics.
    frames : array, shape (orientation, phase, y, x)
        A complete set in photo-electrons, to begin with.
    settings : WienerSettings, optional
        Wiener parameter (None: from these frames), attenuation, apodisation.
    upscale : int, optional
        Fine pixels per camera pixel; by default 1 + orders.
    device : str or torch.device
        Where to compute.

    Raises
    ------
    ReconstructionError
        If frames and parameters do not belong together.
    """

    def __init__(
        self,
        parameters: SimParameters,
        otf: DetectionOtf,
        frames: Float[np.ndarray, "orientation phase y x"],
        settings: WienerSettings | None = None,
        *,
        upscale: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self._otf = otf
        self._settings = settings or WienerSettings()
        self._upscale = upscale
        self._frames = torch.as_tensor(frames).to(device=device, dtype=torch.float32).clone()
        self.renew(parameters)

    @property
    def frames(self) -> Float[Tensor, "orientation phase y x"]:
        """Newest frame of every pattern, photo-electrons."""
        return self._frames

    def renew(self, parameters: SimParameters) -> None:
        """Go on with other parameters, from the frames that are held.

        Raises
        ------
        ReconstructionError
            If frames and parameters do not belong together.
        """
        expected = (parameters.phase_rad.shape[0], *parameters.steps_rad.shape)
        if self._frames.ndim != 4 or expected != (1, *self._frames.shape[:2]):
            raise ReconstructionError(
                f"frames of shape {tuple(self._frames.shape)} do not fit parameters of {expected} "
                "(time, orientation, phase)",
                remedy="give one complete set of patterns and its parameters",
            )
        w = self._settings.parameter
        if w is None:
            w = wiener_parameter(self._frames[None], self._otf, parameters.pixel_size_um)
        self._plan = WienerPlan(
            parameters,
            self._otf,
            self._settings,
            w,
            (self._frames.shape[2], self._frames.shape[3]),
            upscale=self._upscale,
            device=self._frames.device,
        )
        self._set_up()

    def _set_up(self) -> None:
        self._spectrum = self._plan.spectrum(self._frames[None])
        self._changes = 0

    def add(self, frame: Float[np.ndarray, "y x"], orientation: int, phase: int) -> None:
        """Replace the frame of one pattern by a newer one.

        Parameters
        ----------
        frame : array, shape (y, x)
            Photo-electrons.
        orientation, phase : int
            Which pattern it was exposed with.

        Raises
        ------
        ReconstructionError
            If there is no such pattern, or the frame has another shape.
        """
        orientations, phases, *shape = self._frames.shape
        if not (0 <= orientation < orientations and 0 <= phase < phases):
            raise ReconstructionError(
                f"there is no pattern of orientation {orientation} and phase {phase}",
                remedy=f"{orientations} orientations and {phases} phases were announced",
            )
        if list(frame.shape) != shape:
            raise ReconstructionError(
                f"a frame of {frame.shape} pixels among frames of {tuple(shape)}",
                remedy="begin again with frames of the new shape",
            )
        newer = torch.as_tensor(frame).to(self._frames)
        change = newer - self._frames[orientation, phase]
        self._frames[orientation, phase] = newer
        self._changes += 1
        if self._changes >= RENEWAL:
            self._set_up()
        else:
            self._plan.change(self._spectrum, change, orientation, phase)

    def image(self) -> Float[np.ndarray, "fy fx"]:
        """SIM image of the frames that are held; float32, photo-electrons, negative values kept."""
        return self._plan.image(self._spectrum)[0].cpu().numpy()
