"""The newest raw frames of a running recording, in shared memory beside its files.

A frame's place in the running order is its number in the ring, so that a reader finds the frames
of a time point without being told.  ``RECORDING/recording_now.json`` names the ring and the
machine; it is there while the recording grows.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.errors import RecordingError
from tisr_scope.provenance import write_json
from tisr_scope.recording.shared_ring import SharedRing
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan

CARD = "recording_now.json"
RING_BYTES = 192 * 2**20
_LEAST_SLOTS = 4


class FrameRing:
    """Frames of a run by their place in its running order.

    Parameters
    ----------
    ring : SharedRing
        Made by :func:`publish` or found by :func:`attach`.
    plan : RunPlan
        Of the recording.
    """

    def __init__(self, ring: SharedRing, plan: RunPlan) -> None:
        self.ring = ring
        self._plan = plan

    def number(self, t: int, channel: int, position: int, sim: int) -> int:
        """Place of an exposure in the run: t > position > channel > sim."""
        plan = self._plan
        group = (t * plan.positions + position) * len(plan.channels) + channel
        return group * plan.sim_frames + sim

    def place(self, number: int) -> tuple[int, int, int, int]:
        """Time point, channel, position and sim of an exposure, see :meth:`number`."""
        group, sim = divmod(number, self._plan.sim_frames)
        group, channel = divmod(group, len(self._plan.channels))
        t, position = divmod(group, self._plan.positions)
        return t, channel, position, sim

    def put(self, info: FrameInfo, frame: UInt16[np.ndarray, "y x"], sample_time_s: float) -> None:
        """Publish a frame, in the acquisition thread: one copy."""
        sim = self._plan.sim_index(info.orientation, info.phase, info.level)
        number = self.number(info.t, info.channel, info.position, sim)
        facts = (sample_time_s, time.perf_counter(), info.dose_mj, info.power_mw)
        self.ring.write(number, frame, facts)

    def newest(self, channel: int, position: int) -> int:
        """Newest time point of which every frame has been exposed, -1 before the first."""
        last = self.number(0, channel, position, self._plan.sim_frames - 1)
        return (self.ring.newest - last) // self._plan.exposures_per_time_point

    def patterns(
        self, t: int, channel: int, position: int, level: int = 0
    ) -> UInt16[np.ndarray, "orientation phase y x"] | None:
        """Counts of every pattern at one level; None if they are not all held."""
        plan = self._plan
        frames = np.empty((plan.orientations, plan.phases, *plan.frame_shape), np.uint16)
        for orientation, phase in np.ndindex(frames.shape[:2]):
            sim = plan.sim_index(orientation, phase, level)
            found = self.ring.read(self.number(t, channel, position, sim))
            if found is None:
                return None
            frames[orientation, phase] = found[0]
        return frames

    def mean(
        self, t: int, channel: int, position: int, level: int = 0
    ) -> Float[np.ndarray, "y x"] | None:
        """Mean counts over the patterns at one level; None if they are not all held."""
        frames = self.patterns(t, channel, position, level)
        return None if frames is None else frames.mean(axis=(0, 1), dtype=np.float32)

    def arrival_s(self, t: int, channel: int, position: int) -> float | None:
        """When the last frame was published (``time.perf_counter``)."""
        last = self._plan.sim_frames - 1
        facts = self.ring.facts(self.number(t, channel, position, last))
        return None if facts is None else facts[1]

    def time_s(self, t: int, channel: int, position: int) -> float | None:
        """Mean time of the frames on the clock of the recording; None if they are not all held."""
        first = self.number(t, channel, position, 0)
        found = [self.ring.facts(first + sim) for sim in range(self._plan.sim_frames)]
        held = [facts[0] for facts in found if facts is not None]
        return float(np.mean(held)) if len(held) == len(found) else None

    def close(self) -> None:
        """Let go of the memory."""
        self.ring.close()


def publish(folder: Path, plan: RunPlan) -> FrameRing | None:
    """Make the ring of a recording and say where it is; None where there is no memory for one."""
    height, width = plan.frame_shape
    frame = 2 * height * width
    most = RING_BYTES
    if sys.platform == "linux":
        with suppress(OSError):
            most = min(most, shutil.disk_usage("/dev/shm").free // 2)
    slots = min(most // frame, max(64, 16 * plan.exposures_per_time_point))
    if slots < _LEAST_SLOTS:
        return None
    try:
        ring = SharedRing.create(slots, plan.frame_shape, "uint16")
    except RecordingError:
        return None
    card = {"machine": platform.node(), "process": os.getpid(), "ring": ring.name}
    with suppress(OSError):  # without it followers read the files
        write_json(folder / CARD, card)
    return FrameRing(ring, plan)


def withdraw(folder: Path, ring: FrameRing | None) -> None:
    """The recording has ended."""
    with suppress(OSError):
        (folder / CARD).unlink(missing_ok=True)
    if ring is not None:
        ring.close()


def attach(folder: Path, plan: RunPlan) -> FrameRing | None:
    """The ring of a growing recording, if it grows on this machine."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card["machine"] != platform.node():
            return None
        ring = SharedRing.attach(str(card["ring"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if ring is not None and (ring.shape != plan.frame_shape or ring.dtype != np.uint16):
        ring.close()
        return None
    return None if ring is None else FrameRing(ring, plan)
