"""The folder of a recording: named, begun, gone on with, closed with a summary."""

from __future__ import annotations

import glob
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.errors import ProfileError, RecordingError, TisrScopeError
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.frame_store import write_interval
from tisr_scope.recording.journal import JOURNAL_NAME, JournalEntry
from tisr_scope.recording.journal_writer import rewrite_journal
from tisr_scope.recording.recorder import create_store
from tisr_scope.recording.recording import Recording
from tisr_scope.running_order.run_plan import Mode, RunPlan


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


def check_new(out: Path) -> None:
    """Refuse a folder with something in it.

    Raises
    ------
    RecordingError
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecordingError(
            "the folder is not empty, and recordings are never overwritten",
            where=str(out),
            remedy="name another folder, or go on with this recording with --resume",
        )


def interrupted(
    out: Path, profile: Profile, mode: Mode, settings: tuple[DeviceSetting, ...]
) -> Recording:
    """The recording to go on with, which must be of the same run but for its length.

    Raises
    ------
    RecordingError
    """
    recording = Recording.open(out)
    plan = getattr(recording.profile, mode)
    same = recording.mode == mode and plan is not None
    same = same and recording.profile == with_time_points(profile, mode, plan.time_points)
    if not same or settings not in ((), recording.settings):
        raise RecordingError(
            "the folder holds a recording of another profile, mode or device settings",
            where=str(out),
            remedy="resume with the profile.yaml in that folder, and with the mode and settings "
            "it was begun with",
        )
    return recording


def keep_complete(recording: Recording) -> list[JournalEntry]:
    """Drop the journal lines of the incomplete time point; it will be recorded again."""
    entries = [entry for entry in recording.journal if entry.t < recording.time_points]
    # Followers take a recording with a summary for ended.
    (recording.path / "summary.json").unlink(missing_ok=True)
    rewrite_journal(recording.path, entries)
    return entries


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
    changed = plan.model_copy(update={"time_points": int(time_points)})
    return profile.model_copy(update={mode: changed})


def begin_folder(
    out: Path,
    plan: RunPlan,
    settings: tuple[DeviceSetting, ...],
    microscope: Microscope,
) -> None:
    """Everything but frames: profile, provenance, empty store and journal, all at once.

    They are laid out beside the folder and moved there in one step: however this is ended, there
    is either a recording that can be gone on with, or none.

    Raises
    ------
    RecordingError, DiskFull
    """
    core = microscope.core
    config = Path(microscope.config)
    record = {
        **provenance(
            {
                "mode": plan.mode,
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
    beginning = out.parent / f".{out.name}.{os.getpid()}.beginning"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left_over in out.parent.glob(f".{glob.escape(out.name)}.*.beginning"):
            shutil.rmtree(left_over)
        beginning.mkdir()
        (beginning / "profile.yaml").write_text(profile_yaml(plan.profile), encoding="utf-8")
        write_json(beginning / "provenance.json", record)
        (beginning / JOURNAL_NAME).touch()
        create_store(beginning, plan)
        if out.exists():
            out.rmdir()  # empty, as check_new has seen to
        beginning.rename(out)
    except OSError as error:
        shutil.rmtree(beginning, ignore_errors=True)
        raise RecordingError(
            f"the folder cannot be written: {error}",
            where=str(out),
            remedy="name a folder that is not there yet, on a disk with space and the right to "
            "write",
        ) from error


def finish_folder(out: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary, and the measured interval into the metadata of the frames."""
    try:
        write_json(out / "summary.json", summary)
        recording = Recording.open(out)
        if recording.time_points > 1:
            write_interval(out, recording.positions, recording.interval_s())
    except (OSError, TisrScopeError) as error:
        # On a full disk the summary is a loss that must not hide the reason of the stop.
        logging.getLogger(__name__).warning("the summary was not written: %s", error)


def started_at(out: Path) -> float:
    """``time.time()`` at which a recording was begun."""
    return float(json.loads((out / "provenance.json").read_text(encoding="utf-8"))["started"])
