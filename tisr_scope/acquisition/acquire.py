"""Recording: profile in, folder with frames, journal and provenance out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16

from tisr_scope.acquisition.death_guard import death_guard
from tisr_scope.acquisition.engine import StrictEngine
from tisr_scope.acquisition.folder import (
    begin_folder,
    check_new,
    default_folder,
    finish_folder,
    interrupted,
    keep_complete,
    started_at,
    with_time_points,
)
from tisr_scope.acquisition.light import LightLocked
from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.acquisition.order_watch import OrderWatch
from tisr_scope.acquisition.preflight import check, check_space
from tisr_scope.acquisition.safety import (
    DoseMeter,
    LightGuard,
    Spent,
    light_off_afterwards,
    spent_light,
)
from tisr_scope.acquisition.watchdog import end_process
from tisr_scope.errors import (
    DeviceTimeout,
    LightLimitExceeded,
    MicroscopeError,
    RecordingError,
    TisrScopeError,
)
from tisr_scope.profiles.schema import DeviceSetting, Frozen, Profile
from tisr_scope.recording.frame_ring import FrameRing, publish, withdraw
from tisr_scope.recording.journal import JournalEntry
from tisr_scope.recording.recorder import Recorder
from tisr_scope.recording.recording import sample_time_s
from tisr_scope.running_order.escalating_order import exposure_events
from tisr_scope.running_order.run_plan import FrameInfo, Mode, RunPlan

__all__ = ["AcquisitionSummary", "Ending", "acquire", "default_folder", "with_time_points"]

OnFrame = Callable[[FrameInfo, UInt16[np.ndarray, "y x"]], None]
Progress = Callable[[int, int], None]


LAST_WORDS_S = 3.0
"""How long the files may take to close when a device does not answer."""


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
    wrong_time_points: tuple[int, ...] = ()
    """Time points, from 0, whose images contradict the commanded light or patterns."""
    wrong_order: str | None = None
    """The first contradiction in words."""
    order_unchecked: int = 0
    """Time points (of a channel and position) there was no time to look at: ``tisr verify``."""
    light_unverified: tuple[str, ...] = ()
    """What was told to go dark and cannot be asked whether it is."""

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
        ring: FrameRing | None,
        watch: OrderWatch,
        total: int,
        done: int,
        on_frame: OnFrame | None,
        progress: Progress | None,
    ) -> None:
        self.taken = 0
        self._recorder = recorder
        self._ring = ring
        self._watch = watch
        self._total = total
        self._done = done
        self._on_frame = on_frame
        self._progress = progress

    def __call__(
        self, info: FrameInfo, frame: UInt16[np.ndarray, "y x"], camera: dict[str, Any]
    ) -> None:
        self._recorder.put(info, frame, camera)
        if self._ring is not None:
            self._ring.put(info, frame, sample_time_s(camera, info.time_s))
        self._watch.put(info, frame, camera)
        self.taken += 1
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
    previous = interrupted(out, profile, mode, settings) if resume else None
    if previous is not None:
        profile = previous.profile if time_points is None else profile
        settings = previous.settings
    if time_points is not None:
        profile = with_time_points(profile, mode, time_points)
    if previous is None:
        check_new(out)
    elif previous.profile != profile:
        raise RecordingError(
            f"the recording was begun with another number of time points than {time_points}",
            where=str(out),
            remedy="leave the number out to go on as planned",
        )
    plan = RunPlan(profile, mode)
    _check_light(plan)
    cancel = cancel if cancel is not None else threading.Event()
    check_space(out, plan.bytes)
    path = None if profile_path is None else Path(profile_path)
    with Microscope.open(profile, path, settings) as microscope:
        for finding in check(microscope, plan):
            if finding.error is not None:
                raise finding.error
        if previous is None:
            begin_folder(out, plan, settings, microscope)
            kept: list[JournalEntry] = []
            spent: Spent = {}
        else:
            spent = spent_light(previous.journal)  # also of the time point that is shot again
            kept = keep_complete(previous)
        return _run(microscope, plan, out, kept, spent, cancel, on_frame, progress, bursts)


def _run(
    microscope: Microscope,
    plan: RunPlan,
    out: Path,
    kept: list[JournalEntry],
    spent: Spent,
    cancel: threading.Event,
    on_frame: OnFrame | None,
    progress: Progress | None,
    bursts: bool,
) -> AcquisitionSummary:
    """Play the running order and write down how it ended."""
    dose = DoseMeter(plan.profile.light_dose_limit_mj)
    for (position, channel), spent_mj in spent.items():
        dose.charge(position, channel, spent_mj)
    recorder = Recorder(out, plan)
    ring = publish(out, plan)
    watch = OrderWatch(out, plan)
    counter = _Counter(recorder, ring, watch, plan.exposures, len(kept), on_frame, progress)
    engine = StrictEngine(
        microscope,
        plan,
        counter,
        cancel,
        dose=dose,
        bursts=bursts,
        continues=(started_at(out), kept[-1]) if kept else None,
    )
    first = len(kept) // plan.exposures_per_time_point
    begun = time.perf_counter()
    light = microscope.light

    def conclude(error: BaseException | None) -> tuple[AcquisitionSummary, BaseException | None]:
        """Close the files and write down how the run ended."""
        duration = time.perf_counter() - begun
        try:
            recorder.close()
        except TisrScopeError as raised:
            error = error or raised
        withdraw(out, ring)
        if isinstance(error, LightLocked) and cancel.is_set():
            error = None
        order = watch.finish(complete=error is None)
        missing = plan.exposures - len(kept) - recorder.recorded
        if error is None and missing and not cancel.is_set():
            error = MicroscopeError(
                f"the run ended with {missing} of {plan.exposures} frames missing",
                where=str(out),
                remedy="go on with --resume; report this if it happens again",
            )
        if isinstance(error, KeyboardInterrupt) or (error is None and missing):
            reason = Ending.CANCELLED
        else:
            reason = Ending.COMPLETED if error is None else Ending.FAILED
        summary = AcquisitionSummary(
            out=str(out),
            mode=plan.mode,
            reason=reason,
            error=None if error is None else str(error) or type(error).__name__,
            frames_expected=plan.exposures,
            frames_recorded=len(kept) + recorder.recorded,
            time_points_complete=(len(kept) + recorder.recorded) // plan.exposures_per_time_point,
            duration_s=round(duration, 3),
            frames_per_s=round(recorder.recorded / duration, 2) if duration else 0.0,
            dose_mj={
                channel.name: max(dose.spent(p, c) for p in range(plan.positions))
                for c, channel in enumerate(plan.channels)
            },
            saturated_frames=recorder.saturated,
            flat_frames=recorder.flat,
            wrong_time_points=tuple(order.wrong_time_points),
            wrong_order=order.wrong[0].text if order.wrong else None,
            order_unchecked=order.unchecked,
            light_unverified=tuple(sorted(light.unverified)),
        )
        finish_folder(out, summary.as_dict())
        return summary, error

    error: BaseException | None = None
    try:
        with (
            death_guard(microscope),
            microscope.watchdog.looking(
                light.shines, light.lock_dark, partial(_die, conclude), cancel
            ),
            light_off_afterwards(microscope.all_off, cancel, light.lock_dark),
        ):
            _play(microscope, engine, plan, first, cancel)
    except BaseException as raised:
        error = raised
    summary, error = conclude(error)
    if error is not None:
        raise _as_ours(error)
    return summary


def _die(conclude: Callable[[BaseException], object], reason: str) -> None:
    """End the process, its files closed if they can be."""
    last = threading.Thread(target=conclude, args=(DeviceTimeout(reason),), daemon=True)
    last.start()
    last.join(LAST_WORDS_S)
    end_process(reason)


def _play(
    microscope: Microscope,
    engine: StrictEngine,
    plan: RunPlan,
    first: int,
    cancel: threading.Event,
) -> None:
    """Run the events in this thread, watching for a cancel."""
    runner = microscope.core.mda
    runner.set_engine(engine)
    uploads = plan.source is not None and plan.source.kind == "image"
    events = list(exposure_events(plan, microscope.slm_shape() if uploads else None, first))
    done = threading.Event()

    def watch() -> None:
        # Asked again until the run is over: the runner forgets a cancel that comes too early.
        while not done.wait(0.05):
            if cancel.is_set():
                runner.cancel()

    watcher = threading.Thread(target=watch, name="tisr-cancel", daemon=True)
    watcher.start()
    try:
        with _quiet():
            runner.run(events)
    finally:
        done.set()
        watcher.join()


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


def _check_light(plan: RunPlan) -> None:
    """Refuse a run that asks for too much light before anything is begun."""
    guard = LightGuard(plan.profile)
    for channel in plan.channels:
        for level in range(plan.levels):
            for key, power in channel.powers_of(level).items():
                guard.check(*key, power)
    planned = sum(plan.dose_mj().values())
    limit = plan.profile.light_dose_limit_mj
    if limit is not None and planned > limit * (1 + 1e-9):
        raise LightLimitExceeded(
            f"the run would give {planned:.4g} mJ to a position, the limit is {limit:g} mJ",
            where="light_dose_limit_mj",
            remedy="use fewer time points, less power or shorter exposures, or raise the limit "
            "in the profile",
        )


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
