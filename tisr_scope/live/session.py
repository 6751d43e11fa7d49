"""One live run: the processes it needs, started, watched and summed up.

::

    acquisition process   controller, light, recorder; publishes the newest frames
    network process       frames -> super-resolution and confidence, on disk and published
    SIM process           newest patterned frames -> conventional SIM, for the window only
    this process          starts, watches and sums up; holds neither a network nor a window

The followers only read: whatever becomes of them, the recording does not know of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import TypeAdapter

from tisr_scope.acquisition.folder import with_time_points
from tisr_scope.errors import RecordingError, TisrScopeError
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.inference.result_store import RESULT, open_results
from tisr_scope.live.acquiring import Acquiring
from tisr_scope.live.live_records import (
    AuditStatus,
    LiveOptions,
    LiveResult,
    LiveStatus,
    LiveSummary,
    Phase,
    SessionStatus,
    SimImage,
    SimStatus,
)
from tisr_scope.live.live_view import LiveView
from tisr_scope.live.supervised import Supervised
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.journal import JOURNAL_NAME
from tisr_scope.running_order.run_plan import RunPlan
from tisr_scope.types import calibration_label

RESULTS = "super_resolution"
SUMMARY = "live_summary.json"
FOLLOWER = "tisr_scope.live.follower_process"
_LIVE = TypeAdapter(LiveStatus)
_SIM = TypeAdapter(SimStatus)
_AUDIT = TypeAdapter(AuditStatus)


class Processes:
    """The processes of a live run; a further run of the same kind goes on with them."""

    def __init__(self, plan: RunPlan, models: Any, options: LiveOptions, follower: str) -> None:
        job = {
            "profile": profile_yaml(plan.profile),
            "mode": plan.mode,
            "models": models,
            "options": asdict(options),
            "results": RESULTS,
        }
        self.network = Supervised("network", follower, "network", job, progress=_predicted)
        self.sim: Supervised | None = None
        if options.sim and plan.angles_rad:
            self.sim = Supervised("SIM", follower, "sim", job, spare=False)
        self.acquiring = Acquiring()

    @property
    def followers(self) -> list[Supervised]:
        """Those that read."""
        return [self.network] if self.sim is None else [self.network, self.sim]

    def close(self) -> None:
        """End them all, the light first."""
        self.acquiring.close()
        for follower in self.followers:
            follower.close()


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
    processes : Processes, optional
        Those of an earlier run of the same kind.
    follower : str
        Module of the followers' process.

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
        processes: Processes | None = None,
        follower: str = FOLLOWER,
    ) -> None:
        if time_points is not None:
            profile = with_time_points(profile, "timelapse", time_points)
        self.plan = RunPlan(profile, "timelapse")
        self.out = out.absolute()
        self.options = options or LiveOptions()
        self._profile_path = profile_path
        self._settings = tuple(settings)
        self._cancel = cancel or threading.Event()
        self._model = model
        names = {c: str(m) for c, m in model.items()} if isinstance(model, Mapping) else str(model)
        self._processes = processes or Processes(self.plan, names, self.options, follower)
        try:
            self._ready = self._processes.network.wait_ready()
        except BaseException:
            self._processes.close()
            raise
        self._view = LiveView(self.out, self.plan)
        self._phase: Phase = "ready"
        self._started_s = self._ended_s = 0.0
        self._error: TisrScopeError | None = None
        self._summary: LiveSummary | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tisr-live", daemon=True)

    # ----------------------------------------------------------------------------- what it is

    @property
    def name(self) -> str:
        """Name of the profile."""
        return self.plan.profile.name

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names, in the order of the profile."""
        return tuple(channel.name for channel in self.plan.channels)

    def model_of(self, channel: int) -> str:
        """Name of the model of a channel."""
        return str(self._ready["models"][self.channels[channel]])

    def grid(self, channel: int) -> Grid:
        """Sizes of the super-resolved images of a channel."""
        upscale = int(self._ready["upscale"][self.channels[channel]])
        height, width = self.plan.frame_shape
        return Grid(
            shape=(height * upscale, width * upscale),
            pixel_size_um=self.plan.profile.optics.pixel_size_um / upscale,
            interval_s=self.plan.nominal_interval_s,
            upscale=upscale,
        )

    def objections_to(self, channel: int) -> list[str]:
        """Why the confidence of a channel is not calibrated; empty where it is."""
        said = self._network.report.get("objections") or self._ready["objections"]
        return list(said[self.channels[channel]])

    def calibration_of(self, channel: int) -> str:
        """Say "calibrated", or why the confidence of a channel is not."""
        return calibration_label(self.objections_to(channel))

    @property
    def _network(self) -> Supervised:
        return self._processes.network

    # ------------------------------------------------------------------------ start, stop, end

    def start(self) -> None:
        """Begin recording and inference."""
        self._started_s = time.monotonic()
        self._phase = "preparing"
        self._thread.start()

    def again(self) -> LiveSession:
        """A new run of the same kind, in a new folder beside this one's, with its processes."""
        stem = self.out.name
        number = 2
        while (out := self.out.with_name(f"{stem}_{number}")).exists():
            number += 1
        return LiveSession(
            self.plan.profile,
            out,
            self._model,
            options=self.options,
            profile_path=self._profile_path,
            settings=self._settings,
            processes=self._processes,
        )

    def stop(self, *, at_once: bool = False) -> None:
        """Ask for a clean stop: the light goes off, everything exposed is kept."""
        self._cancel.set()
        if self._phase in ("preparing", "recording"):
            self._processes.acquiring.stop(at_once=at_once)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it has been reached (or the run was never started)."""
        return self._thread.ident is None or self._over.wait(timeout_s)

    def close(self) -> None:
        """End the processes."""
        self.stop()
        self.join()
        self._processes.close()

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

    def _run(self) -> None:
        try:
            self._record()
        except TisrScopeError as error:
            self._error = error
        except Exception as error:
            self._error = TisrScopeError(f"the live run broke: {type(error).__name__}: {error}")
        self._phase = "done" if self._error is None else "failed"
        self._over.set()

    def _record(self) -> None:
        acquiring = self._processes.acquiring
        acquiring.record(
            self.plan, self.out, profile_path=self._profile_path, settings=self._settings
        )
        followed = False
        while not acquiring.ended.wait(0.05):
            if self._cancel.is_set():
                acquiring.stop()
            if acquiring.status["recorded"] and not followed:
                self._phase = "recording"
                followed = self._follow()
            self._attach()
        self._ended_s = time.monotonic()
        self._phase = "finishing"
        if followed or (acquiring.status["recorded"] and self._follow()):
            for follower in self._processes.followers:
                follower.finish(self.options.drain_s)
        self._attach()
        if acquiring.status["summary"] is not None:
            self._summary = self._summarise()
            content = self._summary.as_dict()
            settings = asdict(self.options) | {"profile": self.name}
            write_json(self.out / SUMMARY, content | {"provenance": provenance(settings)})
        self._error = acquiring.error

    def _follow(self) -> bool:
        for follower in self._processes.followers:
            follower.follow(self.out)
        return True

    def _attach(self) -> None:
        sim = self._processes.sim
        rings = self._network.report.get("rings", {})
        self._view.attach(rings, None if sim is None else sim.report.get("sim_ring"))

    # ------------------------------------------------------------------------- what it shows

    def status(self) -> SessionStatus:
        """Counters at this moment; safe from any thread."""
        said = self._processes.acquiring.status
        now = self._ended_s or time.monotonic()
        recorded, expected = int(said["recorded"]), self.plan.exposures
        remaining = None
        if self._phase == "recording" and recorded > 1:
            pace = (said["last_s"] - said["first_s"]) / (recorded - 1)
            remaining = pace * (expected - recorded)
        notices = [f.error or f.notice for f in self._processes.followers]
        return SessionStatus(
            phase=self._phase,
            recorded=recorded,
            expected=expected,
            elapsed_s=now - self._started_s if self._started_s else 0.0,
            remaining_s=remaining,
            dose_mj=float(said["dose_mj"]),
            live=self._live(),
            error=None if self._error is None else str(self._error),
            notices=tuple(notice for notice in notices if notice),
        )

    def _live(self) -> LiveStatus:
        network = self._network
        if "live" not in network.report:
            return LiveStatus(streams=(), running=network.error is None, error=network.error)
        said = {**network.report["live"], "error": network.error}
        return _LIVE.validate_python(said)

    @property
    def dose_mj(self) -> float:
        """Energy that has left the lasers, at the position that got most."""
        return float(self._processes.acquiring.status["dose_mj"])

    def take(self, channel: int, position: int = 0) -> LiveResult | None:
        """Newest result not looked at yet."""
        self._attach()
        return self._view.take(channel, position)

    def newest_widefield(
        self, channel: int, position: int = 0
    ) -> tuple[int, Float[np.ndarray, "y x"]] | None:
        """Newest camera image in photo-electrons, with its time point."""
        self._attach()
        return self._view.newest_widefield(channel, position)

    def take_sim(self) -> SimImage | None:
        """Newest conventional SIM image not looked at yet, of the first channel and position."""
        self._attach()
        return self._view.take_sim()

    def sim_status(self) -> SimStatus | None:
        """State of the conventional SIM; None where no patterns are exposed."""
        sim = self._processes.sim
        if sim is None:
            return None
        said = sim.report.get("sim")
        text = sim.error or "waiting for the first patterns"
        return (
            SimStatus(False, text, None, (), 0, 0, 0.0)
            if said is None
            else _SIM.validate_python(said)
        )

    def audit_status(self, channel: int) -> AuditStatus | None:
        """How much of what is shown is true; None where no patterns are exposed."""
        said = self._network.report.get("audit", {}).get(self.channels[channel])
        return None if said is None else _AUDIT.validate_python(said)

    def description(self) -> dict[str, Any]:
        """What a window in another process must know of this run, JSON types only."""
        sim = self._processes.sim
        channels = range(len(self.channels))
        return {
            "profile": profile_yaml(self.plan.profile),
            "out": str(self.out),
            "grids": [asdict(self.grid(c)) for c in channels],
            "calibration": [self.calibration_of(c) for c in channels],
            "audit": self._network.report.get("audit", {}),
            "rings": self._network.report.get("rings", {}),
            "sim_ring": None if sim is None else sim.report.get("sim_ring"),
        }

    def _summarise(self) -> LiveSummary:
        status, network = self.status(), self._network
        said = self._processes.acquiring.status
        span = said["last_s"] - said["first_s"]
        live, recorded = status.live, status.recorded
        time_points = recorded // self.plan.exposures_per_time_point
        lags = [lag for place in self._places() for lag in stored_lags(self.out / RESULTS / place)]
        objections = {c: self.objections_to(n) for n, c in enumerate(self.channels)}
        return LiveSummary(
            folder=str(self.out),
            model={name: self.model_of(c) for c, name in enumerate(self.channels)},
            time_points=time_points,
            exposures_recorded=recorded,
            exposures_expected=status.expected,
            missing_on_disk=recorded - frames_on_disk(self.out),
            seconds=self._ended_s - self._started_s,
            camera_rate=(recorded - 1) / span if span > 0 else 0.0,
            time_point_rate=(time_points - 1) / span if span > 0 else 0.0,
            sr_rate=live.predicted / span if span > 0 else 0.0,
            predicted=live.predicted,
            skipped=live.skipped,
            lag_s_median=float(np.median(lags)) if lags else 0.0,
            lag_s_max=max(lags, default=0.0),
            dose_mj=status.dose_mj,
            scale_electrons={self.channels[s.channel]: s.scale for s in live.streams},
            calibrated=not any(objections.values()),
            calibration={c: calibration_label(o) for c, o in objections.items()},
            audit={
                name: one.text + (f"; {one.alarm}" if one.alarm else "")
                for c, name in enumerate(self.channels)
                if (one := self.audit_status(c)) is not None
            },
            stopped_early=recorded < status.expected,
            inference_error=network.error,
            restarts={f.name: f.restarts for f in self._processes.followers},
        )

    def _places(self) -> list[str]:
        plan = self.plan
        return [
            plan.place_name(c, p) for c in range(len(plan.channels)) for p in range(plan.positions)
        ]


def _predicted(report: Mapping[str, Any]) -> int:
    streams = report.get("live", {}).get("streams", ())
    return sum(int(stream["predicted"]) for stream in streams)


def stored_lags(folder: Path) -> list[float]:
    """How old each stored result was when it was ready, in seconds."""
    if not (folder / RESULT).is_file():
        return []
    return [float(line["lag_s"]) for line in open_results(folder).journal if "lag_s" in line]


def frames_on_disk(folder: Path) -> int:
    """Frames of a recording that are on disk: the whole lines of its journal."""
    with (folder / JOURNAL_NAME).open("rb") as journal:
        return sum(line.endswith(b"\n") for line in journal)
