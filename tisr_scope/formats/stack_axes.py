"""Order of the frames of a stack, as the user names it.

Letters, slowest first: ``T`` time, ``C`` channel, ``Z`` section, ``O`` orientation, ``P`` phase,
then ``Y X``.  Spaces, commas and brackets are for the eye: ``"TOPYX"``, ``"T (O P) Y X"``.  How the
file folds these axes does not matter, since only their order counts: 180 pages, 20 hyperstack
frames of 9 slices, or a z axis of 180 are the same stack.

Patterns side by side in one frame, as Nikon stores them, stand where their tiles lie: ``"OYPX"``
has the orientations below each other and the phases beside each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError

ORDER = "TCZOP"
"""Axes of every stack that is read, slowest first, before y and x."""
NAMES = {"T": "time points", "C": "channels", "Z": "sections", "O": "orientations", "P": "phases"}


def parse_axes(text: str) -> str:
    """Order of axes from what a user writes, without the y and x at its end.

    Raises
    ------
    DataError
        If a letter is unknown or comes twice, or the frames do not end in ``Y X``.
    """
    letters = "".join(c for c in text.upper() if c.isalnum())
    leading = letters[:-2]
    if letters[-2:] != "YX" or not leading or set(leading) - set(ORDER):
        raise DataError(
            f"{text!r} is no order of axes",
            remedy="name them slowest first with T, C, Z, O (orientation) and P (phase), and end "
            "with YX: for example TOPYX",
        )
    if len(set(leading)) != len(leading):
        raise DataError(f"an axis comes twice in {text!r}", remedy="name every axis once")
    return leading


def separate_tiles(
    frames: Num[np.ndarray, "*folded y x"], axes: str, sizes: Mapping[str, int], where: str
) -> tuple[Num[np.ndarray, "*folded y x"], str]:
    """Take mosaics apart: frames one after the other, and their axes without tiles.

    Parameters
    ----------
    frames : array
        Any number of leading axes.
    axes : str
        ``"TOYPX"``: the axis before ``Y`` runs down a frame, that before ``X`` across it.  Other
        axes come back as they are.
    sizes : mapping
        Number of tiles along each.
    where : str
        Named in errors.

    Raises
    ------
    DataError
        If the frame does not divide into the tiles.
    """
    letters = "".join(c for c in axes.upper() if c.isalnum())
    if letters[-1:] != "X" or letters[-3:-2] != "Y" or len(letters) < 4:
        return frames, axes
    down, across = letters[-4], letters[-2]
    height, width = frames.shape[-2:]
    rows, columns = sizes.get(down, 0), sizes.get(across, 0)
    if rows < 1 or columns < 1 or height % rows or width % columns:
        raise DataError(
            f"a frame of {height} x {width} pixels does not divide into {rows} x {columns} tiles",
            where=where,
            remedy="state --orientations and --phases of the mosaic",
        )
    tiles = frames.reshape(*frames.shape[:-2], rows, height // rows, columns, width // columns)
    return np.moveaxis(tiles, -2, -3), f"{letters[:-4]}{down}{across}YX"


def unfold(
    frames: Num[np.ndarray, "*folded y x"],
    axes: str,
    sizes: Mapping[str, int],
    where: str = "stack",
    *,
    drop_incomplete: bool = False,
) -> Num[np.ndarray, "time channel z orientation phase y x"]:
    """Split the leading axes of a stack as named, and bring them into the package's order.

    Parameters
    ----------
    frames : array
        Any number of leading axes, in the order of the file.
    axes : str
        What :func:`parse_axes` takes.
    sizes : mapping
        Length of each axis; one may be missing or 0 and follows from the number of frames.
    where : str
        Named in errors.
    drop_incomplete : bool
        Leave out frames at the end that make no whole time point, where time is the slowest axis.

    Raises
    ------
    DataError
        If the number of frames does not fit the sizes, or more than one size is missing.
    """
    leading = parse_axes(axes)
    count = math.prod(frames.shape[:-2])
    given = {axis: int(sizes.get(axis, 0)) for axis in leading}
    stray = [axis for axis, n in sizes.items() if axis not in leading and n > 1]
    if stray:
        raise DataError(
            f"{NAMES[stray[0]]} have a size, but {axes!r} has no {stray[0]}",
            where=where,
            remedy=f"put {stray[0]} into the axes, or leave its size out",
        )
    missing = [axis for axis, n in given.items() if n < 1]
    if len(missing) > 1:
        raise DataError(
            f"the numbers of {' and '.join(NAMES[axis] for axis in missing)} cannot both follow "
            f"from {count} frames",
            where=where,
            remedy="state all but one of them",
        )
    known = math.prod(n for n in given.values() if n > 0)
    if drop_incomplete and missing == ["T"] and leading[0] == "T" and count > known:
        count -= count % known
        frames = frames.reshape(-1, *frames.shape[-2:])[:count]
    wanted = " x ".join(f"{n} {NAMES[axis]}" for axis, n in given.items() if n > 0)
    if count == 0 or count % known or (not missing and count != known):
        relation = "no multiple of" if missing else "not"
        raise DataError(
            f"{count} frames are {relation} {wanted} = {known}",
            where=where,
            remedy="state the right numbers; if the recording was stopped within a time point, "
            "leave that one out with --drop-incomplete",
        )
    if missing:
        given[missing[0]] = count // known
    split = frames.reshape(*given.values(), *frames.shape[-2:])
    here = [axis for axis in ORDER if axis in leading]
    moved = split.transpose(*(leading.index(axis) for axis in here), -2, -1)
    full = [given.get(axis, 1) for axis in ORDER]
    unfolded: Num[np.ndarray, "time channel z orientation phase y x"] = moved[
        tuple(slice(None) if axis in leading else None for axis in ORDER)
    ]
    if list(unfolded.shape[:5]) != full:
        raise DataError(f"axes {axes!r} give {unfolded.shape}, not {full}", where=where)
    return unfolded


def fold(
    stack: Num[np.ndarray, "time channel z orientation phase y x"], axes: str
) -> Num[np.ndarray, "frame y x"]:
    """Inverse of :func:`unfold`: one frame after the other, in the order the axes name.

    Raises
    ------
    DataError
        If an axis that is not named is longer than 1.
    """
    leading = parse_axes(axes)
    stray = [a for a, n in zip(ORDER, stack.shape, strict=False) if n > 1 and a not in leading]
    if stray:
        raise DataError(f"{NAMES[stray[0]]} have no place in the axes {axes!r}")
    order = [ORDER.index(axis) for axis in leading]
    rest = [n for n in range(len(ORDER)) if n not in order]
    moved = stack.transpose(*rest, *order, len(ORDER), len(ORDER) + 1)
    return moved.reshape(-1, *stack.shape[-2:])
