"""The recordings that a calibration is valid for, by what their frames show.

Every measure of a recording must lie where those of the calibration's recordings lie, one by one
and all together (Hotelling's prediction region), with limits that a recording of the same kind
misses less than once in a hundred times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Self

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy import stats

from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.confidence.input_measures import BLOCK, MEASURES, measure_input
from tisr_scope.errors import CalibrationError
from tisr_scope.profiles.schema import Frozen

FALSE_ALARMS_EACH = 1e-4
"""Of one measure."""
FALSE_ALARMS_TOGETHER = 5e-4
"""Of a group of measures."""
GROUPS = {
    "light": ("signal", "background", "noise", "peaks", "coverage"),
    "sharpness and shape": ("spectrum_1", "spectrum_2", "spectrum_3", "lines"),
    "camera": ("noise", "repeats", "pattern_noise", "hot"),
    "everything": tuple(MEASURES),
}
"""Measures that belong together: a rare combination of usual values is outside as well."""
LEAST_SPREAD = 0.02
"""Recordings that are alike by chance must not make a narrow domain."""
SHRINKAGE = 0.05
"""Of the correlations towards none, so that their inverse is tame."""
SURPLUS = 3
"""Recordings for each measure of a group, from which it is judged together."""
MINIMUM_RECORDINGS = 8
"""With fewer, next to nothing could be outside."""
NAMED = 3
"""Measures that an objection names."""
SPACING = 2 * BLOCK
"""Time points from one measured block to the next."""

Values = tuple[float, ...]


class InputDomain(Frozen):
    """Ranges of the measures of :mod:`~tisr_scope.confidence.input_measures`."""

    measures: tuple[str, ...]
    mean: Values
    spread: Values
    """Standard deviation over recordings and time."""
    correlation: tuple[Values, ...]
    recordings: Annotated[int, Field(ge=2)]

    @classmethod
    def of(cls, blocks: Mapping[str, Sequence[Mapping[str, float]]]) -> Self:
        """Domain of the recordings of a calibration: the measured blocks of each, by name.

        Raises
        ------
        CalibrationError
            If fewer than two recordings could be measured.
        """
        rows = [block for part in blocks.values() for block in part]
        recordings = sum(bool(part) for part in blocks.values())
        if recordings < 2:
            raise CalibrationError(
                f"{recordings} recordings show no range of light and background",
                remedy=f"calibrate with {MINIMUM_RECORDINGS} recordings or more",
            )
        names = tuple(MEASURES)
        table = np.array([[row[name] for name in names] for row in rows])
        spread = np.maximum(table.std(axis=0, ddof=1), LEAST_SPREAD)
        standard = (table - table.mean(axis=0)) / spread
        correlation = standard.T @ standard / (len(table) - 1)
        np.fill_diagonal(correlation, 1.0)
        return cls(
            measures=names,
            mean=tuple(table.mean(axis=0).tolist()),
            spread=tuple(spread.tolist()),
            correlation=tuple(map(tuple, correlation.tolist())),
            recordings=recordings,
        )

    def objections(self, found: Mapping[str, float]) -> list[str]:
        """In words, what puts a block of frames outside; empty where it is inside."""
        if self.recordings < MINIMUM_RECORDINGS:
            return [
                f"the calibration was made of {self.recordings} recordings, at least "
                f"{MINIMUM_RECORDINGS} show what it is valid for"
            ]
        deviation = np.array(
            [
                (found[name] - mean) / spread
                for name, mean, spread in zip(self.measures, self.mean, self.spread, strict=True)
            ]
        )
        limit = self._limit
        outside = np.flatnonzero(np.abs(deviation) > limit)
        worst = outside[np.argsort(-np.abs(deviation[outside]))][:NAMED]
        if len(worst):
            return [self._told(int(n), found, limit) for n in worst]
        for group, names in GROUPS.items():
            places = [self.measures.index(name) for name in names]
            if self.recordings < SURPLUS * len(places):
                continue
            distance, most = self._distance(deviation, places)
            if distance > most:
                parts = sorted(places, key=lambda n: -abs(deviation[n]))[:2]
                usual = "; ".join(self._told(n, found, limit) for n in parts)
                return [
                    f"{group} of the frames is unlike that of the calibration (distance "
                    f"{distance:.1f}, limit {most:.1f}), most in: {usual}"
                ]
        return []

    @property
    def _limit(self) -> float:
        """Standard deviations of a new recording, prediction from so many."""
        n = self.recordings
        return float(stats.t.ppf(1 - FALSE_ALARMS_EACH / 2, n - 1) * np.sqrt(1 + 1 / n))

    def _distance(
        self, deviation: Float[np.ndarray, " measure"], places: Sequence[int]
    ) -> tuple[float, float]:
        """Of a block from the middle of the domain, and its limit (Hotelling)."""
        n, p = self.recordings, len(places)
        own = np.array(self.correlation)[np.ix_(places, places)]
        shrunk = (1 - SHRINKAGE) * own + SHRINKAGE * np.eye(p)
        part = deviation[list(places)]
        square = float(part @ np.linalg.solve(shrunk, part))
        quantile = stats.f.ppf(1 - FALSE_ALARMS_TOGETHER, p, n - p)
        return float(np.sqrt(square)), float(np.sqrt(p * (n * n - 1) / (n * (n - p)) * quantile))

    def _told(self, n: int, found: Mapping[str, float], limit: float) -> str:
        name = self.measures[n]
        measure = MEASURES[name]
        low, high = (
            measure.shown(self.mean[n] + sign * limit * self.spread[n]) for sign in (-1, 1)
        )
        return (
            f"{measure.words} {measure.shown(found[name]):.3g}{measure.unit}, "
            f"calibrated was {low:.3g} to {high:.3g}"
        )


def block_starts(frames: int) -> list[int]:
    """First time points of the blocks that are measured; the last block ends with the last."""
    if frames < 2:
        return []
    last = max(frames - BLOCK, 0)
    return sorted({*range(0, last + 1, SPACING), last})


def measure_blocks(
    frame: Callable[[int], Float[np.ndarray, "y x"]], total: int, optics: KnownOptics
) -> Iterator[tuple[int, dict[str, float]]]:
    """First time point and measures of every block of a recording that can be measured."""
    for start in block_starts(total):
        block = np.stack([frame(t) for t in range(start, min(start + BLOCK, total))])
        found = measure_input(block, optics)
        if found is not None:
            yield start, found


def first_objection(
    domain: InputDomain,
    frame: Callable[[int], Float[np.ndarray, "y x"]],
    total: int,
    optics: KnownOptics,
) -> tuple[int, list[str]] | None:
    """Time point from which a recording is outside, and why; None where all of it is inside."""
    inside = False
    for start, found in measure_blocks(frame, total, optics):
        reasons = domain.objections(found)
        if reasons:
            since = f"from time point {start + 1}: " if start else ""
            return start, [since + reason for reason in reasons]
        inside = True
    return None if inside else (0, ["light and background of the frames cannot be measured"])
