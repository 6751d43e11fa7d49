"""The newest arrays of one process, in memory that any process on the machine can read.

The writer never waits: it overwrites the oldest slot whether or not anybody looks.  Each slot
carries a sequence number that is odd while it is written and a number that says what is in it, so
that a reader knows a slot that was overwritten under its hands and drops what it copied.

Shared memory belongs to the user who made it (POSIX mode 0600, a session object on Windows).
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from tisr_scope.errors import RecordingError

FACTS = 6
_HEADER = np.dtype([("magic", "u8"), ("sizes", "i8", 5), ("dtype", "S8"), ("newest", "i8")])
_SLOT = np.dtype([("sequence", "u8"), ("number", "i8"), ("facts", "f8", FACTS)])
_MAGIC = 0x7469737272696E67
_ALIGN = 64
_FENCE = threading.Lock()
_ATTACHING = threading.Lock()


class SharedRing:
    """Slots of equal arrays; made by one process, attached to by others.

    Parameters
    ----------
    memory : SharedMemory
        Of :meth:`create` or :meth:`attach`.
    slots, shape, dtype
        Number of slots, shape (y, x) or (plane, y, x) and type of the array in each.
    """

    def __init__(
        self, memory: SharedMemory, slots: int, shape: tuple[int, ...], dtype: str, *, owner: bool
    ) -> None:
        self.slots, self.shape, self.dtype = slots, shape, np.dtype(dtype)
        self._memory, self._owner = memory, owner
        stride = _stride(shape, self.dtype)
        self._header: Any = np.ndarray((), _HEADER, buffer=memory.buf)
        starts = [_ALIGN * 2 + stride * slot for slot in range(slots)]
        self._heads: list[Any] = [np.ndarray((), _SLOT, memory.buf, start) for start in starts]
        self._arrays = [np.ndarray(shape, dtype, memory.buf, start + _ALIGN) for start in starts]
        self._open = True

    @classmethod
    def create(cls, slots: int, shape: tuple[int, ...], dtype: str) -> SharedRing:
        """Make a ring with a name that nobody can guess.

        Raises
        ------
        RecordingError
            If the machine does not have that much shared memory.
        """
        size = _ALIGN * 2 + slots * _stride(shape, np.dtype(dtype))
        name = f"tisr_{secrets.token_hex(8)}"
        memory = None
        try:
            memory = SharedMemory(name, create=True, size=size)
            if sys.platform == "linux":
                # A file system of shared memory that is too small kills whoever touches it.
                descriptor = os.open(f"/dev/shm/{name}", os.O_RDWR)
                try:
                    os.posix_fallocate(descriptor, 0, size)
                finally:
                    os.close(descriptor)
        except OSError as error:
            if memory is not None:
                memory.close()
                memory.unlink()
            raise RecordingError(
                f"{size / 2**20:.0f} MiB of shared memory cannot be had: {error}",
                remedy="followers read the files instead; a larger /dev/shm makes them faster",
            ) from error
        # Touched now, not under the camera.
        np.ndarray(size, np.uint8, buffer=memory.buf).fill(0)
        ring = cls(memory, slots, shape, dtype, owner=True)
        ring._header["sizes"] = (slots, len(shape), *shape, *(0,) * (3 - len(shape)))
        ring._header["dtype"] = dtype.encode()
        ring._header["newest"] = -1
        for head in ring._heads:
            head["number"] = -1
        _fence()
        ring._header["magic"] = _MAGIC
        return ring

    @classmethod
    def attach(cls, name: str) -> SharedRing | None:
        """The ring of that name; None if there is none (any more)."""
        try:
            memory = _attached(name)
        except (OSError, ValueError):
            return None
        header: Any = np.ndarray((), _HEADER, buffer=memory.buf)
        if int(header["magic"]) != _MAGIC:
            del header
            memory.close()
            return None
        slots, axes, *sizes = (int(size) for size in header["sizes"])
        dtype = header["dtype"].item().decode()
        del header
        return cls(memory, slots, tuple(sizes[:axes]), dtype, owner=False)

    @property
    def name(self) -> str:
        """What other processes attach to."""
        return self._memory.name.lstrip("/")

    @property
    def newest(self) -> int:
        """Largest number written so far, -1 before the first."""
        return int(self._header["newest"])

    def write(self, number: int, array: np.ndarray, facts: Sequence[float] = ()) -> None:
        """Put an array into the slot of its number: one copy, no waiting.

        Parameters
        ----------
        number : int
            What it is; a later array of the same slot replaces it.
        array : array
            Of the shape and type of the ring.
        facts : sequence of float
            At most ``FACTS`` numbers that go with it.
        """
        slot = number % self.slots
        head = self._heads[slot]
        head["sequence"] += 1
        _fence()
        head["number"] = number
        head["facts"][: len(facts)] = facts
        np.copyto(self._arrays[slot], array)
        _fence()
        head["sequence"] += 1
        if number > self._header["newest"]:
            self._header["newest"] = number

    def read(self, number: int) -> tuple[np.ndarray, tuple[float, ...]] | None:
        """Copy of the array of a number, and its facts; None if it is not held whole."""
        if number < 0:
            return None
        slot = number % self.slots
        head = self._heads[slot]
        before = int(head["sequence"])
        if before % 2 or int(head["number"]) != number:
            return None
        _fence()
        array, facts = self._arrays[slot].copy(), tuple(head["facts"].tolist())
        _fence()
        if int(head["sequence"]) != before or int(head["number"]) != number:
            return None
        return array, facts

    def facts(self, number: int) -> tuple[float, ...] | None:
        """Only what goes with the array of a number."""
        head = self._heads[number % self.slots]
        before = int(head["sequence"])
        if number < 0 or before % 2 or int(head["number"]) != number:
            return None
        found = tuple(head["facts"].tolist())
        return found if int(head["sequence"]) == before else None

    def close(self) -> None:
        """Let go of the memory; the process that made the ring also removes its name."""
        if not self._open:
            return
        self._open = False
        self._heads, self._arrays, self._header = [], [], None
        with suppress(BufferError):  # an array that is still being looked at keeps it mapped
            self._memory.close()
        if self._owner:
            with suppress(FileNotFoundError):
                self._memory.unlink()


def _stride(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    size = _ALIGN + int(np.prod(shape)) * dtype.itemsize
    return -(-size // _ALIGN) * _ALIGN


def _fence() -> None:
    """Order the memory accesses before and after, on processors that would swap them."""
    with _FENCE:
        pass
    with _FENCE:
        pass


def _attached(name: str) -> SharedMemory:
    """Shared memory of another process, which this one must not remove when it ends."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    # Before Python 3.13 whoever attaches is taken for an owner (bpo-38119).
    with _ATTACHING:
        register = resource_tracker.register
        resource_tracker.register = lambda *_: None
        try:
            return SharedMemory(name)
        finally:
            resource_tracker.register = register
