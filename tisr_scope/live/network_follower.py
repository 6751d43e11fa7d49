"""Super-resolution of a recording that may still be growing, by whoever follows it.

The results go to disk, each at its own time point, and the newest ones to shared memory for a
window.  What an earlier follower of the same recording has left is gone on with: the same intensity
scale, the same store, and only time points that are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tisr_scope.errors import RecordingError, TisrScopeError
from tisr_scope.inference.image_facts import ImageFacts
from tisr_scope.inference.predictor import Model, StreamPredictor
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.inference.result_store import RESULT, ResultStore, open_results
from tisr_scope.live.frame_source import FrameSource
from tisr_scope.live.inference_loop import InferenceLoop
from tisr_scope.live.live_audit import LiveAudit
from tisr_scope.live.live_records import AuditStatus, LiveOptions, LiveResult, LiveStatus
from tisr_scope.live.result_ring import ResultWriter
from tisr_scope.live.stream import Stream, network_threads
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import nominal_carriers

Place = tuple[int, int]
AUDIT = "audit.csv"


@dataclass(frozen=True)
class Followed:
    """One stream, with everything that belongs to it."""

    stream: Stream
    predictor: StreamPredictor
    folder: Path


class NetworkFollower:
    """Serves every channel and position of one recording.

    Parameters
    ----------
    source : FrameSource
        Where the frames come from.
    models : mapping
        Model of each channel.
    out : Path
        Results go to ``out/<channel>``.
    options : LiveOptions
        How the network is run.
    share : bool
        Also publish the newest results in shared memory.
    """

    def __init__(
        self,
        source: FrameSource,
        models: Mapping[str, Model],
        out: Path,
        options: LiveOptions,
        *,
        share: bool = False,
    ) -> None:
        self.source = source
        self.options = options
        self._models = models
        self._stores: dict[Place, ResultStore] = {}
        self.places: dict[Place, Followed] = {}
        facts = source.facts
        for channel, name in enumerate(facts.channels):
            for position in range(facts.positions):
                folder = out / facts.place_name(channel, position)
                self.places[channel, position] = self._follow(
                    channel, position, models[name].open(), folder
                )
        self._audits = audits(source, models, options) if options.audit else {}
        self._writers: dict[Place, ResultWriter] = {}
        if share:
            self._writers = {
                place: ResultWriter(result_grid(facts, models, place[0]).shape)
                for place in self.places
            }
        self.loop = InferenceLoop(
            source,
            [followed.stream for followed in self.places.values()],
            warm_up=options.warm_up,
            patience=options.patience,
            complete=options.complete,
            threads=options.threads,
            sink=self._take,
        )

    def _follow(
        self, channel: int, position: int, predictor: StreamPredictor, folder: Path
    ) -> Followed:
        done: Sequence[int] = ()
        scale: float | None = None
        if (folder / RESULT).is_file():
            earlier = open_results(folder)
            done, scale = earlier.time_indices, float(earlier.description["scale_electrons"])
        stream = Stream(channel, position, self.source, predictor, done=done)
        if scale is not None:
            stream.use_scale(scale)
        return Followed(stream, predictor, folder)

    def run(self) -> LiveStatus:
        """Serve until the recording has ended (and, where asked, nothing is missing).

        Raises
        ------
        TisrScopeError
            If results cannot be stored, or the network answers nonsense.
        Exception
            Whatever the network raised.
        """
        for audit in self._audits.values():
            audit.start()
        try:
            status = self.loop.run()
        except BaseException:
            self._close(quietly=True)
            raise
        self._close(quietly=False)
        return status

    def rings(self) -> dict[str, str]:
        """Names of the shared memory of the results, by ``"channel,position"``."""
        return {f"{c},{p}": writer.ring.name for (c, p), writer in self._writers.items()}

    def objections(self) -> dict[str, list[str]]:
        """Why the confidence of each channel is not calibrated; empty where it is."""
        names = self.source.facts.channels
        return {names[c]: f.predictor.objections for (c, _), f in self.places.items()}

    def audit_status(self) -> dict[str, AuditStatus]:
        """How much of each audited channel is true."""
        names = self.source.facts.channels
        return {names[channel]: audit.status() for channel, audit in self._audits.items()}

    def _take(self, result: LiveResult) -> None:
        place = (result.channel, result.position)
        if result.position == 0 and result.channel in self._audits:
            audit = self._audits[result.channel]
            audit.on_result(result.prediction.time_index, result.prediction.mean)
            self._heed(result.channel)
        if place in self._writers:
            self._writers[place].put(result)
        if place not in self._stores:
            self._stores[place] = self._open_store(*place)
        facts: dict[str, Any] = {"lag_s": round(result.lag_s, 4), "lag_frames": result.lag_frames}
        time_s = self.source.time_s(result.prediction.time_index, *place)
        if time_s is not None:
            facts["time_s"] = round(time_s, 6)
        self._stores[place].append(result.prediction, **facts)

    def _open_store(self, channel: int, position: int) -> ResultStore:
        followed = self.places[channel, position]
        facts = self.source.facts
        description = followed.predictor.model.description() | {
            "channel": facts.channels[channel],
            "position": position,
            "scale_electrons": followed.predictor.scale,
            "calibration": followed.predictor.label,
            "scale_from": f"the first {self.options.warm_up} time points",
            "mode": "live",
            "source": str(self.source.path),
        }
        grid = result_grid(facts, self._models, channel)
        return ResultStore(followed.folder, grid, description, resume=True)

    def _heed(self, channel: int) -> None:
        """What the audit has found makes the confidence of the channel uncalibrated."""
        alarm = self._audits[channel].status().alarm
        if alarm is not None:
            self.places[channel, 0].predictor.doubt(alarm)

    def _close(self, *, quietly: bool) -> None:
        """Close every store, also after one that cannot be closed."""
        problems: list[Exception] = []
        for channel, audit in self._audits.items():
            audit.finish()
            self._heed(channel)
            if (channel, 0) in self._stores:
                audit.write(self.places[channel, 0].folder / AUDIT)
        for (channel, position), store in self._stores.items():
            try:
                start = self.source.time_s(0, channel, position)
                if start is not None:
                    store.set_times(start, self.source.interval_s())
                store.describe(calibration=self.places[channel, position].predictor.label)
            except Exception as error:
                problems.append(error)
            try:
                store.close()
            except Exception as error:
                problems.append(error)
        for writer in self._writers.values():
            writer.ring.close()
        if problems and not quietly:
            first = problems[0]
            raise (
                first
                if isinstance(first, TisrScopeError)
                else RecordingError(
                    f"results could not be finished: {type(first).__name__}: {first}",
                    remedy="serve the rest with 'tisr follow'",
                )
            ) from first


def audits(
    source: FrameSource, models: Mapping[str, Model], options: LiveOptions
) -> dict[int, LiveAudit]:
    """Audit of every channel at the first position, where patterns are exposed."""
    plan = source.plan
    if plan is None or not plan.angles_rad:
        return {}
    optics, found = plan.profile.optics, {}
    for number, channel in enumerate(plan.profile.channels):
        assert channel.pattern_period_um is not None  # the profile has been checked
        found[number] = LiveAudit(
            partial(source.patterns, channel=number, position=0),
            plan.frame_shape,
            models[channel.name].upscale,
            incoherent_otf(optics.numerical_aperture, channel.emission_nm),
            optics.pixel_size_um,
            nominal_carriers(plan.angles_rad, channel.pattern_period_um),
            threads=network_threads(options.threads),
        )
    return found


def result_grid(facts: ImageFacts, models: Mapping[str, Model], channel: int) -> Grid:
    """Sizes of the super-resolved images of a channel."""
    upscale = models[facts.channels[channel]].upscale
    height, width = facts.frame_shape
    return Grid(
        shape=(height * upscale, width * upscale),
        pixel_size_um=facts.pixel_size_um / upscale,
        interval_s=facts.interval_s,
        upscale=upscale,
    )
