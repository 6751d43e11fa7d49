"""Conventional SIM of the first channel and position, as a follower."""

from __future__ import annotations

import threading
from dataclasses import asdict
from pathlib import Path

from tisr_scope.child_process import Message
from tisr_scope.live.live_records import LiveOptions
from tisr_scope.live.sim_comparison import SimComparison
from tisr_scope.live.stream import network_threads
from tisr_scope.profiles.library import parse_profile
from tisr_scope.recording.frame_ring import FrameRing, attach
from tisr_scope.recording.recording import Recording
from tisr_scope.recording.shared_ring import SharedRing
from tisr_scope.running_order.run_plan import RunPlan
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import nominal_carriers

POLL_S = 0.003


class SimTrade:
    """Makes the comparison of a run."""

    def __init__(self, job: Message) -> None:
        self._options = LiveOptions(**job["options"])
        self._plan = RunPlan(parse_profile(job["profile"], "profile"), job["mode"])

    def prepare(self) -> Message:
        """Nothing is needed but the imports."""
        return {}

    def follow(self, folder: Path) -> SimFollower:
        """Begin with a recording."""
        recording = Recording.open(folder)
        threads = network_threads(self._options.threads)
        return SimFollower(recording, comparison_of(recording.plan, threads))


class SimFollower:
    """Hands the frames of a growing recording to the comparison, newest first.

    Parameters
    ----------
    recording : Recording
        Growing.
    comparison : SimComparison
        Not started yet.
    """

    def __init__(self, recording: Recording, comparison: SimComparison) -> None:
        self._recording = recording
        self._comparison = comparison
        self._frames: FrameRing | None = None
        self._images: SharedRing | None = None
        self._made = 0
        self._stop = threading.Event()

    def run(self) -> None:
        """Until the recording has ended."""
        self._comparison.start()
        next_number = -1
        while not self._stop.is_set():
            ended = self._recording.ended
            if self._frames is None:
                self._frames = attach(self._recording.path, self._recording.plan)
            else:
                next_number = self._hand_over(self._frames, next_number)
            self._publish()
            if ended:
                break
            self._stop.wait(POLL_S)
        self._comparison.finish()
        self._publish()

    def stop(self, within_s: float) -> None:
        """End now: the newest image is all that counts."""
        if within_s <= 0:
            self._stop.set()

    def report(self) -> Message:
        """State of the parameters, and where the images are."""
        name = None if self._images is None else self._images.name
        return {"sim": asdict(self._comparison.status()), "sim_ring": name}

    def _hand_over(self, frames: FrameRing, next_number: int) -> int:
        newest = frames.ring.newest
        if next_number < 0:
            next_number = newest
        for number in range(max(next_number, newest - frames.ring.slots + 1), newest + 1):
            t, channel, position, sim = frames.place(number)
            if channel == 0 and position == 0:
                found = frames.ring.read(number)
                if found is not None:
                    self._comparison.add(t, *self._recording.plan.sim_place(sim), found[0])
        return newest + 1

    def _publish(self) -> None:
        image = self._comparison.take()
        if image is None:
            return
        if self._images is None:
            self._images = SharedRing.create(3, image.image.shape, "float32")
        self._images.write(self._made, image.image, (image.time_index,))
        self._made += 1


def comparison_of(plan: RunPlan, threads: int) -> SimComparison:
    """Rolling SIM of a run whose time points expose patterns."""
    profile = plan.profile
    camera, optics, channel = profile.microscope.camera, profile.optics, profile.channels[0]
    assert channel.pattern_period_um is not None  # the profile has been checked
    return SimComparison(
        (plan.orientations, plan.phases),
        camera.frame_shape,
        incoherent_otf(optics.numerical_aperture, channel.emission_nm),
        optics.pixel_size_um,
        nominal_carriers(plan.angles_rad, channel.pattern_period_um),
        offset_adu=camera.offset_adu,
        electrons_per_adu=camera.electrons_per_adu,
        level=plan.levels - 1,
        threads=threads,
    )
