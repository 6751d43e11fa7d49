"""Recording: profile in, folder with frames, journal and provenance out."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16
from pymmcore_plus.mda import FinishReason

from tisr_scope.acquisition.engine import StrictEngine
from tisr_scope.acquisition.journal import rewrite_journal
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.acquisition.preflight import check, check_space
from tisr_scope.acquisition.recorder import Recorder, create_store
from tisr_scope.acquisition.running_order import (
    FrameInfo,
    Mode,
    RunningOrder,
    frame_bytes,
    running_order,
)
from tisr_scope.acquisition.safety import DoseMeter, light_off_afterwards
from tisr_scope.data.journal import JournalEntry
from tisr_scope.data.recording import Recording
from tisr_scope.errors import LightLimitExceeded, ProfileError, RecordingError, TisrScopeError
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import DeviceSetting, Frozen, Profile
from tisr_scope.provenance import provenance, write_json

OnFrame = Callable[[FrameInfo, UInt16[np.ndarray, "y x"]], None]
Progress = Callable[[int, int], None]


class Ending(StrEnum):
    """Why a run ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class AcquisitionSummary(Frozen):
    """What came of a run."""

    out: str
    mode: str
    reason: Ending
    error: str | None = None
    frames_expected: int
    frames_recorded: int
    """Frames on disk, those of an earlier, interrupted part included."""
    time_points_complete: int
    duration_s: float
    frames_per_s: float
    """Frames of this run over its duration."""
    dose_mj: dict[str, float]
    """Largest energy any position received from each channel."""
    saturated_frames: int = 0
    """Frames with more than one pixel in a thousand at the camera's saturation."""
    flat_frames: int = 0
    """Frames in which every pixel has the same value."""

    @property
    def frames_missing(self) -> int:
        """Frames of the running order that are not on disk."""
        return self.frames_expected - self.frames_recorded

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**self.model_dump(mode="json"), "frames_missing": self.frames_missing}


class _Counter:
    """Counts frames on their way to the recorder and tells who asked."""

    def __init__(
        self,
        recorder: Recorder,
        saturation_adu: float,
        total: int,
        done: int,
        on_frame: OnFrame | None,
        progress: Progress | None,
    ) -> None:
        self.taken = 0
        self.saturated = 0
        self.flat = 0
        self._recorder = recorder
        self._saturation = saturation_adu
        self._total = total
        self._done = done
        self._on_frame = on_frame
        self._progress = progress

    def __call__(
        self, info: FrameInfo, frame: UInt16[np.ndarray, "y x"], camera: dict[str, Any]
    ) -> None:
        self._recorder.put(info, frame, camera)
        self.taken += 1
        brightest = frame.max()
        if brightest >= self._saturation:
            saturated = np.count_nonzero(frame >= np.float32(self._saturation))
            self.saturated += bool(saturated > frame.size / 1000)
        self.flat += bool(frame.min() == brightest)
        try:
            if self._on_frame is not None:
                self._on_frame(info, frame)
            if self._progress is not None:
                self._progress(self._done + self.taken, self._total)
        except TisrScopeError:
            raise
        except Exception as error:
            raise RecordingError(
                f"what was asked to look at each frame failed: {type(error).__name__}: {error}",
                where=f"frame {self._done + self.taken} of {self._total}",
                remedy="mend the on_frame or progress function; the frames so far are recorded",
            ) from error


