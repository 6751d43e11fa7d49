"""Where the time of one training step goes, and how much memory it takes.

Prints one JSON object: median milliseconds of each part, and peak memory.

    python benchmarks/training_step.py --preset small --batch 3 --size 64 --threads 2
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tisr_scope.data.normalise import Normalisation
from tisr_scope.data.patches import PatchSampler, PatchSettings
from tisr_scope.networks.dpa_tisr import (
    DpaTisr,
    paper,
    parameter_count,
    released,
    single_frame,
    small,
)
from tisr_scope.training.losses import objective
from tisr_scope.types import PairedStack

PRESETS = {"small": small, "paper": paper, "released": released}


def recordings(count: int, size: int) -> list[PairedStack]:
    """Noise: the time of a step does not depend on what is in the pictures."""
    rng = np.random.default_rng(0)
    return [
        PairedStack(
            name=f"recording {k}",
            channel="488",
            widefield=rng.uniform(1, 9, (3, 20, size, size)).astype(np.float32),
            target=rng.uniform(1, 9, (20, 2 * size, 2 * size)).astype(np.float32),
            pixel_size_um=0.0626,
            interval_s=1.0,
        )
        for k in range(count)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--single-frame", action="store_true")
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="patch, in input pixels")
    parser.add_argument("--frames", type=int, default=7)
    parser.add_argument("--rotation", type=float, default=0.0, help="degrees")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--recompute", action="store_true", help="less memory, more time")
    chosen = parser.parse_args()

    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    config = PRESETS[chosen.preset]()
    network = DpaTisr(single_frame(config) if chosen.single_frame else config).to(device).train()
    network.recompute = chosen.recompute
    if chosen.channels_last:
        network.to(memory_format=torch.channels_last)
    patches = PatchSettings(frames=chosen.frames, size_px=chosen.size, rotation_deg=chosen.rotation)
    field = max(128, 2 * chosen.size)
    sampler = PatchSampler(recordings(4, field), Normalisation(), patches, batch=chosen.batch)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    times: dict[str, list[float]] = {}

    def predict(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return objective(network(inputs), targets)

    def timed(part: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        result = work(*arguments)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.setdefault(part, []).append(1000 * (time.perf_counter() - began))
        return result

    for step in range(chosen.steps + 2):
        batch = timed("sample", sampler.batch, step)
        inputs = torch.from_numpy(batch.inputs).to(device)
        targets = torch.from_numpy(batch.targets).to(device)
        loss = timed("forward", predict, inputs, targets)
        optimiser.zero_grad(set_to_none=True)
        timed("backward", loss.backward)
        timed("optimiser", optimiser.step)

    median = {part: round(statistics.median(values[2:]), 2) for part, values in times.items()}
    total = sum(median.values())
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = {
        "settings": vars(chosen),
        "processor": platform.processor() or platform.machine(),
        "parameters": parameter_count(network),
        "median_ms": median,
        "step_ms": round(total, 1),
        "sample_share": round(median["sample"] / total, 4),
        "steps_per_hour": round(3.6e6 / total),
        "peak_memory_mib": round(kilobytes / 1024),
    }
    if device.type == "cuda":
        report["processor"] = torch.cuda.get_device_name(device)
        report["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
