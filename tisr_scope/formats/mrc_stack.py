"""MRC and DeltaVision files as stacks: axes, wavelengths, sizes and times of their headers.

Both dialects call the axis of their frames sections.  DeltaVision and OMX files (.dv, .r3d) mean
it; ``.mrc`` files of SIM data fold patterns and time into it, so there it is an axis without a
name.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from tisr_scope.errors import DataError
from tisr_scope.formats.facts import Fact
from tisr_scope.formats.mrc import open_mrc
from tisr_scope.formats.mrc_header import HEADER_BYTES, MrcHeader
from tisr_scope.formats.stack import Stack, require_frames, squeezed

DV_SUFFIXES = (".dv", ".r3d")
SUFFIXES = (".mrc", *DV_SUFFIXES)
SEQUENCES = {0: "CTZ", 1: "TZC", 2: "TCZ"}
"""Slowest first."""
TIME_FIELD, EXPOSURE_FIELD, LEAST_FIELDS = 1, 8, 14
"""Of the floats that the extended header keeps for each section, in seconds."""


def open_mrc_stack(path: Path) -> Stack:
    """Open an MRC or DeltaVision file; pixels stay on disk until they are used.

    Raises
    ------
    DataError
        If the file is missing, truncated, of another format, or its sections do not divide into
        the channels and time points of its header.
    """
    data, header = open_mrc(path)
    deltavision = path.suffix.lower() in DV_SUFFIXES
    if deltavision and not header.marked:
        raise DataError(
            "not a readable DeltaVision file: the header has no DeltaVision mark",
            where=str(path),
            remedy="export it again, or give it the suffix .mrc if it is an ordinary MRC stack",
        )
    require_frames(data, path)
    found: dict[str, Any] = {}
    axes, shape = "QYX", data.shape
    if header.marked:
        sizes = {"T": max(1, header.time_points), "C": max(1, header.waves)}
        order = SEQUENCES.get(header.sequence, "CTZ")
        divides = header.shape[0] % (sizes["T"] * sizes["C"]) == 0
        if not divides and deltavision:
            raise DataError(
                f"{header.shape[0]} sections are no multiple of {sizes['C']} channels x "
                f"{sizes['T']} time points",
                where=str(path),
                remedy="the recording was stopped; export its complete part again",
            )
        if divides:
            sizes["Z"] = header.shape[0] // (sizes["T"] * sizes["C"])
            axes = order if deltavision else order.replace("Z", "Q")
            shape = (*(sizes[a] for a in order), *data.shape[1:])
            axes += "YX"
            interval, exposure = _timing(path, header, order, sizes)
            found["interval_s"] = interval and Fact(interval, "file")
            found["exposure_ms"] = exposure and Fact(exposure, "file")
    if header.pixel_um:
        found["pixel_size_um"] = Fact((header.pixel_um, header.pixel_um), "file")
    if header.section_um:
        found["section_um"] = Fact(header.section_um, "file")
    if any(wave > 0 for wave in header.wavelengths_nm):
        found["emission_nm"] = Fact(tuple(float(w) for w in header.wavelengths_nm), "file")
    pixels, named = squeezed(data.reshape(shape), axes)
    kind = "DeltaVision file" if deltavision else f"MRC file ({header.dialect})"
    return Stack(path, pixels, named, kind, **found)


# ------------------------------------------------------------------------------------- inside


def _timing(
    path: Path, header: MrcHeader, order: str, sizes: dict[str, int]
) -> tuple[float | None, float | None]:
    """Interval in seconds and exposure in milliseconds from the extended header."""
    integers, floats = header.numbers
    stride = 4 * (integers + floats)
    if floats < LEAST_FIELDS or header.offset - HEADER_BYTES < header.shape[0] * stride:
        return None, None
    kind = header.dtype.newbyteorder(header.dtype.byteorder).byteorder
    blocks = np.memmap(
        path,
        np.dtype("f4").newbyteorder(kind),
        mode="r",
        offset=HEADER_BYTES,
        shape=(header.shape[0], integers + floats),
    )[:, integers:]
    # Sections of one step along T: the product of the axes that run faster.
    step = math.prod(sizes[axis] for axis in order[order.index("T") + 1 :])
    interval = None
    if sizes["T"] > 1:
        elapsed = blocks[step * (sizes["T"] - 1), TIME_FIELD] - blocks[0, TIME_FIELD]
        interval = float(elapsed / (sizes["T"] - 1))
    exposure = float(blocks[0, EXPOSURE_FIELD]) * 1e3
    return (
        interval if interval is not None and interval > 0 else None,
        exposure if exposure > 0 else None,
    )
