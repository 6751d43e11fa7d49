"""Time points that are not good, and why: one JSON line each, beside the journal.

The journal says which frames there are, the marks which time points must not be used although, or
because, they are as they are: a frame was lost, a stage did not arrive, the images contradict what
was commanded.  Marks are added and never taken back; the same one is kept once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tisr_scope.errors import RecordingError

MARKS_NAME = "marks.jsonl"

MarkKind = Literal["order", "doubt", "fault", "skipped", "late"]
"""``order``: the images contradict the command; ``fault``: a device failed; ``skipped``: late, and
not exposed.  Good all the same are ``doubt``: the light does not follow the command as far as it
should; ``late``: exposed late."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that is the matter with a time point.

    Attributes
    ----------
    t : int
        Time point, from 0.
    kind : str
        What sort of thing.
    text : str
        In words, for people.
    channel, position : int or None
        Where; None means everywhere.
    frames : tuple of int
        Frames of that channel and position, in the order of exposure, from 0.
    """

    t: int
    kind: MarkKind
    text: str
    channel: int | None = None
    position: int | None = None
    frames: tuple[int, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether the time point must not be used."""
        return self.kind in ("order", "fault", "skipped")

    def concerns(self, t: int, channel: int, position: int) -> bool:
        """Whether this is about a place in a recording."""
        return self.t == t and self.channel in (None, channel) and self.position in (None, position)


def read_marks(folder: Path) -> list[Mark]:
    """Marks of a recording, in the order in which they were made; none is no file.

    Raises
    ------
    RecordingError
        If a line is damaged; a last one cut short by a crash is left out.
    """
    path = folder / MARKS_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    whole, _, _torn = content.rpartition(b"\n")
    try:
        told = [json.loads(line) for line in whole.splitlines()]
        return [Mark(**{**one, "frames": tuple(one["frames"])}) for one in told]
    except (ValueError, TypeError, KeyError) as error:
        raise RecordingError(
            f"a line of the marks is damaged: {error}",
            where=str(path),
            remedy="restore the file from a copy; without it bad time points would be used",
        ) from error


def add_marks(folder: Path, marks: Iterable[Mark]) -> list[Mark]:
    """Keep marks that are not there yet, on disk before this returns; gives those that are new."""
    known = set(read_marks(folder))
    new = [mark for mark in dict.fromkeys(marks) if mark not in known]
    if new:
        lines = "".join(json.dumps(asdict(mark), separators=(",", ":")) + "\n" for mark in new)
        with (folder / MARKS_NAME).open("ab") as file:
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
    return new
