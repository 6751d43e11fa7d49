"""A full disk under its own name, whatever was being written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tisr_scope.errors import DiskFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# tensorstore reports a full disk as a ValueError with the system's message.
_FULL_WORDS = ("No space left", "RESOURCE_EXHAUSTED", "Disk quota exceeded")


def no_space_left(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a full disk, a used-up quota or a file too large."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(words in str(error) for words in _FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def writing(path: Path, what: str = "images") -> Iterator[Path]:
    """Write a file in one step: under another name first, so that a reader never sees half of it.

    Parameters
    ----------
    path : Path
        File to write.
    what : str
        Of it, for the message.

    Yields
    ------
    temporary : Path
        Name to write to; it becomes ``path`` at the end, or is removed after an error.

    Raises
    ------
    DiskFull
        If there is no space left.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if no_space_left(error):
            raise DiskFull(
                f"no space left for {what}",
                where=str(path),
                remedy="free some space and start the same command again",
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
