"""What a window looks at: newest camera image, result and SIM image, from shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tisr_scope.live.live_records import LiveResult, SimImage
from tisr_scope.live.result_ring import ResultReader
from tisr_scope.recording.frame_ring import FrameRing, attach
from tisr_scope.recording.shared_ring import SharedRing
from tisr_scope.running_order.run_plan import RunPlan


class LiveView:
    """Attaches to whatever is there, and again when a follower was started again.

    Parameters
    ----------
    folder : Path
        Of the recording.
    plan : RunPlan
        Of the recording.
    """

    def __init__(self, folder: Path, plan: RunPlan) -> None:
        self._folder, self._plan = folder, plan
        self._frames: FrameRing | None = None
        self._results: dict[tuple[int, int], ResultReader] = {}
        self._sim: SharedRing | None = None
        self._sim_taken = -1

    def attach(self, rings: Mapping[str, str], sim_ring: str | None) -> None:
        """Hold on to the memory that there is; what it shows last stays after the run."""
        if self._frames is None:
            self._frames = attach(self._folder, self._plan)
        for key, name in rings.items():
            channel, position = (int(number) for number in key.split(","))
            reader = self._results.get((channel, position))
            if reader is None or reader.ring.name != name:
                ring = SharedRing.attach(name)
                if ring is not None:
                    self._results[channel, position] = ResultReader(ring, channel, position)
        if sim_ring is not None and (self._sim is None or self._sim.name != sim_ring):
            self._sim, self._sim_taken = SharedRing.attach(sim_ring), -1

    def newest_widefield(
        self, channel: int, position: int = 0
    ) -> tuple[int, Float[np.ndarray, "y x"]] | None:
        """Newest camera image in photo-electrons, with its time point."""
        if self._frames is None:
            return None
        t = self._frames.newest(channel, position)
        counts = self._frames.mean(t, channel, position) if t >= 0 else None
        if counts is None:
            return None
        camera = self._plan.profile.microscope.camera
        electrons = counts - np.float32(camera.offset_adu)
        return t, electrons * np.float32(camera.electrons_per_adu)

    def take(self, channel: int, position: int = 0) -> LiveResult | None:
        """Newest result not looked at yet."""
        reader = self._results.get((channel, position))
        return None if reader is None else reader.take()

    def take_sim(self) -> SimImage | None:
        """Newest conventional SIM image not looked at yet."""
        if self._sim is None or self._sim.newest <= self._sim_taken:
            return None
        newest = self._sim.newest
        found = self._sim.read(newest)
        if found is None:
            return None
        self._sim_taken = newest
        return SimImage(found[0], int(found[1][0]))
