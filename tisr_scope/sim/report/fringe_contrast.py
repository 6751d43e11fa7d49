"""Modulation-to-noise ratio: how far the stripes stand out of the noise at the structures."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from tisr_scope.sim.optics.camera_noise import CameraNoise
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.bands import separate_bands
from tisr_scope.sim.parameters.estimate import SimParameters

STRUCTURE_PERCENTILE = 90.0
BORDER_PX = 8


def modulation_to_noise(
    frames: Float[np.ndarray, "orientation phase y x"],
    parameters: SimParameters,
    otf: DetectionOtf,
    noise: CameraNoise,
) -> Float[np.ndarray, "orientation order"]:
    """Root mean square amplitude of the stripes at the structures over that of its noise.

    The amplitude is that of band n (twice its magnitude), cut off where the optics pass nothing;
    structures are the brightest tenth of the wide field.  The power of the noise is taken off the
    power of the amplitude, so without stripes the ratio is 0 and not 1.

    Parameters
    ----------
    frames : array, shape (orientation, phase, y, x)
        One time point.
    parameters : SimParameters
        Give the phase steps and the orders.
    otf : DetectionOtf
    noise : CameraNoise

    Returns
    -------
    ratio : array, shape (orientation, order)
    """
    fy, fx = (np.fft.fftfreq(n, parameters.pixel_size_um) for n in frames.shape[-2:])
    passed = np.hypot(fy[:, None], fx[None, :]) < otf.cutoff
    inner = (slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))
    wide = np.fft.ifft2(np.fft.fft2(frames.mean(axis=(0, 1))) * passed).real[inner]
    bright = wide >= np.percentile(wide, STRUCTURE_PERCENTILE)
    steps = torch.as_tensor(parameters.steps_rad)
    orders = parameters.orders
    _, bands = separate_bands(torch.as_tensor(frames.astype(np.float64)), steps, orders)
    unit = torch.eye(steps.shape[1], dtype=torch.float64)[:, :, None].expand(len(steps), -1, -1, -1)
    weights = np.abs(separate_bands(unit, steps, orders)[1].numpy()[..., 0]) ** 2
    filtered = np.fft.ifft2(np.fft.fft2(bands.numpy()) * passed)[(..., *inner)]
    found = (np.abs(filtered) ** 2)[..., bright].mean(axis=-1)
    # The filter takes noise from a pixel's neighbours, which on thin structures are darker.
    spread = np.fft.fft2(np.abs(np.fft.ifft2(passed)) ** 2)
    light = np.fft.ifft2(np.fft.fft2(frames) * spread).real[(..., *inner)][..., bright]
    variance = passed.mean() * noise.floor[:, None] + noise.slope[:, None] * light.mean(axis=-1)
    expected = np.einsum("onp,op->on", weights, variance)
    ratio: Float[np.ndarray, "orientation order"] = np.sqrt(
        np.maximum(found / np.maximum(expected, 1e-300) - 1, 0)
    )
    return ratio
