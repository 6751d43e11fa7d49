"""Resolution of one image without parameters: decorrelation analysis.

Descloux, Grussmayer and Radenovic (2019).  The image is correlated with its own Fourier transform
normalised to amplitude 1 and cut at radius r.  While r takes in signal the correlation rises, once
it takes in noise it falls; high-pass filters of increasing strength move the maximum towards the
cut-off.  The highest maximum of all is the resolution.

It measures where signal ends, not whether the signal is true: a sharp artefact counts as
resolution, so it never stands alone (Paper: Assessment metric calculation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.fft import fft2

from tisr_scope.errors import DataError

RADII = 50
FILTERS = 10
EDGE_PX = 20
PROMINENCE = 5e-4
"""By how much the curve must fall behind a maximum."""
MINIMUM_AMPLITUDE = 0.05
"""Maxima below are those of noise."""
REACH = 0.4
"""The refined series looks this far beyond the highest maximum, in units of Nyquist."""
_BINS_PER_PIXEL = 8
_WEAKEST_HIGH_PASS = 0.15


@dataclass(frozen=True)
class Decorrelation:
    """Result of a decorrelation analysis.

    Attributes
    ----------
    resolution_um : float or None
        2 pixels / highest maximum; None where no curve has a maximum.
    amplitude : float
        Maximum of the unfiltered curve, 0 to 1: high where signal prevails.
    radius : array, shape (radius,)
        Fractions of the Nyquist frequency.
    curve : array, shape (radius,)
        Unfiltered decorrelation.
    maxima : array, shape (maximum, 2)
        Radius and amplitude of the maxima of all curves, the unfiltered one first.
    """

    resolution_um: float | None
    amplitude: float
    radius: Float[np.ndarray, " radius"]
    curve: Float[np.ndarray, " radius"]
    maxima: Float[np.ndarray, "maximum 2"]

    def to_dict(self) -> dict[str, Any]:
        """JSON types, without the curve."""
        return {"resolution_um": self.resolution_um, "amplitude": round(self.amplitude, 4)}


def decorrelation_analysis(image: Float[np.ndarray, "y x"], pixel_um: float) -> Decorrelation:
    """Resolution by decorrelation analysis, with its high-pass series and refinement.

    Parameters
    ----------
    image : array, shape (y, x)
        Of any intensity scale; its edges are faded to the mean.
    pixel_um : float
        Pixel in the sample, in micrometres.

    Raises
    ------
    DataError
        If the image is too small, constant, or not finite.
    """
    if image.ndim != 2 or min(image.shape) < 3 * EDGE_PX:
        raise DataError(
            f"an image of {image.shape} is too small for a decorrelation analysis",
            remedy=f"give {3 * EDGE_PX} px or more on each side",
        )
    if not np.isfinite(image).all() or np.ptp(image) == 0:
        raise DataError(
            "the image is constant or holds values that are not finite",
            remedy="leave empty frames out",
        )
    if not pixel_um > 0:
        raise DataError(f"a pixel of {pixel_um} um", remedy="give the pixel size in micrometres")
    spectrum = _RadialSpectrum.measure(_faded(image.astype(np.float64)))
    radius = np.linspace(0, 1, RADII)
    curve = spectrum.decorrelation(radius, None)
    place, amplitude = _maximum(curve)
    found = [(radius[place], amplitude)]
    strongest = 2 / radius[place] if place else max(image.shape) / 2
    strengths = np.geomspace(strongest, _WEAKEST_HIGH_PASS, FILTERS)
    strengths = np.concatenate([[image.shape[0] / 4], strengths])
    for _ in range(2):
        maxima = np.array([(r, a) for r, a in _series(spectrum, radius, strengths)])
        found += [(r, a) for r, a in maxima]
        if not maxima[:, 0].any():
            break
        radius, strengths = _closer(maxima, radius, strengths)
    maxima = np.array(found)
    maxima[maxima[:, 1] < MINIMUM_AMPLITUDE, 0] = 0
    highest = float(maxima[:, 0].max())
    return Decorrelation(
        resolution_um=2 * pixel_um / highest if highest > 0 else None,
        amplitude=float(amplitude) if place else 0.0,
        radius=np.linspace(0, 1, RADII),
        curve=curve,
        maxima=maxima,
    )


@dataclass(frozen=True)
class _RadialSpectrum:
    """Sums over narrow rings: all the analysis needs, as every filter depends on |f| alone."""

    radius: Float[np.ndarray, " bin"]
    count: Float[np.ndarray, " bin"]
    magnitude: Float[np.ndarray, " bin"]
    power: Float[np.ndarray, " bin"]

    @classmethod
    def measure(cls, image: Float[np.ndarray, "y x"]) -> _RadialSpectrum:
        magnitude = np.abs(fft2(image))
        fy, fx = (2 * np.fft.fftfreq(n) for n in image.shape)
        radius = np.hypot(fy[:, None], fx[None, :]).ravel()
        bins = _BINS_PER_PIXEL * max(image.shape)
        place = np.minimum((radius * bins).astype(int), bins)
        weights = (None, magnitude.ravel(), magnitude.ravel() ** 2, radius)
        count, first, second, radii = (
            np.bincount(place, weights=w, minlength=bins + 1)[:bins].astype(float) for w in weights
        )
        filled = count > 0
        return cls(radii[filled] / count[filled], count[filled], first[filled], second[filled])

    def decorrelation(
        self, radius: Float[np.ndarray, " radius"], high_pass: float | None
    ) -> Float[np.ndarray, " radius"]:
        """Correlation of the filtered image with its normalised transform within each radius."""
        gain = np.ones_like(self.radius)
        if high_pass is not None:
            gain = 1 - np.exp(-2 * (high_pass * self.radius) ** 2)
        # The product of an image's transform with its own normalised one is its magnitude.
        cross = np.concatenate([[0], np.cumsum(gain * self.magnitude)])
        pixels = np.concatenate([[0], np.cumsum(self.count)])
        power = float((gain**2 * self.power).sum())
        end = np.searchsorted(self.radius, radius)
        return np.asarray(cross[end] / np.sqrt(np.maximum(pixels[end] * power, 1e-300)))


def _series(
    spectrum: _RadialSpectrum,
    radius: Float[np.ndarray, " radius"],
    strengths: Float[np.ndarray, " filter"],
) -> list[tuple[float, float]]:
    """Radius and amplitude of the maximum for every high-pass filter; 0 where there is none."""
    maxima = []
    for strength in strengths:
        place, amplitude = _maximum(spectrum.decorrelation(radius, strength))
        # A curve that only falls has no maximum: its first point is where the search began.
        maxima.append((float(radius[place]) if place else 0.0, amplitude))
    return maxima


def _maximum(curve: Float[np.ndarray, " radius"]) -> tuple[int, float]:
    """Index and value of the last maximum behind which the curve falls; (0, value) if none."""
    end = len(curve)
    while end > 1:
        place = int(curve[:end].argmax())
        if place == 0:
            break
        if place < end - 1 and curve[place] - curve[place:end].min() >= PROMINENCE:
            return place, float(curve[place])
        end -= 1
    return 0, float(curve[0])


def _closer(
    maxima: Float[np.ndarray, "filter 2"],
    radius: Float[np.ndarray, " radius"],
    strengths: Float[np.ndarray, " filter"],
) -> tuple[Float[np.ndarray, " finer_radius"], Float[np.ndarray, " finer_filter"]]:
    """Radii and filters around the maximum of highest radius."""
    highest = int(maxima[:, 0].argmax())
    centre, step = maxima[highest, 0], radius[1] - radius[0]
    low, high = max(0.0, centre - step), min(1.0, centre + REACH)
    last = len(strengths) - 1
    around = strengths[max(0, highest - 1)], strengths[min(last, highest + 1)]
    return np.linspace(low, high, RADII), np.geomspace(around[0], around[1], FILTERS)


def _faded(image: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    """Fade to the mean over the outermost pixels."""
    rise = np.sin(np.pi / 2 * (np.arange(EDGE_PX) + 0.5) / EDGE_PX) ** 2
    sides = [np.concatenate([rise, np.ones(n - 2 * EDGE_PX), rise[::-1]]) for n in image.shape]
    mean = image.mean()
    faded: Float[np.ndarray, "y x"] = (image - mean) * sides[0][:, None] * sides[1][None, :]
    return faded
