"""Models on simulated cells that no model was trained on: gain over the enlarged wide field.

The seeds are drawn from the whole of ``randomisation.yaml``, offset errors and hot pixels
included; ``--narrow`` takes the plain simulated microscope instead (thin haze, right optics, 20
photons, mean of nine frames), microtubules only.  PSNR to the truth over its maximum, after the
best line (paper, eq. 19-20), of the middle one of seven frames.

    python -m benchmarks.simulated_cells --model cells_small --recordings 40
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.confidence.credible_interval import confidence, half_width
from tisr_scope.confidence.expected_calibration_error import Reliability, inside_interval
from tisr_scope.evaluation.evaluate import enlarge
from tisr_scope.inference.sliding_window import SlidingWindow
from tisr_scope.metrics.fidelity import fitted, psnr
from tisr_scope.simulated_microscope.randomisation import Conditions, draw_conditions
from tisr_scope.simulated_microscope.recordings import simulate_cell

FIRST_SEED = 30_000
MIDDLE = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="bundle; several may be compared")
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--narrow", action="store_true")
    arguments = parser.parse_args()
    table: dict[str, object] = {}
    for name in arguments.model or ["cells_small"]:
        bundle = load_bundle(name)
        rule, network, factor = bundle.normalisation, bundle.network(), bundle.config.upscale
        gains: dict[str, list[float]] = {}
        counts = None
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.recordings):
            of = Conditions(peak_electrons=16.4) if arguments.narrow else draw_conditions(seed)
            made = simulate_cell(of, seed)
            scale = rule.scale(made.widefield)
            background = rule.carried(made.widefield, scale, factor)
            window = SlidingWindow(network)
            frames = rule.normalise_input(made.widefield, scale)
            for t, frame in enumerate(frames):
                shown = window.push(frame, carried=None if background is None else background[t])
            (found,) = shown
            centre = found.means.mean(0)
            truth = made.truth[MIDDLE]
            reference = truth / truth.max()
            wide = enlarge(made.widefield[MIDDLE][None], factor)
            better, plain = (
                psnr(fitted(image, reference[None])[0], reference)
                for image in (centre.numpy()[None], wide)
            )
            gains.setdefault(of.specimen, []).append(better - plain)
            if of.offset_error == 0:
                target_scale = rule.target_scale(made.truth, made.widefield)
                target = torch.from_numpy(rule.normalise_target(made.truth, target_scale)[MIDDLE])
                inside = inside_interval(target, centre, half_width(centre))
                one = Reliability.of(confidence(found.means, found.scales), inside)
                counts = one if counts is None else counts + one
        every = np.concatenate(list(gains.values()))
        table[name] = {
            "gain_db": round(float(every.mean()), 2),
            "worst_db": round(float(every.min()), 2),
            "recordings_below_0": int((every < 0).sum()),
            "by_specimen_db": {k: round(float(np.mean(v)), 2) for k, v in gains.items()},
            "ece_to_truth_uncalibrated": None if counts is None else round(counts.ece, 4),
        }
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
