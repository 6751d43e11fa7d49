"""Contrast of every channel and kind of image: set once, then steady until somebody changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from tisr_scope.preview.colour import contrast_limits
from tisr_scope.preview.experiment import Image
from tisr_scope.preview.picture import Contrast

Kind = Literal["widefield", "sr", "sim"]
Key = tuple[int, Kind]

MERGE_COLOURS = ("green", "magenta", "cyan", "yellow")
"""Of the channels when they are merged: green and magenta are told apart by colour-blind eyes."""
LUTS = ("gray", "green", "magenta", "cyan", "yellow", "inferno", "viridis", "batlow")
LOW_PERCENT, HIGH_PERCENT = 2.0, 99.8
MOST_STEPS_BACK = 50


class ContrastBook:
    """Contrast by channel and kind, with steps back and locks."""

    def __init__(self) -> None:
        self._now: dict[Key, Contrast] = {}
        self._before: list[dict[Key, Contrast]] = []
        self.locked: set[int] = set()
        """Channels whose contrast no automatic change touches."""

    def of(self, channel: int, kind: Kind, image: Image) -> Contrast:
        """Contrast of an image; set from the first one of its kind, never from those after it."""
        key = channel, kind
        if key not in self._now:
            self._now[key] = self._automatic(kind, image, Contrast(0, 1))
        return self._now[key]

    def known(self, channel: int, kind: Kind) -> Contrast | None:
        """Contrast that is set, if any."""
        return self._now.get((channel, kind))

    def _automatic(self, kind: Kind, image: Image, like: Contrast) -> Contrast:
        low, high = contrast_limits(image, LOW_PERCENT, HIGH_PERCENT)
        # The noise of conventional SIM goes below 0, where no light is.
        low = max(low, 0.0) if kind == "sim" else low
        return replace(like, low=low, high=max(high, low + 1e-6))

    def set_from(self, images: Mapping[Key, Image]) -> None:
        """Set the limits of several images in one step, except those of locked channels."""
        made = {
            key: self._automatic(key[1], image, self._now.get(key, Contrast(0, 1)))
            for key, image in images.items()
            if key[0] not in self.locked
        }
        self._change(made)

    def change(self, channel: int, kind: Kind, contrast: Contrast) -> None:
        """Set a contrast by hand."""
        self._change({(channel, kind): contrast})

    def _change(self, made: dict[Key, Contrast]) -> None:
        after = self._now | made
        if after == self._now:
            return
        self._before.append(self._now)
        del self._before[:-MOST_STEPS_BACK]
        self._now = after

    def undo(self) -> bool:
        """Take the last change back; whether there was one."""
        if not self._before:
            return False
        self._now = self._before.pop()
        return True

    def forget(self) -> None:
        """Begin anew, except for locked channels."""
        self._now = {key: kept for key, kept in self._now.items() if key[0] in self.locked}
        self._before.clear()
