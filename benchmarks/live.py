"""Frame rates: the network alone, a live run beside the simulated camera, and the drawing.

python -m benchmarks.live                        # about a minute
python -m benchmarks.live --sizes 128 256 --device cuda
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.even_light import even_light
from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.inference.predictor import Model
from tisr_scope.live.run_live import LiveOptions, run_live
from tisr_scope.preview import colour
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting, Profile

PROFILE = "simulated_microtubules"


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Median time of a call."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e3


def network(model: str, size: int, passes: int, device: str, repeats: int) -> dict[str, Any]:
    """One result per frame in steady state, and after a jump."""
    ready = Model(
        load_bundle(model),
        input_mode="pattern_mean",
        optics=KnownOptics(pixel_size_um=0.0626),
        device=device,
        passes=passes,
    )
    rng = np.random.default_rng(0)
    frames = [rng.poisson(40, (size, size)).astype(np.float32) for _ in range(7)]
    predictor = ready.open()
    predictor.set_scale(np.stack(frames))
    predictor.advance(frames)

    def jump() -> None:
        predictor.restart()
        predictor.advance(frames)

    steady = milliseconds(lambda: predictor.advance(frames[:1]), repeats)
    return {
        "size_px": size,
        "passes": passes,
        "ms_per_frame": round(steady, 1),
        "frames_per_s": round(1e3 / steady, 2),
        "ms_after_a_jump": round(milliseconds(jump, max(2, repeats // 2)), 1),
    }


def beside_the_camera(
    profile: Profile, model: str, time_points: int, options: LiveOptions
) -> dict[str, Any]:
    """A live run at 20 camera frames/s."""
    with tempfile.TemporaryDirectory() as folder:
        summary = run_live(
            profile,
            Path(folder) / "run",
            model,
            options=options,
            profile_path=find_profile(PROFILE),
            settings=[DeviceSetting(device="World", property="Realtime", value=1)],
            time_points=time_points,
        )
    wanted = (
        "time_points", "exposures_recorded", "missing_on_disk", "camera_rate",
        "time_point_rate", "sr_rate", "predicted", "skipped", "lag_s_median", "lag_s_max",
        "inference_error",
    )  # fmt: skip
    return {name: getattr(summary, name) for name in wanted}


def drawing(size: int) -> dict[str, Any]:
    """Pixels of the overlay and of a grey image."""
    image = np.random.default_rng(0).uniform(0, 1, (size, size)).astype(np.float32)
    return {
        "size_px": size,
        "overlay_ms": round(milliseconds(lambda: colour.overlay_rgba(image, image, 0, 1), 20), 2),
        "grey_ms": round(milliseconds(lambda: colour.intensity_rgba(image, 0, 1), 20), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="bundle; by default the profile's")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=max((os.cpu_count() or 2) - 1, 1))
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--frames", dest="time_points", type=int, default=600)
    parser.add_argument("--out", type=Path, default=None, help="JSON file of the result")
    arguments = parser.parse_args()
    profile = load_profile(PROFILE)
    model = arguments.model or profile.model or ""
    torch.set_num_threads(arguments.threads)
    options = LiveOptions(
        device=arguments.device, passes=arguments.passes, threads=arguments.threads
    )
    result = {
        "model": model,
        "device": arguments.device,
        "threads": arguments.threads,
        "cores": os.cpu_count(),
        "network": [
            network(model, size, arguments.passes, arguments.device, arguments.repeats)
            for size in arguments.sizes
        ],
        "live": {
            "mean of nine patterns": beside_the_camera(
                profile, model, arguments.time_points // 9, options
            ),
            "one frame": beside_the_camera(
                even_light(profile), model, arguments.time_points, options
            ),
        },
        "drawing": [drawing(size) for size in (512, 1024)],
    }
    print(json.dumps(result, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
