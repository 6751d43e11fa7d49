"""The one reader of stacks of other software, for every verb.

What a file says about itself is kept with its pixels (:class:`tisr_scope.formats.stack.Stack`);
what a verb then takes for an axis that the file does not name is decided, and said, by
:mod:`tisr_scope.formats.raw_stack` for the raw frames of SIM and by :func:`time_series` for a
time-lapse of single frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.formats.facts import Fact, Source
from tisr_scope.formats.mrc_stack import SUFFIXES as MRC_SUFFIXES
from tisr_scope.formats.mrc_stack import open_mrc_stack
from tisr_scope.formats.stack import AXIS_NAMES, Stack
from tisr_scope.formats.tiff import SUFFIXES as TIFF_SUFFIXES
from tisr_scope.formats.tiff import open_tiff
from tisr_scope.formats.vendor import SUFFIXES as VENDOR_SUFFIXES
from tisr_scope.formats.vendor import open_vendor

SUFFIXES = (*MRC_SUFFIXES, *TIFF_SUFFIXES, *VENDOR_SUFFIXES)


def open_stack(path: Path) -> Stack:
    """Open a stack, or a folder of single frames in the order of their names.

    Parameters
    ----------
    path : Path
        ``.tif`` and relatives, ``.mrc``, ``.dv``, ``.r3d``; with the extra ``vendor`` also
        ``.nd2`` and ``.czi``.

    Returns
    -------
    stack : Stack
        Pixels on disk where the file allows it, with its own axes and all it says.

    Raises
    ------
    DataError
        If there is no such file, or it is damaged, truncated or no series of grey frames.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    suffix = path.suffix.lower()
    openers: tuple[tuple[tuple[str, ...], Callable[[Path], Stack]], ...] = (
        (MRC_SUFFIXES, open_mrc_stack),
        (TIFF_SUFFIXES, open_tiff),
        (VENDOR_SUFFIXES, open_vendor),
    )
    if path.is_file():
        for suffixes, opener in openers:
            if suffix in suffixes:
                return opener(path)
    raise DataError(
        "no raw stack", where=str(path), remedy=f"give an existing {', '.join(SUFFIXES)} file"
    )


def time_series(
    stack: Stack, axes: str | None = None, channel: int | None = None
) -> tuple[Num[np.ndarray, "time y x"], Source]:
    """Frames of a time-lapse of one channel in one plane, and who says that they are time points.

    Parameters
    ----------
    stack : Stack
    axes : str, optional
        What the axes of the file are, slowest first: ``"TYX"`` where it names them wrongly.
    channel : int, optional
        Counted from 1; must be given where there are several.

    Returns
    -------
    frames : array, shape (time, y, x)
        As stored, on disk where possible.
    source : {"file", "user", "assumed"}
        Who says that the axis is time; ``"assumed"`` for frames without a name.

    Raises
    ------
    DataError
        If an axis is neither time nor channel, such as focal planes or colour samples, and the
        user does not say otherwise.
    """
    source: Source = "file"
    if axes is not None:
        letters = "".join(c for c in axes.upper() if c.isalnum())
        if len(letters) != stack.data.ndim or letters[-2:] != "YX" or set(letters) - set("TCYX"):
            raise DataError(
                f"{axes!r} cannot be the axes of {stack.described()}",
                where=str(stack.path),
                remedy=f"name {stack.data.ndim} axes with T and C, and end with YX: TYX",
            )
        stack, source = replace(stack, axes=letters), "user"
    stack, _ = stack.one_channel(channel)
    leading = stack.axes[:-2]
    if not leading:
        return stack.data[None], source
    if leading in ("T", "Q"):
        return stack.data, source if leading == "T" else "assumed"
    odd = ", ".join(f"{n} {AXIS_NAMES[a]}" for a, n in stack.lengths.items() if a != "T")
    after_all = "; if they are time points after all, say --axes TYX" if len(leading) == 1 else ""
    raise DataError(
        f"a time-lapse is wanted, and the file says {odd}",
        where=str(stack.path),
        remedy=f"export one focal plane of one channel over time{after_all}",
    )


# ------------------------------------------------------------------------------------- inside


def _folder(path: Path) -> Stack:
    """Single frames, one a file, in the natural order of their names."""
    files = sorted(
        (f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file()),
        key=lambda f: natural(f.name),
    )
    if not files:
        raise DataError(
            "the folder holds no frames",
            where=str(path),
            remedy=f"give a folder of single {', '.join(TIFF_SUFFIXES[:2])} frames, or a stack",
        )
    stacks = [open_stack(file) for file in files]
    first = stacks[0]
    for file, stack in zip(files, stacks, strict=True):
        if stack.axes != "YX" or stack.data.shape != first.data.shape:
            raise DataError(
                f"{file.name} holds {stack.described()}, where single frames of "
                f"{first.described()} are read one after the other",
                where=str(path),
                remedy="keep the frames of one recording alone in the folder, or give one stack",
            )
    data = np.stack([stack.data for stack in stacks])
    pixel: Fact[tuple[float, float]] | None = first.pixel_size_um
    if any(stack.pixel_size_um != pixel for stack in stacks):
        pixel = None
    return replace(
        first, path=path, data=data, axes="QYX", format="folder of frames", pixel_size_um=pixel
    )


def natural(name: str) -> list[tuple[int, int | str]]:
    """Key that sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part)) if part.isdigit() else (0, part) for part in parts]
