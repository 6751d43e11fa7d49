"""MRC stacks, read through a memory map and written section by section.

Both dialects (:mod:`tisr_scope.formats.mrc_header`) store sections one after the other, so that one
reader of pixels serves both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Num
from numpy.typing import DTypeLike

from tisr_scope.disk import writing
from tisr_scope.errors import DataError
from tisr_scope.formats.mrc_header import (
    HEADER_BYTES,
    MODES,
    Dialect,
    MrcHeader,
    build_header,
    parse_header,
    read_header,
)


def open_mrc(path: Path) -> tuple[Num[np.ndarray, "section y x"], MrcHeader]:
    """Pixels of an MRC file as a read-only memory map, as stored, and its header.

    Raises
    ------
    DataError
        If the file is missing, truncated or not MRC.
    """
    header = read_header(path)
    data = np.memmap(path, header.dtype, mode="r", offset=header.offset, shape=header.shape)
    return data, header


def read_mrc(path: Path) -> tuple[Num[np.ndarray, "*axes"], float]:
    """Data of an MRC file and its pixel size.

    Returns
    -------
    data : array
        As stored, native byte order, not scaled.
    pixel : float
        In micrometres in microscope files, 0 if not stated.

    Raises
    ------
    DataError
        If the file is missing, truncated or not MRC.
    """
    data, header = open_mrc(path)
    return np.array(data, dtype=data.dtype.newbyteorder("=")), header.pixel_um


def write_mrc(
    path: Path,
    blocks: Iterable[Num[np.ndarray, ...]],
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    pixel_um: float,
    *,
    dialect: Dialect = "priism",
    section_um: float = 0.0,
    time_points: int = 1,
    wavelength_nm: float = 0.0,
    label: str = "",
    header: bytes | None = None,
) -> None:
    """Write sections block by block, in one step: a reader never sees half a file.

    Parameters
    ----------
    path : Path
        File to write.
    blocks : iterable of array
        Sections in order; together as many as ``shape`` says.
    shape : tuple of int
        Sections, rows, columns.
    dtype : dtype
        One of uint8 (Priism) or int8 (regular), int16, uint16, float16, float32, complex64.
    pixel_um, section_um : float
        Pixel size and distance of sections.
    dialect : {"priism", "regular"}
        Of the header.
    time_points, wavelength_nm : int, float
        Kept by Priism headers only.
    label : str
        Comment, 80 characters at most.
    header : bytes, optional
        That of another file of the same sections and pixel type, to be taken as it is, byte order
        included, instead of all the above.

    Raises
    ------
    DataError
        If the type has no number in MRC, the blocks are not of the stated shape, or a given header
        is of other sections or pixels.
    DiskFull
        If there is no space left.
    """
    path = Path(path)
    kind = np.dtype(dtype).newbyteorder("<") if header is None else parse_header(header, path).dtype
    if header is None:
        mode = _mode(kind, dialect, path)
    elif parse_header(header, path).shape != shape or kind != np.dtype(dtype):
        raise DataError("the given header belongs to other sections", where=str(path))
    low, high, total, count = math.inf, -math.inf, 0.0, 0
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(HEADER_BYTES) if header is None else header)
        for block in blocks:
            sections = np.ascontiguousarray(block, kind).reshape(-1, *block.shape[-2:])
            if sections.shape[1:] != shape[1:] or not np.can_cast(block.dtype, kind):
                raise DataError(
                    f"frames {sections.shape[1:]} of {block.dtype} do not fit "
                    f"{shape[1:]} of {kind}",
                    where=str(path),
                )
            file.write(sections.tobytes())
            count += len(sections)
            if kind.kind != "c":
                low, high = min(low, float(sections.min())), max(high, float(sections.max()))
                total += float(sections.mean(dtype=np.float64)) * len(sections)
        if count != shape[0]:
            raise DataError(f"{count} sections came for {shape[0]}", where=str(path))
        if header is not None:
            return
        file.seek(0)
        # Complex pixels have no smallest one; a maximum below the minimum says so.
        statistics = (low, high, total / count) if kind.kind != "c" else (0.0, -1.0, -2.0)
        file.write(
            build_header(
                shape,
                mode,
                (pixel_um, pixel_um, section_um or pixel_um),
                statistics,
                dialect=dialect,
                time_points=time_points,
                wavelength_nm=wavelength_nm,
                label=label,
            )
        )


# ------------------------------------------------------------------------------------- inside


def _mode(kind: np.dtype[np.generic], dialect: Dialect, path: Path) -> int:
    """Number of a pixel type in MRC."""
    numbers = {v: k for k, v in MODES.items()} | {"i1": 0}
    mode = numbers.get(f"{kind.kind}{kind.itemsize}")
    if mode is None or (mode == 0 and (kind.kind == "u") != (dialect == "priism")):
        raise DataError(
            f"pixels of type {kind} have no place in a {dialect} MRC file",
            where=str(path),
            remedy="write 16-bit integers or 32-bit floats",
        )
    return mode
