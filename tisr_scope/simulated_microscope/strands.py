"""Long flexible structures: microtubules (thin) and mitochondria (wide tubes).

A strand is a curved line of labels on the surface of a tube.  It drifts, bends along its normal
in a few travelling modes, and a share of the strands grows and shrinks at one end (dynamic
instability).  All motion is a closed function of time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from tisr_scope.simulated_microscope.emitters import EVEN, Emitters, Field, Labelling, normal, tiles
from tisr_scope.simulated_microscope.randomness import generator, uniform

_MODES = 4
_CYCLE_S = 45.0
"""One growth and shrinkage of a dynamic end."""


@dataclass(frozen=True)
class StrandKind:
    """Geometry and motion of one kind of strand; lengths in micrometres, times in seconds."""

    per_um2: float
    """Strands that have their middle in one square micrometre."""
    length_um: tuple[float, float]
    tube_radius_um: tuple[float, float]
    emitters_per_um: float
    label_variance: float
    """Relative variance of the brightness of single labels."""
    bend_rad: float
    """Typical deviation of the heading along a strand."""
    direction_spread_rad: float
    """Spread of the strands about the local main direction."""
    wobble_rms_um: float
    wobble_period_s: tuple[float, float]
    drift_um: float
    drift_period_s: tuple[float, float]
    dynamic_fraction: float = 0.0
    growth_um_s: tuple[float, float] = (0.1, 0.3)
    shrinkage_um_s: tuple[float, float] = (0.2, 0.5)
    growth_um: tuple[float, float] = (0.5, 4.0)
    crowding: float = 0.6
    """Relative variation of the density from place to place."""
    strand_variance: float = 0.0
    """Variance of the logarithm of the brightness of whole strands (bundles)."""
    lamella_um: float = 0.0
    """Distance of sheets across the tube that hold the label (cristae); 0 labels its surface."""


class Strands:
    """The strands that can be seen in one field."""

    def __init__(
        self, kind: StrandKind, seed: int, field: Field, labelling: Labelling = EVEN
    ) -> None:
        parts: list[_Strand] = []
        motion_um = kind.drift_um + 4 * kind.wobble_rms_um
        for tile in tiles(field, kind.length_um[1] / 2):
            random = generator(seed, tile.row, tile.column)
            crowd = max(0.0, 1 + kind.crowding * float(random.standard_normal()))
            main = _main_direction(seed, tile.x_um, tile.y_um)
            for number in range(
                int(random.poisson(labelling.density * kind.per_um2 * tile.area_um2 * crowd))
            ):
                key = int(uniform(seed, tile.row, tile.column, number) * 2**53)
                middle, length = tile.place(random), float(random.uniform(*kind.length_um))
                if field.contains(*middle, length / 2 + motion_um):
                    parts.append(_strand(kind, key, middle, length, main, labelling))
        kept = [field.contains(part.x_um, part.y_um, motion_um) for part in parts]
        pairs = [(part, keep) for part, keep in zip(parts, kept, strict=True) if keep.any()]
        strand_of = [np.full(int(keep.sum()), i) for i, (_, keep) in enumerate(pairs)]
        self._strand: Int[np.ndarray, " n"] = _joined(strand_of, np.int32)
        self._x = _joined([part.x_um[keep] - field.x_um for part, keep in pairs])
        self._y = _joined([part.y_um[keep] - field.y_um for part, keep in pairs])
        self._normal_x = _joined([part.normal_x[keep] for part, keep in pairs])
        self._normal_y = _joined([part.normal_y[keep] for part, keep in pairs])
        self._arc = _joined([part.arc_um[keep] for part, keep in pairs])
        self._brightness = _joined([part.brightness[keep] for part, keep in pairs])
        self._z = _joined([part.z_um[keep] for part, keep in pairs]) if labelling.depth_um else None
        strands = [part for part, _ in pairs]
        self._modes: Float32[np.ndarray, "mode n"] = np.ascontiguousarray(
            _joined([part.modes[keep] for part, keep in pairs]).reshape(-1, _MODES).T
        )
        self._motion = _Motion(
            key=np.array([part.key for part in strands], np.int64),
            length_um=np.array([part.length_um for part in strands]),
            kind=kind,
        )

    def at(self, time_s: float) -> Emitters:
        """Emitters at a time, relative to the centre of the field."""
        if self._x.size == 0:
            return Emitters.none()
        of = self._strand
        offset = np.zeros_like(self._x)
        for shape, amplitude in zip(self._modes, self._motion.bending(time_s), strict=True):
            offset += shape * amplitude.take(of)
        drift_x, drift_y = self._motion.drift(time_s)
        x = self._normal_x * offset
        x += self._x
        x += drift_x.take(of)
        y = self._normal_y * offset
        y += self._y
        y += drift_y.take(of)
        end = self._motion.visible_length(time_s).take(of)
        end -= self._arc
        # a label appears over 30 nm of growth, so that the end does not step
        np.clip(end * np.float32(1 / 0.03), 0, 1, out=end)
        end *= self._brightness
        return Emitters(x, y, end, self._z)


@dataclass(frozen=True)
class _Strand:
    key: int
    length_um: float
    x_um: Float[np.ndarray, " n"]
    y_um: Float[np.ndarray, " n"]
    normal_x: Float[np.ndarray, " n"]
    normal_y: Float[np.ndarray, " n"]
    arc_um: Float[np.ndarray, " n"]
    brightness: Float[np.ndarray, " n"]
    z_um: Float[np.ndarray, " n"]
    modes: Float[np.ndarray, "n mode"]


@dataclass(frozen=True)
class _Motion:
    """What all strands do at a time; random numbers are hashed from each strand's key."""

    key: Int[np.ndarray, " strand"]
    length_um: Float[np.ndarray, " strand"]
    kind: StrandKind

    def bending(self, time_s: float) -> Float32[np.ndarray, "mode strand"]:
        """Amplitude of each bending mode in micrometres."""
        mode = np.arange(_MODES)[:, None]
        low, high = self.kind.wobble_period_s
        period = low * (high / low) ** uniform(1, self.key, mode)
        phase = 2 * math.pi * uniform(2, self.key, mode)
        # two sines (in space and in time), each of mean square one half, in every mode
        amplitude = self.kind.wobble_rms_um * math.sqrt(4 / _MODES)
        wave: Float32[np.ndarray, "mode strand"] = (
            amplitude * np.sin(2 * math.pi * time_s / period + phase)
        ).astype(np.float32)
        return wave

    def drift(self, time_s: float) -> Float32[np.ndarray, "xy strand"]:
        """Shift of each whole strand in micrometres."""
        axis = np.arange(2)[:, None]
        low, high = self.kind.drift_period_s
        period = low + (high - low) * uniform(3, self.key, axis)
        phase = 2 * math.pi * uniform(4, self.key, axis)
        shift: Float32[np.ndarray, "xy strand"] = (
            self.kind.drift_um * np.sin(2 * math.pi * time_s / period + phase)
        ).astype(np.float32)
        return shift

    def visible_length(self, time_s: float) -> Float32[np.ndarray, " strand"]:
        """Arc length up to which each strand is polymerised."""
        kind = self.kind
        dynamic = uniform(5, self.key) < kind.dynamic_fraction
        clock = time_s / _CYCLE_S + uniform(6, self.key)
        cycle = np.floor(clock).astype(np.int64)
        since = (clock - cycle) * _CYCLE_S
        grow = _between(kind.growth_um_s, uniform(7, self.key, cycle))
        shrink = _between(kind.shrinkage_um_s, uniform(8, self.key, cycle))
        longest = np.minimum(kind.growth_um[1], 0.6 * self.length_um)
        height = kind.growth_um[0] + uniform(9, self.key, cycle) * (longest - kind.growth_um[0])
        # growth and shrinkage must both fit into the cycle
        height = np.minimum(height, _CYCLE_S / (1 / grow + 1 / shrink))
        added = np.clip(
            np.minimum(grow * since, height - shrink * (since - height / grow)), 0, None
        )
        short = self.length_um - longest
        length: Float32[np.ndarray, " strand"] = np.where(
            dynamic, short + added, self.length_um + 1
        ).astype(np.float32)
        return length


