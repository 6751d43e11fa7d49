"""Reading recordings: finished, growing, cancelled or killed.

A recording is a folder::

    recording.ome.zarr   raw frames, uint16, axes t (p) c sim y x, sim = orientation, phase, level
    journal.jsonl        one line per frame that is on disk
    marks.jsonl          one line per time point that is not good, and why (absent if none)
    profile.yaml         the profile as it was run
    provenance.json      mode, device settings, configuration, versions
    summary.json         how the run ended (absent if the process was killed)

Only the journal decides what counts: frames without a line do not exist, and only time points
with every frame are offered.  While another process still records, :meth:`Recording.refresh` takes
in what has come since; what was read stays as it is.  Nothing here needs a microscope.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt16
from pydantic import TypeAdapter

from tisr_scope.errors import ProfileError, RecordingError
from tisr_scope.profiles.library import parse_profile
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.recording.frame_store import ZARR_NAME, array_paths, open_array
from tisr_scope.recording.journal import JOURNAL_NAME, JournalEntry, JournalReader
from tisr_scope.recording.marks import Mark, read_marks
from tisr_scope.running_order.run_plan import Mode, RunPlan


def sample_time_s(camera: Mapping[str, Any], time_s: float) -> float:
    """Time of a frame on the clock of the sample, which need not be the host's."""
    return float(camera.get("sim_time_s", time_s))


