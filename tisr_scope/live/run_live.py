"""A live run: recording, super-resolution and confidence at the same time.

Everything that can be wrong with the model is found before the light goes on; the processes are
those of :mod:`tisr_scope.live.session`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tisr_scope.errors import ProfileError
from tisr_scope.live.live_records import LiveOptions, LiveSummary, SessionStatus
from tisr_scope.live.session import RESULTS, SUMMARY, LiveSession, frames_on_disk
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.types import CALIBRATED

__all__ = [
    "RESULTS",
    "SUMMARY",
    "LiveOptions",
    "LiveSession",
    "LiveSummary",
    "SessionStatus",
    "frames_on_disk",
    "run_live",
]


def run_live(
    profile: Profile,
    out: str | Path,
    model: str | Path | Mapping[str, str | Path] | None = None,
    *,
    options: LiveOptions | None = None,
    display: Callable[[LiveSession], None] | None = None,
    profile_path: str | Path | None = None,
    settings: Sequence[DeviceSetting] = (),
    time_points: int | None = None,
    cancel: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> LiveSummary:
    """Record a time-lapse and super-resolve it while it is recorded.

    Parameters
    ----------
    profile : Profile
        With a ``timelapse`` section.
    out : path
        New folder; the recording is written here, results into ``super_resolution/<channel>``.
    model : str, path or mapping, optional
        Bundle for every channel, or one for each channel name; by default the profile's.
    options : LiveOptions, optional
        How the network is run.
    display : callable, optional
        Takes over this thread with a window: it starts the session, and returns once the session
        has ended (:func:`tisr_scope.preview.app.show`).  None runs headless.
    profile_path, settings, time_points
        As for :func:`tisr_scope.acquisition.acquire.acquire`.
    cancel : threading.Event, optional
        Set it to stop cleanly.
    progress : callable, optional
        Called with ``(exposures done, exposures in all)`` about ten times a second.
    notice : callable, optional
        Called before any light with each channel whose confidence is not calibrated, and why.

    Returns
    -------
    LiveSummary
        Also written to ``live_summary.json``.  Inference that ended early is told by its
        ``inference_error``; the recording is whole all the same.

    Raises
    ------
    TisrScopeError
        If the model does not fit (before any light), or the recording ended early by an error.
    """
    chosen = profile.model if model is None else model
    if chosen is None:
        raise ProfileError(
            "no model is named, neither in the profile nor for this run",
            where=profile.name,
            remedy="name one with --model; 'tisr models list' shows the shipped ones",
        )
    chosen_options = options or LiveOptions()
    if display is None:  # nobody would look at it
        chosen_options = replace(chosen_options, sim=False)
    session = LiveSession(
        profile,
        Path(out),
        chosen,
        options=chosen_options,
        profile_path=None if profile_path is None else Path(profile_path),
        settings=settings,
        time_points=time_points,
        cancel=cancel,
    )
    try:
        for number, channel in enumerate(session.channels):
            label = session.calibration_of(number)
            if notice is not None and label != CALIBRATED:
                notice(f"channel {channel}, model {session.model_of(number)}: {label}")
        if display is not None:
            display(session)
            return session.result()
        session.start()
        while not session.join(0.1):
            if progress is not None:
                status = session.status()
                progress(status.recorded, status.expected)
        if progress is not None:
            status = session.status()
            progress(status.recorded, status.expected)
        return session.result()
    except KeyboardInterrupt:
        session.stop(at_once=True)
        raise
    finally:
        session.close()