def _strand(
    kind: StrandKind,
    key: int,
    middle: tuple[float, float],
    length: float,
    main_direction: float,
    labelling: Labelling,
) -> _Strand:
    random = generator(key)
    count = max(4, int(length * kind.emitters_per_um * labelling.labels))
    # stratified positions: even labelling without a visible period
    arc = (np.arange(count) + random.uniform(0, 1, count)) * (length / count)
    if kind.lamella_um:
        sheet = np.floor(arc / kind.lamella_um).astype(np.int64)
        arc = np.minimum((sheet + 0.3 + 0.4 * uniform(12, key, sheet)) * kind.lamella_um, length)
    if random.uniform() < 0.3:
        heading = random.uniform(0, 2 * math.pi)
    else:
        heading = main_direction + kind.direction_spread_rad * random.standard_normal()
        heading += math.pi * random.integers(2)
    direction = np.full(count, heading)
    for wavelength in (2.2 * length, 0.9 * length, 3.0):
        share = labelling.bend * kind.bend_rad * min(1.0, wavelength / 6.0)
        wave = 2 * math.pi * (arc / wavelength + random.uniform())
        direction = direction + share * random.standard_normal() * np.sin(wave)
    step = np.diff(arc, prepend=0.0)
    x, y = np.cumsum(np.cos(direction) * step), np.cumsum(np.sin(direction) * step)
    x += middle[0] - x[count // 2]
    y += middle[1] - y[count // 2]
    normal_x, normal_y = -np.sin(direction), np.cos(direction)
    radius = random.uniform(*kind.tube_radius_um)
    # golden-ratio steps spread the labels evenly around the tube's surface, seen from the side
    turn = 2 * math.pi * ((np.arange(count) * 0.6180339887 + random.uniform()) % 1)
    # hemispherical caps close the tube
    cap = np.clip(np.minimum(arc, length - arc) / radius, 0, 1)
    across = turn / math.pi - 1 if kind.lamella_um else np.sin(turn)
    lateral = radius * np.sqrt(cap * (2 - cap)) * across
    mode = np.arange(_MODES)
    wave_um = 2.0 * 4.0 ** uniform(10, key, mode)
    bundle = math.sqrt(kind.strand_variance) * float(normal(uniform(23, key), uniform(24, key)))
    modes = np.sin(2 * math.pi * (arc[:, None] / wave_um + uniform(11, key, mode)))
    return _Strand(
        key=key,
        length_um=length,
        x_um=x + normal_x * lateral,
        y_um=y + normal_y * lateral,
        normal_x=normal_x,
        normal_y=normal_y,
        arc_um=arc,
        brightness=random.gamma(1 / kind.label_variance, kind.label_variance, count)
        * (math.exp(bundle) / labelling.labels * _label(key, arc, labelling)),
        z_um=_height(key, arc, labelling),
        modes=modes,
    )


def _label(
    key: int, arc_um: Float[np.ndarray, " n"], labelling: Labelling
) -> Float[np.ndarray, " n"]:
    """Brightness along a strand over the usual one: patches of label, and gaps without."""
    if labelling == EVEN:
        return np.ones_like(arc_um)
    whole = labelling.spread * float(normal(uniform(13, key), uniform(14, key)))
    patches = labelling.patchiness * _uneven(15, key, arc_um, (0.2, 4.0))
    label: Float[np.ndarray, " n"] = np.exp(whole + patches)
    if labelling.gaps:
        # The lowest part of a smooth curve along the strand, with soft ends of 50 nm.
        curve = _uneven(17, key, arc_um, (0.5, 5.0))
        label *= np.clip((curve - np.quantile(curve, labelling.gaps)) / 0.1, 0, 1)
    return label


def _height(
    key: int, arc_um: Float[np.ndarray, " n"], labelling: Labelling
) -> Float[np.ndarray, " n"]:
    """Height of a strand over the focal plane: about a height of its own, rising and falling."""
    whole = 0.8 * float(normal(uniform(19, key), uniform(20, key)))
    height: Float[np.ndarray, " n"] = labelling.depth_um * (
        whole + 0.6 * _uneven(21, key, arc_um, (5.0, 20.0))
    )
    return height


def _uneven(
    number: int, key: int, arc_um: Float[np.ndarray, " n"], periods_um: tuple[float, float]
) -> Float[np.ndarray, " n"]:
    """A curve of variance 1 along a strand, a sum of waves."""
    wave = np.arange(6)
    low, high = periods_um
    period = low * (high / low) ** uniform(number, key, wave)
    phase = 2 * math.pi * uniform(number + 1, key, wave)
    curve: Float[np.ndarray, " n"] = np.sin(2 * math.pi * arc_um[:, None] / period + phase).sum(
        axis=1
    ) / math.sqrt(3)
    return curve


def _main_direction(seed: int, x_um: float, y_um: float) -> float:
    """Slowly turning preferred direction, different for every seed."""
    a, b, c = (float(uniform(seed, 77, i)) for i in range(3))
    turn = 0.6 * math.sin(2 * math.pi * (x_um / 45 + b)) + 0.6 * math.sin(
        2 * math.pi * (y_um / 55 + c)
    )
    return math.pi * a + turn


def _between(limits: tuple[float, float], share: np.ndarray) -> np.ndarray:
    return limits[0] + (limits[1] - limits[0]) * share


def _joined(
    arrays: list[np.ndarray], dtype: type[np.float32] | type[np.int32] = np.float32
) -> np.ndarray:
    if not arrays:
        return np.zeros(0, dtype)
    return np.concatenate(arrays).astype(dtype)