class Recording:
    """Raw frames of one run, with everything known about each of them.

    Attributes
    ----------
    path : Path
        Folder of the recording.
    name : str
        Name of the folder.
    profile : Profile
        The profile as it was run.
    mode : {"paired", "timelapse"}
        Section of the profile that was run.
    plan : RunPlan
        What that makes in numbers.
    settings : tuple of DeviceSetting
        Device settings applied on top of the profile's.
    journal : list of JournalEntry
        Every frame on disk, in the order of recording.
    marks : list of Mark
        Time points that are not good, and why.
    time_points : int
        Time points on disk, counted from the first, each complete or marked as one that never
        will be; grows with :meth:`refresh`.
    """

    def __init__(
        self,
        path: Path,
        profile: Profile,
        mode: Mode,
        settings: tuple[DeviceSetting, ...],
        journal: list[JournalEntry],
        reader: JournalReader | None = None,
    ) -> None:
        self.path = path
        self.name = path.name
        self.profile = profile
        self.mode = mode
        self.settings = settings
        self._reader = reader
        try:
            self.plan = RunPlan(profile, mode)
        except ProfileError as error:
            raise RecordingError(
                f"the profile of the recording does not fit its frames: {error.what}",
                where=str(path),
                remedy="restore profile.yaml and provenance.json from a copy of the recording",
            ) from error
        self._begin(journal)

    @classmethod
    def open(cls, path: str | Path) -> Recording:
        """Open the folder that an acquisition wrote.

        Raises
        ------
        RecordingError
            If it is not a recording, or a part of it is missing or damaged.
        """
        path = Path(path).absolute()
        if not (path / ZARR_NAME).is_dir():
            raise RecordingError(
                "this folder is not a recording",
                where=str(path),
                remedy=f"give the folder that holds {ZARR_NAME} and {JOURNAL_NAME}",
            )
        try:
            text = (path / "profile.yaml").read_text(encoding="utf-8")
            provenance = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
            mode = TypeAdapter(Mode).validate_python(provenance["settings"]["mode"])
            settings = tuple(
                DeviceSetting.model_validate(setting)
                for setting in provenance["settings"]["device_settings"]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordingError(
                f"profile or provenance of the recording cannot be read: {error}",
                where=str(path),
                remedy="restore profile.yaml and provenance.json from a copy of the recording",
            ) from error
        profile = parse_profile(text, str(path / "profile.yaml"))
        reader = JournalReader(path / JOURNAL_NAME)
        return cls(path, profile, mode, settings, reader.read() or [], reader)

    def refresh(self) -> int:
        """Take in the frames recorded since; returns the complete time points.

        Raises
        ------
        RecordingError
            If the journal has gone or is damaged.
        """
        if self._reader is not None:
            entries = self._reader.read()
            if entries is None:  # a run that goes on has dropped its incomplete time point
                self._begin([])
                entries = self._reader.read()
            self._take_in(entries or [])
        return self.time_points

    # ----------------------------------------------------------------------------------- marks

    def is_complete(self, t: int) -> bool:
        """Whether a time point has every frame."""
        return 0 <= t < self.time_points and t not in self._incomplete

    def faults(self, t: int, channel: int = 0, position: int = 0) -> list[Mark]:
        """Why a time point must not be used; empty where it is good."""
        return [m for m in self.marks if m.bad and m.concerns(t, channel, position)]

    def good_time_points(self, channel: int = 0, position: int = 0) -> list[int]:
        """Time points that are complete and not marked as bad."""
        return [
            t
            for t in range(self.time_points)
            if self.is_complete(t) and not self.faults(t, channel, position)
        ]

    # -------------------------------------------------------------------------------- numbers

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(channel.name for channel in self.profile.channels)

    @property
    def positions(self) -> int:
        """Number of stage positions, at least 1."""
        return self.plan.positions

    @property
    def sim_shape(self) -> tuple[int, int, int]:
        """Numbers of orientations, phases and levels of one channel."""
        return self.plan.sim_shape

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        return self.plan.frame_shape

    @property
    def pixel_size_um(self) -> float:
        """Pixel size in the sample, in micrometres."""
        return self.profile.optics.pixel_size_um

    @property
    def ended(self) -> bool:
        """Whether its process has said how the run ended; a killed one never does."""
        return (self.path / "summary.json").is_file()

    @property
    def summary(self) -> dict[str, Any] | None:
        """How the run ended, or None if its process was killed."""
        path = self.path / "summary.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content

    def entries(self, t: int, channel: int = 0, position: int = 0) -> list[JournalEntry]:
        """Journal entries of one time point, channel and position, in order of exposure."""
        return self._places.get((t, position, channel), [])

    def times_s(self, channel: int = 0, position: int = 0) -> Float[np.ndarray, " time"]:
        """Mean time of the frames of each complete time point, in seconds.

        On the clock of the sample: the camera's ``sim_time_s`` where it gives one (a simulated
        sample need not live in real time), else the host's clock.
        """
        times = [self.time_s(t, channel, position) for t in range(self.time_points)]
        return np.array(times, dtype=np.float64)

    def time_s(self, t: int, channel: int = 0, position: int = 0) -> float:
        """Mean time of the frames of one complete time point, see :meth:`times_s`."""
        entries = self.entries(t, channel, position)
        if not entries:  # lost altogether
            return math.nan
        return float(np.mean([sample_time_s(entry.camera, entry.time_s) for entry in entries]))

    def interval_s(self, channel: int = 0, position: int = 0) -> float:
        """Mean measured time from one time point to the next; the planned one for a single."""
        times = self.times_s(channel, position)
        known = np.flatnonzero(np.isfinite(times))
        if len(known) < 2:
            return self.plan.nominal_interval_s
        return float((times[known[-1]] - times[known[0]]) / (known[-1] - known[0]))

    # --------------------------------------------------------------------------------- frames

    def frames(
        self, t: int, channel: int = 0, position: int = 0, *, checked: bool = False
    ) -> UInt16[np.ndarray, "orientation phase level y x"]:
        """Raw frames of one complete time point.

        Parameters
        ----------
        t, channel, position : int
            Which one.
        checked : bool
            Compare them with their checksums.  Over a network drive a line of the journal can be
            seen before the pixels it stands for.

        Raises
        ------
        RecordingError
            If the time point is not complete, there is no such channel or position, or a checked
            frame is not the one that was recorded.
        """
        self._require(t, channel, position)
        try:
            stored = np.asarray(self._arrays[position][t, channel].read().result())
        except Exception as error:
            raise self._unreadable(t, str(error)) from error
        expected = (self.plan.sim_frames, *self.frame_shape)
        if stored.shape != expected:
            raise self._unreadable(t, f"the profile describes {expected}, stored is {stored.shape}")
        frames = stored.reshape(*self.sim_shape, *self.frame_shape)
        for entry in self.entries(t, channel, position) if checked else ():
            self._compare(frames[entry.orientation, entry.phase, entry.level], entry)
        return frames

    def electrons(self, frames: UInt16[np.ndarray, "*axes y x"]) -> Float[np.ndarray, "*axes y x"]:
        """Camera counts as photo-electrons, float32."""
        camera = self.profile.microscope.camera
        offset = np.float32(camera.offset_adu)
        return (frames.astype(np.float32) - offset) * np.float32(camera.electrons_per_adu)

    def widefield(
        self, t: int, channel: int = 0, position: int = 0, level: int = 0
    ) -> Float[np.ndarray, "y x"]:
        """Mean over the illumination patterns at one level, in photo-electrons, float32."""
        levels = self.sim_shape[2]
        if not -levels <= level < levels:
            raise RecordingError(
                f"there is no level {level}, the recording has {levels}",
                where=str(self.path),
                remedy="count levels from 0, lowest power first",
            )
        frames = self.frames(t, channel, position)[:, :, level]
        mean: Float[np.ndarray, "y x"] = self.electrons(frames).mean(axis=(0, 1))
        return mean

    def verify(self) -> int:
        """Compare every journalled frame on disk with its checksum; returns their number.

        Raises
        ------
        RecordingError
            With the first frame that is missing or differs.
        """
        for entry in self.journal:
            sim = self.plan.sim_index(entry.orientation, entry.phase, entry.level)
            try:
                array = self._arrays[entry.position]
                frame = np.asarray(array[entry.t, entry.channel, sim].read().result())
            except Exception as error:
                raise self._unreadable(entry.t, str(error)) from error
            self._compare(frame, entry)
        return len(self.journal)

    # --------------------------------------------------------------------------------- inside

    @cached_property
    def _arrays(self) -> list[Any]:
        try:
            return [open_array(path) for path in array_paths(self.path, self.positions)]
        except Exception as error:
            raise RecordingError(
                f"the frames cannot be opened: {error}",
                where=str(self.path / ZARR_NAME),
                remedy="restore the folder from a copy",
            ) from error

    def _begin(self, journal: list[JournalEntry]) -> None:
        self.journal: list[JournalEntry] = []
        self.marks: list[Mark] = []
        self.time_points = 0
        self._places: dict[tuple[int, int, int], list[JournalEntry]] = {}
        self._incomplete: dict[int, set[tuple[int, ...]]] = {}
        self._take_in(journal)

    def _take_in(self, entries: list[JournalEntry]) -> None:
        """Add frames, and count the time points, from the first on, that are done with."""
        self.journal.extend(entries)
        for entry in entries:
            self._places.setdefault((entry.t, entry.position, entry.channel), []).append(entry)
            self._incomplete.setdefault(entry.t, set()).add(entry.index)
        self.marks = read_marks(self.path)
        given_up = {mark.t for mark in self.marks if mark.kind in ("fault", "skipped")}
        expected = self.plan.exposures_per_time_point
        while self.time_points < self.plan.time_points:
            here = self._incomplete.setdefault(self.time_points, set())
            if len(here) == expected:
                del self._incomplete[self.time_points]
            elif self.time_points not in given_up:
                break
            self.time_points += 1

    def _compare(self, frame: UInt16[np.ndarray, "y x"], entry: JournalEntry) -> None:
        if zlib.crc32(np.ascontiguousarray(frame).data) != entry.crc32:
            raise self._unreadable(entry.t, f"frame {entry.index} differs from its checksum")

    def _require(self, t: int, channel: int, position: int) -> None:
        if not self.is_complete(t) and 0 <= t < self.time_points:
            why = "; ".join(mark.text for mark in self.faults(t, channel, position))
            raise self._unreadable(t, f"it is not complete ({why})")
        for what, value, count in (
            ("complete time point", t, self.time_points),
            ("channel", channel, len(self.channels)),
            ("position", position, self.positions),
        ):
            if not 0 <= value < count:
                raise RecordingError(
                    f"there is no {what} {value}, the recording has {count}",
                    where=str(self.path),
                    remedy="count from 0; an interrupted recording can be gone on with --resume",
                )

    def _unreadable(self, t: int, why: str) -> RecordingError:
        return RecordingError(
            f"frames of time point {t} cannot be trusted: {why}",
            where=str(self.path / ZARR_NAME),
            remedy="restore the folder from a copy, or record again",
        )
