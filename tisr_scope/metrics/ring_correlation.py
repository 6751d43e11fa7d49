"""Resolution from Fourier ring correlation, of two images or of one.

Two images of the same object with independent noise agree at low frequencies and differ where
noise prevails.  The frequency at which their correlation falls through a threshold is the
resolution (Saxton and Baumeister 1982; van Heel and Schatz 2005; Nieuwenhuizen et al. 2013).

What it cannot see: an artefact that both images share counts as resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Complex, Float, Int
from scipy.fft import fft2
from scipy.signal.windows import hann, tukey

from tisr_scope.errors import DataError

Threshold = Literal["1/7", "half-bit", "3-sigma"]
Window = Literal["hann", "tukey", "none"]

SMOOTHED_RINGS = 5
"""Rings averaged, weighted with their pixels, before the crossing is looked for."""
CHANCE = 4.0
"""Standard deviations of noise that the curve must exceed somewhere."""
_SLOPE_RINGS = 4
MINIMUM_SIDE_PX = 16


@dataclass(frozen=True)
class Resolution:
    """Where a ring correlation falls through its threshold.

    Attributes
    ----------
    um : float or None
        Resolution in micrometres, 1 / frequency; None where the threshold is not crossed.
    standard_error_um : float or None
        From the scatter of the correlation and its slope at the crossing.
    threshold : str
        "1/7", "half-bit" or "3-sigma".
    note : str
        Empty, or why there is no value: "not reached ..." (the images agree up to the edge of the
        sampling, so the resolution is at least two pixels) or "no agreement ...".
    """

    um: float | None
    standard_error_um: float | None
    threshold: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "resolution_um": self.um,
            "standard_error_um": self.standard_error_um,
            "threshold": self.threshold,
            "note": self.note,
        }


@dataclass(frozen=True)
class RingCorrelation:
    """Fourier ring correlation of two images.

    Attributes
    ----------
    frequency : array, shape (ring,)
        Centre of each ring in cycles per micrometre; frequency 0 is left out.
    correlation : array, shape (ring,)
        Real part of the normalised correlation, -1 to 1.
    samples : array, shape (ring,)
        Fourier pixels of each ring, less what the window makes dependent on its neighbours.
        Noise alone gives a correlation of standard deviation ``1 / sqrt(samples)``.
    independent : float
        Fraction of neighbouring Fourier pixels that are independent, along one axis.
    """

    frequency: Float[np.ndarray, " ring"]
    correlation: Float[np.ndarray, " ring"]
    samples: Float[np.ndarray, " ring"]
    independent: float = 1.0

    def up_to(self, frequency: float) -> RingCorrelation:
        """The rings up to a frequency: beyond the support of a filtered image is nothing at all."""
        kept = int((self.frequency <= frequency).sum())
        return RingCorrelation(
            self.frequency[:kept], self.correlation[:kept], self.samples[:kept], self.independent
        )

    def threshold(self, name: Threshold) -> Float[np.ndarray, " ring"]:
        """Threshold curve.

        "1/7" is fixed (Nieuwenhuizen et al. 2013).  "half-bit" is the correlation at which a
        ring of the merged images carries half a bit a pixel (van Heel and Schatz 2005), with the
        independent pixels of half the ring.  "3-sigma" is three standard deviations of the
        correlation of noise.
        """
        return _threshold(self.samples, name)

    def smoothed(self) -> Float[np.ndarray, " ring"]:
        """Mean over neighbouring rings, each with the weight of its pixels."""
        mean: Float[np.ndarray, " ring"]
        mean = _averaged(self.correlation * self.samples) / _averaged(self.samples)
        return mean

    def smoothed_error(self) -> Float[np.ndarray, " ring"]:
        """Standard deviation that noise alone gives :meth:`smoothed`."""
        # The window also makes neighbouring rings depend on each other.
        return 1 / np.sqrt(_averaged(self.samples) * self.independent)

    def resolution(self, threshold: Threshold = "1/7") -> Resolution:
        """Frequency of the first crossing of the smoothed curve, as a length.

        The standard error is that of the correlation there, ``(1 - c^2)`` times that of noise,
        divided by the slope.
        """
        curve, limit, noise = self.smoothed(), self.threshold(threshold), self.smoothed_error()
        above = curve >= limit
        # The innermost rings have few pixels: agreement may begin a little further out, but must
        # be more than chance.
        start = int(above.argmax())
        run = int((~above[start:]).argmax()) if not above[start:].all() else len(above) - start
        real = (curve > CHANCE * noise)[start : start + run]
        if start > max(2, len(above) // 4) or not above.any() or not real.any():
            return Resolution(
                None, None, threshold, "no agreement: the images share no structure over the noise"
            )
        if start + run == len(above):
            finest = 1e3 / self.frequency[-1]
            note = f"not reached: the images agree to the edge of the sampling ({finest:.0f} nm)"
            return Resolution(None, None, threshold, note)
        first = start + run
        gap = curve - limit
        part = gap[first - 1] / (gap[first - 1] - gap[first])
        step = self.frequency[first] - self.frequency[first - 1]
        frequency = self.frequency[first - 1] + part * step
        around = slice(max(start, first - _SLOPE_RINGS), first + _SLOPE_RINGS)
        slope = np.polyfit(self.frequency[around], gap[around], 1)[0]
        scatter = (1 - curve[first] ** 2) * noise[first]
        error = float(scatter / abs(slope) / frequency**2) if slope < 0 else None
        return Resolution(float(1 / frequency), error, threshold)


def ring_correlation(
    first: Float[np.ndarray, "y x"],
    second: Float[np.ndarray, "y x"],
    pixel_um: float,
    *,
    window: Window = "tukey",
) -> RingCorrelation:
    """Fourier ring correlation of two images with independent noise.

    Parameters
    ----------
    first, second : array, shape (y, x)
        Same object, same grid, independent noise.
    pixel_um : float
        Pixel in the sample, in micrometres.
    window : {"tukey", "hann", "none"}
        Against the edges of the field: Tukey fades over an eighth of the field on every side.

    Raises
    ------
    DataError
        If the shapes differ or are too small, an image is constant, or not finite.
    """
    check_pair(first, second, pixel_um)
    shape = (first.shape[0], first.shape[1])
    fade = fade_window(shape, window)
    spectra = [fft2((image - image.mean()) * fade) for image in (first.astype(np.float64), second)]
    return _rings(spectra[0], spectra[1], pixel_um, independent_share(fade))


def single_image_ring_correlation(
    image: Float[np.ndarray, "y x"],
    pixel_um: float,
    *,
    window: Window = "tukey",
    full_exposure: bool = True,
) -> RingCorrelation:
    """Fourier ring correlation of one image with itself, split like a chess board.

    Rows and columns of even and odd number give four images of twice the pixel (Koho et al.
    2019).  Those on a diagonal are correlated, both diagonals averaged.  The shift of one pixel
    between them is undone exactly in Fourier space, so no empirical calibration is needed.

    Conditions: noise independent from pixel to pixel (a raw or wide-field camera image; the noise
    of a reconstruction is correlated, and the result too good), and an image without structure
    beyond a quarter of its sampling frequency, to which the curve reaches.

    Parameters
    ----------
    image : array, shape (y, x)
    pixel_um : float
        Pixel in the sample, in micrometres.
    window : {"tukey", "hann", "none"}
    full_exposure : bool
        Every part holds a quarter of the light.  True gives the curve ``4 c / (1 + 3 c)`` that two
        whole images of this exposure would have; False that of the parts.

    Raises
    ------
    DataError
        As :func:`ring_correlation`.
    """
    check_pair(image, image, pixel_um)
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2].astype(np.float64)
    even = even - even.mean()
    shape = (even.shape[0] // 2, even.shape[1] // 2)
    fade = fade_window(shape, window)
    fy, fx = (np.fft.fftfreq(n, 2 * pixel_um) for n in shape)
    curves = []
    for (y0, x0), (y1, x1) in (((0, 0), (1, 1)), ((0, 1), (1, 0))):
        one, other = fft2(even[y0::2, x0::2] * fade), fft2(even[y1::2, x1::2] * fade)
        shift = pixel_um * ((y1 - y0) * fy[:, None] + (x1 - x0) * fx[None, :])
        curves.append(
            _rings(one, other * np.exp(-2j * np.pi * shift), 2 * pixel_um, independent_share(fade))
        )
    correlation = (curves[0].correlation + curves[1].correlation) / 2
    samples = 2 * curves[0].samples
    if full_exposure:
        # A correlation c means a signal-to-noise ratio of c / (1 - c); four times the light, 4 c.
        correlation = 4 * correlation / np.maximum(1 + 3 * correlation, 0.25)
        # Small correlations, and with them their scatter, become four times as large.
        samples = samples / 16
    return RingCorrelation(curves[0].frequency, correlation, samples, curves[0].independent)


def _rings(
    first: Complex[np.ndarray, "y x"],
    second: Complex[np.ndarray, "y x"],
    pixel_um: float,
    independent: float,
) -> RingCorrelation:
    shape = (first.shape[0], first.shape[1])
    ring, count = ring_numbers(shape, pixel_um)
    terms = ((first * second.conj()).real, np.abs(first) ** 2, np.abs(second) ** 2)
    cross, one, other = (
        np.bincount(ring, term.ravel(), minlength=count.size)[: count.size] for term in terms
    )
    correlation = cross / np.sqrt(np.maximum(one * other, 1e-300))
    frequency = (np.arange(count.size) + 1) / (min(shape) * pixel_um)
    return RingCorrelation(frequency, correlation, count * independent, independent)


def ring_numbers(
    shape: tuple[int, int], pixel_um: float
) -> tuple[Int[np.ndarray, " pixel"], Float[np.ndarray, " ring"]]:
    """Ring of every Fourier pixel (beyond the last: the corners and frequency 0), and ring sizes.

    Rings are as wide as the frequency spacing of the shorter side and end at the Nyquist frequency.
    """
    fy, fx = (np.fft.fftfreq(n, pixel_um) for n in shape)
    width = 1 / (min(shape) * pixel_um)
    number = np.rint(np.hypot(fy[:, None], fx[None, :]) / width).astype(int).ravel() - 1
    rings = min(shape) // 2 - 1
    number[(number < 0) | (number >= rings)] = rings
    count = np.bincount(number, minlength=rings + 1)[:rings].astype(np.float64)
    return number, count


def fade_window(shape: tuple[int, int], window: Window) -> Float[np.ndarray, "y x"]:
    """Window of that name over the field."""
    if window not in get_args(Window):
        raise DataError(f"no window {window!r}", remedy="choose tukey, hann or none")
    rows, columns = (_fade(n, window) for n in shape)
    return np.asarray(rows[:, None] * columns[None, :])


def _fade(n: int, window: Window) -> Float[np.ndarray, " pixel"]:
    if window == "hann":
        return np.asarray(hann(n, sym=False))
    return np.asarray(tukey(n, 0.25, sym=False)) if window == "tukey" else np.ones(n)


def independent_share(window: Float[np.ndarray, "y x"]) -> float:
    """Independent Fourier pixels per pixel along a line, for white noise times the window.

    A ring is a line one pixel wide, so only dependence along it counts.
    """
    plane = float((window**2).sum() ** 2 / (window.size * (window**4).sum()))
    return math.sqrt(plane)


def _threshold(samples: Float[np.ndarray, " ring"], name: Threshold) -> Float[np.ndarray, " ring"]:
    if name not in get_args(Threshold):
        raise DataError(f"no threshold {name!r}", remedy="choose 1/7, half-bit or 3-sigma")
    if name == "1/7":
        return np.full(samples.shape, 1 / 7)
    if name == "3-sigma":
        return np.asarray(np.minimum(3 / np.sqrt(samples), 1.0))
    # Signal to noise of half a bit in the sum of both: sqrt(2) - 1, half of it in each.
    ratio = (np.sqrt(2) - 1) / 2
    chance = 1 / np.sqrt(np.maximum(samples / 2, 1))
    signal = ratio + (2 * np.sqrt(ratio) + 1) * chance
    curve: Float[np.ndarray, " ring"] = signal / (signal + 1 - chance)
    return curve


def _averaged(values: Float[np.ndarray, " ring"]) -> Float[np.ndarray, " ring"]:
    """Sum over neighbouring rings."""
    total: Float[np.ndarray, " ring"] = np.convolve(values, np.ones(SMOOTHED_RINGS), "same")
    return total


def check_pair(
    first: Float[np.ndarray, "y x"], second: Float[np.ndarray, "y x"], pixel_um: float
) -> None:
    """Refuse images that have no ring correlation, by a :class:`DataError`."""
    if first.ndim != 2 or first.shape != second.shape or min(first.shape) < MINIMUM_SIDE_PX:
        raise DataError(
            f"images of {first.shape} and {second.shape} have no ring correlation",
            remedy=f"give two images of the same grid, {MINIMUM_SIDE_PX} px or more on each side",
        )
    if not pixel_um > 0:
        raise DataError(f"a pixel of {pixel_um} um", remedy="give the pixel size in micrometres")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("an image holds NaN or infinite values", remedy="leave that frame out")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise DataError("an image is constant", remedy="leave empty frames out")
