"""Memory and completeness of a long live run: 2,000 time points of the simulated microscope.

    python -m benchmarks.live_memory                 # 100 s at 20 frames/s
    python -m benchmarks.live_memory --fast          # as fast as the simulated camera goes

Fails if memory grows by 50 MB or more after the first hundred time points, or if a single frame
is missing on disk or differs from its checksum.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.even_light import even_light
from tisr_scope.live.run_live import LiveOptions, LiveSession
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.recording.recording import Recording

PROFILE = "simulated_microtubules"
LIMIT_MB = 50.0


def resident_mb() -> float:
    """Memory of this process that is in RAM (Linux)."""
    text = Path("/proc/self/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def watch(session: LiveSession, samples: list[tuple[int, float]], done: threading.Event) -> None:
    while not done.wait(0.25):
        samples.append((session.status().recorded, resident_mb()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="bundle; by default the profile's")
    parser.add_argument("--time-points", type=int, default=2000)
    parser.add_argument("--fast", action="store_true", help="do not wait for the real time")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None, help="JSON file of the result")
    arguments = parser.parse_args()
    profile = even_light(load_profile(PROFILE))
    realtime = DeviceSetting(device="World", property="Realtime", value=int(not arguments.fast))
    with tempfile.TemporaryDirectory() as folder:
        session = LiveSession(
            profile,
            Path(folder) / "run",
            arguments.model or profile.model or "",
            options=LiveOptions(threads=arguments.threads),
            profile_path=find_profile(PROFILE),
            settings=(realtime, DeviceSetting(device="World", property="Seed", value=77)),
            time_points=arguments.time_points,
        )
        samples: list[tuple[int, float]] = []
        done = threading.Event()
        watcher = threading.Thread(target=watch, args=(session, samples, done))
        start = time.perf_counter()
        watcher.start()
        session.start()
        summary = session.result()
        session.close()
        done.set()
        watcher.join()
        seconds = time.perf_counter() - start
        verified = Recording.open(summary.folder).verify()
    settled = [(n, mb) for n, mb in samples if n >= 100]
    # The median of the first second after the hundredth frame, so that one sample decides nothing.
    begin = float(np.median([mb for _, mb in settled[:4]]))
    growth = max(mb for _, mb in settled) - begin
    result = {
        "time_points": summary.time_points,
        "frames_on_disk_verified": verified,
        "missing_on_disk": arguments.time_points - verified,
        "memory_at_100_mb": round(begin, 1),
        "memory_growth_mb": round(growth, 1),
        "memory_mb_at_frame": {n: round(mb, 1) for n, mb in samples[:: max(1, len(samples) // 20)]},
        "camera_rate": round(summary.camera_rate, 2),
        "sr_rate": round(summary.sr_rate, 2),
        "predicted": summary.predicted,
        "skipped": summary.skipped,
        "lag_s_median": round(summary.lag_s_median, 3),
        "lag_s_max": round(summary.lag_s_max, 3),
        "inference_error": summary.inference_error,
        "seconds": round(seconds, 1),
    }
    print(json.dumps(result, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    passed = growth < LIMIT_MB and verified == arguments.time_points
    print("passed" if passed and summary.inference_error is None else "FAILED")
    return int(not passed or summary.inference_error is not None)


if __name__ == "__main__":
    sys.exit(main())
