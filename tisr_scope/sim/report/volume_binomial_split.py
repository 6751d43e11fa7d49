"""Resolution of a focal series: two halves of the light, across and along the axis.

As in two dimensions (``binomial_split``), with the Fourier correlation of volumes in two
parts: rings near kz = 0, and planes of kz near the axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float
from scipy.fft import fftn
from scipy.signal.windows import hann, tukey

from tisr_scope.metrics.ring_correlation import Resolution, RingCorrelation
from tisr_scope.sim.optics.camera_noise import CameraNoise
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.reconstruction.volume_wiener import UPSCALE

BORDER_PX = 8
SUPPORT = 0.95
"""Of the extended cut-offs: further out the volume is apodised to nothing."""
NEAR_AXIS = (0.1, 0.5)
"""Of the lateral cut-off, where planes of kz are compared: there order 1 reaches furthest along the
axis.  Further in, the window spreads what is bright in all sections over kz."""
NEAR_PLANE_UM = 2.0
"""Rings are compared for kz up to 1 over this."""
PADDING = 4
"""Finer samples along kz, since a series has few sections."""
EDGE = 0.25
"""Of the field that fades across."""


@dataclass(frozen=True)
class VolumeCorrelation:
    """Fourier correlation of two volumes.

    Attributes
    ----------
    lateral : RingCorrelation
        Rings near kz = 0.
    axial : RingCorrelation
        Planes of kz near kr = 0.
    """

    lateral: RingCorrelation
    axial: RingCorrelation

    @property
    def resolution(self) -> tuple[Resolution, Resolution]:
        """Across and along the axis."""
        return self.lateral.resolution("1/7"), self.axial.resolution("1/7")


def split_series(
    frames: Float[np.ndarray, "orientation phase z y x"], noise: CameraNoise, seed: int = 0
) -> tuple[
    Float[np.ndarray, "orientation phase z y x"], Float[np.ndarray, "orientation phase z y x"]
]:
    """Two series with half of the light each and independent noise, see ``split_exposure``.

    Parameters
    ----------
    frames : array, shape (orientation, phase, z, y, x)
        Any unit.
    noise : CameraNoise
        Of the frames, see :func:`series_variance`.
    seed : int
    """
    random = np.random.default_rng(seed)
    spread = 0.5 * np.sqrt(series_variance(frames, noise))
    apart = spread * random.standard_normal(frames.shape, dtype=np.float32)
    return frames / 2 + apart, frames / 2 - apart


def series_variance(
    frames: Float[np.ndarray, "orientation phase z y x"], noise: CameraNoise
) -> Float[np.ndarray, "orientation phase z y x"]:
    """Variance of the noise in every pixel."""
    flat = frames.reshape(frames.shape[0], -1, *frames.shape[-2:])
    return noise.variance(flat).reshape(frames.shape).astype(np.float32)


def split_volume_correlation(
    frames: Float[np.ndarray, "orientation phase z y x"],
    noise: CameraNoise,
    optics: VolumeOptics,
    reconstruct: Callable[[Float[np.ndarray, "o p z y x"]], Float[np.ndarray, "z fy fx"]],
    pixel_um: float,
    section_um: float,
    seed: int = 0,
) -> tuple[VolumeCorrelation, VolumeCorrelation]:
    """Correlation of the halves of the wide field, and of the volumes made of them.

    Parameters
    ----------
    frames : array, shape (orientation, phase, z, y, x)
        One time point.
    noise : CameraNoise
    optics : VolumeOptics
    reconstruct : callable
        Makes a volume of a series; the filter must be that of the whole series for both halves.
    pixel_um, section_um : float
        Of the frames.
    seed : int

    Returns
    -------
    widefield, sim : VolumeCorrelation
        Up to the cut-offs of the detection, and up to 95 % of the extended ones.
    """
    halves = split_series(frames, noise, seed)
    wide, other_wide = (half.mean(axis=(0, 1)) for half in halves)
    fine, other_fine = (reconstruct(half) for half in halves)
    near = NEAR_AXIS[0] * optics.cutoff, NEAR_AXIS[1] * optics.cutoff
    camera = optics.cutoff, optics.axial_cutoff
    extended = SUPPORT * optics.extended_cutoff, SUPPORT * optics.extended_axial_cutoff
    fine_um = pixel_um / UPSCALE
    return (
        volume_correlation(wide, other_wide, pixel_um, section_um, near, camera),
        volume_correlation(fine, other_fine, fine_um, section_um, near, extended, UPSCALE),
    )


def volume_correlation(
    first: Float[np.ndarray, "z y x"],
    second: Float[np.ndarray, "z y x"],
    pixel_um: float,
    section_um: float,
    near_axis: tuple[float, float],
    reach: tuple[float, float],
    upscale: int = 1,
) -> VolumeCorrelation:
    """Fourier correlation of two volumes with independent noise, across and along the axis.

    Parameters
    ----------
    first, second : array, shape (z, y, x)
        Same object, same grid.
    pixel_um, section_um : float
        Of this grid.
    near_axis : tuple of float
        Lateral frequencies between which planes of kz are compared, in cycles per micrometre.
    reach : tuple of float
        Highest lateral and axial frequency that is compared.
    upscale : int
        Pixels of this grid per camera pixel: eight camera pixels of the border are left out.
    """
    border = BORDER_PX * upscale
    pair = [one[:, border:-border, border:-border].astype(np.float64) for one in (first, second)]
    depth, height, width = pair[0].shape
    deep = hann(depth + 2)[1:-1]
    rows, columns = tukey(height, EDGE, sym=False), tukey(width, EDGE, sym=False)
    window = deep[:, None, None] * rows[:, None] * columns
    a, b = (
        fftn((one - (one * window).sum() / window.sum()) * window, (PADDING * depth, height, width))
        for one in pair
    )
    kz = np.abs(np.fft.fftfreq(PADDING * depth, section_um))
    ky, kx = (np.fft.fftfreq(n, pixel_um) for n in (height, width))
    kr = np.hypot(ky[:, None], kx)
    along = _independent(deep)
    across = math.sqrt(_independent(rows) * _independent(columns))
    ring = 1 / (min(height, width) * pixel_um)
    plane = 1 / (PADDING * depth * section_um)
    slab = kz <= 1 / NEAR_PLANE_UM
    core = (kr > near_axis[0]) & (kr <= near_axis[1])
    return VolumeCorrelation(
        _binned(a, b, slab, np.broadcast_to(kr, a.shape), ring, reach[0]).scaled(
            across * along / PADDING, across
        ),
        _binned(a, b, core, np.broadcast_to(kz[:, None, None], a.shape), plane, reach[1]).scaled(
            across**2, along / PADDING
        ),
    )


@dataclass(frozen=True)
class _Curve:
    frequency: Float[np.ndarray, " ring"]
    correlation: Float[np.ndarray, " ring"]
    count: Float[np.ndarray, " ring"]

    def scaled(self, within: float, between: float) -> RingCorrelation:
        """With the share of samples that are independent within a ring, and between rings."""
        return RingCorrelation(self.frequency, self.correlation, within * self.count, between)


def _binned(
    a: Complex[np.ndarray, "z y x"],
    b: Complex[np.ndarray, "z y x"],
    chosen: Bool[np.ndarray, "*some"],
    place: Float[np.ndarray, "z y x"],
    width: float,
    reach: float,
) -> _Curve:
    """Correlation over bins of ``place``, the first one left out."""
    kept = (slice(None), chosen) if chosen.ndim == 2 else (chosen,)
    number = np.rint(place[kept] / width).astype(int).ravel()
    x, y = a[kept].ravel(), b[kept].ravel()
    bins = int(reach / width)
    terms = ((x * y.conj()).real, np.abs(x) ** 2, np.abs(y) ** 2)
    cross, one, other = (np.bincount(number, t, bins + 1)[1 : bins + 1] for t in terms)
    count = np.bincount(number, minlength=bins + 1)[1 : bins + 1].astype(np.float64)
    return _Curve(
        (np.arange(bins) + 1) * width, cross / np.sqrt(np.maximum(one * other, 1e-300)), count
    )


def _independent(window: Float[np.ndarray, " sample"]) -> float:
    """Share of the Fourier samples that are independent, for white noise times the window."""
    return float((window**2).sum() ** 2 / (window.size * (window**4).sum()))
