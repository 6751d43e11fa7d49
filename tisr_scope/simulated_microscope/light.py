"""Structured light in the sample, from the image that the SLM really shows.

The SLM is imaged onto the field with pixels four times finer than the camera's:

    I(x, y) = 2 (mean + m (image / 255 - mean))

so black is dark, 128 everywhere is even light of intensity 1, and a grating has its contrast
reduced to the modulation m that the microscope reaches.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from jaxtyping import Float32, UInt8

SLM_OVERSAMPLING = 4
"""SLM pixels per camera pixel along each axis."""


class PatternLight:
    """The light of one SLM image, to be sampled anywhere in the field.

    Parameters
    ----------
    image : uint8 array
        What the SLM shows.
    modulation : float
        Contrast reached in the sample, 0 to 1.
    pixel_um : float
        One SLM pixel in the sample.
    name : hashable
        What this light is known by, where its images are kept; its own without one.
    """

    def __init__(
        self,
        image: UInt8[np.ndarray, "y x"],
        modulation: float,
        pixel_um: float,
        name: Hashable = None,
    ) -> None:
        self.name = object() if name is None else name
        level = image.astype(np.float32) / 255
        mean = float(level.mean(dtype=np.float64))
        self.mean = 2 * mean
        """Mean intensity over the field; even light of grey level 128 has 1."""
        self.dark = mean == 0
        self._pixel_um = pixel_um
        light = 2 * (mean + modulation * (level - mean))
        # Linear interpolation damps a wave by about (2 pi f)^2 / 12 along each axis: undone here.
        self._light: Float32[np.ndarray, "y x"] = _sharpened(_sharpened(light).T).T.copy()

    def at(
        self, x_um: Float32[np.ndarray, "*points"], y_um: Float32[np.ndarray, "*points"]
    ) -> Float32[np.ndarray, "*points"]:
        """Intensity at points (origin at the centre); the rim continues outside the field."""
        height, width = self._light.shape
        column, fx = _cell(x_um, self._pixel_um, width)
        row, fy = _cell(y_um, self._pixel_um, height)
        flat: Float32[np.ndarray, " n"] = self._light.ravel()
        corner = row * np.int32(width) + column
        upper = flat[corner]
        upper += fx * (flat[corner + 1] - upper)
        corner += np.int32(width)
        lower = flat[corner]
        lower += fx * (flat[corner + 1] - lower)
        lower -= upper
        lower *= fy
        light: Float32[np.ndarray, "*points"] = lower + upper
        return light


def _cell(
    position_um: np.ndarray, pixel_um: float, length: int
) -> tuple[np.ndarray, Float32[np.ndarray, "*points"]]:
    position = np.clip(
        position_um * np.float32(1 / pixel_um) + np.float32((length - 1) / 2),
        0,
        np.float32(length - 1.001),
    )
    base = position.astype(np.int32)
    return base, (position - base).astype(np.float32)


def _sharpened(light: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "y x"]:
    padded = np.pad(light, ((1, 1), (0, 0)), mode="reflect", reflect_type="odd")
    curvature = padded[:-2] - 2 * light + padded[2:]
    sharper: Float32[np.ndarray, "y x"] = light - curvature / np.float32(12)
    return sharper
