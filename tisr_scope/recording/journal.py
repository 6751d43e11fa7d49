"""The journal of a recording: one JSON line per frame that is safely on disk.

The pixel file alone cannot tell a black frame from one that was never written.  The journal can:
its line is written after the frame's pixels, so every line stands for a readable frame, and the
checksum tells whether it still is the frame the camera gave.
"""

from __future__ import annotations

import json
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


def read_journal(path: Path) -> list[JournalEntry]:
    """Entries of a journal file; a last line cut short by a crash is left out.

    Raises
    ------
    RecordingError
        If there is no journal, or a line before the last one is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(
            "the recording has no readable journal",
            where=str(path),
            remedy="give the folder that 'tisr acquire' wrote; without its journal nobody can "
            "tell which frames were recorded",
        ) from error
    whole, _, _torn = content.rpartition(b"\n")
    entries = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            entries.append(JournalEntry(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RecordingError(
                f"line {number} of the journal is damaged",
                where=str(path),
                remedy="restore the file from a copy; the lines before it can be kept by cutting "
                "the file there",
            ) from error
    return entries
