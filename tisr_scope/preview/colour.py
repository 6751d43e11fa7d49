"""Numbers to pixels: look-up tables and ready RGBA images, without any window.

The overlay shows intensity as lightness and confidence as colour in a few steps, which eyes
tell apart more reliably than a gradient.  The lower the confidence, the paler the colour and the
weaker the contrast, down to a neutral haze.  Haze is never black, because black reads as empty
background.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from cmap import Colormap
from jaxtyping import Float, UInt8, UInt32

LEVELS = 256
HAZE_LIGHTNESS = 0.46
"""Perceived lightness (0 to 1) of a dark pixel nothing is known about."""
MASK_TINTS = ((74, 80, 96), (58, 63, 77))
"""Two neutral tints of the stripes over pixels below the confidence threshold."""

_Rgb = Float[np.ndarray, "*axes 3"]


def _linear(srgb: _Rgb) -> _Rgb:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _gamma(linear: _Rgb) -> _Rgb:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(srgb: _Rgb) -> _Rgb:
    """Perceived lightness and the two colour axes of sRGB values from 0 to 1 (Ottosson's Oklab)."""
    return np.asarray(np.cbrt(_linear(srgb) @ _TO_LMS.T) @ _TO_LAB.T)


def from_oklab(lab: _Rgb) -> _Rgb:
    """Inverse of :func:`oklab`, clipped to what a screen can show."""
    return _gamma((lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T)


def pack(rgb: Float[np.ndarray, "*axes 3"]) -> UInt32[np.ndarray, "*axes"]:
    """Opaque RGBA bytes of sRGB values from 0 to 1 as one 32-bit word each."""
    rgba = np.empty((*rgb.shape[:-1], 4), np.uint8)
    rgba[..., :3] = np.rint(rgb * 255)
    rgba[..., 3] = 255
    packed: np.ndarray = rgba.view(np.uint32)[..., 0]
    return packed


def unpack(words: UInt32[np.ndarray, "y x"]) -> UInt8[np.ndarray, "y x 4"]:
    """RGBA bytes of packed words, without a copy."""
    bytes_ = np.ascontiguousarray(words).view(np.uint8)
    return bytes_.reshape(*words.shape, 4)


@cache
def map_table(name: str, gamma: float = 1.0) -> UInt32[np.ndarray, " levels"]:
    """Packed look-up table of a colour map with 256 entries; gamma below 1 lifts dim parts."""
    return pack(np.asarray(Colormap(name)(np.linspace(0, 1, LEVELS) ** gamma))[:, :3])


@cache
def confidence_table(name: str = "cividis") -> UInt32[np.ndarray, " levels"]:
    """Packed table for confidence: the colour map, calmed for a dark room.

    Sure background fills most of the image; at full brightness it would outshine everything.
    """
    lab = oklab(np.asarray(Colormap(name)(np.linspace(0, 1, LEVELS)))[:, :3])
    return pack(from_oklab(lab * np.array([0.78, 0.72, 0.72])))


@cache
def overlay_table(
    steps: int, name: str = "cividis", gamma: float = 1.0
) -> UInt32[np.ndarray, " entries"]:
    """Packed table of the overlay, entry ``step * 256 + intensity``.

    Hues come from the colour map that also shows the confidence alone.
    """
    centre = (np.arange(steps) + 0.5) / steps
    hues = oklab(np.asarray(Colormap(name)(centre))[:, :3])
    trust = (np.arange(steps) / max(steps - 1, 1))[:, None]
    intensity = np.linspace(0, 1, LEVELS)[None, :] ** gamma
    lab = np.empty((steps, LEVELS, 3))
    floor = HAZE_LIGHTNESS * (1 - trust) ** 1.2
    ceiling = 0.72 + 0.25 * trust
    # The lightness of the grey map, so that the overlay is as bright as the image beside it.
    grey = oklab(np.repeat(intensity[..., None], 3, axis=-1))[..., 0]
    lab[..., 0] = floor + (ceiling - floor) * grey
    # Colour is strongest at middle lightness and fades where trust or light is missing.
    strength = (0.25 + 0.75 * trust) * (4 * intensity * (1.15 - intensity)).clip(0, 1)
    strength = np.maximum(strength, 0.25 * (1 - trust))
    lab[..., 1:] = hues[:, None, 1:] * strength[..., None]
    return pack(from_oklab(lab)).reshape(-1)


def to_levels(image: Float[np.ndarray, "y x"], low: float, high: float) -> UInt8[np.ndarray, "y x"]:
    """Intensities as 0 to 255 between two contrast limits."""
    span = max(high - low, 1e-12)
    scaled = (image - np.float32(low)) * np.float32(255 / span)
    return np.asarray(np.clip(scaled, 0, 255), dtype=np.uint8)


def contrast_limits(
    image: Float[np.ndarray, "y x"], low_percent: float, high_percent: float
) -> tuple[float, float]:
    """Contrast limits at two percentiles, of finite pixels, never equal."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, [low_percent, high_percent])
    return float(low), float(high if high > low else low + 1)


def binned(image: Float[np.ndarray, "y x"], factor: int) -> Float[np.ndarray, "by bx"]:
    """Means over square blocks; rows and columns that fill no block are left out."""
    if factor == 1:
        return image
    height, width = (size // factor * factor for size in image.shape)
    total = np.zeros((height // factor, width // factor), np.float32)
    for y in range(factor):
        for x in range(factor):
            total += image[y:height:factor, x:width:factor]
    return np.asarray(total / np.float32(factor**2))


def intensity_rgba(
    image: Float[np.ndarray, "y x"], low: float, high: float, name: str = "gray", gamma: float = 1.0
) -> UInt8[np.ndarray, "y x 4"]:
    """One intensity image in a single colour map."""
    return unpack(map_table(name, gamma).take(to_levels(image, low, high)))


def merged_rgba(layers: Sequence[UInt8[np.ndarray, "y x 4"]]) -> UInt8[np.ndarray, "y x 4"]:
    """Images of several channels, each in its own colour, added as light adds."""
    total = np.zeros(layers[0].shape, np.uint16)
    for layer in layers:
        total += layer
    return np.minimum(total, 255).astype(np.uint8)


def faded_rgba(rgba: UInt8[np.ndarray, "y x 4"]) -> UInt8[np.ndarray, "y x 4"]:
    """What is no longer true: without colour, dim and flat, yet never mistaken for darkness."""
    grey = rgba[..., :3].mean(axis=-1, dtype=np.float32)
    faded = np.empty_like(rgba)
    faded[..., :3] = (58 + 0.3 * grey)[..., None]
    faded[..., 3] = 255
    return faded


def confidence_rgba(confidence: Float[np.ndarray, "y x"]) -> UInt8[np.ndarray, "y x 4"]:
    """Confidence from 0 to 1 in colour."""
    return unpack(confidence_table().take(to_levels(confidence, 0, 1)))


def confidence_step(confidence: Float[np.ndarray, "y x"], steps: int) -> UInt8[np.ndarray, "y x"]:
    """Step of each pixel: 0 for the least confidence, ``steps - 1`` for the most."""
    return np.asarray(np.clip(confidence * steps, 0, steps - 1), dtype=np.uint8)


def overlay_rgba(
    image: Float[np.ndarray, "y x"],
    confidence: Float[np.ndarray, "y x"],
    low: float,
    high: float,
    steps: int = 5,
    gamma: float = 1.0,
) -> UInt8[np.ndarray, "y x 4"]:
    """Intensity as lightness, confidence as colour; low confidence fades to a neutral haze."""
    entry = confidence_step(confidence, steps).astype(np.uint16) * np.uint16(LEVELS)
    entry += to_levels(image, low, high)
    return unpack(overlay_table(steps, gamma=gamma).take(entry))


def masked_rgba(
    image: Float[np.ndarray, "y x"],
    confidence: Float[np.ndarray, "y x"],
    low: float,
    high: float,
    threshold: float,
    gamma: float = 1.0,
) -> UInt8[np.ndarray, "y x 4"]:
    """Intensity in grey where the confidence reaches ``threshold``, neutral stripes elsewhere."""
    words = map_table("gray", gamma).take(to_levels(image, low, high))
    height, width = image.shape
    stripe = (np.arange(height)[:, None] + np.arange(width)[None, :]) // 4 % 2
    tints = pack(np.array(MASK_TINTS) / 255)
    np.copyto(words, tints.take(stripe), where=confidence < threshold)
    return unpack(words)


def legend_rgba(steps: int) -> UInt8[np.ndarray, "y x 4"]:
    """Two-dimensional legend: dark to bright from left to right, confidence rising upwards."""
    return unpack(overlay_table(steps).reshape(steps, LEVELS)[::-1])
