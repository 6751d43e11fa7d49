"""Processor time of one window of seven frames, in three ways, in turn, best of several.

Prints one JSON object:

    python -m benchmarks.inference --preset released --repeats 2

``earlier`` takes all samples of a deformable convolution at once, ``now`` in strips that stay in
the cache, ``channels_last`` is ``now`` with the other order of the axes in memory.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time

import torch

from benchmarks.deformable import differentiated
from benchmarks.training_step import PRESETS
from tisr_scope.networks import alignment
from tisr_scope.networks.dpa_tisr import DpaTisr


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS, default="released")
    parser.add_argument("--frames", type=int, default=7)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()

    # Of one thread the processor's time is what the work takes, whoever else is there.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = DpaTisr(PRESETS[chosen.preset]()).eval()
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    current = alignment.deformable_conv2d
    ways = {
        "earlier": (network, differentiated),
        "now": (network, current),
        "channels_last": (other, current),
    }
    frames = torch.rand(1, chosen.frames, 1, chosen.size, chosen.size)
    seconds = dict.fromkeys(ways, float("inf"))
    results = {}
    with torch.inference_mode():
        for _ in range(chosen.repeats):
            for name, (module, convolve) in ways.items():
                alignment.deformable_conv2d = convolve
                began = time.process_time()
                results[name] = module(frames)
                seconds[name] = min(seconds[name], time.process_time() - began)
    report = {
        "settings": vars(chosen),
        "machine": platform.processor() or platform.machine(),
        "processor_s": {name: round(value, 2) for name, value in seconds.items()},
        "ratio_to_earlier": {n: round(s / seconds["earlier"], 3) for n, s in seconds.items()},
        "largest_difference": {
            name: (result - results["earlier"]).abs().max().item()
            for name, result in results.items()
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
