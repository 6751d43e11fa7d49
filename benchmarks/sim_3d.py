"""Three-dimensional SIM against an independent generator, as JSON with targets.

    python benchmarks/sim_3d.py                          # 2 series of 64 x 64 x 24
    python benchmarks/sim_3d.py --size 128 --stacks 1    # a larger field

Three orientations of five phases, modulation 0.7 and 0.5, filaments at all depths with a little
haze, 1.6 electrons of read noise, parameters estimated from the same frames.  Errors of the carrier
are in frequency samples of the field, phases at its centre.  The resolution is where the Fourier
correlation with the sample itself falls below 1/7, in rings near kz = 0 (lateral) and in planes of
kz (axial).  ``share_of_limit`` is that frequency over the theoretical extended cut-off.  The
windows of a short series blur the frequencies, so the measure reads a little beyond the limit;
``share_of_perfect`` divides by what it reads of the sample itself, cut sharply at the limit.
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

import sim_truth_3d as truth

from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.parameters.volume_parameters import estimate_volume
from tisr_scope.sim.reconstruction.volume_wiener import reconstruct_volume

TARGETS = {
    f"{name}_share_of_{what}": 0.9 for name in ("lateral", "axial") for what in ("limit", "perfect")
}
OPTICS = VolumeOptics(
    truth.NA,
    1e3 * truth.EMISSION_UM,
    truth.INDEX,
    truth.EXCITATION_NA,
    1e3 * truth.EXCITATION_UM,
)


def rms(values: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(values)))))


def measure(stacks: list[truth.Series], photons: float) -> dict[str, Any]:
    carrier: list[np.ndarray] = []
    phase: list[list[np.ndarray]] = [[], []]
    depth: list[list[np.ndarray]] = [[], []]
    seconds: dict[str, list[float]] = {"estimate": [], "reconstruct": []}
    reached: dict[str, list[float]] = {}
    for seed, series in enumerate(stacks):
        frames = series.frames(photons, seed)
        start = time.perf_counter()
        found = estimate_volume(frames, OPTICS, truth.PIXEL_UM, truth.SECTION_UM)
        seconds["estimate"].append(time.perf_counter() - start)
        start = time.perf_counter()
        volume = reconstruct_volume(frames, found, OPTICS)[0]
        seconds["reconstruct"].append(time.perf_counter() - start)
        carrier.append(series.carrier_error_px(found.carrier))
        for n in (0, 1):
            phase[n].append(series.phase_error_deg(found.phase_rad[:, n], n + 1))
            depth[n].append(found.modulation[:, n] - series.modulation[n])
        sample = series.truth()
        wide = frames.mean(axis=(0, 1)).repeat(2, axis=-2).repeat(2, axis=-1)
        for kind, image in (("", volume), ("widefield_", wide)):
            curves = truth.correlations(image, sample)
            for (name, curve), limit in zip(curves.items(), truth.extended_cutoffs(), strict=True):
                place = truth.resolution(curve)
                reached.setdefault(f"{kind}{name}_resolution_nm", []).append(1e3 / place)
                if kind == "":
                    best = truth.resolution(truth.correlations(series.perfect(), sample)[name])
                    reached.setdefault(f"{name}_share_of_limit", []).append(place / limit)
                    reached.setdefault(f"{name}_share_of_perfect", []).append(place / best)
    row: dict[str, Any] = {
        "peak_photons": photons,
        "carrier_error_px_max": round(float(np.concatenate(carrier).max()), 4),
    }
    for n in (0, 1):
        row[f"phase_{n + 1}_rms_deg"] = round(rms(phase[n]), 2)
        row[f"modulation_{n + 1}_mean_error"] = round(float(np.concatenate(depth[n]).mean()), 3)
    row |= {name: round(float(np.mean(values)), 3) for name, values in reached.items()}
    row |= {f"seconds_{k}": round(float(np.median(v)), 2) for k, v in seconds.items()}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stacks", type=int, default=2)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--sections", type=int, default=24)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--photons", type=float, nargs="+", default=[100, 500, 2000])
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.stacks)
    stacks = [truth.make_series(arguments.size, arguments.sections, seed=s) for s in seeds]
    rows = []
    for photons in arguments.photons:
        row = measure(stacks, photons)
        if photons >= 500:
            row["targets"] = {
                name: {"target": least, "met": bool(row[name] >= least)}
                for name, least in TARGETS.items()
            }
        rows.append(row)
    across, along = truth.extended_cutoffs()
    result = {
        "field": [arguments.sections, arguments.size, arguments.size],
        "series": len(stacks),
        "limit_nm": {"lateral": round(1e3 / across, 1), "axial": round(1e3 / along, 1)},
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
