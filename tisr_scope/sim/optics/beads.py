"""The transfer function of a microscope, measured on beads smaller than it can resolve.

An image of beads is the point spread function at each of their places, so its spectrum is
``OTF(f) sum of a_j exp(-2 pi i f r_j)``.  With places r_j and brightnesses a_j fitted, the OTF
follows by least squares over every ring of frequencies and all images.  Nothing is cut out: the
far wings of the point spread function, which hold the haze, are kept, and so are neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter, maximum_filter

from tisr_scope.errors import ReconstructionError
from tisr_scope.formats.mrc import write_mrc
from tisr_scope.sim.optics.otf import DetectionOtf, cutoff_frequency

SIGMA_OVER_RESOLUTION = 0.21
"""Gaussian closest to an Airy disc: sigma = 0.21 wavelength / NA."""
DETECTION_DEVIATIONS = 8.0
ISOLATION_RESOLUTIONS = 2.5
"""Least distance of two beads, in units of wavelength / NA."""
BRIGHTNESS_RANGE = (0.3, 2.0)
"""Of the median bead; dimmer ones are out of focus, brighter ones are clumps."""
MAXIMUM_WIDENING = 1.4
"""Fitted sigma over the median; wider spots are out of focus or two beads."""
MINIMUM_BEADS = 5
NORMALISATION_BAND = (0.06, 0.25)
"""Frequencies, over cut-off, of the straight line that gives the value at frequency 0."""
TAPER_PX = 12
FIT_STEPS = 12


@dataclass(frozen=True)
class BeadOtf:
    """Transfer function measured on beads.

    Attributes
    ----------
    otf : DetectionOtf
        With the measured radial curve, 1 at frequency 0.
    standard_error : array, shape (ring,)
        Of each value of the curve.
    positions_px : array, shape (bead, 3)
        Image, y, x of the beads that were used.
    """

    otf: DetectionOtf
    standard_error: Float[np.ndarray, " ring"]
    positions_px: Float[np.ndarray, "bead 3"]

    @property
    def frequency(self) -> Float[np.ndarray, " ring"]:
        """Radial frequencies in cycles per micrometre."""
        step = self.otf.radial_step or 0.0
        frequency: Float[np.ndarray, " ring"] = step * np.arange(len(self.otf.radial_values))
        return frequency


def measure_otf(
    images: Float[np.ndarray, "image y x"] | Float[np.ndarray, "y x"],
    pixel_um: float,
    numerical_aperture: float,
    emission_nm: float,
    bead_diameter_um: float = 0.0,
    where: str = "bead image",
) -> BeadOtf:
    """Radial transfer function from in-focus images of beads.

    Parameters
    ----------
    images : array, shape (image, y, x) or (y, x)
        Wide-field images of sparse beads; any intensity scale, offset allowed.
    pixel_um : float
        Camera pixel in the sample, in micrometres.
    numerical_aperture, emission_nm : float
        Give the cut-off, beyond which the curve is 0.
    bead_diameter_um : float
        Of the fluorescent sphere, whose own transfer is divided out; 0 for points.
    where : str
        Name of the images for messages.

    Returns
    -------
    measured : BeadOtf
        Curve with its standard errors, and the beads it rests on.  It holds the camera's pixel.

    Raises
    ------
    ReconstructionError
        For unusable images, too few separate beads, or beads as large as what is resolved.
    """
    stack = np.asarray(images, np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    _check(stack, pixel_um, numerical_aperture, emission_nm, bead_diameter_um, where)
    cutoff = cutoff_frequency(numerical_aperture, emission_nm)
    resolution_px = emission_nm * 1e-3 / numerical_aperture / pixel_um
    found = [_beads(image, resolution_px) for image in stack]
    brightness = np.concatenate([beads[:, 2] for beads in found])
    width = np.concatenate([beads[:, 3] for beads in found])
    kept = _typical(brightness, width) & np.concatenate([beads[:, 4] > 0 for beads in found])
    if kept.sum() < MINIMUM_BEADS:
        raise ReconstructionError(
            f"only {int(kept.sum())} of {kept.size} spots are single beads in focus",
            where=where,
            remedy=f"take images with {MINIMUM_BEADS} separate beads or more, in focus, "
            "with enough light and not saturated",
        )
    step = max(cutoff / 64, 1 / (min(stack.shape[-2:]) * pixel_um))
    rings = math.ceil(cutoff / step)
    matched, energy, across = np.zeros(rings), np.zeros(rings), np.zeros(rings)
    positions = []
    first = 0
    for number, (image, beads) in enumerate(zip(stack, found, strict=True)):
        chosen = kept[first : first + len(beads)]
        first += len(beads)
        positions += [(number, y, x) for y, x in beads[chosen, :2]]
        sums = _rings(image, beads, chosen, pixel_um, step, rings)
        for total, part in zip((matched, energy, across), sums, strict=True):
            total += part
    curve = matched / np.maximum(energy, 1e-300)
    error = np.sqrt(across) / np.maximum(energy, 1e-300)
    frequency = step * np.arange(rings)
    sphere = sphere_transfer(frequency, bead_diameter_um)
    curve, error = curve / sphere, error / sphere
    line = (frequency >= NORMALISATION_BAND[0] * cutoff) & (
        frequency <= NORMALISATION_BAND[1] * cutoff
    )
    slope, top = np.polyfit(frequency[line], curve[line], 1)
    # What lies below the band is mixed with the background of the images.
    curve = np.where(frequency < NORMALISATION_BAND[0] * cutoff, top + slope * frequency, curve)
    curve, error = curve / top, error / top
    if not (top > 0 and np.abs(error[line]).max() < 0.1):
        raise ReconstructionError(
            "the beads give no transfer function out of the noise",
            where=where,
            remedy="take more light, more images, or fewer beads in each",
        )
    otf = DetectionOtf(
        numerical_aperture, emission_nm, step, tuple(np.maximum(curve, 0.0).tolist())
    )
    return BeadOtf(otf, error, np.array(positions))


def sphere_transfer(
    frequency: Float[np.ndarray, " ring"], diameter_um: float
) -> Float[np.ndarray, " ring"]:
    """Spectrum of an evenly filled sphere seen from one side, 1 at frequency 0."""
    x = np.maximum(math.pi * frequency * diameter_um, 1e-3)
    transfer: Float[np.ndarray, " ring"] = 3 * (np.sin(x) - x * np.cos(x)) / x**3
    return transfer


def write_otf(path: Path, otf: DetectionOtf) -> None:
    """Write a measured curve so that :func:`tisr_scope.sim.optics.otf.measured_otf` reads it.

    Parameters
    ----------
    path : Path
        ``.csv`` (frequency in cycles per micrometre, transfer) or ``.mrc``.
    otf : DetectionOtf
        With a measured radial curve.

    Raises
    ------
    ReconstructionError
        If the curve is a closed form, or the file has another ending.
    DataError, DiskFull
        If it cannot be written.
    """
    path = Path(path)
    if otf.radial_step is None:
        raise ReconstructionError(
            "a closed form needs no file", where=str(path), remedy="state NA and wavelength"
        )
    values = np.array(otf.radial_values)
    if path.suffix.lower() == ".csv":
        rows = np.stack([otf.radial_step * np.arange(values.size), values], axis=1)
        np.savetxt(path, rows, "%.8g", ",", header="frequency_per_um,transfer", comments="")
    elif path.suffix.lower() == ".mrc":
        block = values.astype(np.float32)[None, None]
        write_mrc(path, [block], (1, 1, values.size), np.float32, otf.radial_step)
    else:
        raise ReconstructionError(
            "a transfer function is written as .csv or .mrc", where=str(path), remedy="rename it"
        )


def _check(
    stack: Float[np.ndarray, "image y x"],
    pixel_um: float,
    numerical_aperture: float,
    emission_nm: float,
    diameter_um: float,
    where: str,
) -> None:
    if stack.ndim != 3 or min(stack.shape[-2:]) < 64 or not np.isfinite(stack).all():
        raise ReconstructionError(
            f"an array of shape {stack.shape} is no image of beads",
            where=where,
            remedy="give finite values, (y, x) or (image, y, x), 64 pixels or more",
        )
    if not (pixel_um > 0 and numerical_aperture > 0 and emission_nm > 0):
        raise ReconstructionError(
            f"pixel {pixel_um} um, NA {numerical_aperture}, {emission_nm} nm are no optics",
            where=where,
            remedy="all must be positive; the wavelength is in nanometres",
        )
    cutoff = cutoff_frequency(numerical_aperture, emission_nm)
    # First zero of the sphere's spectrum: x = 4.493.
    if not 0 <= math.pi * diameter_um * cutoff < 3.2:
        raise ReconstructionError(
            f"beads of {1e3 * diameter_um:.0f} nm hide the finest detail that the optics pass",
            where=where,
            remedy=f"use beads of {1e3 * 2 / (math.pi * cutoff):.0f} nm or less",
        )


def _beads(image: Float[np.ndarray, "y x"], resolution_px: float) -> Float[np.ndarray, "bead 5"]:
    """Spots of an image: y, x, brightness, sigma, and 1 where no other spot is near."""
    sigma = max(SIGMA_OVER_RESOLUTION * resolution_px, 0.7)
    smooth = gaussian_filter(image, sigma) - gaussian_filter(image, 3 * sigma)
    spread = 1.4826 * float(np.median(np.abs(smooth - np.median(smooth))))
    apart = ISOLATION_RESOLUTIONS * resolution_px
    peak = smooth == maximum_filter(smooth, size=2 * math.ceil(sigma) + 1)
    y, x = np.nonzero(peak & (smooth > DETECTION_DEVIATIONS * max(spread, 1e-12)))
    half = math.ceil(3 * sigma)
    distance = np.hypot(y[:, None] - y[None, :], x[:, None] - x[None, :])
    np.fill_diagonal(distance, np.inf)
    alone = distance.min(axis=1, initial=np.inf) > apart
    for axis, n in ((y, image.shape[0]), (x, image.shape[1])):
        alone &= (axis >= TAPER_PX + half) & (axis < n - TAPER_PX - half)
    spots = []
    for j, i, single in zip(y.tolist(), x.tolist(), alone, strict=True):
        top, left = max(j - half, 0), max(i - half, 0)
        spot = _fit(image[top : j + half + 1, left : i + half + 1], sigma, (j - top, i - left))
        if spot is not None:
            spots.append((spot[0] + top, spot[1] + left, *spot[2:], float(single)))
    return np.array(spots).reshape(-1, 5)


def _fit(
    patch: Float[np.ndarray, "y x"], sigma: float, start: tuple[float, float]
) -> tuple[float, float, float, float] | None:
    """Gaussian by least squares (Gauss-Newton): y, x, volume, sigma; None if it wanders off."""
    y, x = np.mgrid[: patch.shape[0], : patch.shape[1]].astype(np.float64)
    floor = float(np.median(patch))
    guess = np.array([*start, float(patch.max()) - floor, sigma, floor])
    for _ in range(FIT_STEPS):
        cy, cx, height, s, base = guess
        bell = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * s * s))
        slopes = np.stack(
            [
                height * bell * (y - cy) / s**2,
                height * bell * (x - cx) / s**2,
                bell,
                height * bell * ((y - cy) ** 2 + (x - cx) ** 2) / s**3,
                np.ones_like(bell),
            ],
            axis=-1,
        ).reshape(-1, 5)
        change = np.linalg.lstsq(slopes, (patch - base - height * bell).ravel(), rcond=None)[0]
        guess = guess + change
        wandered = np.abs(guess[:2] - start).max() > sigma + 1
        if wandered or not sigma / 3 < guess[3] < 3 * sigma or guess[2] <= 0:
            return None
    cy, cx, height, s, _ = (float(value) for value in guess)
    return cy, cx, 2 * math.pi * height * s * s, s


def _typical(
    brightness: Float[np.ndarray, " bead"], width: Float[np.ndarray, " bead"]
) -> Bool[np.ndarray, " bead"]:
    if not brightness.size:
        return np.zeros(0, bool)
    relative = brightness / np.median(brightness)
    kept: Bool[np.ndarray, " bead"] = (
        (relative > BRIGHTNESS_RANGE[0])
        & (relative < BRIGHTNESS_RANGE[1])
        & (width < MAXIMUM_WIDENING * np.median(width))
    )
    return kept


def _rings(
    image: Float[np.ndarray, "y x"],
    beads: Float[np.ndarray, "bead 5"],
    chosen: Bool[np.ndarray, " bead"],
    pixel_um: float,
    step: float,
    rings: int,
) -> tuple[Float[np.ndarray, " ring"], Float[np.ndarray, " ring"], Float[np.ndarray, " ring"]]:
    """Per ring: image times the chosen beads, all beads times those, scatter of the first.

    The other beads lie nowhere near the chosen ones, so they are not independent of them and
    must be in the sum.
    """
    height, width = image.shape
    fades = _fade(height), _fade(width)
    spectrum = np.fft.fft2((image - np.median(image)) * fades[0][:, None] * fades[1][None, :])
    fy, fx = np.fft.fftfreq(height), np.fft.fftfreq(width)
    places = [np.interp(beads[:, axis], np.arange(len(f)), f) for axis, f in enumerate(fades)]
    left = np.exp(-2j * np.pi * fy[:, None] * beads[None, :, 0])
    left = left * (beads[:, 2] * places[0] * places[1])
    right = np.exp(-2j * np.pi * beads[:, 1, None] * fx[None, :])
    points = left[:, chosen] @ right[chosen]
    everything = points + left[:, ~chosen] @ right[~chosen]
    product = spectrum * points.conj()
    number = np.rint(np.hypot(fy[:, None], fx[None, :]) / pixel_um / step).astype(int).ravel()
    inside = number < rings

    def add(values: Float[np.ndarray, "y x"]) -> Float[np.ndarray, " ring"]:
        return np.bincount(number[inside], values.ravel()[inside], rings)

    overlap = (everything * points.conj()).real
    return add(product.real), add(overlap), add(product.imag**2)


def _fade(n: int) -> Float[np.ndarray, " n"]:
    depth = np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5
    fade: Float[np.ndarray, " n"] = np.sin(np.pi / 2 * np.clip(depth / TAPER_PX, 0, 1)) ** 2
    return fade
