"""How many frames a second the simulated camera gives, noise included.

Every frame shows the next of nine patterns on a sample that has moved on; one JSON line.

    python benchmarks/rendering.py --size 256 --specimen microtubules --frames 120
"""

from __future__ import annotations

import argparse
import json
import math
import time

from tisr_scope.running_order.patterns import Pattern, slm_image
from tisr_scope.simulated_microscope.light import SLM_OVERSAMPLING
from tisr_scope.simulated_microscope.specimens import SPECIMENS
from tisr_scope.simulated_microscope.world import Line, PatternKey, World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--specimen", choices=list(SPECIMENS), default="microtubules")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    world = World(seed=options.seed, frame_shape=(options.size, options.size))
    world.lines["488"] = Line(power_mw=1.0, specimen=options.specimen)
    world.shutter_open = True
    patterns = []
    for angle in (1.480, 2.527, 3.574):
        for phase in range(3):
            grating = Pattern(period_um=0.1807, angle_rad=angle, phase_rad=2 * math.pi * phase / 3)
            image = slm_image(grating, world.slm_shape, world.pixel_um / SLM_OVERSAMPLING)
            patterns.append(PatternKey(bytes([len(patterns)]), image))
    for pattern in patterns:  # first use prepares each pattern
        world.show(pattern)
        world.expose()
    seconds = []
    cpu = 0.0  # unlike the wall clock, not slowed by other programs
    for frame in range(options.frames):
        world.show(patterns[frame % len(patterns)])
        start, start_cpu = time.perf_counter(), time.process_time()
        world.expose()
        seconds.append(time.perf_counter() - start)
        cpu += time.process_time() - start_cpu
    seconds.sort()
    print(
        json.dumps(
            {
                "size_px": options.size,
                "specimen": options.specimen,
                "frames_per_s": round(len(seconds) / sum(seconds), 1),
                "frames_per_cpu_s": round(len(seconds) / cpu, 1),
                "median_ms": round(1e3 * seconds[len(seconds) // 2], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
