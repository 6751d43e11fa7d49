"""Focal series under three-beam illumination with known parameters, in plain NumPy and SciPy.

Shares no code with the package and takes another way: light waves from the pupil to each depth,
squared to a point spread function in real space, multiplied by the axial stripes, convolved with
the sample times the lateral stripes.  The sample lies on a grid four times finer than the camera
across and twice as fine along the axis, wider than the field on all sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

PIXEL_UM, SECTION_UM = 0.08, 0.125
NA, INDEX, EMISSION_UM = 1.4, 1.515, 0.525
EXCITATION_NA, EXCITATION_UM = 1.3, 0.488
OVER, OVER_Z = 4, 2
MARGIN, MARGIN_Z = 10, 6
PHASES = 5


@dataclass(frozen=True)
class Series:
    mean: np.ndarray  # (orientation, phase, z, y, x), noiseless, brightest 0.5 % at 1
    carrier: np.ndarray  # (orientation, 2), kx ky of order 1 in cycles/um
    phase: np.ndarray  # (orientation,), at the centre of the field
    modulation: tuple[float, float]
    sample: np.ndarray  # fine grid, with the margin

    def frames(self, photons: float, seed: int = 0, read_noise: float = 1.6) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.poisson(photons * self.mean) + rng.normal(0, read_noise, self.mean.shape)

    def truth(self) -> np.ndarray:
        """Sample with two pixels per camera pixel and one section per section, nothing else off."""
        fz, fy, fx = frequencies(self.sample.shape)
        inside = (abs(fz) < 0.5 / SECTION_UM) & (abs(fy) < 1 / PIXEL_UM) & (abs(fx) < 1 / PIXEL_UM)
        return self._sampled(inside)

    def perfect(self) -> np.ndarray:
        """The same, cut sharply at the extended cut-offs of 3D SIM."""
        fz, fy, fx = frequencies(self.sample.shape)
        across, along = extended_cutoffs()
        return self._sampled((abs(fz) < along) & (fy**2 + fx**2 < across**2))

    def _sampled(self, inside: np.ndarray) -> np.ndarray:
        spectrum = fft.fftn(self.sample) * inside * half_sample(self.sample.shape)
        fine = fft.ifftn(spectrum).real[::OVER_Z, :: OVER // 2, :: OVER // 2]
        m, mz = 2 * MARGIN, MARGIN_Z
        return fine[mz:-mz, m:-m, m:-m]

    def carrier_error_px(self, found: np.ndarray) -> np.ndarray:
        return np.hypot(*(found - self.carrier).T) * self.mean.shape[-1] * PIXEL_UM

    def phase_error_deg(self, found: np.ndarray, order: int = 1) -> np.ndarray:
        return np.degrees(np.angle(np.exp(1j * (found - order * self.phase))))


def extended_cutoffs() -> tuple[float, float]:
    """Of 3D SIM, across and along the axis, in cycles per micrometre."""
    across = 2 * NA / EMISSION_UM + 2 * EXCITATION_NA / EXCITATION_UM
    return across, depth(NA, EMISSION_UM) + depth(EXCITATION_NA, EXCITATION_UM)


def correlations(image: np.ndarray, truth: np.ndarray, margin: int = 12) -> dict[str, np.ndarray]:
    """Fourier correlation across (rings near kz = 0) and along the axis (planes of kz).

    Both on the fine grid.  The truth is not cut at any limit of the optics, and the windows fall
    as Hann's squared, so that nothing but true details correlates beyond the limit.
    """

    def spectrum(volume: np.ndarray) -> np.ndarray:
        inner = volume[:, margin:-margin, margin:-margin]
        windows = [np.hanning(n + 2)[1:-1] ** 2 for n in inner.shape]
        window = windows[0][:, None, None] * windows[1][:, None] * windows[2]
        level = (inner * window).sum() / window.sum()
        return np.fft.fftn((inner - level) * window)

    a, b = spectrum(image), spectrum(truth)
    steps = (SECTION_UM, PIXEL_UM / 2, PIXEL_UM / 2)
    fz, fy, fx = (np.fft.fftfreq(n, d) for n, d in zip(a.shape, steps, strict=True))
    across = np.hypot(fy[:, None], fx) + 0 * fz[:, None, None]
    along = abs(fz)[:, None, None] + 0 * across
    curves = {}
    for name, place, chosen, width in (
        ("lateral", across, along <= 0.5, 2 / (a.shape[1] * steps[1])),
        ("axial", along, (across >= 1) & (across <= 5), 1 / (a.shape[0] * SECTION_UM)),
    ):
        number = np.rint(place[chosen] / width).astype(int)
        x, y = a[chosen], b[chosen]
        shared, of_x, of_y = (
            np.bincount(number, values)
            for values in ((x * y.conj()).real, abs(x) ** 2, abs(y) ** 2)
        )
        share = shared / np.sqrt(of_x * of_y + 1e-300)
        curves[name] = np.stack([np.arange(len(share)) * width, share])
    return curves


def resolution(curve: np.ndarray, threshold: float = 1 / 7) -> float:
    """Frequency at which a correlation first falls below the threshold, in cycles per um."""
    place, value = curve[:, 1:]
    below = value < threshold
    first = int(np.argmax(below))
    if not below.any():
        return float(place[-1])
    if first == 0:
        return float(place[0])
    part = (value[first - 1] - threshold) / (value[first - 1] - value[first])
    return float(place[first - 1] + part * (place[first] - place[first - 1]))


def depth(aperture: float, wavelength: float) -> float:
    """Axial frequency of a beam at the rim, seen from one along the axis."""
    return (INDEX - np.sqrt(INDEX**2 - aperture**2)) / wavelength


def frequencies(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    steps = (SECTION_UM / OVER_Z, PIXEL_UM / OVER, PIXEL_UM / OVER)
    fz, fy, fx = (np.fft.fftfreq(n, d) for n, d in zip(shape, steps, strict=True))
    return fz[:, None, None], fy[None, :, None], fx[None, None, :]


def half_sample(shape: tuple[int, int, int]) -> np.ndarray:
    """Moves an image by half a fine sample across: where pixel centres lie."""
    y, x = (np.exp(1j * np.pi * np.fft.fftfreq(n)) for n in shape[1:])
    return y[None, :, None] * x[None, None, :]


def point_spread(shape: tuple[int, int, int]) -> np.ndarray:
    """Scalar, evenly filled pupil; focus at index 0 of every axis."""
    _, fy, fx = frequencies(shape)
    radius2 = (fy**2 + fx**2)[0]
    pupil = radius2 < (NA / EMISSION_UM) ** 2
    axial = np.sqrt(np.maximum((INDEX / EMISSION_UM) ** 2 - radius2, 0))
    place = fft.fftfreq(shape[0], 1 / shape[0]) * SECTION_UM / OVER_Z
    waves = pupil * np.exp(2j * np.pi * place[:, None, None] * axial)
    spread = np.abs(fft.ifft2(waves)) ** 2
    return spread / spread[0].sum()


def filaments(n: int, sections: int, rng: np.random.Generator) -> np.ndarray:
    """Gently curved lines of points at all depths of the series, and a little haze."""
    size = (n + 2 * MARGIN) * OVER
    deep = (sections + 2 * MARGIN_Z) * OVER_Z
    sample = np.full((deep, size, size), 2e-5)
    low, high = (MARGIN_Z + 1) * OVER_Z, (MARGIN_Z + sections - 1) * OVER_Z
    for _ in range(n * sections // 24):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.01, size))
        line = np.cumsum(np.stack([np.sin(heading), np.cos(heading)]), axis=1)
        line += rng.uniform(0, size, 2)[:, None] - line[:, size // 2, None]
        rise = rng.normal(0, 0.06) * (np.arange(size) - size // 2) + rng.uniform(low, high)
        y, x, z = (np.rint(a).astype(int) for a in (*line, rise))
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size) & (z >= low) & (z < high)
        np.add.at(sample, (z[inside], y[inside], x[inside]), 1.0)
    return sample


def make_series(
    n: int = 64,
    sections: int = 20,
    seed: int = 0,
    modulation: tuple[float, float] = (0.7, 0.5),
    orientations: int = 3,
    phases: int = PHASES,
    sample: np.ndarray | None = None,
) -> Series:
    rng = np.random.default_rng(seed)
    sample = filaments(n, sections, rng) if sample is None else sample
    shape = sample.shape
    place = fft.fftfreq(shape[0], 1 / shape[0]) * SECTION_UM / OVER_Z
    spread = point_spread(shape)
    axial = np.cos(2 * np.pi * depth(EXCITATION_NA, EXCITATION_UM) * place)[:, None, None]
    shift = half_sample(shape)
    plain = (fft.fftn(spread) * shift).astype(np.complex64)
    striped = (fft.fftn(spread * axial) * shift).astype(np.complex64)

    def camera(light: np.ndarray, transfer: np.ndarray) -> np.ndarray:
        image = fft.ifftn(fft.fftn(light.astype(np.complex64)) * transfer)
        image = image[::OVER_Z, 1::OVER, 1::OVER]
        return image[MARGIN_Z:-MARGIN_Z, MARGIN:-MARGIN, MARGIN:-MARGIN]

    wide = camera(sample, plain).real
    scale = 1 / np.percentile(wide, 99.5)
    angles = rng.uniform(0, 0.5) + np.pi * np.arange(orientations) / orientations
    carrier = EXCITATION_NA / EXCITATION_UM * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    start = rng.uniform(-np.pi, np.pi, orientations)
    axis = 2 * np.pi * (np.arange(shape[1]) - (shape[1] - 1) / 2) * PIXEL_UM / OVER
    steps = 2 * np.pi * np.arange(phases) / phases
    mean = np.empty((orientations, phases, *wide.shape))
    for o, (kx, ky) in enumerate(carrier):
        wave = np.exp(1j * (ky * axis[:, None] + kx * axis[None, :] + start[o]))
        first, second = camera(sample * wave, striped), camera(sample * wave**2, plain)
        for p, step in enumerate(steps):
            mean[o, p] = wide
            mean[o, p] += modulation[0] * (np.exp(1j * step) * first).real
            mean[o, p] += modulation[1] * (np.exp(2j * step) * second).real
    return Series((scale * mean).clip(min=0), carrier, start, modulation, scale * sample)
