"""Accuracy of the SIM parameters and images, as JSON, against an independent generator.

    python benchmarks/sim_accuracy.py                 # 6 stacks of 256 x 256 for each carrier
    python benchmarks/sim_accuracy.py --stacks 2 --size 128

For every ratio of carrier to optical cut-off (1.02 is TIRF) and every photon level: carrier error
in frequency samples of the field, phase error at the field's centre, modulation error, and PSNR
of wide field and SIM image against the noiseless sample.  The generator is plain NumPy, shared
with the tests, and shares no code with the package.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from skimage.transform import resize

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from sim_truth import EMISSION_UM, NA, PIXEL_UM, make_stack, psnr

from tisr_scope.sim.optics import incoherent_otf
from tisr_scope.sim.parameters import estimate_parameters
from tisr_scope.sim.reconstruct import reconstruct
from tisr_scope.sim.widefield import widefield


def rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stacks", type=int, default=6)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    otf = incoherent_otf(NA, 1e3 * EMISSION_UM)
    rows = []
    for ratio in (0.92, 0.975, 1.02):
        stacks = [
            make_stack(n=arguments.size, ratio=ratio, seed=seed) for seed in range(arguments.stacks)
        ]
        for photons in (20, 100, 500):
            carrier: list[float] = []
            phase: list[float] = []
            depth: list[float] = []
            gain: list[float] = []
            level: list[float] = []
            seconds = 0.0
            for seed, stack in enumerate(stacks):
                frames = stack.frames(photons, seed)
                start = time.perf_counter()
                found = estimate_parameters(frames, otf, PIXEL_UM)
                image = reconstruct(frames, found, otf)[0]
                seconds += time.perf_counter() - start
                carrier.extend(stack.carrier_error_px(found.carrier))
                phase.extend(stack.phase_error_deg(found.phase_rad[0, :, 0]))
                depth.extend(found.modulation[0, :, 0] - 0.8)
                truth = stack.truth(photons)
                wide = resize(widefield(frames), truth.shape, order=3)
                level.append(psnr(image, truth))
                gain.append(level[-1] - psnr(wide, truth))
            rows.append(
                {
                    "carrier_over_cutoff": ratio,
                    "peak_photons": photons,
                    "carrier_error_px_median": round(float(np.median(carrier)), 4),
                    "carrier_error_px_max": round(max(carrier), 4),
                    "phase_rms_deg": round(rms(phase), 3),
                    "modulation_rms": round(rms(depth), 4),
                    "sim_psnr_db": round(float(np.mean(level)), 2),
                    "gain_over_widefield_db": round(float(np.mean(gain)), 2),
                    "seconds_per_stack": round(seconds / len(stacks), 3),
                }
            )
    print(json.dumps({"size": arguments.size, "stacks": arguments.stacks, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
