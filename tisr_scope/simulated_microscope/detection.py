"""Detection optics: from point emitters to the image on the camera.

An image is the sum of one point-spread function per emitter.  Its Fourier transform is the
emitters' (non-uniform) Fourier transform times the OTF, so emitters are spread with a compact
kernel on a fine periodic grid, transformed, divided by the kernel's transform, multiplied by the
OTF and cropped to camera pixels.  This is a non-uniform FFT: as exact as wished, and its cost
does not depend on how finely the structure must be sampled.

The OTF stands for the whole detection path, pixel included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Complex, Float, Float32
from scipy import fft, sparse

KERNEL_WIDTH = 4
"""Grid points per axis that one emitter touches."""
_KERNEL_BETA = 2.45 * KERNEL_WIDTH  # least error for OTFs that end near 0.7 of Nyquist
_TABLE_STEPS = 4096
MARGIN_PX = 12
"""Padding that keeps light that leaves one side of the periodic grid from entering the other."""


def cutoff(numerical_aperture: float, emission_nm: float) -> float:
    """Incoherent cut-off frequency 2 NA / lambda, in cycles/um."""
    return 2 * numerical_aperture / (emission_nm * 1e-3)


@runtime_checkable
class Transfer(Protocol):
    """A rotationally symmetric transfer function; hashable, so that renderers can be kept."""

    def __call__(self, frequency: Float[np.ndarray, "*k"]) -> Float[np.ndarray, "*k"]:
        """Transfer at radial frequencies in cycles/um."""

    def __hash__(self) -> int:
        """Equal functions have equal hashes."""


@dataclass(frozen=True)
class IncoherentOtf:
    """OTF of an aberration-free circular pupil: 1 at zero and 0 from the cut-off on."""

    cutoff_per_um: float

    def __call__(self, frequency: Float[np.ndarray, "*k"]) -> Float[np.ndarray, "*k"]:
        """Transfer at radial frequencies in cycles/um."""
        q = np.clip(np.abs(frequency) / self.cutoff_per_um, 0, 1)
        otf: Float[np.ndarray, "*k"] = 2 / np.pi * (np.arccos(q) - q * np.sqrt(1 - q * q))
        return otf


@dataclass(frozen=True)
class DefocusedOtf:
    """OTF of a circular pupil out of focus, with spherical aberration (scalar theory).

    The phase of the pupil at the distance rho from its centre, in parts of its radius, is that of
    free propagation over the defocus in the index of the sample, and Zernike's Z(4, 0).
    """

    numerical_aperture: float
    emission_nm: float
    defocus_um: float = 0.0
    spherical_rad: float = 0.0
    """Root mean square of the aberration over the pupil."""
    index: float = 1.38

    def __call__(self, frequency: Float[np.ndarray, "*k"]) -> Float[np.ndarray, "*k"]:
        """Transfer at radial frequencies in cycles/um."""
        end = cutoff(self.numerical_aperture, self.emission_nm)
        places = np.linspace(0, 1, _PUPIL_SAMPLES + 1)
        otf: Float[np.ndarray, "*k"] = np.interp(
            np.abs(frequency) / end, places, _pupil_correlation(self), right=0.0
        )
        return otf


_PUPIL_SAMPLES = 128


@lru_cache(maxsize=512)
def _pupil_correlation(of: DefocusedOtf) -> Float[np.ndarray, " q"]:
    """OTF from zero to the cut-off: the correlation of the pupil with itself along one axis."""
    half = _PUPIL_SAMPLES // 2
    axis = np.fft.fftfreq(4 * half, 1 / (4 * half)) / half
    rho2 = axis[:, None] ** 2 + axis[None, :] ** 2
    wavelength = of.emission_nm * 1e-3
    # Waves steeper than the sample lets through leave along its surface: a small height there.
    along = np.sqrt(np.clip(of.index**2 - of.numerical_aperture**2 * rho2, 0.05, None))
    phase = 2 * np.pi / wavelength * of.defocus_um * (along - of.index)
    phase += of.spherical_rad * np.sqrt(5) * (6 * rho2**2 - 6 * rho2 + 1)
    pupil = (rho2 <= 1) * np.exp(1j * phase)
    correlation = fft.ifft2(np.abs(fft.fft2(pupil)) ** 2).real[0]
    row: Float[np.ndarray, " q"] = correlation[: _PUPIL_SAMPLES + 1] / correlation[0]
    return row


@dataclass(frozen=True)
class CosineApodisation:
    """A quarter cosine from 1 at zero to 0 at the edge, as SIM reconstructions are filtered."""

    edge_per_um: float

    def __call__(self, frequency: Float[np.ndarray, "*k"]) -> Float[np.ndarray, "*k"]:
        """Transfer at radial frequencies in cycles/um."""
        q = np.clip(np.abs(frequency) / self.edge_per_um, 0, 1)
        transfer: Float[np.ndarray, "*k"] = np.cos(0.5 * np.pi * q).clip(0)
        return transfer


class Renderer:
    """Renders emitters on a pixel grid through a transfer function.

    Coordinates are in micrometres with the origin at the centre of the field; x along columns.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image in pixels.
    pixel_um : float
        Pixel size; the transfer function must vanish from ``1 / (2 pixel_um)`` on.
    transfer : Transfer
        Transfer function of the radial frequency in cycles/um.
    """

    def __init__(self, shape: tuple[int, int], pixel_um: float, transfer: Transfer) -> None:
        self.shape = shape
        self.pixel_um = pixel_um
        self.padded_shape = tuple(_padded_length(n) for n in shape)
        self._fine = tuple(n + n // 2 for n in self.padded_shape)
        self._step_um = pixel_um * self.padded_shape[0] / self._fine[0]
        self._before = tuple((p - n) // 2 for p, n in zip(self.padded_shape, shape, strict=True))
        # position of the first point of the fine grid, which is also that of the padded image
        self._first_um = tuple(
            (-(n - 1) / 2 - b) * pixel_um for n, b in zip(shape, self._before, strict=True)
        )
        ky = fft.fftfreq(self.padded_shape[0], pixel_um)
        kx = fft.rfftfreq(self.padded_shape[1], pixel_um)
        radial = np.hypot(ky[:, None], kx[None, :])
        response = transfer(radial)
        kernel = np.outer(
            _kernel_transform(ky * self._step_um), _kernel_transform(kx * self._step_um)
        )
        self._response: Float32[np.ndarray, "ky kx"] = (response / kernel).astype(np.float32)
        self._plain: Float32[np.ndarray, "ky kx"] = response.astype(np.float32)
        self._table = _kernel_table()

    @property
    def reach_um(self) -> tuple[float, float]:
        """Half-height and half-width within which emitters are drawn; the rest is ignored."""
        inner = MARGIN_PX - 3
        y, x = ((n / 2 + inner) * self.pixel_um for n in self.shape)
        return y, x

    def fine_coordinates(self) -> tuple[Float[np.ndarray, " y"], Float[np.ndarray, " x"]]:
        """Positions of the fine grid's points in micrometres."""
        y, x = (
            first + np.arange(n) * self._step_um
            for first, n in zip(self._first_um, self._fine, strict=True)
        )
        return y, x

    def render(
        self,
        x_um: Float[np.ndarray, " emitters"],
        y_um: Float[np.ndarray, " emitters"],
        weight: Float[np.ndarray, " emitters"],
    ) -> Float32[np.ndarray, "y x"]:
        """Image of point emitters, each with the integral ``weight``."""
        reach_y, reach_x = self.reach_um
        inside = (np.abs(x_um) < reach_x) & (np.abs(y_um) < reach_y)
        if not inside.all():
            x_um, y_um, weight = x_um[inside], y_um[inside], weight[inside]
        spectrum = fft.rfft2(self._spread(x_um, y_um, weight))
        return self._image(spectrum, self._response)

    def render_density(
        self, density: Float[np.ndarray, "fine_y fine_x"]
    ) -> Float32[np.ndarray, "y x"]:
        """Image of a smooth density on the fine grid, in units of weight per pixel."""
        scale = (self._step_um / self.pixel_um) ** 2
        spectrum = fft.rfft2(np.asarray(density * scale, np.float32))
        return self._image(spectrum, self._plain)

    def _spread(
        self, x_um: np.ndarray, y_um: np.ndarray, weight: np.ndarray
    ) -> Float32[np.ndarray, "fine_y fine_x"]:
        rows, wy = self._taps(y_um, self._first_um[0])
        columns, wx = self._taps(x_um, self._first_um[1])
        # taps first, emitters last: each step is one pass over contiguous memory
        index = np.empty((KERNEL_WIDTH, KERNEL_WIDTH, weight.shape[0]), np.int32)
        value = np.empty(index.shape, np.float32)
        for i in range(KERNEL_WIDTH):
            weighted = wy[i] * weight
            start = (rows + np.int32(i)) * np.int32(self._fine[1]) + columns
            for j in range(KERNEL_WIDTH):
                np.add(start, np.int32(j), out=index[i, j])
                np.multiply(weighted, wx[j], out=value[i, j])
        # one sparse column whose repeated rows add up: the fastest scatter there is in SciPy
        matrix = sparse.csc_array(
            (value.ravel(), index.ravel(), np.array([0, index.size], np.int32)),
            shape=(self._fine[0] * self._fine[1], 1),
        )
        grid: Float32[np.ndarray, "fine_y fine_x"] = (matrix @ np.ones(1, np.float32)).reshape(
            self._fine
        )
        return grid

    def _taps(
        self, position_um: Float32[np.ndarray, " emitters"], first_um: float
    ) -> tuple[np.ndarray, Float32[np.ndarray, "tap emitters"]]:
        """First grid index touched by each emitter, and the kernel's values from there on."""
        position = (position_um - np.float32(first_um)) * np.float32(1 / self._step_um)
        base = np.floor(position)
        step = ((position - base) * np.float32(_TABLE_STEPS) + np.float32(0.5)).astype(np.int32)
        first = base.astype(np.int32) - np.int32(KERNEL_WIDTH // 2 - 1)
        return first, self._table.take(step, axis=1)

    def _image(
        self, spectrum: Complex[np.ndarray, "fine_ky fine_kx"], response: np.ndarray
    ) -> Float32[np.ndarray, "y x"]:
        rows, columns = self.padded_shape
        half = rows // 2
        cropped = np.empty((rows, columns // 2 + 1), np.complex64)
        width = columns // 2 + 1
        cropped[:half] = spectrum[:half, :width]
        cropped[half:] = spectrum[-half:, :width]
        cropped *= response
        padded = fft.irfft2(cropped, s=self.padded_shape, overwrite_x=True)
        top, left = self._before
        image: Float32[np.ndarray, "y x"] = padded[
            top : top + self.shape[0], left : left + self.shape[1]
        ]
        return image


def _padded_length(length: int) -> int:
    """Shortest length with the margin that is a multiple of 16 and has only factors 2, 3, 5."""
    padded = -(-(length + 2 * MARGIN_PX) // 16) * 16
    while fft.next_fast_len(padded // 16, real=True) != padded // 16:
        padded += 16
    return padded


def _kernel(offset: np.ndarray) -> np.ndarray:
    """Exponential-of-semicircle kernel, zero from half its width on."""
    inside = np.clip(1 - (2 * offset / KERNEL_WIDTH) ** 2, 0, None)
    values: np.ndarray = np.where(inside > 0, np.exp(_KERNEL_BETA * (np.sqrt(inside) - 1)), 0.0)
    return values


def _kernel_table() -> Float32[np.ndarray, "tap step"]:
    """Kernel at the taps around an emitter, for each sub-grid position."""
    fraction = np.arange(_TABLE_STEPS + 1) / _TABLE_STEPS
    taps = np.arange(KERNEL_WIDTH) - (KERNEL_WIDTH // 2 - 1)
    return _kernel(fraction[None, :] - taps[:, None]).astype(np.float32)


def _kernel_transform(frequency: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Fourier transform of the kernel at frequencies in cycles per grid step."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    offset = nodes * KERNEL_WIDTH / 2
    waves = np.cos(2 * math.pi * np.outer(frequency, offset))
    transform: Float[np.ndarray, " k"] = waves @ (weights * KERNEL_WIDTH / 2 * _kernel(offset))
    return transform
