"""The newest result of a stream, in memory that a window in another process can read."""

from __future__ import annotations

import numpy as np

from tisr_scope.live.live_records import LiveResult
from tisr_scope.recording.shared_ring import SharedRing
from tisr_scope.types import Prediction

_SLOTS = 3


class ResultWriter:
    """Publishes the results of one stream.

    Parameters
    ----------
    shape : (height, width)
        Of a super-resolved image.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.ring = SharedRing.create(_SLOTS, (4, *shape), "float32")
        self._number = -1

    def put(self, result: LiveResult) -> None:
        """Replace the newest result."""
        shown = result.prediction
        images = np.stack([shown.mean, shown.epistemic, shown.aleatoric, shown.confidence])
        self._number += 1
        facts = (shown.time_index, shown.calibrated, result.arrival_s)
        self.ring.write(self._number, images, (*facts, result.lag_frames, result.lag_s))


class ResultReader:
    """Newest result of one stream, each once.

    Parameters
    ----------
    ring : SharedRing
        Attached.
    channel, position : int
        Of the stream.
    """

    def __init__(self, ring: SharedRing, channel: int, position: int) -> None:
        self.ring = ring
        self._place = channel, position
        self._taken = -1

    def take(self) -> LiveResult | None:
        """Newest result not looked at yet."""
        newest = self.ring.newest
        found = self.ring.read(newest) if newest > self._taken else None
        if found is None:
            return None
        self._taken = newest
        (mean, epistemic, aleatoric, confidence), facts = found
        t, calibrated, arrival_s, lag_frames, lag_s = facts[:5]
        return LiveResult(
            channel=self._place[0],
            position=self._place[1],
            prediction=Prediction(
                int(t), mean, epistemic, aleatoric, confidence, calibrated=bool(calibrated)
            ),
            arrival_s=arrival_s,
            lag_frames=int(lag_frames),
            lag_s=lag_s,
        )
