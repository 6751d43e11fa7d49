"""Frames per second on disk against the rate the camera could give, as JSON.

For each case the camera alone is timed (exposures one after another, nothing recorded), then the
same exposures are recorded: pixels, journal and all; the best of the repeats counts.
``recorder_fps_limit`` is the rate recording would allow a camera that takes no time; the ``cpu``
figures do not depend on what else the machine is doing.

    python benchmarks/acquisition.py --time-points 10 --out benchmark.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tisr_scope.acquisition.acquire import acquire, with_time_points
from tisr_scope.acquisition.engine import StrictEngine
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.acquisition.safety import DoseMeter
from tisr_scope.profiles.library import load_profile
from tisr_scope.profiles.schema import Profile
from tisr_scope.recording.recorder import Recorder, create_store
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.escalating_order import exposure_events
from tisr_scope.running_order.run_plan import FrameInfo, Mode, RunPlan

CASES: tuple[tuple[str, Mode, bool], ...] = (
    ("simulated_microtubules", "paired", False),
    ("simulated_microtubules", "paired", True),
    ("simulated_microtubules", "timelapse", True),
    ("demo_camera", "timelapse", False),
)


def camera_alone(profile: Profile, order: RunPlan, bursts: bool) -> float:
    """Seconds for the exposures of a run with nobody looking at the frames."""
    import threading

    with Microscope.open(profile) as microscope:
        engine = StrictEngine(
            microscope,
            order,
            lambda *_: None,
            threading.Event(),
            dose=DoseMeter(None),
            bursts=bursts,
        )
        microscope.core.mda.set_engine(engine)
        uploads = order.source is not None and order.source.kind == "image"
        events = list(exposure_events(order, microscope.slm_shape() if uploads else None))
        begun = time.perf_counter()
        microscope.core.mda.run(events)
        return time.perf_counter() - begun


def recorder_alone(profile: Profile, order: RunPlan, folder: Path) -> float:
    """Seconds for the recorder to take and journal ready-made frames of a run."""
    folder.mkdir()
    create_store(folder, order)
    shape = profile.microscope.camera.frame_shape
    frames = np.random.default_rng(0).integers(90, 900, (64, *shape), np.uint16)
    infos = [
        FrameInfo(
            e.index["t"],
            e.index["c"],
            e.index["p"],
            e.index["orientation"],
            e.index["phase"],
            e.index["level"],
            0.0,
            1.0,
            10.0,
            0.0,
        )
        for e in exposure_events(order)
    ]
    recorder = Recorder(folder, order)
    begun = time.perf_counter()
    for number, info in enumerate(infos):
        recorder.put(info, frames[number % 64].copy(), {"sim_time_s": 0.0})
    recorder.close()
    return time.perf_counter() - begun


def measure(
    name: str, mode: Mode, bursts: bool, time_points: int, repeats: int, folder: Path
) -> dict[str, Any]:
    """Figures of one case."""
    profile = with_time_points(load_profile(name), mode, time_points)
    order = RunPlan(profile, mode)
    alone, recorded, written = [], [], []
    cpu_alone, cpu_recorded = [], []
    for repeat in range(repeats):
        cpu = time.process_time()
        alone.append(camera_alone(profile, order, bursts))
        cpu_alone.append(time.process_time() - cpu)
        cpu = time.process_time()
        summary = acquire(profile, folder / f"recording{repeat}", mode, bursts=bursts)
        cpu_recorded.append(time.process_time() - cpu)
        recorded.append(summary.duration_s)
        written.append(recorder_alone(profile, order, folder / f"recorder{repeat}"))
    frames = order.exposures
    return {
        "profile": name,
        "mode": mode,
        "bursts": bursts,
        "frame_shape": list(profile.microscope.camera.frame_shape),
        "frames": frames,
        "frames_on_disk": Recording.open(folder / "recording0").verify(),
        "camera_fps": round(frames / min(alone), 1),
        "recorded_fps": round(frames / min(recorded), 1),
        "recorder_fps_limit": round(frames / min(written), 1),
        "cpu_ms_per_frame_camera": round(1e3 * min(cpu_alone) / frames, 3),
        "cpu_ms_per_frame_recorded": round(1e3 * min(cpu_recorded) / frames, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-points", type=int, default=10, help="of paired runs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file [default: print]")
    arguments = parser.parse_args()
    results = []
    for name, mode, bursts in CASES:
        points = arguments.time_points * (1 if mode == "paired" else 27)
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(name, mode, bursts, points, arguments.repeats, Path(folder)))
    report = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cases": results,
    }
    text = json.dumps(report, indent=1)
    if arguments.out is None:
        print(text)
    else:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
