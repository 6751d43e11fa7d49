"""Where the time of one training step goes, and how much memory it takes.

Prints one JSON object: median and best milliseconds of each part, and peak memory.

    python -m benchmarks.training_step --preset small --batch 3 --size 64 --threads 2

With ``--compare`` steps that keep all activations and steps that compute them again are measured in
turn, each in a process of its own, and their ratios are printed beside the targets:

    python -m benchmarks.training_step --compare --preset released --batch 1 --size 128 --steps 1

``earlier`` is the step before deformable convolution had a backward pass of its own: automatic
differentiation keeps every sample it took.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.deformable import differentiated
from tisr_scope.networks import alignment
from tisr_scope.networks.dpa_tisr import (
    DpaTisr,
    paper,
    parameter_count,
    released,
    single_frame,
    small,
)
from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.patches import PatchSampler, PatchSettings
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


VARIANTS = ("earlier", "plain", "recompute")
MEMORY_LIMIT, TIME_LIMIT, MEMORY_LIMIT_GIB = 0.5, 1.4, 6.0


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Times and peak memory of steps in this process."""
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    if chosen.variant == "earlier":
        alignment.deformable_conv2d = differentiated  # type: ignore[assignment]
    config = PRESETS[chosen.preset]()
    network = DpaTisr(single_frame(config) if chosen.single_frame else config).to(device).train()
    network.recompute = chosen.variant == "recompute"
    if chosen.channels_last:
        network.to(memory_format=torch.channels_last)
    patches = PatchSettings(frames=chosen.frames, size_px=chosen.size, rotation_deg=chosen.rotation)
    field = max(128, 2 * chosen.size)
    sampler = PatchSampler(recordings(4, field), Normalisation(), patches, batch=chosen.batch)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    times: dict[str, list[float]] = {}
    processor: list[float] = []

    def predict(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return objective(network(inputs), targets)

    def timed(part: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        result = work(*arguments)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.setdefault(part, []).append(1000 * (time.perf_counter() - began))
        return result

    before = peak_mib()
    for step in range(chosen.warm_up + chosen.steps):
        began = time.process_time()
        batch = timed("sample", sampler.batch, step)
        inputs = torch.from_numpy(batch.inputs).to(device)
        targets = torch.from_numpy(batch.targets).to(device)
        loss = timed("forward", predict, inputs, targets)
        optimiser.zero_grad(set_to_none=True)
        timed("backward", loss.backward)
        timed("optimiser", optimiser.step)
        processor.append(time.process_time() - began)

    counted = {part: values[chosen.warm_up :] for part, values in times.items()}
    median = {part: round(statistics.median(values), 2) for part, values in counted.items()}
    steps = [sum(parts) for parts in zip(*counted.values(), strict=True)]
    report = {
        "settings": vars(chosen),
        "processor": platform.processor() or platform.machine(),
        "parameters": parameter_count(network),
        "median_ms": median,
        "step_ms": round(statistics.median(steps), 1),
        "best_step_ms": round(min(steps), 1),
        "best_processor_s": round(min(processor[chosen.warm_up :]), 2),
        "sample_share": round(median["sample"] / sum(median.values()), 4),
        "steps_per_hour": round(3.6e6 / statistics.median(steps)),
        "peak_memory_mib": round(peak_mib()),
        "step_memory_mib": round(peak_mib() - before),
    }
    if device.type == "cuda":
        report["processor"] = torch.cuda.get_device_name(device)
        report["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    return report


def compare(chosen: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """Best of several processes of each variant, taken in turn so that they share what disturbs."""
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in chosen.compare}
    for _ in range(chosen.rounds):
        for variant, reports in found.items():
            command = [
                sys.executable,
                "-m",
                "benchmarks.training_step",
                *arguments,
                "--variant",
                variant,
            ]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            reports.append(json.loads(done.stdout))
    memory = "peak_gpu_memory_mib" if chosen.device.startswith("cuda") else "step_memory_mib"
    rows = {
        variant: {
            "best_step_s": round(min(r["best_step_ms"] for r in reports) / 1000, 2),
            "best_processor_s": min(r["best_processor_s"] for r in reports),
            memory: min(r[memory] for r in reports),
            "peak_memory_mib": max(r["peak_memory_mib"] for r in reports),
        }
        for variant, reports in found.items()
    }
    ratios = {
        f"recompute / {variant}": {
            key: round(rows["recompute"][key] / row[key], 3)
            for key in ("best_step_s", "best_processor_s", memory, "peak_memory_mib")
        }
        for variant, row in rows.items()
        if variant != "recompute"
    }
    return {
        "settings": vars(chosen) | {"variant": None},
        "machine": next(iter(found.values()))[0]["processor"],
        "threads": chosen.threads,
        "variants": rows,
        "ratios": ratios,
        "targets": {
            "memory_ratio": MEMORY_LIMIT,
            "time_ratio": TIME_LIMIT,
            "peak_memory_gib": MEMORY_LIMIT_GIB,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--single-frame", action="store_true")
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="patch, in input pixels")
    parser.add_argument("--frames", type=int, default=7)
    parser.add_argument("--rotation", type=float, default=0.0, help="degrees")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before those that count")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--variant", choices=VARIANTS, default="plain")
    parser.add_argument(
        "--compare", nargs="*", choices=VARIANTS, help="variants; all when none is named"
    )
    parser.add_argument("--rounds", type=int, default=2, help="processes of each variant compared")
    chosen = parser.parse_args()
    if chosen.compare is None:
        print(json.dumps(measure(chosen), indent=2))
        return
    chosen.compare = chosen.compare or list(VARIANTS)
    skipped = ("compare", "rounds", "variant", "single_frame", "channels_last")
    arguments = [
        part
        for name, value in vars(chosen).items()
        if name not in skipped
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    arguments += ["--single-frame"] * chosen.single_frame
    arguments += ["--channels-last"] * chosen.channels_last
    print(json.dumps(compare(chosen, arguments), indent=2))


if __name__ == "__main__":
    main()
