"""Rotation of input and target about the same point of the sample."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.ndimage import affine_transform


def rotate(
    stack: Float[np.ndarray, "time big_y big_x"], angle_rad: float, size_px: int
) -> Float[np.ndarray, "time y x"]:
    """Central square of a stack, rotated about the centre of the field by cubic splines.

    The centre is a point of the sample, (n - 1) / 2 in pixels, not a pixel: input and target turn
    about the same point although their grids differ, so they stay registered.

    Parameters
    ----------
    stack : array, shape (time, y, x)
    angle_rad : float
        From x towards y.
    size_px : int
        Height and width of the result.
    """
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    matrix = np.array([[cos, -sin], [sin, cos]])
    offset = (np.array(stack.shape[1:]) - 1) / 2 - matrix @ np.full(2, (size_px - 1) / 2)
    rotated = np.empty((len(stack), size_px, size_px), np.float32)
    for frame, out in zip(stack, rotated, strict=True):
        affine_transform(frame, matrix, offset, output_shape=out.shape, output=out, mode="mirror")
    return rotated
