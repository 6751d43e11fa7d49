"""Detection optics in Fourier space: transfer functions, grids, windows.

Frequencies are in cycles per micrometre of the sample.  The only modules that know how an image
of ``n`` pixels maps onto frequencies are this one and ``reconstruct``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.formats.biotisr import read_mrc


def cutoff_frequency(numerical_aperture: float, emission_nm: float) -> float:
    """Incoherent cut-off 2 NA / wavelength, in cycles per micrometre."""
    return 2 * numerical_aperture / (emission_nm * 1e-3)


@dataclass(frozen=True)
class DetectionOtf:
    """Rotationally symmetric optical transfer function of the detection, 1 at frequency 0.

    Attributes
    ----------
    numerical_aperture : float
        Of the objective.
    emission_nm : float
        Emission wavelength.
    radial_step : float or None
        Sampling of ``radial_values`` in cycles per micrometre; None for the closed form.
    radial_values : tuple of float
        Measured values at 0, step, 2 step, ...
    integrating_pixel_um : float
        Side of the square camera pixel that integrates the light, in the sample; 0 leaves it out
        (point sampling, or a measured curve that contains it).
    damping : float
        What is left of the closed form half way to the cut-off: real lenses pass
        ``damping^(2 f / cutoff)`` of it; 1 is a perfect lens.
    """

    numerical_aperture: float
    emission_nm: float
    radial_step: float | None = None
    radial_values: tuple[float, ...] = ()
    integrating_pixel_um: float = 0.0
    damping: float = 1.0

    @property
    def kind(self) -> str:
        """Where the curve is from, in words."""
        if self.radial_step is not None:
            return "measured"
        return "closed form" if self.damping == 1 else f"closed form, damped by {self.damping:g}"

    @property
    def cutoff(self) -> float:
        """Frequency beyond which nothing is detected, in cycles per micrometre."""
        return cutoff_frequency(self.numerical_aperture, self.emission_nm)

    def __call__(
        self, fy: Float[Tensor, "*#grid"], fx: Float[Tensor, "*#grid"]
    ) -> Float[Tensor, "*grid"]:
        """Transfer at the frequencies (fy, fx) in cycles per micrometre."""
        lens = self.radial(torch.sqrt(fy.square() + fx.square()))
        if self.integrating_pixel_um == 0:
            return lens
        pixel = torch.sinc(fy * self.integrating_pixel_um) * torch.sinc(
            fx * self.integrating_pixel_um
        )
        return lens * pixel

    def radial(self, frequency: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
        """Transfer of the lens alone at radial frequencies in cycles per micrometre."""
        relative = frequency / self.cutoff
        if self.radial_step is None:
            s = relative.clamp(0, 1)
            ideal = (2 / math.pi) * (torch.arccos(s) - s * torch.sqrt(1 - s * s))
            return ideal if self.damping == 1 else ideal * torch.pow(self.damping, 2 * s)
        values = torch.tensor(
            [*self.radial_values, 0.0], dtype=frequency.dtype, device=frequency.device
        )
        position = (frequency / self.radial_step).clamp(0, len(self.radial_values) - 1e-3)
        below = position.long()
        part = position - below
        curve = values[below] * (1 - part) + values[below + 1] * part
        return torch.where(relative < 1, curve, torch.zeros_like(curve))


def incoherent_otf(
    numerical_aperture: float,
    emission_nm: float,
    integrating_pixel_um: float = 0.0,
    damping: float = 1.0,
) -> DetectionOtf:
    """Closed form for a circular pupil in focus, by choice with the camera's pixel and damped.

    Raises
    ------
    ReconstructionError
        If a value is not positive.
    """
    if not (numerical_aperture > 0 and emission_nm > 0):
        raise ReconstructionError(
            f"numerical aperture {numerical_aperture} and emission {emission_nm} nm are no optics",
            remedy="both must be positive; the wavelength is in nanometres",
        )
    if not 0 < damping <= 1:
        raise ReconstructionError(
            f"a damping of {damping} is none of a transfer function",
            remedy="give a number from just above 0 to 1, where 1 is the closed form",
        )
    return DetectionOtf(
        numerical_aperture,
        emission_nm,
        integrating_pixel_um=integrating_pixel_um,
        damping=damping,
    )


def measured_otf(
    path: Path, numerical_aperture: float, emission_nm: float, step: float | None = None
) -> DetectionOtf:
    """Transfer function from a measured radial profile in an MRC or CSV file.

    Parameters
    ----------
    path : Path
        MRC: one row of complex or real values, frequency 0 first.  CSV: a line of names, then
        frequency in cycles per micrometre and transfer, in even steps from 0.
    numerical_aperture, emission_nm : float
        Give the cut-off, beyond which the measured curve is noise.
    step : float, optional
        Cycles per micrometre from one sample to the next; read from the header if omitted.

    Raises
    ------
    ReconstructionError
        If the file is no radial profile with its maximum at frequency 0.
    """
    data, pixel = _read_curve(path) if path.suffix.lower() == ".csv" else read_mrc(path)
    values = np.abs(np.squeeze(data)).astype(np.float64)
    spacing = step if step is not None else pixel
    ordinary = values.ndim == 1 and values.size >= 16 and bool(np.isfinite(values).all())
    if not ordinary or spacing <= 0 or values[0] <= 0 or values.argmax() > 2:
        raise ReconstructionError(
            f"not a radial transfer function (shape {data.shape}, step {spacing:g})",
            where=str(path),
            remedy="give one row of values that starts at frequency 0, or leave the file out",
        )
    values /= values[0]
    return DetectionOtf(numerical_aperture, emission_nm, spacing, tuple(values.tolist()))


def _read_curve(path: Path) -> tuple[Float[np.ndarray, " frequency"], float]:
    """Values and frequency step of a CSV file; a step of 0 where the steps are not even."""
    try:
        rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError) as error:
        raise ReconstructionError(
            f"not a table of a transfer function: {error}",
            where=str(path),
            remedy="give a line of names, then frequency (cycles/um) and transfer in each line",
        ) from error
    if rows.shape[1] < 2 or rows.shape[0] < 2:
        return rows.ravel()[:1], 0.0
    steps = np.diff(rows[:, 0])
    even = rows[0, 0] == 0 and np.allclose(steps, steps[0], rtol=1e-3)
    return rows[:, 1], float(steps.mean()) if even else 0.0


def frequency_grid(
    shape: tuple[int, int], pixel_um: float, device: torch.device | None = None
) -> tuple[Float[Tensor, "y 1"], Float[Tensor, "1 x"]]:
    """Frequencies fy (column) and fx (row) of an FFT, in cycles per micrometre, float64."""
    fy, fx = (torch.fft.fftfreq(n, pixel_um, dtype=torch.float64, device=device) for n in shape)
    return fy[:, None], fx[None, :]


def centred_axes(
    shape: tuple[int, int], pixel_um: float, device: torch.device | None = None
) -> tuple[Float[Tensor, " y"], Float[Tensor, " x"]]:
    """Physical y and x of the pixel centres, zero at the centre of the field, float64."""
    y, x = (
        (torch.arange(n, dtype=torch.float64, device=device) - (n - 1) / 2) * pixel_um
        for n in shape
    )
    return y, x


def edge_taper(
    shape: tuple[int, int], width: int, device: torch.device | None = None
) -> Float[Tensor, "y x"]:
    """Window that rises as sin^2 over ``width`` pixels from every edge, float64."""
    axes = []
    for n in shape:
        ramp = torch.ones(n, dtype=torch.float64, device=device)
        w = min(width, n // 2)
        rise = torch.sin(
            (torch.arange(w, dtype=torch.float64, device=device) + 0.5) / w * math.pi / 2
        ).square()
        ramp[:w] = rise
        ramp[n - w :] = rise.flip(0)
        axes.append(ramp)
    return axes[0][:, None] * axes[1][None, :]


def notch(frequency: Float[Tensor, "*grid"], depth: float, sigma: float) -> Float[Tensor, "*grid"]:
    """1 minus a Gaussian of the given depth and width around frequency 0."""
    return 1 - depth * torch.exp(-frequency.square() / (2 * sigma * sigma))


def apodisation(
    frequency: Float[Tensor, "*grid"], edge: float, power: float = 1.0
) -> Float[Tensor, "*grid"]:
    """Cosine fall-off that is 1 at frequency 0 and 0 from ``edge`` on, to a power."""
    return torch.cos(0.5 * math.pi * (frequency / edge).clamp(0, 1)).clamp(min=0).pow(power)
