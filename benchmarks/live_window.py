"""What one displayed frame costs live, and where the time goes.

Prints one JSON object: frames per second, processor seconds, GFLOP and milliseconds by module.
Convolutions and matrix products are counted, transforms and sampling are not.  Where other
programs use the processor, ``cpu_s_per_shown_frame`` with one thread is the figure to compare.

    python benchmarks/live_window.py --preset small --size 128 --passes 6 --threads 2
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.inference.sliding_window import SlidingWindow
from tisr_scope.networks.config import SHOWN
from tisr_scope.networks.dpa_tisr import DpaTisr, paper, parameter_count, released, small

PRESETS = {"small": small, "paper": paper, "released": released}
STAGES = (
    "feat_extract",
    "spynet",
    "deform_align",
    "phase_align",
    "backbone",
    "reconstruction",
    "upsamplemodule",
    "conv_hr",
    "conv_last",
)


class StageMeter:
    """What a reading (seconds, operations) grows by inside the modules of each stage."""

    def __init__(self, network: DpaTisr, reading: Callable[[], float]) -> None:
        self.total: dict[str, float] = defaultdict(float)
        self._handles = []
        since = [0.0]

        def begin(*_: Any) -> None:
            since[0] = reading()

        def end(stage: str) -> None:
            self.total[stage] += reading() - since[0]

        for stage in STAGES:
            part = getattr(network, stage, None)
            if part is not None:
                for module in part.values() if isinstance(part, nn.ModuleDict) else [part]:
                    self._handles += [
                        module.register_forward_pre_hook(begin),
                        module.register_forward_hook(lambda *_, stage=stage: end(stage)),
                    ]

    def stop(self) -> None:
        """Take the hooks off again."""
        for handle in self._handles:
            handle.remove()


def gflop_by_stage(window: SlidingWindow, frame: torch.Tensor) -> dict[str, float]:
    with FlopCounterMode(display=False) as counter:
        meter = StageMeter(window.network, counter.get_total_flops)
        window.push(frame)
        meter.stop()
        total = counter.get_total_flops()
    stages = {**meter.total, "rest": total - sum(meter.total.values()), "total": total}
    return {name: round(value / 1e9, 3) for name, value in stages.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--model", help="a bundle instead of a preset")
    parser.add_argument("--size", type=int, default=128, help="frame, in input pixels")
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--emit", choices=SHOWN, default="centre")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=12, help="pushes that are timed")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    if chosen.model:
        network = load_bundle(chosen.model).network(chosen.device)
    else:
        network = DpaTisr(PRESETS[chosen.preset]()).to(chosen.device).eval()
    window = SlidingWindow(network, passes=chosen.passes, shown=chosen.emit)
    frames = torch.rand(16, chosen.size, chosen.size)
    for t in range(window.length - 1):
        window.push(frames[t])
    gflop = gflop_by_stage(window, frames[-1])
    for t in range(3):
        window.push(frames[t])
    stopwatch = StageMeter(network, time.perf_counter)
    wall, cpu, shown = [], [], 0
    for t in range(chosen.repeats):
        start, busy = time.perf_counter(), time.process_time()
        shown += len(window.push(frames[t % len(frames)]))
        if chosen.device != "cpu":
            torch.cuda.synchronize(chosen.device)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    per_push = shown / chosen.repeats
    milliseconds = {
        name: round(1e3 * seconds / shown, 1) for name, seconds in stopwatch.total.items()
    }
    milliseconds["rest"] = round(1e3 * sum(wall) / shown - sum(milliseconds.values()), 1)
    report = {
        "network": chosen.model or chosen.preset,
        "parameters": parameter_count(network),
        "input": [chosen.size, chosen.size],
        "passes": chosen.passes,
        "emit": chosen.emit,
        "shown_frames_per_s": round(shown / sum(wall), 3),
        "shown_frames_per_s_undisturbed": round(per_push / min(wall), 3),
        "median_s_per_push": round(statistics.median(wall), 4),
        "cpu_s_per_shown_frame": round(min(cpu) / per_push, 4),
        "gflop_of_one_push": gflop,
        "ms_per_shown_frame": milliseconds,
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "threads": chosen.threads,
        "device": chosen.device,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
