"""Movement of the sample from one orientation to the next, from the orientations' wide fields.

The wide field of every orientation shows the same sample.  Where they agree best is found from
their cross-spectrum, weighted with ``Gamma H^2 / (N (N + 2 Gamma H^2))``, the likelihood of two
shifted images of a Gaussian sample of power Gamma in noise N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from tisr_scope.sim.optics.otf import DetectionOtf, notch
from tisr_scope.sim.parameters.bands import BandSpectra, check_frames, crop_axis, frame_spectra
from tisr_scope.sim.parameters.overlap import NOTCH_DEPTH, NOTCH_WIDTH, SamplePower

USED_BAND = 0.6
"""Frequencies over cut-off that are compared; the ones above add noise and time."""
LARGEST_DRIFT_UM = 1.0
"""Within which the best agreement is looked for."""
STEPS = 6
SURE_ERRORS = 5.0
SMALLEST_DRIFT_UM = 0.004
"""Costs less than 0.1 dB, and moving frames is not free either."""


@dataclass(frozen=True)
class Drift:
    """Where the sample was in every orientation, relative to the first one.

    Attributes
    ----------
    shift_um : array, shape (time, orientation, 2)
        Towards positive x and y.
    error_um : array, shape (time, orientation, 2)
        Standard errors from the noise.
    """

    shift_um: Float[np.ndarray, "time orientation 2"]
    error_um: Float[np.ndarray, "time orientation 2"]

    @property
    def sure(self) -> bool:
        """Whether some orientation moved beyond doubt, by more than is worth a correction."""
        length = np.hypot(*np.moveaxis(self.shift_um, -1, 0))
        error = np.hypot(*np.moveaxis(self.error_um, -1, 0))
        moved = (length > SURE_ERRORS * error) & (length > SMALLEST_DRIFT_UM)
        return bool(moved.any())

    def told(self) -> list[str]:
        """The largest movement that was corrected, in words."""
        length = np.hypot(*np.moveaxis(self.shift_um, -1, 0))
        t, o = np.unravel_index(int(length.argmax()), length.shape)
        return [
            f"the sample moved by {1e3 * length[t, o]:.0f} nm from orientation 0 to {o} at t={t}: "
            "corrected"
        ]


def measure_drift(wide: Sequence[BandSpectra]) -> Drift:
    """Drift from band 0 of every orientation.

    Parameters
    ----------
    wide : sequence of BandSpectra
        One for each orientation; the first band is used.
    """
    first = wide[0]
    kept = [max(8, int(USED_BAND * n)) for n in first.shape]
    fy, fx = (
        crop_axis(axis, dim, n)
        for axis, dim, n in zip(first.frequencies(), (0, 1), kept, strict=True)
    )
    radius = torch.sqrt(fy.square() + fx.square())
    signal = SamplePower.measure(first)(radius) * first.otf(fy, fx).square()
    clear = notch(radius, NOTCH_DEPTH, NOTCH_WIDTH * first.otf.cutoff)
    inside = radius < USED_BAND * first.otf.cutoff
    images = [crop_axis(crop_axis(w.spectra[:, 0], -2, kept[0]), -1, kept[1]) for w in wide]
    times = images[0].shape[0]
    shift, error = np.zeros((2, times, len(wide), 2))
    for o in range(1, len(wide)):
        for t in range(times):
            noise = float(first.noise[t, 0] + wide[o].noise[t, 0]) / 2
            weight = clear * inside * signal / (noise * (noise + 2 * signal))
            agreement = (images[0][t].conj() * images[o][t] * weight).to(torch.complex128)
            shift[t, o], error[t, o] = _best_shift(agreement, fy.ravel(), fx.ravel())
    return Drift(shift, error)


def _best_shift(
    agreement: Complex[Tensor, "y x"], fy: Float[Tensor, " y"], fx: Float[Tensor, " x"]
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Shift (x, y) at the top of the correlation, and its standard errors."""
    height, width = agreement.shape
    extent = (1 / float(fy[1]), 1 / float(fx[1]))
    near = torch.fft.ifft2(agreement).real
    places = [
        torch.fft.fftfreq(n, 1 / e, device=near.device)
        for n, e in zip(near.shape, extent, strict=True)
    ]
    reach = torch.hypot(places[0][:, None], places[1][None, :]) <= LARGEST_DRIFT_UM
    row, column = np.unravel_index(
        int(torch.where(reach, near, near.min()).argmax()), (height, width)
    )
    place = np.array([float(places[1][column]), float(places[0][row])])
    values = agreement.cpu().numpy()
    y, x = (2j * math.pi * f.double().cpu().numpy() for f in (fy, fx))
    curvature = np.eye(2)
    for _ in range(STEPS):
        left, right = (
            np.stack([wave, wave * axis, wave * axis**2])
            for axis, wave in ((y, np.exp(y * place[1])), (x, np.exp(x * place[0])))
        )
        m = (left @ values @ right.T).real
        curvature = -np.array([[m[0, 2], m[1, 1]], [m[1, 1], m[2, 0]]])
        if np.linalg.eigvalsh(curvature)[0] <= 0:
            break  # a shift that is no peak; its error below is without bounds
        place = place + np.linalg.solve(curvature, [m[0, 1], m[1, 0]])
    # Images are real: half of the frequencies repeat the other half.
    variance = 2 * np.diag(np.linalg.pinv(curvature))
    return place, np.sqrt(np.where(variance > 0, variance, np.inf))


