"""Networks of thin tubes that meet three at a time: the endoplasmic reticulum at the cell's rim.

The tubes are the edges of the Voronoi diagram of points that stand one in each cell of a square
lattice, so that a network is a function of the place in the sample; it sways as a whole in a few
travelling waves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import Voronoi
from scipy.special import gammaincinv

from tisr_scope.simulated_microscope.emitters import EVEN, Emitters, Field, Labelling, normal
from tisr_scope.simulated_microscope.randomness import uniform

_WAVES = 8
_SLACK_UM = 2.0
"""Lattice beyond the field that its edges depend on."""


@dataclass(frozen=True)
class TubeNetworkKind:
    """Geometry and motion of a network of tubes."""

    junctions_per_um2: float
    tube_radius_um: float
    emitters_per_um: float
    label_variance: float
    motion_um: float
    """Root mean square of the sway along each axis."""
    motion_period_s: tuple[float, float]


class TubeNetwork:
    """The tubes that can be seen in one field."""

    def __init__(
        self, kind: TubeNetworkKind, seed: int, field: Field, labelling: Labelling = EVEN
    ) -> None:
        # A Voronoi diagram has two junctions for each of its points.
        step = math.sqrt(2 / (kind.junctions_per_um2 * labelling.density))
        starts, ends = _edges(seed, field, step)
        keep = _visible(starts, field) | _visible(ends, field)
        starts, ends = starts[keep], ends[keep]
        length = np.hypot(*(ends - starts).T)
        # An edge is known by its middle, wherever it is seen from.
        key = np.rint(1e4 * (starts + ends)).astype(np.int64)
        count = np.floor(kind.emitters_per_um * length + uniform(seed, 31, *key.T)).astype(int)
        of = np.repeat(np.arange(len(starts)), count)
        number = np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)

        def chance(what: int) -> Float[np.ndarray, " n"]:
            return uniform(seed, what, *key[of].T, number)

        share, turn = chance(40), 2 * math.pi * chance(41)
        along = (ends - starts)[of] / np.maximum(length, 1e-6)[of, None]
        side = kind.tube_radius_um * np.sin(turn)
        place = starts[of] + share[:, None] * (ends - starts)[of]
        place += side[:, None] * np.stack((-along[:, 1], along[:, 0]), axis=1)
        whole = np.exp(
            labelling.spread * normal(uniform(seed, 42, *key.T), uniform(seed, 43, *key.T))
        )
        shape = 1 / kind.label_variance
        brightness = whole[of] * gammaincinv(shape, chance(44)) / shape
        cell = np.floor(place / 0.4).astype(np.int64)
        patch = normal(uniform(seed, 32, *cell.T), uniform(seed, 33, *cell.T))
        brightness *= np.exp(labelling.patchiness * patch)
        brightness *= uniform(seed, 34, *cell.T) >= labelling.gaps
        self._place, self._brightness = place, brightness.astype(np.float32)
        self._field = field
        self._waves = _waves(kind, seed)
        self._z = None
        if labelling.depth_um:
            rise = self._waves_at(37, 9.0).sum(axis=1) / math.sqrt(_WAVES / 2)
            self._z = (labelling.depth_um * rise).astype(np.float32)
        self._phase = self._waves_at(36, 6.0, arguments=True)

    def at(self, time_s: float) -> Emitters:
        """Emitters at a time, relative to the centre of the field."""
        if len(self._place) == 0:
            return Emitters.none()
        amplitude, rate = self._waves
        sway = np.sin(self._phase + 2 * math.pi * time_s * rate) @ amplitude
        place = self._place + sway - (self._field.x_um, self._field.y_um)
        x, y = place.T.astype(np.float32)
        return Emitters(x, y, self._brightness, self._z)

    def _waves_at(
        self, number: int, shortest_um: float, *, arguments: bool = False
    ) -> Float[np.ndarray, "n wave"]:
        wave = np.arange(_WAVES)
        angle = 2 * math.pi * uniform(number, wave)
        length = shortest_um * (1 + uniform(number + 50, wave))
        x, y = self._place.T
        along = (x[:, None] * np.cos(angle) + y[:, None] * np.sin(angle)) / length
        phase = 2 * math.pi * (along + uniform(number + 100, wave))
        found: Float[np.ndarray, "n wave"] = phase if arguments else np.sin(phase)
        return found


def _edges(
    seed: int, field: Field, step: float
) -> tuple[Float[np.ndarray, "n xy"], Float[np.ndarray, "n xy"]]:
    """Both ends of every edge near the field, in micrometres of the sample."""
    columns, rows = (
        np.arange(
            math.floor((centre - half - _SLACK_UM) / step),
            math.floor((centre + half + _SLACK_UM) / step) + 1,
        )
        for centre, half in (
            (field.x_um, field.half_width_um),
            (field.y_um, field.half_height_um),
        )
    )
    column, row = (a.ravel() for a in np.meshgrid(columns, rows))
    jitter = np.stack((uniform(seed, 30, row, column, 0), uniform(seed, 30, row, column, 1)), 1)
    points = step * (np.stack((column, row), axis=1) + jitter)
    diagram = Voronoi(points)
    pairs = np.array([pair for pair in diagram.ridge_vertices if min(pair) >= 0]).reshape(-1, 2)
    ends = diagram.vertices[pairs]
    # The same end first, whatever the order of the points.
    turned = ends[:, 0, 0] > ends[:, 1, 0]
    ends[turned] = ends[turned, ::-1]
    return ends[:, 0], ends[:, 1]


def _visible(place: Float[np.ndarray, "n xy"], field: Field) -> np.ndarray:
    near: np.ndarray = field.contains(place[:, 0], place[:, 1], 0.5)
    return near


def _waves(
    kind: TubeNetworkKind, seed: int
) -> tuple[Float[np.ndarray, "wave xy"], Float[np.ndarray, " wave"]]:
    wave = np.arange(_WAVES)
    low, high = kind.motion_period_s
    rate = 1 / (low * (high / low) ** uniform(seed, 35, wave))
    heading = 2 * math.pi * uniform(seed, 38, wave)
    amplitude = kind.motion_um * math.sqrt(4 / _WAVES)
    return amplitude * np.stack((np.cos(heading), np.sin(heading)), axis=1), rate
