"""How many recordings outside a calibration's domain are told, and how many inside are too.

    python benchmarks/domain.py --calibration 60 --inside 300 --outside 300

The recordings are simulated cells of one microscope and one specimen; those outside differ in one
thing each.  Only the first seven time points are looked at; the audit is not asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.confidence.input_domain import InputDomain
from tisr_scope.confidence.input_measures import measure_input
from tisr_scope.simulated_microscope.randomisation import Conditions
from tisr_scope.simulated_microscope.recordings import simulate_cell

OPTICS = KnownOptics(numerical_aperture=1.49, emission_nm=525, pixel_size_um=0.0626)
OUTSIDE: dict[str, dict[str, Any]] = {
    "background 0.5": {"haze": 0.5},
    "background 1": {"haze": 1.0},
    "defocus 0.3 um": {"focus_um": 0.3},
    "defocus 0.5 um": {"focus_um": 0.5},
    "NA 20 % less": {"cutoff_factor": 0.8},
    "clathrin-coated pits": {"specimen": "ccps"},
    "mitochondria": {"specimen": "mitochondria"},
    "offset wrong by 0.3 of the signal": {"offset_error": 0.3},
    "half the light": {"peak_electrons": 10.0},
    "hot pixels": {"hot_pixels": 0.001, "hot_peak": 3.0},
    "single frames": {"exposures": 1},
    "one frame repeated": {"still": 1},
}


def measured(seed: int, changes: Mapping[str, Any], size: int) -> dict[str, float] | None:
    """Measures of one recording of the microscope, with the changes."""
    random = np.random.default_rng(seed)
    usual = Conditions(
        peak_electrons=float(20 * random.uniform(0.93, 1.07)),
        density=float(random.uniform(0.8, 1.25)),
        haze=float(random.uniform(0.03, 0.1)),
    )
    cell = simulate_cell(replace(usual, **changes), seed, frame_shape=(size, size))
    return measure_input(cell.widefield, OPTICS)


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibration", type=int, default=60)
    parser.add_argument("--inside", type=int, default=300)
    parser.add_argument("--outside", type=int, default=300)
    parser.add_argument("--size", type=int, default=128, help="of the frames, in pixels")
    asked = parser.parse_args()

    def told(seed: int, changes: Mapping[str, Any]) -> bool:
        found = measured(seed, changes, asked.size)
        return found is None or bool(domain.objections(found))

    known = {str(s): [measured(s, {}, asked.size)] for s in range(asked.calibration)}
    domain = InputDomain.of({name: [m for m in part if m] for name, part in known.items()})
    alarms = sum(told(5000 + s, {}) for s in range(asked.inside))
    print(f"inside: {alarms} of {asked.inside} labelled ({alarms / asked.inside:.1%})")
    each = max(1, asked.outside // len(OUTSIDE))
    total = 0
    for number, (name, changes) in enumerate(OUTSIDE.items()):
        found = sum(told(9000 + 1000 * number + s, changes) for s in range(each))
        total += found
        print(f"{name:36s} {found} of {each}", flush=True)
    count = each * len(OUTSIDE)
    print(f"outside: {total} of {count} labelled ({total / count:.1%})")


if __name__ == "__main__":
    main()
