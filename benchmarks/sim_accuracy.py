"""Accuracy of the SIM parameters against an independent generator, as JSON with targets.

    python benchmarks/sim_accuracy.py                   # 6 stacks of 256 x 256 for each cell
    python benchmarks/sim_accuracy.py --first-seed 100  # other samples, patterns and noise

Linear: carrier at 0.92, 0.975 and 1.02 of the optical cut-off (1.02 is TIRF), 20, 100 and 500
photons in the brightest pixels, 1.6 electrons of read noise.  Nonlinear: 5 orientations of 5
phases, harmonics 1.333 and 0.333, 500 photons.  Carrier errors are in frequency samples of the
field, phase errors at its centre.  ``error_over_standard_error`` is the rms of error over reported
standard error, 1 where the standard errors are right.  The generator is plain NumPy, shared with
the tests, and shares no code with the package.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from sim_truth import EMISSION_UM, NA, PIXEL_UM, make_stack

from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import estimate_parameters

LINEAR = {"depths": (0.8,), "orientations": 3, "phases": 3}
NONLINEAR = {"depths": (1.333, 0.333), "orientations": 5, "phases": 5}
BRIGHT = {"carrier_error_px_max": 0.03, "phase_rms_deg": 0.8, "modulation_rms": 0.01}
DIM = {"carrier_error_px_max": 0.05, "phase_rms_deg": 2.0, "modulation_rms": 0.03}
HARMONICS = {"carrier_error_px_max": 0.015}
CELLS = [
    *(
        (LINEAR, ratio, photons, DIM if photons < 100 else BRIGHT)
        for ratio in (0.92, 0.975, 1.02)
        for photons in (20, 100, 500)
    ),
    (NONLINEAR, 0.975, 500, HARMONICS),
]


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(values)))))


def measure(
    kind: dict[str, Any], ratio: float, photons: int, seeds: range, size: int
) -> dict[str, Any]:
    otf = incoherent_otf(NA, 1e3 * EMISSION_UM)
    depths = kind["depths"]
    carrier, seconds, remarks = [], [], 0
    phase: list[list[np.ndarray]] = [[] for _ in depths]
    depth: list[list[np.ndarray]] = [[] for _ in depths]
    relative: dict[str, list[np.ndarray]] = {"carrier": [], "phase": [], "modulation": []}
    for seed in seeds:
        stack = make_stack(
            n=size,
            ratio=ratio,
            seed=seed,
            modulation=depths[0],
            harmonics=depths[1:],
            orientations=kind["orientations"],
            phases=kind["phases"],
        )
        frames = stack.frames(photons, seed)
        start = time.perf_counter()
        found = estimate_parameters(frames, otf, PIXEL_UM, orders=len(depths))
        seconds.append(time.perf_counter() - start)
        remarks += len(found.remarks)
        carrier.append(stack.carrier_error_px(found.carrier))
        relative["carrier"].append(((found.carrier - stack.carrier) / found.carrier_se).ravel())
        for n, true in enumerate(depths):
            turned = stack.phase_error_deg(found.phase_rad[0, :, n], n + 1)
            phase[n].append(turned)
            depth[n].append(found.modulation[0, :, n] - true)
            relative["phase"].append(np.radians(turned) / found.phase_se_rad[0, :, n])
            relative["modulation"].append(depth[n][-1] / found.modulation_se[0, :, n])
    row: dict[str, Any] = {
        "harmonics": len(depths),
        "carrier_over_cutoff": ratio,
        "peak_photons": photons,
        "orientations": sum(c.size for c in carrier),
        "carrier_error_px_median": round(float(np.median(np.concatenate(carrier))), 4),
        "carrier_error_px_max": round(float(np.concatenate(carrier).max()), 4),
        "phase_rms_deg": round(rms(phase[0]), 3),
        "modulation_rms": round(rms(depth[0]), 4),
    }
    for n in range(1, len(depths)):
        row[f"phase_{n + 1}_rms_deg"] = round(rms(phase[n]), 3)
        row[f"modulation_{n + 1}_rms"] = round(rms(depth[n]), 4)
    row["error_over_standard_error"] = {
        name: round(rms(values), 2) for name, values in relative.items()
    }
    row["remarks"] = remarks  # of wrong steps or drift, in stacks that have neither
    row["seconds_per_stack"] = round(float(np.median(seconds)), 3)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stacks", type=int, default=6)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: as PyTorch chooses")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.stacks)
    rows = []
    for kind, ratio, photons, targets in CELLS:
        row = measure(kind, ratio, photons, seeds, arguments.size)
        row["targets"] = {
            name: {"target": target, "met": bool(row[name] <= target)}
            for name, target in targets.items()
        }
        rows.append(row)
    met = all(target["met"] for row in rows for target in row["targets"].values())
    print(
        json.dumps(
            {
                "size": arguments.size,
                "stacks": arguments.stacks,
                "first_seed": arguments.first_seed,
                "all_targets_met": met,
                "rows": rows,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
