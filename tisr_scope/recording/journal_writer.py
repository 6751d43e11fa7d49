"""Writing the journal: nothing is acknowledged before it is on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tisr_scope.recording.journal import JOURNAL_NAME, JournalEntry


class JournalWriter:
    """Appends journal lines and syncs them to disk in groups.

    Parameters
    ----------
    folder : Path
        Folder of the recording.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_NAME
        # Unbuffered: what a full disk refused must not come up again when the file is closed.
        self._file = self.path.open("ab", buffering=0)

    def append(self, entries: Iterable[JournalEntry]) -> None:
        """Write the lines of frames whose pixels are already on disk, and sync."""
        remaining = memoryview("".join(entry.line() for entry in entries).encode())
        while remaining:
            remaining = remaining[self._file.write(remaining) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def rewrite_journal(folder: Path, entries: Iterable[JournalEntry]) -> None:
    """Replace the journal in one step, as needed before an interrupted run goes on."""
    temporary = folder / f"{JOURNAL_NAME}.new"
    with temporary.open("wb") as file:
        file.write("".join(entry.line() for entry in entries).encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / JOURNAL_NAME)
