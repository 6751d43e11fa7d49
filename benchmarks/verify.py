"""How often the proof of the running order is wrong, and what it finds.

Sets of one time point come from the simulated microscope, its world driven directly: every
specimen, ratios of levels, bleaching, dim and bright samples, and patterns without fringes.  Clean
sets count false alarms; sets with a slip of laser or SLM count what is found, and whether the first
frame named is right.

    python benchmarks/verify.py --sets 500
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tisr_scope.order_proof.check import check_time_point
from tisr_scope.order_proof.commanded import Commanded
from tisr_scope.running_order.patterns import Pattern, even_slm_image, slm_image
from tisr_scope.simulated_microscope.devices import _pattern
from tisr_scope.simulated_microscope.specimens import SPECIMENS
from tisr_scope.simulated_microscope.world import Line, World

PIXEL_UM, PERIOD_UM, NA, EMISSION_NM = 0.0626, 0.1807, 1.49, 525.0
SHAPE = (128, 128)
LEVELS = ((1.0, 5.0, 25.0), (1.0, 2.0, 4.0), (1.0, 1.1, 1.2), (1.0, 25.0), (1.0, 2.0, 5.0, 10.0))
BLEACH_MJ = (1000.0, 100.0, 20.0)
PEAKS = (20.0, 5.0, 100.0)
PHASES = ((3, 3), (3, 5), (5, 5))

Shown = Callable[[int], int]


@dataclass(frozen=True)
class Slip:
    """What laser and SLM show at exposure ``f``, and the first frame that is wrong."""

    name: str
    laser: Shown
    slm: Shown


def _same(f: int) -> int:
    return f


def slips(levels: int, frames: int) -> list[Slip]:
    """One of each kind."""
    middle, top = frames // 2 + 1, levels - 1
    return [
        Slip("levels exchanged", lambda f: f - f % levels + top - f % levels, _same),
        Slip("laser: trigger lost", lambda f: f - (f >= middle), _same),
        Slip("laser: trigger doubled", lambda f: f + (f >= middle), _same),
        Slip("laser: lost at the last frame", lambda f: f - (f >= frames - 1), _same),
        Slip("SLM: one frame late", _same, lambda f: f - 1),
        Slip("SLM: one pattern late", _same, lambda f: f - levels),
        Slip("SLM: trigger lost", _same, lambda f: f - (f >= middle)),
        Slip("SLM: trigger doubled", _same, lambda f: f + (f >= middle)),
        Slip("both: camera frame lost", lambda f: f + (f >= middle), lambda f: f + (f >= middle)),
    ]


class Sets:
    """Time points of the simulated microscope."""

    def __init__(self) -> None:
        self._patterns: dict[tuple[int, int, bool], list] = {}

    def patterns(self, orientations: int, phases: int, even: bool) -> list:
        """SLM images of a run, orientation by orientation."""
        key = (orientations, phases, even)
        if key not in self._patterns:
            shape = (4 * SHAPE[0], 4 * SHAPE[1])
            self._patterns[key] = [
                _pattern(
                    even_slm_image(shape)
                    if even
                    else slm_image(
                        Pattern(
                            period_um=PERIOD_UM,
                            angle_rad=_angle(o, orientations),
                            phase_rad=2 * math.pi * p / phases,
                        ),
                        shape,
                        PIXEL_UM / 4,
                    )
                )
                for o in range(orientations)
                for p in range(phases)
            ]
        return self._patterns[key]

    def make(
        self,
        specimen: str,
        seed: int,
        levels: tuple[float, ...],
        bleach_mj: float,
        peak: float,
        counts: tuple[int, int] = (3, 3),
        even: bool = False,
        laser: Shown = _same,
        slm: Shown = _same,
    ) -> np.ndarray:
        """Frames of one time point in the order of exposure."""
        patterns = self.patterns(*counts, even)
        frames = len(patterns) * len(levels)
        world = World(frame_shape=SHAPE, peak_photons=peak, bleach_dose_mj=bleach_mj)
        world.shutter_open = True
        line = world.lines["488"] = Line(0.0, specimen, EMISSION_NM)
        world.new_sample(seed)
        images = []
        for f in range(frames):
            world.show(patterns[(slm(f) % frames) // len(levels)])
            line.power_mw = levels[laser(f) % frames % len(levels)]
            images.append(world.expose().image)
        return np.array(images)


def _angle(orientation: int, orientations: int) -> float:
    return 1.48 + math.pi * orientation / orientations


def commanded(levels: tuple[float, ...], counts: tuple[int, int]) -> Commanded:
    """The plan of a set."""
    angles = [_angle(o, counts[0]) for o in range(counts[0])]
    carriers = tuple((math.cos(a) / PERIOD_UM, math.sin(a) / PERIOD_UM) for a in angles)
    return Commanded(*counts, levels, carriers, PIXEL_UM, 2e3 * NA / EMISSION_NM, 100.0)


def false_alarms(sets: int, seed: int) -> dict[str, dict]:
    """Clean sets with every combination of level ratio, bleaching, brightness and patterns."""
    source, result = Sets(), {}
    kinds = list(itertools.product(LEVELS, BLEACH_MJ, PEAKS, PHASES, (False, False, True)))
    rng = np.random.default_rng(seed)
    for specimen in SPECIMENS:
        order = rng.permutation(len(kinds))
        alarms, doubts, seen, fringed, told, begun = 0, 0, 0, 0, [], time.perf_counter()
        for n in range(sets):
            levels, bleach, peak, counts, even = kinds[order[n % len(kinds)]]
            counts = (3, 3) if n % 2 else counts
            frames = source.make(specimen, seed + n, levels, bleach, peak, counts, even)
            verdict = check_time_point(frames, commanded(levels, counts))
            alarms += bool(verdict.wrong)
            doubts += any(f.kind == "ratio" for f in verdict.faults)
            fringed += not even
            seen += verdict.pattern_seen and not even
            if verdict.faults and len(told) < 5:
                told.append(
                    [str((levels, bleach, peak, counts, even, seed + n))]
                    + [f.text for f in verdict.faults]
                )
        result[specimen] = {
            "sets": sets,
            "false_alarms": alarms,
            "doubts": doubts,
            "fringes_seen": f"{seen} of {fringed}",
            "seconds": round(time.perf_counter() - begun),
            "told": told,
        }
        print(specimen, json.dumps(result[specimen]), flush=True)
    return result


def found(sets: int, seed: int, levels: tuple[float, ...]) -> dict[str, dict[str, str]]:
    """Sets with one slip each: how many are found, and name the first wrong frame."""
    source, result = Sets(), {}
    plan = commanded(levels, (3, 3))
    frames = plan.exposures
    for slip in slips(len(levels), frames):
        row = {}
        power = [levels[slip.laser(f) % frames % len(levels)] for f in range(frames)]
        pattern = [(slip.slm(f) % frames) // len(levels) for f in range(frames)]
        wrong = [
            f
            for f in range(frames)
            if power[f] != levels[f % len(levels)] or pattern[f] != f // len(levels)
        ]
        for specimen in SPECIMENS:
            hits = named = 0
            for n in range(sets):
                stack = source.make(
                    specimen, seed + n, levels, 1000.0, 20.0, laser=slip.laser, slm=slip.slm
                )
                verdict = check_time_point(stack, plan)
                hits += bool(verdict.wrong)
                named += any(f.frames[0] == wrong[0] for f in verdict.wrong)
            row[specimen] = f"{hits}/{sets}, first frame right {named}"
        result[slip.name] = row
        print(slip.name, json.dumps(row), flush=True)
    return result


def main() -> None:
    """Run both parts and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=100, help="clean sets of each specimen")
    parser.add_argument("--faulty", type=int, default=20, help="sets of each slip and specimen")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = {
        "clean": false_alarms(given.sets, given.seed),
        "found": found(given.faulty, given.seed, LEVELS[0]),
    }
    if given.out:
        given.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
