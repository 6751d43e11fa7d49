"""The journal of a recording: one JSON line per frame that is safely on disk.

The pixel file alone cannot tell a black frame from one that was never written.  The journal can:
its line is written after the frame's pixels, so every line stands for a readable frame, and the
checksum tells whether it still is the frame the camera gave.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tisr_scope.errors import RecordingError
from tisr_scope.running_order.run_plan import FrameInfo

JOURNAL_NAME = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class JournalEntry(FrameInfo):
    """One recorded frame: what it is, and what was stored.

    ``crc32`` is the checksum of the frame's bytes, ``camera`` what the camera said about it.
    """

    crc32: int
    camera: dict[str, Any]

    @classmethod
    def of(cls, frame: FrameInfo, crc32: int, camera: dict[str, Any]) -> JournalEntry:
        """Entry of a frame that is on disk; its time is kept to the microsecond."""
        return cls(
            **asdict(replace(frame, time_s=round(frame.time_s, 6))), crc32=crc32, camera=camera
        )

    def line(self) -> str:
        """The entry as one line of JSON, with its line end."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"


class JournalReader:
    """Entries of a journal file, from the beginning and then as it grows.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.forget()

    def forget(self) -> None:
        """Begin again with the first line."""
        self._offset = 0
        self._lines = 0
        self._file: int | None = None

    def read(self) -> list[JournalEntry] | None:
        """Entries since the last call; a line that is not whole yet is left for the next.

        Returns
        -------
        list of JournalEntry or None
            None if the file was replaced: what was read of it no longer counts, and the next call
            begins with its first line.

        Raises
        ------
        RecordingError
            If there is no journal, or a whole line is damaged.
        """
        try:
            with self.path.open("rb") as file:
                # A run that goes on replaces the journal; some network drives give no number.
                status = os.fstat(file.fileno())
                if self._offset and (status.st_size < self._offset or self._file != status.st_ino):
                    self.forget()
                    return None
                self._file = status.st_ino
                file.seek(self._offset)
                content = file.read()
        except OSError as error:
            raise RecordingError(
                "the recording has no readable journal",
                where=str(self.path),
                remedy="give the folder that 'tisr acquire' wrote; without its journal nobody can "
                "tell which frames were recorded",
            ) from error
        whole, end, _torn = content.rpartition(b"\n")
        entries = [self._entry(line) for line in whole.splitlines()]
        self._offset += len(whole) + len(end)
        return entries

    def _entry(self, line: bytes) -> JournalEntry:
        self._lines += 1
        try:
            return JournalEntry(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise RecordingError(
                f"line {self._lines} of the journal is damaged",
                where=str(self.path),
                remedy="restore the file from a copy; the lines before it can be kept by cutting "
                "the file there",
            ) from error


def read_journal(path: Path) -> list[JournalEntry]:
    """Entries of a journal file; a last line cut short by a crash is left out.

    Raises
    ------
    RecordingError
        If there is no journal, or a line before the last one is damaged.
    """
    return JournalReader(path).read() or []
