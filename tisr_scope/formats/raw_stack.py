"""Raw SIM frames of a stack with named axes: which of its frames are patterns.

An axis that the file names is never taken for another one, but for that which holds exactly the
patterns: many instruments store the nine frames of an image as nine sections or time points.
Frames without a name are taken as patterns and then time, which is said; everything else is asked
for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.formats.facts import Source
from tisr_scope.formats.reader import SUFFIXES, open_stack
from tisr_scope.formats.stack import AXIS_NAMES, Stack
from tisr_scope.formats.stack_axes import parse_axes, separate_tiles, unfold

__all__ = ["LAYOUTS", "SUFFIXES", "PatternLayout", "RawStack", "raw_frames", "read_raw_stack"]

LAYOUTS = ((3, 3), (3, 5), (5, 5), (5, 3))
"""Orientations and phases that instruments use, offered where the stated ones do not fit."""


@dataclass(frozen=True)
class PatternLayout:
    """How the frames of a stack are patterns.

    Attributes
    ----------
    orientations, phases : int
        Of the illumination.
    axes : str, optional
        Order of the axes, slowest first; see :mod:`tisr_scope.formats.stack_axes`.
    sections, time_points : int, optional
        One of the axes that are named may be left open: it follows from the number of frames.
    extra_frames : int
        Frames after every set of patterns that are none, such as a wide field; left out.
    drop_incomplete : bool
        Leave out frames at the end that make no whole time point.
    """

    orientations: int = 3
    phases: int = 3
    axes: str | None = None
    sections: int | None = None
    time_points: int | None = None
    extra_frames: int = 0
    drop_incomplete: bool = False

    @property
    def patterns(self) -> int:
        """Orientations times phases."""
        return self.orientations * self.phases

    @property
    def sizes(self) -> dict[str, int]:
        """Known lengths of axes; 0 where they follow from the number of frames."""
        return {
            "O": self.orientations,
            "P": self.phases,
            "Z": self.sections or 0,
            "T": self.time_points or 0,
        }


@dataclass(frozen=True)
class RawStack:
    """Raw frames with named axes; pixels may still lie on disk.

    Attributes
    ----------
    frames : array, shape (time, channel, z, orientation, phase, y, x)
        As stored: counts, not scaled.
    stack : Stack
        The file, and all that it says.
    axes : str
        What its frames were taken for, slowest first.
    source : {"file", "user", "assumed"}
        Who says so.
    """

    frames: Num[np.ndarray, "time channel z orientation phase y x"]
    stack: Stack
    axes: str
    source: Source

    def plane(self, channel: int = 0, z: int = 0) -> Num[np.ndarray, "time orientation phase y x"]:
        """Frames of one channel and section, counted from 0.

        Raises
        ------
        DataError
            If there is no such channel or section.
        """
        for what, number, count in (
            ("channel", channel, self.frames.shape[1]),
            ("section", z, self.frames.shape[2]),
        ):
            if not 0 <= number < count:
                raise DataError(
                    f"there is no {what} {number + 1}, the stack has {count}",
                    remedy=f"choose a {what} from 1 to {count}",
                )
        return self.frames[:, channel, z]


def read_raw_stack(path: Path, layout: PatternLayout | None = None) -> RawStack:
    """Open a raw SIM stack of any format; big files stay on disk.

    Parameters
    ----------
    path : Path
        What :func:`tisr_scope.formats.reader.open_stack` takes.
    layout : PatternLayout, optional
        3 orientations x 3 phases, axes as the file has them, if omitted.

    Raises
    ------
    DataError
        If the file cannot be read, or it is not clear which of its frames are patterns.
    """
    return raw_frames(open_stack(path), layout or PatternLayout())


def raw_frames(stack: Stack, layout: PatternLayout) -> RawStack:
    """Raw frames of a stack.

    Raises
    ------
    DataError
        If it is not clear which of its frames are patterns, or their number does not fit.
    """
    where, data = str(stack.path), stack.data
    axes, leading = layout.axes, stack.lengths
    source: Source = "user"
    channels: int | None = None
    if "C" in leading and (axes is None or "C" not in axes.upper()):
        # Channels are never folded into anything else: they go in front, and the rest is named.
        channels = leading.pop("C")
        data = np.moveaxis(data, stack.axes.index("C"), 0)
    if axes is None:
        axes, source = _patterns(leading, layout, stack)
    sizes = _lengths(axes, leading, layout)
    if layout.extra_frames:
        data = _without_extra(data, 0 if channels is None else 1, layout, where)
    data, axes = separate_tiles(data, axes, sizes, where)
    parts = [data] if channels is None else list(data)
    try:
        unfolded = [
            unfold(part, axes, _named(axes, sizes), where, drop_incomplete=layout.drop_incomplete)
            for part in parts
        ]
    except DataError as error:
        if source == "user" or "frames are no" not in error.what:
            raise
        raise DataError(
            error.what, where=where, remedy=_fitting(math.prod(leading.values()), layout)
        ) from error
    frames = unfolded[0] if len(parts) == 1 else np.concatenate(unfolded, axis=1)
    return RawStack(frames, stack, axes, source)


# ------------------------------------------------------------------------------------- inside


def _patterns(
    leading: Mapping[str, int], layout: PatternLayout, stack: Stack
) -> tuple[str, Source]:
    """Axes of a stack whose user names none."""
    letters, frames = "".join(leading), math.prod(leading.values())
    patterns = layout.patterns
    if {"O", "P"} <= set(letters) and not set(letters) - set("TZOP"):
        return letters + "YX", "file"
    holding = [axis for axis, n in leading.items() if n == patterns and axis in "TZQ"]
    others = set(letters) - set(holding)
    if len(holding) == 1 and not others - set("TZ"):
        return letters.replace(holding[0], "OP") + "YX", "assumed"
    if frames == patterns + layout.extra_frames and not set(letters) - set("TZQS"):
        return "OPYX", "assumed"
    if letters in ("T", "Q") and not layout.sections:
        return "TOPYX", "assumed"
    raise _unclear(leading, frames, layout, stack)


def _unclear(
    leading: Mapping[str, int], frames: int, layout: PatternLayout, stack: Stack
) -> DataError:
    if not leading:
        return DataError(
            "one frame is no SIM stack",
            where=str(stack.path),
            remedy="if it shows all patterns side by side, say --axes OYPX (orientations below "
            "each other, phases beside each other)",
        )
    told = " x ".join(f"{n} {AXIS_NAMES.get(axis, axis)}" for axis, n in leading.items())
    fits = _layouts(frames)
    return DataError(
        f"the file says {told}, and not which of them are the {layout.orientations} orientations "
        f"x {layout.phases} phases",
        where=str(stack.path),
        remedy="name the axes, slowest first: --axes TOPYX (patterns, then time), --axes TOZPYX "
        "(focal planes, orientation slowest, as OMX) or --axes TZOPYX (all patterns of a plane "
        "together), with --sections" + (f"; the number of frames fits {fits}" if fits else ""),
    )


def _layouts(frames: int) -> str:
    """Usual layouts that a number of frames would fit, and how many of their images."""
    return " or ".join(
        f"--orientations {o} --phases {p} ({frames // (o * p)} x)"
        for o, p in LAYOUTS
        if frames and frames % (o * p) == 0
    )


def _fitting(frames: int, layout: PatternLayout) -> str:
    """Advice where the number of frames does not fit."""
    if fits := _layouts(frames):
        return f"state the layout; it would fit {fits}"
    if frames % (layout.patterns + 1) == 0:
        return (
            "if a frame that is no pattern, such as a wide field, follows every set, say "
            "--extra-frames 1"
        )
    return (
        "state the right --orientations and --phases; if the recording was stopped within a "
        "time point, leave that one out with --drop-incomplete"
    )


def _lengths(axes: str, leading: Mapping[str, int], layout: PatternLayout) -> dict[str, int]:
    """Lengths of the named axes, with the file's own where two are open."""
    sizes = layout.sizes
    if not layout.axes and {"O", "P"} <= set(leading):
        return {**sizes, **leading}
    open_ones = [a for a in "TZ" if a in axes.upper() and not sizes[a]]
    if len(open_ones) > 1:
        sizes.update({a: leading[a] for a in open_ones if a in leading})
    return sizes


def _named(axes: str, sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the axes that occur; orientations and phases may be absent without a protest."""
    leading = parse_axes(axes)
    return {axis: n for axis, n in sizes.items() if axis in leading or axis in "TCZ"}


def _without_extra(
    data: Num[np.ndarray, "*axes y x"], kept: int, layout: PatternLayout, where: str
) -> Num[np.ndarray, "*axes y x"]:
    block = layout.patterns + layout.extra_frames
    count = math.prod(data.shape[kept:-2])
    if count % block:
        raise DataError(
            f"{count} frames are no multiple of {layout.patterns} patterns and "
            f"{layout.extra_frames} extra frames",
            where=where,
            remedy="state the right --orientations, --phases and --extra-frames",
        )
    sets = data.reshape(*data.shape[:kept], -1, block, *data.shape[-2:])
    return sets[..., : layout.patterns, :, :]
