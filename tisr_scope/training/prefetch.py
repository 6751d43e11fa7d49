"""The next batch is cut and turned while the present one goes through the network."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tisr_scope.pairs.patches import Batch, PatchSampler


class Ahead:
    """A sampler that begins with the following step as soon as one is asked for.

    Parameters
    ----------
    sampler : PatchSampler
        Its batches are functions of the step alone, so it does not matter when they are made.
    part, parts : int
        Share of this process.
    """

    def __init__(self, sampler: PatchSampler, part: int, parts: int) -> None:
        self.sampler, self.part, self.parts = sampler, part, parts
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="patches")
        self._next: tuple[int, Future[Batch]] | None = None

    def batch(self, step: int) -> Batch:
        """Share of the batch of a step."""
        if self._next is not None and self._next[0] == step:
            found = self._next[1].result()
        else:
            found = self.sampler.batch(step, self.part, self.parts)
        following = self._pool.submit(self.sampler.batch, step + 1, self.part, self.parts)
        self._next = step + 1, following
        return found

    def close(self) -> None:
        """Begin nothing more, and end what was begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def ahead(sampler: PatchSampler, part: int, parts: int) -> Iterator[Ahead]:
    """An :class:`Ahead` that is closed at the end."""
    found = Ahead(sampler, part, parts)
    try:
        yield found
    finally:
        found.close()