def acquire(
    profile: Profile,
    out: str | Path,
    mode: Mode,
    *,
    profile_path: str | Path | None = None,
    settings: Iterable[DeviceSetting] = (),
    on_frame: OnFrame | None = None,
    cancel: threading.Event | None = None,
    progress: Progress | None = None,
    time_points: int | None = None,
    resume: bool = False,
    bursts: bool = True,
) -> AcquisitionSummary:
    """Record one run of a profile.

    Parameters
    ----------
    profile : Profile
        What to record.
    out : path
        Folder of the recording; it must be empty or new unless ``resume``.
    mode : {"paired", "timelapse"}
        Which section of the profile.
    profile_path : path, optional
        File the profile came from; its folder is searched for the ``.cfg``.
    settings : iterable of DeviceSetting, optional
        Device settings on top of the profile's, such as the seed of the simulated world.
    on_frame : callable, optional
        Called with ``(FrameInfo, frame)`` for every frame, in the acquisition thread.
    cancel : threading.Event, optional
        Set it to stop after the current exposure.
    progress : callable, optional
        Called with ``(frames done, frames in all)``.
    time_points : int, optional
        Instead of the profile's number.
    resume : bool
        Go on with an interrupted recording at its first incomplete time point.
    bursts : bool
        Let devices step by themselves where they can.

    Returns
    -------
    AcquisitionSummary
        For a run that was completed or cancelled.

    Raises
    ------
    TisrScopeError
        If anything went wrong.  The light is off, the frames recorded so far are readable, and
        ``summary.json`` says why.
    """
    out = Path(out)
    settings = tuple(settings)
    if time_points is not None:
        profile = with_time_points(profile, mode, time_points)
    order = running_order(profile, mode)
    _check_dose(profile, order)
    cancel = cancel if cancel is not None else threading.Event()
    kept = _kept_entries(out, profile, mode, resume)
    check_space(out, order.exposures * frame_bytes(profile))
    path = None if profile_path is None else Path(profile_path)
    with Microscope.open(profile, path, settings) as microscope:
        for finding in check(microscope, order):
            if finding.error is not None:
                raise finding.error
        if kept is None:
            _begin_folder(out, profile, mode, settings, microscope, order)
        started = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["started"]
        return _run(
            microscope, profile, order, out, kept or [], started, cancel, on_frame, progress, bursts
        )


def _run(
    microscope: Microscope,
    profile: Profile,
    order: RunningOrder,
    out: Path,
    kept: list[JournalEntry],
    started: float,
    cancel: threading.Event,
    on_frame: OnFrame | None,
    progress: Progress | None,
    bursts: bool,
) -> AcquisitionSummary:
    """Play the running order and write down how it ended."""
    camera = profile.microscope.camera
    dose = DoseMeter(profile.light_dose_limit_mj)
    for entry in kept:
        dose.charge(entry.position, entry.channel, entry.power_mw * entry.exposure_ms / 1e3)
    recorder = Recorder(out, order, camera.frame_shape)
    counter = _Counter(
        recorder, camera.saturation_adu, order.exposures, len(kept), on_frame, progress
    )
    engine = StrictEngine(
        microscope,
        profile,
        counter,
        cancel,
        dose=dose,
        bursts=bursts,
        started=started if kept else None,
    )
    first = len(kept) // order.exposures_per_time_point
    begun = time.perf_counter()
    error: BaseException | None = None
    finish: FinishReason | None = None
    try:
        with light_off_afterwards(microscope.light_off, cancel):
            finish = _play(microscope, engine, order, first, cancel)
    except BaseException as raised:
        error = raised
    duration = time.perf_counter() - begun
    try:
        recorder.close()
    except TisrScopeError as raised:
        error = error or raised
    complete = error is None and finish == FinishReason.COMPLETED and not cancel.is_set()
    cancelled = error is None or isinstance(error, KeyboardInterrupt)
    summary = AcquisitionSummary(
        out=str(out),
        mode=order.mode,
        reason=Ending.COMPLETED
        if complete or (error is None and counter.taken + len(kept) == order.exposures)
        else (Ending.CANCELLED if cancelled else Ending.FAILED),
        error=None if error is None else str(error) or type(error).__name__,
        frames_expected=order.exposures,
        frames_recorded=len(kept) + recorder.recorded,
        time_points_complete=(len(kept) + recorder.recorded) // order.exposures_per_time_point,
        duration_s=round(duration, 3),
        frames_per_s=round(recorder.recorded / duration, 2) if duration else 0.0,
        dose_mj={
            channel.name: max(dose.spent(p, c) for p in range(order.positions))
            for c, channel in enumerate(order.channels)
        },
        saturated_frames=counter.saturated,
        flat_frames=counter.flat,
    )
    _write_summary(out, summary)
    if error is not None:
        raise _as_ours(error)
    return summary


