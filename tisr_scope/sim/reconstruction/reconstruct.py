"""SIM images from raw frames: linear (x2) and nonlinear with any number of orders (x 1 + orders).

Negative values are kept.  They are the two-sided noise of a linear estimate around zero; clipping
them would give dark background a positive bias that a network then learns.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimate import SimParameters
from tisr_scope.sim.reconstruction.wiener import WienerPlan
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings, wiener_parameter

__all__ = ["WienerSettings", "reconstruct", "wiener_parameter"]


def reconstruct(
    frames: Float[Tensor, "time orientation phase y x"] | Float[np.ndarray, ...],
    parameters: SimParameters,
    otf: DetectionOtf,
    settings: WienerSettings | None = None,
    *,
    upscale: int | None = None,
    device: str | torch.device = "cpu",
    batch: int = 8,
) -> Float[np.ndarray, "time fy fx"]:
    """Super-resolved images of one region.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x) or without time
        Photo-electrons with the camera offset removed.
    parameters : SimParameters
        Of the same frames, one entry per time point.  Orientations that are not usable give
        their wide field only.
    otf : DetectionOtf
        Detection optics.
    settings : WienerSettings, optional
        Wiener parameter, apodisation, attenuation.
    upscale : int, optional
        Fine pixels per camera pixel; by default 1 + orders.
    device : str or torch.device
        Where to compute.
    batch : int
        Time points at once.

    Returns
    -------
    image : float32 array, shape (time, upscale y, upscale x)
        In photo-electrons per camera pixel and raw frame, so that its mean is that of the wide
        field; negative values kept.  Fine pixel j lies at the camera position
        ``(j + 1/2) / upscale - 1/2`` (``align_corners=False``).

    Raises
    ------
    ReconstructionError
        If frames and parameters do not belong together.
    """
    stack = torch.as_tensor(frames)
    stack = stack[None] if stack.ndim == 4 else stack
    settings = settings or WienerSettings()
    expected = (parameters.phase_rad.shape[0], *parameters.steps_rad.shape)
    if stack.ndim != 5 or tuple(stack.shape[:3]) != expected:
        raise ReconstructionError(
            f"frames of shape {tuple(stack.shape)} do not fit parameters of {expected} "
            "(time, orientation, phase)",
            remedy="estimate the parameters from these frames",
        )
    w = settings.parameter
    if w is None:
        # To two digits, far finer than it matters: stacks of one light level share a plan.
        w = float(f"{wiener_parameter(stack, otf, parameters.pixel_size_um):.2g}")
    shape = (stack.shape[-2], stack.shape[-1])
    plan = _plan(parameters, otf, settings, w, shape, upscale, str(device))
    images = []
    for start in range(0, stack.shape[0], batch):
        times = slice(start, start + batch)
        part = stack[times].to(device=device, dtype=torch.float32)
        images.append(plan.image(plan.spectrum(part, times)).cpu())
    return torch.cat(images).numpy()


_held = threading.local()


def _plan(
    parameters: SimParameters,
    otf: DetectionOtf,
    settings: WienerSettings,
    wiener: float,
    shape: tuple[int, int],
    upscale: int | None,
    device: str,
) -> WienerPlan:
    """Plan of this thread's last stack, where only phases and brightness are new; else a new one.

    A plan holds several spectra of the fine grid, so no more than one is kept.
    """
    fixed = (
        parameters.carrier,
        parameters.steps_rad,
        parameters.pooled_modulation,
        parameters.usable,
    )
    # What the plan has computed once.
    content = tuple((values.shape, values.tobytes()) for values in fixed)
    key = (content, parameters.pixel_size_um, otf, settings, wiener, shape, upscale, device)
    plan: WienerPlan | None = getattr(_held, "plan", None)
    if plan is None or _held.key != key:
        plan = WienerPlan(parameters, otf, settings, wiener, shape, upscale=upscale, device=device)
        _held.plan, _held.key = plan, key
    plan.parameters = parameters
    return plan
