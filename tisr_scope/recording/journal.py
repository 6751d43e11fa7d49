"""The journal of a recording: one JSON line per frame that is safely on disk.

The pixel file alone cannot tell a black frame from one that was never written.  The journal can:
its line is written after the frame's pixels, so every line stands for a readable frame, and the
checksum tells whether it still is the frame the camera gave.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tisr_scope.errors import RecordingError

JOURNAL_NAME = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One recorded frame.

    ``time_s`` counts from the start of the recording on the host's clock; ``dose_mj`` is the
    energy that had left the laser at this position and channel; ``camera`` is what the camera
    said about the frame; ``crc32`` is the checksum of the frame's bytes.
    """

    t: int
    channel: int
    position: int
    orientation: int
    phase: int
    level: int
    time_s: float
    power_mw: float
    exposure_ms: float
    dose_mj: float
    crc32: int
    camera: dict[str, Any]

    @property
    def index(self) -> tuple[int, int, int, int, int, int]:
        """``(t, position, channel, orientation, phase, level)``."""
        return (self.t, self.position, self.channel, self.orientation, self.phase, self.level)

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