def _play(
    microscope: Microscope,
    engine: StrictEngine,
    order: RunningOrder,
    first: int,
    cancel: threading.Event,
) -> FinishReason | None:
    """Run the events in this thread, watching for a cancel."""
    runner = microscope.core.mda
    runner.set_engine(engine)
    uploads = order.source is not None and order.source.kind == "image"
    events = list(order.events(microscope.slm_shape() if uploads else None, first))
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if cancel.wait(0.05):
                runner.cancel()
                return

    watcher = threading.Thread(target=watch, name="tisr-cancel", daemon=True)
    watcher.start()
    try:
        with _quiet():
            runner.run(events)
    finally:
        done.set()
        watcher.join()
    return runner.status.finish_reason


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pymmcore-plus from formatting every event for its log."""
    logger = logging.getLogger("pymmcore-plus")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def default_folder(profile: Profile, mode: Mode) -> Path:
    """Folder of a new recording, from the profile's ``output``.

    Raises
    ------
    ProfileError
        If ``output`` has a placeholder that is not known.
    """
    now = datetime.now()
    try:
        return Path(
            profile.output.format(
                profile=profile.name,
                mode=mode,
                date=now.strftime("%Y-%m-%d"),
                time=now.strftime("%H%M%S"),
            )
        )
    except (KeyError, IndexError, ValueError) as error:
        raise ProfileError(
            f"'output' has an unknown placeholder: {error}",
            where=profile.output,
            remedy="use {profile}, {mode}, {date} and {time}",
        ) from error


def with_time_points(profile: Profile, mode: Mode, time_points: int) -> Profile:
    """The profile with another number of time points in one mode.

    Raises
    ------
    ProfileError
        If the number is below 1 or the profile does not have this mode.
    """
    plan = getattr(profile, mode)
    if time_points < 1 or plan is None:
        raise ProfileError(
            f"{time_points} time points of mode {mode!r} cannot be recorded",
            where=profile.name,
            remedy="ask for at least one time point of a mode the profile describes",
        )
    return profile.model_copy(
        update={mode: plan.model_copy(update={"time_points": int(time_points)})}
    )


def _check_dose(profile: Profile, order: RunningOrder) -> None:
    planned = sum(order.dose_mj().values())
    limit = profile.light_dose_limit_mj
    if limit is not None and planned > limit * (1 + 1e-9):
        raise LightLimitExceeded(
            f"the run would give {planned:.4g} mJ to a position, the limit is {limit:g} mJ",
            where="light_dose_limit_mj",
            remedy="use fewer time points, less power or shorter exposures, or raise the limit "
            "in the profile",
        )


def _kept_entries(
    out: Path, profile: Profile, mode: Mode, resume: bool
) -> list[JournalEntry] | None:
    """Entries of the complete time points of an interrupted recording; None for a new one."""
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if not resume:
        if occupied:
            raise RecordingError(
                "the folder is not empty, and recordings are never overwritten",
                where=str(out),
                remedy="name another folder, or go on with this recording with --resume",
            )
        return None
    recording = Recording.open(out)
    if (recording.profile, recording.mode) != (profile, mode):
        raise RecordingError(
            "the folder holds a recording of another profile or mode",
            where=str(out),
            remedy="resume with the profile.yaml in that folder and the mode it was begun with",
        )
    complete = recording.time_points
    entries = [entry for entry in recording.journal if entry.t < complete]
    rewrite_journal(out, entries)
    return entries


def _begin_folder(
    out: Path,
    profile: Profile,
    mode: Mode,
    settings: tuple[DeviceSetting, ...],
    microscope: Microscope,
    order: RunningOrder,
) -> None:
    """Everything but frames: profile, provenance and the empty store."""
    core = microscope.core
    config = Path(microscope.config)
    record = {
        **provenance(
            {
                "mode": mode,
                "device_settings": [setting.model_dump(mode="json") for setting in settings],
            }
        ),
        "started": time.time(),
        "config": config.name,
        "config_text": config.read_text(encoding="utf-8") if config.is_file() else None,
        "devices": {
            label: f"{core.getDeviceLibrary(label)}.{core.getDeviceName(label)}"
            for label in core.getLoadedDevices()
            if label != "Core"
        },
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "profile.yaml").write_text(profile_yaml(profile), encoding="utf-8")
        write_json(out / "provenance.json", record)
    except OSError as error:
        raise RecordingError(
            f"the folder cannot be written: {error}",
            where=str(out),
            remedy="choose a folder on a disk with space and the right to write",
        ) from error
    create_store(out, profile, order)


def _write_summary(out: Path, summary: AcquisitionSummary) -> None:
    try:
        write_json(out / "summary.json", summary.as_dict())
    except OSError as error:
        # On a full disk the summary is a loss that must not hide the reason of the stop.
        logging.getLogger(__name__).warning("summary.json was not written: %s", error)


def _as_ours(error: BaseException) -> BaseException:
    """Errors of the camera's ring buffer and of devices as ours; interrupts as they are."""
    if isinstance(error, TisrScopeError) or not isinstance(error, Exception):
        return error
    ours = TisrScopeError(
        f"the run stopped: {type(error).__name__}: {error}",
        remedy="the frames recorded so far are readable; report this with summary.json",
    )
    ours.__cause__ = error
    return ours
