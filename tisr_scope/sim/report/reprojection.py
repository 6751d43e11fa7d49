"""Whether a reconstruction explains the frames it was made from.

The reconstructed sample is pushed through the estimated forward model (stripes, transfer function,
camera pixels) and compared with the raw frames.  A stack holds more than one image needs: where
bands overlap, the same detail of the sample was measured several times.  If the parameters are
right these measurements agree and only noise is left; a wrong modulation, phase or transfer
function, a sample that moved, or light that the model does not know leaves more.

What it cannot see: errors at frequencies that only one band reaches, where nothing contradicts
it; and structured errors below the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tisr_scope.sim.optics.camera_noise import CameraNoise
from tisr_scope.sim.optics.otf import DetectionOtf, centred_axes, edge_taper, frequency_grid
from tisr_scope.sim.parameters.estimate import SimParameters
from tisr_scope.sim.reconstruction.reconstruct import reconstruct
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings

WIENER = 0.02
"""Wiener parameter of the image that is compared: little, since damped details would be missed."""
MARGIN_PX = 16
BORDER_PX = 12
"""Left out on every side: light from outside the field is unknown."""
TAPER_PX = 8
SLOW = 0.2
"""Of the cut-off.  Below it haze and uneven light disagree, which no stripe parameter causes, so it
is told apart."""
MAP_SIGMA_PX = 6.0
NOISE_STACKS = 2
"""Realisations of the noise that are reconstructed to know what it leaves."""


@dataclass(frozen=True)
class Residual:
    """What a reconstruction leaves of the frames, in units of what noise leaves.

    Attributes
    ----------
    score : float
        Root mean square over all frames and the frequencies from 0.2 times the cut-off to the
        cut-off; 1 is noise alone.
    slow_score : float
        The same below 0.2 times the cut-off: haze, uneven light, bleaching.
    frame_score : array, shape (orientation, phase)
        ``score`` of every frame.
    unexplained : array, shape (orientation,)
        Root mean square of what is more than noise, over that of the structure in the frames,
        both between the same frequencies.
    frequency : array, shape (ring,)
        Cycles per micrometre.
    ring_score : array, shape (orientation, ring)
        Of every orientation over frequency.
    map : array, shape (y, x)
        Over the field, without its border: root mean square of all frames over the noise there.
    """

    score: float
    slow_score: float
    frame_score: Float[np.ndarray, "orientation phase"]
    unexplained: Float[np.ndarray, " orientation"]
    frequency: Float[np.ndarray, " ring"]
    ring_score: Float[np.ndarray, "orientation ring"]
    map: Float[np.ndarray, "y x"]


def reproject(
    image: Float[np.ndarray, "fy fx"],
    moment: SimParameters,
    otf: DetectionOtf,
    shape: tuple[int, int],
) -> Float[np.ndarray, "orientation phase y x"]:
    """Frames that a sample would give: stripes, optics, camera pixels, brightness.

    Parameters
    ----------
    image : array, shape (upscale y, upscale x)
        Sample on the fine grid of :func:`tisr_scope.sim.reconstruction.reconstruct.reconstruct`.
    moment : SimParameters
        Illumination of one time point.  Orientations that are not usable have no stripes.
    otf : DetectionOtf
        Detection optics.
    shape : (y, x)
        Of the camera.
    """
    upscale = image.shape[0] // shape[0]
    margin = min(MARGIN_PX, min(shape) - 1)
    sample = torch.as_tensor(image, dtype=torch.float64)[None, None]
    sample = torch.nn.functional.pad(sample, (margin * upscale,) * 4, mode="reflect")[0, 0]
    padded = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    fine = (upscale * padded[0], upscale * padded[1])
    pixel = moment.pixel_size_um
    y, x = centred_axes(fine, pixel / upscale)
    fy, fx = frequency_grid(padded, pixel)
    # From the fine samples to camera pixels, whose centres lie between them.
    quarter = 2 * math.pi * (fy + fx) * (upscale - 1) / 2 * pixel / upscale
    transfer = torch.polar(otf(fy, fx), quarter) / upscale**2
    rows, columns = (_kept(n, m) for n, m in zip(fine, padded, strict=True))
    inner = slice(margin, -margin)

    def seen(light: Float[Tensor, "fy fx"]) -> Float[Tensor, "y x"]:
        spectrum = torch.fft.fft2(light)[rows][:, columns]
        image: Tensor = torch.fft.ifft2(spectrum * transfer).real[inner, inner]
        return image

    orientations, phases = moment.steps_rad.shape
    depths = moment.pooled_modulation * moment.usable[:, None]
    even = seen(sample)
    frames = np.empty((orientations, phases, *shape))
    for o in range(orientations):
        kx, ky = moment.carrier[o]
        turns = 2 * math.pi * (ky * y[:, None] + kx * x[None, :])
        steps = torch.as_tensor(moment.steps_rad[o])
        total = even.expand(phases, *shape).clone()
        for n in range(1, moment.orders + 1):
            depth = float(depths[o, n - 1])
            if depth == 0:
                continue
            phase = n * turns + float(moment.phase_rad[0, o, n - 1])
            cosine, sine = seen(sample * torch.cos(phase)), seen(sample * torch.sin(phase))
            total += depth * torch.cos(n * steps)[:, None, None] * cosine
            total -= depth * torch.sin(n * steps)[:, None, None] * sine
        frames[o] = total.numpy() / moment.gain[0, o]
    return frames


def reprojection_residual(
    frames: Float[np.ndarray, "orientation phase y x"],
    moment: SimParameters,
    otf: DetectionOtf,
    noise: CameraNoise,
    settings: WienerSettings | None = None,
    *,
    seed: int = 0,
) -> Residual:
    """Reconstruct, reproject and compare one time point.

    The image that is compared has the bands weighted as in ``settings``, but hardly any damping,
    no apodisation and no positivity: these change an image on purpose.

    Parameters
    ----------
    frames : array, shape (orientation, phase, y, x)
        One time point.
    moment : SimParameters
        As estimated, of this time point.
    otf : DetectionOtf
        Detection optics.
    noise : CameraNoise
        Of the frames.
    settings : WienerSettings, optional
        Of the reconstruction.
    seed : int
        Of the noise that is pushed through the same steps.
    """
    plain = replace(
        settings or WienerSettings(), parameter=WIENER, apodisation_power=0.0, positivity=0
    )
    shape = (frames.shape[-2], frames.shape[-1])

    def left(part: Float[np.ndarray, "o p y x"]) -> Float[np.ndarray, "o p y x"]:
        image = reconstruct(part, moment, otf, plain)[0]
        rest: Float[np.ndarray, "o p y x"] = part - reproject(image, moment, otf, shape)
        return rest

    border = min(BORDER_PX, min(shape) // 8)
    inner = (..., slice(border, shape[0] - border), slice(border, shape[1] - border))
    rest = left(frames)[inner]
    random = np.random.default_rng(seed)
    variance = noise.variance(frames)
    grains = [
        left(random.normal(0, np.sqrt(variance)).astype(np.float32))[inner]
        for _ in range(NOISE_STACKS)
    ]
    window = edge_taper((rest.shape[-2], rest.shape[-1]), TAPER_PX).numpy()
    fy, fx = (np.fft.fftfreq(n, moment.pixel_size_um) for n in rest.shape[-2:])
    radius = np.hypot(fy[:, None], fx[None, :])
    step = max(fy[1], fx[1])
    passed = (radius > 0) & (radius < otf.cutoff)
    fast = radius[passed] > SLOW * otf.cutoff

    def power(part: Float[np.ndarray, "o p y x"]) -> Float[np.ndarray, "o p f"]:
        mean = part.mean(axis=(-2, -1), keepdims=True)
        return np.asarray(np.abs(np.fft.fft2((part - mean) * window)) ** 2)[..., passed]

    found = power(rest)
    expected = np.mean([power(grain) for grain in grains], axis=0)
    structure = power(frames[inner])[..., fast].sum(axis=(1, 2))
    structure -= variance[inner].mean(axis=(2, 3)).sum(axis=1) * (window**2).sum() * fast.sum()
    excess = (found - expected)[..., fast].sum(axis=(1, 2))
    width = 2.0 * step
    ring = (radius[passed] / width).astype(int)
    rings = [
        [np.bincount(ring, part[o].sum(axis=0)) for o in range(len(part))]
        for part in (found, expected)
    ]
    centre = (np.arange(len(rings[0][0])) + 0.5) * width
    return Residual(
        score=float(np.sqrt(found[..., fast].sum() / expected[..., fast].sum())),
        slow_score=float(np.sqrt(found[..., ~fast].sum() / expected[..., ~fast].sum())),
        frame_score=np.sqrt(found[..., fast].sum(axis=2) / expected[..., fast].sum(axis=2)),
        unexplained=np.sqrt(excess.clip(min=0) / structure.clip(min=1e-300)),
        frequency=centre,
        ring_score=np.sqrt(np.array(rings[0]) / np.maximum(rings[1], 1e-300)),
        map=_map(rest, grains, variance[inner], passed & (radius > SLOW * otf.cutoff)),
    )


def _map(
    rest: Float[np.ndarray, "o p y x"],
    grains: list[Float[np.ndarray, "o p y x"]],
    variance: Float[np.ndarray, "o p y x"],
    passed: Bool[np.ndarray, "y x"],
) -> Float[np.ndarray, "y x"]:
    def light(part: Float[np.ndarray, "o p y x"]) -> Float[np.ndarray, "y x"]:
        inside = np.fft.ifft2(np.fft.fft2(part) * passed).real
        return np.asarray((inside**2).mean(axis=(0, 1)))

    spread = variance.mean(axis=(0, 1))
    # What noise leaves of its own variance is the same everywhere, and known better on the whole.
    share = np.mean([light(grain).mean() for grain in grains]) / spread.mean()
    smooth = [
        gaussian_filter(part, MAP_SIGMA_PX, mode="nearest")
        for part in (light(rest), share * spread)
    ]
    return np.asarray(np.sqrt(smooth[0] / smooth[1]))


def _kept(fine: int, camera: int) -> Tensor:
    """Indices of the lowest frequencies of an axis, of both signs."""
    positive = (camera + 1) // 2
    return torch.cat([torch.arange(positive), torch.arange(fine - camera // 2, fine)])
