"""The illumination patterns as parameters and as images for the SLM.

One convention for the whole package.  Coordinates are physical, in micrometres, with the origin
at the centre of the field, ``((n - 1) / 2)`` pixels from the first pixel's centre; x along
columns, y along rows.  The intensity of pattern (period p, angle theta, phase phi) is

    1 + m cos(2 pi (x cos theta + y sin theta) / p + phi)

with modulation depth m (1 as written to the SLM, less in the sample).  Phase number j of P is
``2 pi j / P``.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from tisr_scope.profiles.schema import Frozen, Positive


class Pattern(Frozen):
    """One grating, described by its parameters in the sample."""

    period_um: Positive
    angle_rad: float
    phase_rad: float


def centred_coordinates(
    shape: tuple[int, int], pixel_um: float
) -> tuple[Float[np.ndarray, " y"], Float[np.ndarray, " x"]]:
    """Physical y and x of the pixel centres, in micrometres, zero at the centre of the field."""
    y, x = ((np.arange(n) - (n - 1) / 2) * pixel_um for n in shape)
    return y, x


def grating(
    pattern: Pattern, shape: tuple[int, int], pixel_um: float, modulation: float = 1.0
) -> Float[np.ndarray, "y x"]:
    """Intensity of a grating with mean 1 on a grid of pixels."""
    y, x = centred_coordinates(shape, pixel_um)
    wave = 2 * np.pi / pattern.period_um
    phase = wave * (x[None, :] * np.cos(pattern.angle_rad) + y[:, None] * np.sin(pattern.angle_rad))
    light: Float[np.ndarray, "y x"] = 1 + modulation * np.cos(phase + pattern.phase_rad)
    return light


def slm_image(
    pattern: Pattern, shape: tuple[int, int], slm_pixel_um: float
) -> UInt8[np.ndarray, "y x"]:
    """Grating as an 8-bit SLM image: 0 dark, 255 twice the mean intensity."""
    return np.rint(grating(pattern, shape, slm_pixel_um) * 127.5).astype(np.uint8)


def even_slm_image(shape: tuple[int, int]) -> UInt8[np.ndarray, "y x"]:
    """Even illumination with the same mean intensity as a grating."""
    return np.full(shape, 128, np.uint8)
