"""Small round structures: clathrin-coated pits, lysosomes, peroxisomes.

Each vesicle has a slot in a tile of the sample.  A slot holds one vesicle after another: it
appears, diffuses, perhaps runs along a track, fades, and the next one appears elsewhere in the
tile.  Diffusion is a sum of sinusoids whose squared amplitudes grow with their periods, as the
spectrum of a random walk does, so that any time can be asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tisr_scope.simulated_microscope.emitters import (
    EVEN,
    TILE_UM,
    Emitters,
    Field,
    Labelling,
    normal,
    tiles,
)
from tisr_scope.simulated_microscope.randomness import generator, uniform

_WAVES = 7
_PERIODS_S: Float[np.ndarray, " wave"] = 0.8 * 2.2 ** np.arange(_WAVES)


@dataclass(frozen=True)
class VesicleKind:
    """Geometry and motion of one kind of vesicle; lengths in micrometres, times in seconds."""

    per_um2: float
    radius_um: tuple[float, float]
    filling: float
    """Share of the label in the lumen; the rest is on the surface."""
    flat: bool
    """Whether the surface is a ring in the focal plane (pits) or a sphere seen in projection."""
    emitters: int
    life_s: tuple[float, float]
    diffusion_um2_s: tuple[float, float]
    run_um: float = 0.0
    """Amplitude of directed runs."""
    run_period_s: tuple[float, float] = (30.0, 90.0)


class Vesicles:
    """The vesicles that can be seen in one field."""

    def __init__(
        self, kind: VesicleKind, seed: int, field: Field, labelling: Labelling = EVEN
    ) -> None:
        self._labelling = labelling
        self._kind = kind
        self._field = field
        corners: list[tuple[float, float]] = []
        keys: list[int] = []
        for tile in tiles(field, 2.0):
            random = generator(seed, tile.row, tile.column)
            for number in range(
                int(random.poisson(labelling.density * kind.per_um2 * tile.area_um2))
            ):
                keys.append(int(uniform(seed, tile.row, tile.column, number) * 2**53))
                corners.append((tile.x_um - field.x_um, tile.y_um - field.y_um))
        self._key = np.array(keys, np.int64)
        self._corner = np.array(corners, np.float64).reshape(-1, 2)
        # Labels spread evenly without a visible lattice (low-discrepancy sequence), the same for
        # every vesicle but turned.
        index = np.arange(kind.emitters) + 0.5
        depth = 1 - 2 * ((index * 0.8191725134) % 1)
        surface = np.ones(kind.emitters) if kind.flat else np.sqrt(1 - depth**2)
        inner = index < kind.filling * kind.emitters
        volume = ((index * 0.5497004779) % 1) ** (1 / 3)
        self._label_radius = np.where(inner, surface * volume, surface)
        self._label_angle = 2 * math.pi * ((index * 0.6710436067) % 1)
        self._life = _between(kind.life_s, uniform(1, self._key))
        self._offset = uniform(2, self._key)

    def at(self, time_s: float) -> Emitters:
        """Emitters at a time, relative to the centre of the field."""
        if self._key.size == 0:
            return Emitters.none()
        kind = self._kind
        clock = time_s / self._life + self._offset
        cycle = np.floor(clock).astype(np.int64)
        age = (clock - cycle) * self._life
        fade = np.minimum(0.15 * self._life, 8.0)
        presence = np.clip(np.minimum(age, self._life - age) / fade, 0, 1)
        centre = self._corner + TILE_UM * uniform(3, self._key[:, None], cycle[:, None], _AXES)
        centre += self._walk(time_s, cycle)
        radius = _between(kind.radius_um, uniform(4, self._key, cycle)) * np.sqrt(presence)
        seen = (presence > 0) & self._near(centre)
        centre, radius, presence = centre[seen], radius[seen], presence[seen]
        turn = 2 * math.pi * uniform(5, self._key[seen])
        strength = 0.6 + 0.8 * uniform(6, self._key[seen], cycle[seen])
        # larger vesicles carry more label, about as their surface
        strength *= (radius / np.mean(kind.radius_um)) ** 1.5
        key, labelling = self._key[seen], self._labelling
        if labelling.spread:
            strength *= np.exp(labelling.spread * normal(uniform(15, key), uniform(16, key)))
        angle = turn[:, None] + self._label_angle
        spread = radius[:, None] * self._label_radius
        x = centre[:, 0, None] + spread * np.cos(angle)
        y = centre[:, 1, None] + spread * np.sin(angle)
        brightness = np.broadcast_to((presence * strength)[:, None], x.shape)
        if labelling.patchiness or labelling.gaps:
            place = np.arange(x.shape[1])
            around = uniform(17, key[:, None], place) * uniform(18, key[:, None], place // 4)
            uneven = np.exp(labelling.patchiness * (4 * around - 1))
            brightness = brightness * np.where(around < 0.5 * labelling.gaps, 0, uneven)
        z = None
        if labelling.depth_um:
            height = labelling.depth_um * normal(uniform(19, key), uniform(20, key))
            z = np.broadcast_to(height[:, None], x.shape).ravel().astype(np.float32)
        return Emitters(
            x.ravel().astype(np.float32),
            y.ravel().astype(np.float32),
            brightness.ravel().astype(np.float32),
            z,
        )

    def _walk(self, time_s: float, cycle: np.ndarray) -> Float[np.ndarray, "slot xy"]:
        kind = self._kind
        slot, turn = self._key[:, None, None], cycle[:, None, None]
        axis, wave = _AXES[None, :, None], np.arange(_WAVES)[None, None, :]
        diffusion = _between(kind.diffusion_um2_s, uniform(7, self._key))[:, None, None]
        period = _PERIODS_S * (0.8 + 0.4 * uniform(8, slot, axis, wave))
        # mean square displacement of the sum follows 4 D t between the shortest and longest period
        amplitude = np.sqrt(0.16 * diffusion * period)
        phase = 2 * math.pi * uniform(9, slot, turn, axis, wave)
        walk: Float[np.ndarray, "slot xy"] = (
            amplitude * np.sin(2 * math.pi * time_s / period + phase)
        ).sum(axis=2)
        if kind.run_um:
            every = _between(kind.run_period_s, uniform(10, self._key))
            swing = np.tanh(
                3 * np.sin(2 * math.pi * (time_s / every + uniform(11, self._key, cycle)))
            )
            heading = 2 * math.pi * uniform(12, self._key, cycle)
            length = kind.run_um * uniform(13, self._key, cycle) * swing
            walk += np.stack((length * np.cos(heading), length * np.sin(heading)), axis=1)
        return walk

    def _near(self, centre: np.ndarray) -> np.ndarray:
        slack = self._kind.radius_um[1]
        near: np.ndarray = (np.abs(centre[:, 0]) < self._field.half_width_um + slack) & (
            np.abs(centre[:, 1]) < self._field.half_height_um + slack
        )
        return near


_AXES = np.arange(2)


def _between(limits: tuple[float, float], share: np.ndarray) -> np.ndarray:
    return limits[0] + (limits[1] - limits[0]) * share