def align_orientations(
    frames: Float[np.ndarray, "time orientation phase y x"],
    otf: DetectionOtf,
    pixel_um: float,
    where: str = "SIM stack",
    *,
    sure_only: bool = False,
) -> tuple[Float[np.ndarray, "time orientation phase y x"], Drift | None]:
    """Frames with the drift between orientations taken back, and that drift.

    The frames are moved by a phase ramp over their spectra, mirrored at the edges; the stripes
    move with them, so parameters must be estimated from the frames that come back.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x)
        Photo-electrons.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample.
    where : str
        Name of the region for messages.
    sure_only : bool
        Give the frames back as they are, and None, where no drift is beyond doubt.

    Raises
    ------
    ReconstructionError
        For unusable frames.
    """
    stack = torch.as_tensor(frames).to(torch.float32)
    check_frames(stack, where)
    wide = [
        frame_spectra(stack[:, o].mean(dim=1, keepdim=True), otf, pixel_um)
        for o in range(stack.shape[1])
    ]
    drift = measure_drift(wide)
    if sure_only and not drift.sure:
        return frames, None
    moved = stack.clone()
    for t, o in np.ndindex(stack.shape[0], stack.shape[1]):
        if o > 0:
            moved[t, o] = _moved(stack[t, o], -drift.shift_um[t, o] / pixel_um)
    return moved.cpu().numpy(), drift


def _moved(
    frames: Float[Tensor, "phase y x"], shift_px: Float[np.ndarray, " 2"]
) -> Float[Tensor, "phase y x"]:
    height, width = frames.shape[-2:]
    margin = min(16 + math.ceil(float(np.abs(shift_px).max())), height - 1, width - 1)
    wide = torch.nn.functional.pad(frames, (margin,) * 4, mode="reflect")
    kind = {"dtype": torch.float64, "device": frames.device}
    fy = torch.fft.fftfreq(wide.shape[-2], **kind)[:, None]
    fx = torch.fft.rfftfreq(wide.shape[-1], **kind)[None, :]
    turns = -2 * math.pi * (fy * float(shift_px[1]) + fx * float(shift_px[0]))
    ramp = torch.polar(torch.ones_like(turns), turns).to(torch.complex64)
    moved = torch.fft.irfft2(torch.fft.rfft2(wide) * ramp, s=wide.shape[-2:])
    inside: Tensor = moved[..., margin : margin + height, margin : margin + width]
    return inside
