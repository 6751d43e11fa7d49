"""Follows a running experiment and puts together what belongs together.

The camera is ahead of the network.  So that all panels show the same time point, the newest camera
and SIM images are kept until the network's result for them is there.
"""

from __future__ import annotations

from collections import OrderedDict

from tisr_scope.inference.result_arrays import Grid
from tisr_scope.live.live_records import LiveResult, SessionStatus
from tisr_scope.preview.experiment import ChannelImages, Experiment, Image, TimePoint

KEPT_BYTES = 64 * 2**20
"""Memory for camera and SIM images that wait for their result, per channel and kind."""


class Waiting:
    """The newest images by time point, as many as the memory allows."""

    def __init__(self) -> None:
        self._images: OrderedDict[int, Image] = OrderedDict()

    def add(self, t: int, image: Image) -> None:
        """Keep an image."""
        self._images[t] = image
        while len(self._images) > 2 and len(self._images) * image.nbytes > KEPT_BYTES:
            self._images.popitem(last=False)

    def nearest(self, t: int | None) -> tuple[int, Image | None]:
        """Image of a time point, or the nearest one held; the newest for None."""
        if not self._images:
            return -1, None
        if t is None:
            found = next(reversed(self._images))
        else:
            found = t if t in self._images else min(self._images, key=lambda k: abs(k - t))
        return found, self._images[found]


class Follower:
    """Newest images and the signal over the whole run, of every channel.

    Parameters
    ----------
    experiment : Experiment
        Polled by :meth:`poll`, in the thread of the window.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        channels = range(len(experiment.channels))
        self._widefields = {c: Waiting() for c in channels}
        self._sims = Waiting()
        self._results: dict[int, LiveResult] = {}
        self._seen = dict.fromkeys(channels, -1)
        self.signals: dict[int, list[float]] = {c: [] for c in channels}
        """Mean of each camera image that was seen, in photo-electrons per pixel."""

    def poll(self, status: SessionStatus) -> bool:
        """Take what is new; whether there was anything."""
        arrived = {s.channel: s.time_points for s in status.live.streams if s.position == 0}
        fresh = False
        for channel in self._widefields:
            fresh |= self._poll_channel(channel, arrived.get(channel))
        sim = self.experiment.take_sim()
        if sim is not None:
            self._sims.add(sim.time_index, sim.image)
            fresh = True
        return fresh

    def _poll_channel(self, channel: int, arrived: int | None) -> bool:
        fresh = False
        # Averaging the patterns of a time point costs; so it is done once for each.
        if arrived is None or arrived != self._seen[channel]:
            newest = self.experiment.newest_widefield(channel)
            if newest is not None and (newest[0] != self._widefields[channel].nearest(None)[0]):
                self._widefields[channel].add(*newest)
                self.signals[channel].append(float(newest[1].mean()))
                fresh = True
            if arrived is not None:
                self._seen[channel] = arrived
        result = self.experiment.take(channel)
        if result is not None:
            self._results[channel] = result
            fresh = True
        return fresh

    def time_point(self, channel: int, status: SessionStatus, *, newest: bool) -> TimePoint | None:
        """What to show.

        Parameters
        ----------
        channel : int
            The one looked at: its newest result says which time point is shown.
        newest : bool
            Show the newest of everything instead; what is older is then marked.
        """
        result = self._results.get(channel)
        t = None if newest or result is None else result.prediction.time_index
        reference, image = self._widefields[channel].nearest(t)
        if image is None and result is None:
            return None
        scales = {s.channel: s.scale for s in status.live.streams if s.position == 0}
        return TimePoint(
            t=reference if t is None else t,
            channels={c: self._images(c, t, scales.get(c)) for c in self._widefields},
        )

    def _images(self, channel: int, t: int | None, scale: float | None) -> ChannelImages:
        widefield_t, widefield = self._widefields[channel].nearest(t)
        sim_t, sim = self._sims.nearest(t) if channel == 0 else (-1, None)
        result = self._results.get(channel)
        if result is None:
            return ChannelImages(widefield, widefield_t, sim=sim, sim_t=sim_t)
        prediction = result.prediction
        return ChannelImages(
            widefield,
            widefield_t,
            prediction.mean,
            prediction.confidence,
            prediction.time_index,
            sim,
            sim_t,
            prediction.calibrated,
            scale,
        )


def field_um(grid: Grid) -> tuple[float, float]:
    """Height and width of the field of view."""
    return grid.shape[0] * grid.pixel_size_um, grid.shape[1] * grid.pixel_size_um
