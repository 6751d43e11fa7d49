"""Every frame of a finite time-lapse: which windows there are, and what each of them shows.

Frames between the shown places of the first and the last window come from these two windows as
well; they have no window of their own.  Frames that cannot be used are simply not given: windows
are made of those there are, and know by the numbers whether one is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError
from tisr_scope.inference.sliding_window import Samples
from tisr_scope.networks.config import WINDOW, Shown, shown_places


class Given(NamedTuple):
    """A frame as the network gets it, with its number and the background taken off it."""

    number: int
    image: Float[np.ndarray, "y x"]
    carried: Float[np.ndarray, "fy fx"] | None = None


Numbered = Given | tuple[int, Float[np.ndarray, "y x"]]


class Window(Protocol):
    """What a :class:`~tisr_scope.inference.sliding_window.SlidingWindow` does, or one of tiles."""

    @property
    def length(self) -> int:
        """Frames of a window."""

    def push(
        self,
        frame: Float[np.ndarray, "y x"],
        reconstruct: bool = True,
        *,
        index: int | None = None,
        carried: Float[np.ndarray, "fy fx"] | None = None,
    ) -> list[Samples]:
        """Take the next frame."""

    def samples(self, shown: Sequence[int]) -> list[Samples]:
        """Reconstruct frames of the present window."""


@dataclass(frozen=True)
class Visit:
    """One window and the frames it shows.

    Attributes
    ----------
    frames : tuple of Given
        Of the window, oldest first.
    groups : list of list of int
        Places that are reconstructed together.
    own : collection of int
        Places whose frames are shown as this way of showing means it: in the right place of a
        full window without a gap.
    """

    frames: tuple[Given, ...]
    groups: list[list[int]]
    own: Collection[int]


def visits(
    frames: Iterable[Numbered], shown: Shown = "centre", length: int = WINDOW
) -> Iterator[Visit]:
    """Windows of a time-lapse in the order of time; each frame is shown once.

    Parameters
    ----------
    frames : iterable of Given
        Rising numbers; read one at a time.
    shown, length
        See :class:`~tisr_scope.inference.sliding_window.SlidingWindow`.
    """
    places = shown_places(shown, length)
    held: deque[Given] = deque(maxlen=length)
    count = next_shown = 0

    def visit(groups: list[list[int]]) -> Visit:
        whole = len(held) == length and held[-1][0] - held[0][0] == length - 1
        return Visit(tuple(held), groups, places if whole else ())

    for frame in frames:
        held.append(Given(*frame))
        count += 1
        first = count - length
        if first < 0 or first % len(places):
            continue
        alone = [[place] for place in range(places[0])] if first == 0 else []
        yield visit([*alone, list(places)])
        next_shown = first + places[-1] + 1
    first = max(count - length, 0)
    rest = range(next_shown - first, len(held))
    together = [place for place in rest if place in places and len(held) == length]
    alone = [[place] for place in rest if place not in together]
    groups = ([together] if together else []) + alone
    if groups:
        yield visit(groups)


def super_resolve(
    window: Callable[[], Window],
    frames: Iterable[Numbered],
    shown: Shown = "centre",
    *,
    length: int = WINDOW,
    done: Collection[int] = (),
) -> Iterator[tuple[Samples, bool]]:
    """Every frame of a finite time-lapse, in the order of time.

    Parameters
    ----------
    window : callable
        Makes an empty window.
    frames : iterable of Given
        Rising numbers and images on the normalised scale.
    shown, length
        What the windows show, and of how many frames they are made.
    done : collection of int
        Numbers that are not wanted again.  The others are the very same with and without them.

    Yields
    ------
    samples : Samples
    own : bool
        Whether the frame stands where ``shown`` means it to, in a full window without a gap.

    Raises
    ------
    DataError
        If there are no frames, or one of them cannot be used.
    """
    running: Window | None = None
    pushed = -1
    empty = True
    for visit in visits(frames, shown, length):
        empty = False
        numbers = [frame.number for frame in visit.frames]
        groups = [g for g in visit.groups if any(numbers[place] not in done for place in g)]
        if not groups:
            continue
        if running is None or pushed < numbers[0]:
            running, pushed = window(), -1
        for frame in visit.frames:
            if frame.number > pushed:
                running.push(
                    frame.image, reconstruct=False, index=frame.number, carried=frame.carried
                )
                pushed = frame.number
        for group in groups:
            for place, samples in zip(group, running.samples(group), strict=True):
                if samples.time_index not in done:
                    yield samples, place in visit.own
    if empty:
        raise DataError("the time-lapse has no frames", remedy="check the recording")
