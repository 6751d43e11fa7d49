"""A small profile and configuration for the devices of ``bench_devices``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_devices import Bench, expected_frame

from tisr_scope.profiles.schema import Profile
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.escalating_order import exposure_events
from tisr_scope.running_order.run_plan import Mode, RunPlan

CONFIG = """\
#py pyDevice,Bench,bench_devices,BenchDevice
#py pyDevice,Camera,bench_devices,Camera
#py pyDevice,SLM,bench_devices,{slm}
#py pyDevice,LaserA,bench_devices,LaserA
#py pyDevice,LaserB,bench_devices,LaserB
#py pyDevice,Shutter,bench_devices,Shutter
#py pyDevice,XY,bench_devices,Stage
Property,Core,Initialize,1
#py ConfigGroup,Filter,green,Bench,Filter,green
#py ConfigGroup,Filter,red,Bench,Filter,red
"""
for _number in range(7):
    CONFIG += f"#py ConfigGroup,Pattern,P{_number},Bench,Index,{_number}\n"


def channel(name: str, device: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "excitation_nm": 488,
        "emission_nm": 525,
        "laser": {"device": device, "hard_limit_mw": 20},
        "levels_mw": [1, 2.5, 10],
        "timelapse_mw": 4,
        "pattern_period_um": 0.25,
        **changes,
    }


def bench_profile(folder: Path, *, slm: str = "SLM", **changes: Any) -> Profile:
    """Two orientations, three phases, three levels, two time points; written config beside."""
    config = folder / "bench.cfg"
    config.write_text(CONFIG.format(slm=slm))
    content: dict[str, Any] = {
        "name": "bench",
        "microscope": {
            "config": str(config),
            "camera": {"device": "Camera", "frame_shape": (16, 24), "saturation_adu": 60000},
            "slm": "SLM",
            "shutter": "Shutter",
            "xy_stage": "XY",
        },
        "optics": {"numerical_aperture": 1.4, "pixel_size_um": 0.06},
        "illumination": {
            "angles_rad": [0.2, 1.3],
            "phases": 3,
            "source": {"kind": "image", "slm_pixel_um": 0.06},
        },
        "channels": [channel("green", "LaserA")],
        "paired": {"time_points": 2, "exposure_ms": 2},
        "timelapse": {"time_points": 4, "interval_s": 0.4, "exposure_ms": 2},
    }
    return Profile.model_validate({**content, **changes})


def expected_frames(profile: Profile, mode: Mode) -> Iterator[np.ndarray]:
    """What the bench camera sees if light, patterns and order are right."""
    order = RunPlan(profile, mode)
    lasers = {c.laser.device: c.laser.device[-1] for c in profile.channels}
    dark = np.zeros((32, 32), np.uint8)
    for number, event in enumerate(exposure_events(order, (32, 32))):
        powers = {"A": 0.0, "B": 0.0}
        for device, _, value in event.properties or ():
            if device in lasers:
                powers[lasers[device]] = float(value)
        image = dark if event.slm_image is None else np.asarray(event.slm_image)
        yield expected_frame(number, powers, image)


def recorded_frames(recording: Recording) -> list[np.ndarray]:
    """Frames of the complete time points in the order of exposure."""
    return [
        frame
        for t in range(recording.time_points)
        for p in range(recording.positions)
        for c in range(len(recording.channels))
        for frame in recording.frames(t, c, p).reshape(-1, *recording.frame_shape)
    ]


def child_environment() -> dict[str, str]:
    """Environment of a Python process that can import the bench and the package."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    paths += [p for p in (os.environ.get("PYTHONPATH"),) if p]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def light_is_off() -> bool:
    """Whether the bench is dark: both lasers at zero, shutter closed."""
    bench = Bench.current
    return bench.powers == {"A": 0.0, "B": 0.0} and not bench.shutter
