"""Conventional SIM beside the network, live, from the same patterned frames.

A thread of its own at low priority.  Whoever has the frames only copies each into the slot of its
pattern; a frame that nobody has fetched by then is replaced and counted as dropped.  So the
recording and the network never wait, and the image always shows the newest light.

The parameters come from the mean of the first complete sets, which lifts dim frames out of the
noise.  They are measured again, with the carrier held, every so many sets.  An image is computed
only when somebody has taken the last one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.errors import ReconstructionError
from tisr_scope.live.live_records import SimImage, SimStatus
from tisr_scope.live.stream import be_humble, describe, rate
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimate import SimParameters, estimate_parameters
from tisr_scope.sim.reconstruction.rolling import RollingReconstruction

WARM_UP_SETS = 4
REFRESH_SETS = 40
MOST_SETS = 16
SHORTEST_S = 0.1
"""Between two images: the network has the processor first."""


class SimComparison:
    """Rolling SIM of one channel at one position beside a recording.

    Parameters
    ----------
    patterns : (orientations, phases)
        As exposed.
    frame_shape : (height, width)
        Of the camera.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample.
    nominal : array, shape (orientation, 2), optional
        Carriers that the profile asks for.
    offset_adu, electrons_per_adu : float
        Camera calibration.
    level : int
        Light level that is reconstructed, of those in the running order.
    threads : int
        Processor threads; the same as the network's, whose setting is shared.
    """

    def __init__(
        self,
        patterns: tuple[int, int],
        frame_shape: tuple[int, int],
        otf: DetectionOtf,
        pixel_um: float,
        nominal: Float[np.ndarray, "orientation 2"] | None,
        *,
        offset_adu: float,
        electrons_per_adu: float,
        level: int = 0,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._otf, self._pixel_um, self._nominal = otf, pixel_um, nominal
        self._offset_adu, self._electrons_per_adu = offset_adu, electrons_per_adu
        self._level, self._threads, self._clock = level, threads, clock
        self._slots = np.zeros((*patterns, *frame_shape), np.uint16)
        self._fresh = np.zeros(patterns, bool)
        self._newest = -1
        self._dropped = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._finish = threading.Event()
        # From here on used by the thread alone.
        self._frames = np.zeros((*patterns, *frame_shape), np.float32)
        self._seen = np.zeros(patterns, bool)
        self._sets: deque[Float[np.ndarray, "orientation phase y x"]] = deque(maxlen=MOST_SETS)
        self._next_estimate = WARM_UP_SETS
        self._complete = 0
        self._rolling: RollingReconstruction | None = None
        self._times: deque[float] = deque(maxlen=24)
        self._images = 0
        # Written by the thread, read by anybody.
        self._parameters: SimParameters | None = None
        self._text = f"collecting the first {WARM_UP_SETS} sets of patterns"
        self._mailbox: SimImage | None = None
        self._thread = threading.Thread(target=self._run, name="live-sim", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self) -> None:
        """End the thread; the newest image stays to be taken."""
        self._finish.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def add(
        self, t: int, orientation: int, phase: int, level: int, frame: UInt16[np.ndarray, "y x"]
    ) -> None:
        """Take a recorded frame over: one copy, no waiting."""
        if level != self._level or self._finish.is_set():
            return
        place = (orientation, phase)
        with self._lock:
            self._dropped += int(self._fresh[place])
            np.copyto(self._slots[place], frame)
            self._fresh[place] = True
            self._newest = t
        self._wake.set()

    def take(self) -> SimImage | None:
        """Newest image, once; None if it was taken already."""
        with self._lock:
            image, self._mailbox = self._mailbox, None
        self._wake.set()
        return image

    def status(self) -> SimStatus:
        """Counters at this moment; safe from any thread."""
        parameters = self._parameters
        depths = () if parameters is None else tuple(parameters.pooled_modulation[:, 0].tolist())
        return SimStatus(
            found=parameters is not None,
            text=self._text,
            period_um=None if parameters is None else float(1 / parameters.frequency.mean()),
            modulation=depths,
            images=self._images,
            dropped=self._dropped,
            image_rate=rate(tuple(self._times), self._clock()),
        )

    def _run(self) -> None:
        try:
            be_humble(self._threads)
            while not self._finish.is_set():
                self._wake.wait(0.5)
                self._wake.clear()
                self._fetch()
                if self._complete >= self._next_estimate:
                    self._estimate()
                self._show()
        except Exception as error:  # neither the recording nor the network may notice
            self._text = f"stopped: {describe(error)}"

    def _fetch(self) -> None:
        """Bring the fresh frames in; the lock is held for one copy at a time."""
        for place in zip(*np.nonzero(self._fresh), strict=True):
            with self._lock:
                counts = self._slots[place].copy()
                self._fresh[place] = False
            electrons = counts.astype(np.float32) - np.float32(self._offset_adu)
            electrons *= np.float32(self._electrons_per_adu)
            self._frames[place] = electrons
            self._seen[place] = True
            if self._rolling is not None:
                self._rolling.add(electrons, int(place[0]), int(place[1]))
        if self._seen.all():
            self._seen[:] = False
            self._sets.append(self._frames.copy())
            self._complete += 1

    def _estimate(self) -> None:
        held = self._parameters
        try:
            found = estimate_parameters(
                np.mean(self._sets, axis=0),
                self._otf,
                self._pixel_um,
                nominal=self._nominal,
                carrier=None if held is None else held.carrier,
                where="live SIM",
            )
        except ReconstructionError as error:
            # The parameters of before are still the best there are.
            self._next_estimate = self._complete + WARM_UP_SETS
            if held is None:
                self._text = f"no SIM image yet: {error.what}"
            else:
                self._text = f"parameters of before are kept: {error.what}"
            return
        if self._rolling is None:
            self._rolling = RollingReconstruction(found, self._otf, self._frames)
        else:
            self._rolling.renew(found)
        self._parameters = found
        self._next_estimate = self._complete + REFRESH_SETS
        depth = float(np.mean(found.pooled_modulation[found.usable, 0]))
        self._text = f"carrier found, modulation {depth:.2f}"

    def _show(self) -> None:
        wanted = self._rolling is not None and self._mailbox is None and self._newest >= 0
        now = self._clock()
        if not wanted or (self._times and now - self._times[-1] < SHORTEST_S):
            return
        assert self._rolling is not None
        image = SimImage(self._rolling.image(), self._newest)
        self._times.append(now)
        self._images += 1
        with self._lock:
            self._mailbox = image
