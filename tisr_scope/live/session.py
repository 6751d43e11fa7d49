"""One live run from checks to summary; :mod:`tisr_scope.live.run_live` is the way in."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.acquisition.acquire import AcquisitionSummary, acquire
from tisr_scope.cancel import cancellable
from tisr_scope.errors import RecordingError, TisrScopeError
from tisr_scope.inference.predictor import Model, StreamPredictor, load_models
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.inference.result_store import ResultStore
from tisr_scope.live.inference_thread import LiveEngine, LiveStatus
from tisr_scope.live.live_audit import AuditStatus, LiveAudit
from tisr_scope.live.live_records import LiveOptions, LiveSummary, Phase, SessionStatus
from tisr_scope.live.ring import FrameRing
from tisr_scope.live.sim_comparison import SimComparison, SimImage, SimStatus
from tisr_scope.live.stream import LiveResult, Stream, describe
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.journal import JOURNAL_NAME
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import nominal_carriers

RESULTS = "super_resolution"
SUMMARY = "live_summary.json"
AUDIT = "audit.csv"


class LiveSession:
    """One live run, from checks to summary.

    Parameters
    ----------
    profile : Profile
        With a ``timelapse`` section.
    out : path
        New folder; the recording is written here, results into ``super_resolution/<channel>``.
    model : str, path or mapping
        Bundle for every channel, or one for each channel name.
    options : LiveOptions
        How the network is run.
    profile_path, settings, time_points
        As for :func:`tisr_scope.acquisition.acquire.acquire`.
    cancel : threading.Event, optional
        Set by the caller to stop cleanly.
    models : mapping, optional
        Models that are loaded already, by channel name; ``model`` is then not read.

    Raises
    ------
    BundleError, DataError, CalibrationError
        If a model is missing, damaged, or cannot take the camera's frames.  No light was used.
    """

    def __init__(
        self,
        profile: Profile,
        out: Path,
        model: str | Path | Mapping[str, str | Path],
        *,
        options: LiveOptions | None = None,
        profile_path: Path | None = None,
        settings: Sequence[DeviceSetting] = (),
        time_points: int | None = None,
        cancel: threading.Event | None = None,
        models: Mapping[str, Model] | None = None,
    ) -> None:
        self.profile = profile
        self.out = out
        self.options = options or LiveOptions()
        self._profile_path = profile_path
        self._settings = tuple(settings)
        self._cancel = cancel or threading.Event()
        self._plan = RunPlan(profile, "timelapse")
        self.time_points = time_points or self._plan.time_points
        self.expected = self._plan.exposures_per_time_point * self.time_points
        self._model = model
        self.models: Mapping[str, Model] = models or load_models(
            profile,
            model,
            device=self.options.device,
            passes=self.options.passes,
            seed=self.options.seed,
        )
        self._predictors: dict[tuple[int, int], StreamPredictor] = {}
        self._stores: dict[tuple[int, int], ResultStore] = {}
        self._lags: list[float] = []
        self._dose: dict[int, dict[int, float]] = {}
        self._recorded = 0
        self._first_frame = self._last_frame = 0.0
        self._started = self._ended = 0.0
        self._phase: Phase = "ready"
        self._error: BaseException | None = None
        self._acquired: AcquisitionSummary | None = None
        self._summary: LiveSummary | None = None
        self._engine = LiveEngine(
            self._streams(),
            warm_up=self.options.warm_up,
            patience=self.options.patience,
            threads=self.options.threads,
            sink=self._store,
            prepare=self._rehearse,
        )
        self._comparison = self._sim_comparison() if self.options.sim else None
        self._audits = self._live_audits() if self.options.audit else {}
        self._thread = threading.Thread(target=self._run, name="live-acquisition", daemon=True)

    def _streams(self) -> list[Stream]:
        camera = self.profile.microscope.camera
        patterns = self._plan.sim_frames
        streams = []
        for channel, spec in enumerate(self.profile.channels):
            for position in range(self._plan.positions):
                predictor = self.models[spec.name].open()
                self._predictors[channel, position] = predictor
                capacity = max(predictor.window + self.options.patience + 2, self.options.warm_up)
                ring = FrameRing(camera.frame_shape, patterns, capacity + 8)
                streams.append(
                    Stream(
                        channel,
                        position,
                        ring,
                        predictor,
                        offset_adu=camera.offset_adu,
                        electrons_per_adu=camera.electrons_per_adu,
                    )
                )
        return streams

    def _sim_comparison(self) -> SimComparison | None:
        """Conventional SIM of the first channel and position, where patterns are exposed."""
        plan, profile = self._plan, self.profile
        if not plan.angles_rad:
            return None
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
            threads=self._engine.threads,
        )

    def _live_audits(self) -> dict[int, LiveAudit]:
        """Audit of every channel at the first position, where patterns are exposed."""
        plan, profile = self._plan, self.profile
        if not plan.angles_rad:
            return {}
        camera, optics = profile.microscope.camera, profile.optics
        audits = {}
        for number, channel in enumerate(profile.channels):
            assert channel.pattern_period_um is not None  # the profile has been checked
            audits[number] = LiveAudit(
                (plan.orientations, plan.phases),
                camera.frame_shape,
                self.models[channel.name].upscale,
                incoherent_otf(optics.numerical_aperture, channel.emission_nm),
                optics.pixel_size_um,
                nominal_carriers(plan.angles_rad, channel.pattern_period_um),
                offset_adu=camera.offset_adu,
                electrons_per_adu=camera.electrons_per_adu,
                level=plan.levels - 1,
                threads=self._engine.threads,
            )
        return audits

    @property
    def name(self) -> str:
        """Name of the profile."""
        return self.profile.name

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names, in the order of the profile."""
        return tuple(channel.name for channel in self.profile.channels)

    @property
    def interval_s(self) -> float:
        """Planned time between time points."""
        return self._plan.nominal_interval_s

    def grid(self, channel: int) -> Grid:
        """Sizes of the super-resolved images of a channel."""
        upscale = self.models[self.channels[channel]].upscale
        height, width = self.profile.microscope.camera.frame_shape
        return Grid(
            shape=(height * upscale, width * upscale),
            pixel_size_um=self.profile.optics.pixel_size_um / upscale,
            interval_s=self.interval_s,
            upscale=upscale,
        )

    def start(self) -> None:
        """Begin recording and inference."""
        self._started = time.monotonic()
        self._phase = "preparing"
        self._engine.start()
        if self._comparison is not None:
            self._comparison.start()
        for audit in self._audits.values():
            audit.start()
        self._thread.start()

    def again(self) -> LiveSession:
        """A new run of the same kind, in a new folder beside this one's; models are shared."""
        stem = self.out.name
        number = 2
        while (out := self.out.with_name(f"{stem}_{number}")).exists():
            number += 1
        return LiveSession(
            self.profile,
            out,
            self._model,
            options=self.options,
            profile_path=self._profile_path,
            settings=self._settings,
            time_points=self.time_points,
            models=self.models,
        )

    def stop(self) -> None:
        """Ask for a clean stop: the light goes off, everything exposed is kept."""
        self._cancel.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it has been reached (or the run was never started)."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def result(self) -> LiveSummary:
        """Summary of the finished run.

        Raises
        ------
        TisrScopeError
            What stopped the recording, if it did not end as planned.
        """
        self.join()
        if self._error is not None:
            raise self._error
        if self._summary is None:
            raise RecordingError(
                "the live run was never started",
                where=str(self.out),
                remedy="press Start, or run without a window",
            )
        return self._summary

    def status(self) -> SessionStatus:
        """Counters at this moment; safe from any thread."""
        now = self._ended or time.monotonic()
        elapsed = now - self._started if self._started else 0.0
        recorded = self._recorded
        remaining = None
        if self._phase == "recording" and recorded > 1:
            pace = (self._last_frame - self._first_frame) / (recorded - 1)
            remaining = pace * (self.expected - recorded)
        return SessionStatus(
            phase=self._phase,
            recorded=recorded,
            expected=self.expected,
            elapsed_s=elapsed,
            remaining_s=remaining,
            dose_mj=self.dose_mj,
            live=self._engine.status(),
            error=None if self._error is None else describe(self._error),
        )

    @property
    def dose_mj(self) -> float:
        """Energy that has left the lasers, at the position that got most."""
        positions = list(self._dose.values())
        return max((sum(list(doses.values())) for doses in positions), default=0.0)

    def take(self, channel: int, position: int = 0) -> LiveResult | None:
        """Newest result not looked at yet."""
        return self._engine.take(channel, position)

    def newest_widefield(
        self, channel: int, position: int = 0
    ) -> tuple[int, Float[np.ndarray, "y x"]] | None:
        """Newest camera image in photo-electrons, with its time point."""
        return self._engine.newest_widefield(channel, position)

    def take_sim(self) -> SimImage | None:
        """Newest conventional SIM image not looked at yet, of the first channel and position."""
        return None if self._comparison is None else self._comparison.take()

    def sim_status(self) -> SimStatus | None:
        """State of the conventional SIM; None where no patterns are exposed."""
        return None if self._comparison is None else self._comparison.status()

    def audit_status(self, channel: int) -> AuditStatus | None:
        """How much of what is shown is true; None where no patterns are exposed."""
        return self._audits[channel].status() if channel in self._audits else None

    def calibration_of(self, channel: int) -> str:
        """Say "calibrated", or why the confidence of a channel is not."""
        return self._predictors[channel, 0].label

    def _on_frame(self, info: FrameInfo, frame: UInt16[np.ndarray, "y x"]) -> None:
        self._last_frame = time.monotonic()
        self._first_frame = self._first_frame or self._last_frame
        self._recorded += 1
        self._dose.setdefault(info.position, {})[info.channel] = info.dose_mj
        self._engine.on_frame(info, frame)
        if self._comparison is not None and info.channel == 0 and info.position == 0:
            self._comparison.on_frame(info, frame)
        if info.position == 0 and info.channel in self._audits:
            self._audits[info.channel].on_frame(info, frame)

    def _store(self, result: LiveResult) -> None:
        key = (result.channel, result.position)
        if key not in self._stores:
            self._stores[key] = self._open_store(*key)
        self._lags.append(result.lag_s)
        self._stores[key].append(
            result.prediction,
            seconds=round(result.arrival_s - self._started, 4),
            lag_s=round(result.lag_s, 4),
            lag_frames=result.lag_frames,
        )
        if result.position == 0 and result.channel in self._audits:
            audit = self._audits[result.channel]
            audit.on_result(result.prediction.time_index, result.prediction.mean)
            alarm = audit.status().alarm
            if alarm is not None:
                self._predictors[key].doubt(alarm)

    def _open_store(self, channel: int, position: int) -> ResultStore:
        name = self.channels[channel]
        predictor = self._predictors[channel, position]
        description = predictor.model.description() | {
            "channel": name,
            "position": position,
            "scale_electrons": predictor.scale,
            "calibration": predictor.label,
            "scale_from": f"the first {self.options.warm_up} time points",
            "mode": "live",
        }
        return ResultStore(
            self.out / RESULTS / self._plan.place_name(channel, position),
            self.grid(channel),
            description,
        )

    def _rehearse(self) -> None:
        shape = self.profile.microscope.camera.frame_shape
        for model in {id(model): model for model in self.models.values()}.values():
            model.rehearse(shape)

    def _run(self) -> None:
        # Every run is asked to stop by signals, the second one in a window as well.
        with cancellable(self._cancel):
            self._record_and_infer()

    def _record_and_infer(self) -> None:
        try:
            self._engine.wait_ready()
            self._phase = "recording"
            self._acquired = acquire(
                self.profile,
                self.out,
                "timelapse",
                profile_path=self._profile_path,
                settings=self._settings,
                on_frame=self._on_frame,
                cancel=self._cancel,
                time_points=self.time_points,
            )
        except BaseException as error:
            self._error = error
        self._ended = time.monotonic()
        self._phase = "finishing"
        try:
            if self._comparison is not None:
                self._comparison.finish()
            live = self._engine.finish(self.options.drain_s)
            self._close_audits()
            store_error = self._close_stores()
            if self._acquired is not None:
                self._summary = self._summarise(live, store_error)
                write_json(self.out / SUMMARY, self._document(self._summary))
        except Exception as error:
            self._error = self._error or error
        self._phase = "done" if self._error is None else "failed"

    def _close_audits(self) -> None:
        for channel, audit in self._audits.items():
            audit.finish()
            alarm = audit.status().alarm
            if alarm is not None:
                self._predictors[channel, 0].doubt(alarm)
            folder = self.out / RESULTS / self._plan.place_name(channel, 0)
            if folder.is_dir():
                audit.write(folder / AUDIT)

    def _close_stores(self) -> str | None:
        problem = None
        for place, store in self._stores.items():
            try:
                store.close()
                store.describe(calibration=self._predictors[place].label)
            except TisrScopeError as error:
                problem = str(error)
        return problem

    def _document(self, summary: LiveSummary) -> dict[str, Any]:
        settings = asdict(self.options) | {"profile": self.profile.name}
        return summary.as_dict() | {"provenance": provenance(settings)}

    def _summarise(self, live: LiveStatus, store_error: str | None) -> LiveSummary:
        seconds = self._ended - self._started
        span = self._last_frame - self._first_frame
        time_points = max((stream.time_points for stream in live.streams), default=0)
        labels = {self.channels[c]: p.label for (c, _), p in self._predictors.items()}
        return LiveSummary(
            folder=str(self.out),
            model={name: model.name for name, model in self.models.items()},
            time_points=time_points,
            exposures_recorded=self._recorded,
            exposures_expected=self.expected,
            missing_on_disk=self._recorded - frames_on_disk(self.out),
            seconds=seconds,
            camera_rate=(self._recorded - 1) / span if span > 0 else 0.0,
            time_point_rate=(time_points - 1) / span if span > 0 else 0.0,
            sr_rate=live.predicted / span if span > 0 else 0.0,
            predicted=live.predicted,
            skipped=live.skipped,
            lag_s_median=float(np.median(self._lags)) if self._lags else 0.0,
            lag_s_max=max(self._lags, default=0.0),
            dose_mj=self.dose_mj,
            scale_electrons={self.channels[s.channel]: s.scale for s in live.streams},
            calibrated=all(not p.objections for p in self._predictors.values()),
            calibration=labels,
            audit={
                self.channels[c]: one.text + (f"; {one.alarm}" if one.alarm else "")
                for c, one in ((c, audit.status()) for c, audit in self._audits.items())
            },
            stopped_early=self._recorded < self.expected,
            inference_error=live.error or store_error,
        )


def frames_on_disk(folder: Path) -> int:
    """Frames of a recording that are on disk: the whole lines of its journal."""
    with (folder / JOURNAL_NAME).open("rb") as journal:
        return sum(line.endswith(b"\n") for line in journal)
