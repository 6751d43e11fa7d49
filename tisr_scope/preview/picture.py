"""Pictures that are computed only where and as finely as they are looked at.

A picture knows its size in pixels and makes RGBA of any part of itself, binned to what the screen
can show.  The same picture, whole and unbinned, goes into snapshots and movies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from tisr_scope.preview import colour

Part = tuple[slice, slice]
Rgba = UInt8[np.ndarray, "y x 4"]


@dataclass(frozen=True)
class Contrast:
    """How intensities become brightness: limits, gamma and colour map."""

    low: float
    high: float
    gamma: float = 1.0
    lut: str = "gray"

    def rgba(self, image: Float[np.ndarray, "y x"]) -> Rgba:
        """Pixels of an image."""
        return colour.intensity_rgba(image, self.low, self.high, self.lut, self.gamma)


@dataclass(frozen=True)
class Picture:
    """Pixels on demand.

    Attributes
    ----------
    shape : tuple of int
        Height and width in pixels.
    render : callable
        RGBA of a part (rows, columns), each block of ``factor`` pixels a side made one.
    """

    shape: tuple[int, int]
    render: Callable[[Part, int], Rgba]

    def whole(self) -> Rgba:
        """Every pixel."""
        return self.render((slice(None), slice(None)), 1)

    def faded(self) -> Picture:
        """The same, marked as no longer true."""
        return Picture(
            self.shape, lambda part, factor: colour.faded_rgba(self.render(part, factor))
        )


def intensity(image: Float[np.ndarray, "y x"], contrast: Contrast) -> Picture:
    """An image in one colour map."""
    return Picture(
        _shape(image), lambda part, factor: contrast.rgba(colour.binned(image[part], factor))
    )


def confidence(values: Float[np.ndarray, "y x"]) -> Picture:
    """Confidence in its colour map."""
    return Picture(
        _shape(values),
        lambda part, factor: colour.confidence_rgba(colour.binned(values[part], factor)),
    )


def overlay(
    image: Float[np.ndarray, "y x"],
    values: Float[np.ndarray, "y x"],
    contrast: Contrast,
    steps: int,
) -> Picture:
    """Intensity as lightness, confidence as colour."""
    return Picture(
        _shape(image),
        lambda part, factor: colour.overlay_rgba(
            colour.binned(image[part], factor),
            colour.binned(values[part], factor),
            contrast.low,
            contrast.high,
            steps,
            contrast.gamma,
        ),
    )


def masked(
    image: Float[np.ndarray, "y x"],
    values: Float[np.ndarray, "y x"],
    contrast: Contrast,
    threshold: float,
) -> Picture:
    """Intensity where the confidence reaches a threshold, stripes elsewhere."""
    return Picture(
        _shape(image),
        lambda part, factor: colour.masked_rgba(
            colour.binned(image[part], factor),
            colour.binned(values[part], factor),
            contrast.low,
            contrast.high,
            threshold,
            contrast.gamma,
        ),
    )


def merged(pictures: Sequence[Picture]) -> Picture:
    """Several channels added; they have the same size."""
    if len(pictures) == 1:
        return pictures[0]
    return Picture(
        pictures[0].shape,
        lambda part, factor: colour.merged_rgba([p.render(part, factor) for p in pictures]),
    )


def _shape(image: Float[np.ndarray, "y x"]) -> tuple[int, int]:
    height, width = image.shape
    return int(height), int(width)
