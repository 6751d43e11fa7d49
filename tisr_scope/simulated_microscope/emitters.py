"""What all specimens share: point emitters, the field that is looked at, and tiles of the sample.

The sample has no end: it is divided into square tiles, and what lies in a tile follows from the
seed and the tile's indices alone, so the stage may go anywhere and come back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32

TILE_UM = 6.0


@dataclass(frozen=True)
class Emitters:
    """Point emitters; positions in micrometres from the centre of the field."""

    x_um: Float32[np.ndarray, " n"]
    y_um: Float32[np.ndarray, " n"]
    brightness: Float32[np.ndarray, " n"]
    z_um: Float32[np.ndarray, " n"] | None = None
    """Height over the focal plane of a flat sample; None where all lie in it."""

    @staticmethod
    def none() -> Emitters:
        """No emitters."""
        empty = np.zeros(0, np.float32)
        return Emitters(empty, empty, empty)


@dataclass(frozen=True)
class Labelling:
    """How densely structures lie, how high, and how evenly their label is spread on them."""

    density: float = 1.0
    """Structures over the usual number."""
    bend: float = 1.0
    """Bending of strands over the usual."""
    labels: float = 1.0
    """Labels on a strand over the usual number; their light together stays the same."""
    depth_um: float = 0.0
    """Standard deviation of the heights of structures, each of which also rises and falls."""
    spread: float = 0.0
    """Standard deviation of the logarithm of the brightness of whole structures."""
    patchiness: float = 0.0
    """Standard deviation of the logarithm of the brightness along a structure."""
    gaps: float = 0.0
    """Part of the length of a structure that has no label."""


EVEN = Labelling()


def normal(uniform_1: np.ndarray, uniform_2: np.ndarray) -> np.ndarray:
    """Normal numbers from two uniform ones (Box and Muller)."""
    radius = np.sqrt(-2 * np.log1p(-uniform_1))
    found: np.ndarray = radius * np.cos(2 * math.pi * uniform_2)
    return found


@runtime_checkable
class Population(Protocol):
    """The structures of one specimen that can be seen in one field."""

    def at(self, time_s: float) -> Emitters:
        """Emitters at any time."""


@dataclass(frozen=True)
class Field:
    """Part of the sample that is looked at: centre (stage position) and half-size."""

    x_um: float
    y_um: float
    half_width_um: float
    half_height_um: float

    def contains(
        self,
        x_um: Float[np.ndarray, "*n"] | float,
        y_um: Float[np.ndarray, "*n"] | float,
        slack_um: float = 0.0,
    ) -> Bool[np.ndarray, "*n"]:
        """Which points of the sample lie in the field, or within ``slack_um`` of it."""
        across = np.abs(x_um - self.x_um) < self.half_width_um + slack_um
        along = np.abs(y_um - self.y_um) < self.half_height_um + slack_um
        inside: Bool[np.ndarray, "*n"] = np.asarray(across & along)
        return inside


@dataclass(frozen=True)
class Tile:
    """One square of the sample."""

    row: int
    column: int

    @property
    def x_um(self) -> float:
        """Position of the left edge."""
        return self.column * TILE_UM

    @property
    def y_um(self) -> float:
        """Position of the upper edge."""
        return self.row * TILE_UM

    @property
    def area_um2(self) -> float:
        """Area in square micrometres."""
        return TILE_UM * TILE_UM

    def place(self, random: np.random.Generator) -> tuple[float, float]:
        """A random point (x, y) of the tile."""
        x, y = random.uniform(0, TILE_UM, 2)
        return self.x_um + float(x), self.y_um + float(y)


def tiles(field: Field, reach_um: float) -> Iterator[Tile]:
    """Tiles that touch the field enlarged by ``reach_um`` on every side."""
    rows, columns = (
        range(
            math.floor((centre - half - reach_um) / TILE_UM),
            math.floor((centre + half + reach_um) / TILE_UM) + 1,
        )
        for centre, half in (
            (field.y_um, field.half_height_um),
            (field.x_um, field.half_width_um),
        )
    )
    for row in rows:
        for column in columns:
            yield Tile(row, column)
