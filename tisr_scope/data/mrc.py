"""MRC files in both dialects that microscopes write, read through a memory map and written.

*Regular* files follow the 2014 format of electron microscopy: map identifier, machine stamp, the
length of the cell.  *Priism* files (DeltaVision, OMX, the published SIM data) keep the pixel size
itself where the others keep the cell length, and have numbers of time points and wavelengths in
the rest of the 1024-byte header.  Both store sections one after the other, so that one reader of
pixels serves both.  A file without either mark is read as Priism.
"""

from __future__ import annotations

import errno
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Num
from numpy.typing import DTypeLike

from tisr_scope.errors import DataError, DiskFull

HEADER_BYTES = 1024
PRIISM_ID = -16224
"""Signed 16-bit mark at byte 96 of Priism headers."""
IMOD_STAMP = 1146047817
LARGEST_PIXEL_UM = 10.0
"""Electron microscopes count in Angstrom; no camera pixel is this large in the sample."""
MODES: dict[int, str] = {0: "u1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}
Dialect = Literal["regular", "priism"]


@dataclass(frozen=True)
class MrcHeader:
    """What the header of an MRC file says.

    Attributes
    ----------
    dialect : {"regular", "priism"}
        Meaning of the rest of the header.
    shape : tuple of int
        Sections, rows, columns.
    dtype : numpy.dtype
        Of the pixels in the file, byte order included.
    offset : int
        Bytes before the first pixel.
    pixel_um : float
        Along x in micrometres (cycles per micrometre in transfer functions); 0 if not stated.
    section_um : float
        From one section to the next; 0 if not stated.
    time_points : int
        0 if not stated.
    wavelengths_nm : tuple of int
        Emission, Priism only.
    sequence : int
        Priism: 0 z runs fastest, then time; 1 wavelength, then z; 2 z, then wavelength.
    labels : tuple of str
        Comments that are not empty.
    """

    dialect: Dialect
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    offset: int
    pixel_um: float
    section_um: float
    time_points: int = 0
    wavelengths_nm: tuple[int, ...] = ()
    sequence: int = 0
    labels: tuple[str, ...] = ()

    @property
    def mode(self) -> int:
        """Number of the pixel type."""
        kind = f"{self.dtype.kind}{self.dtype.itemsize}"
        return 0 if kind in {"i1", "u1"} else {v: k for k, v in MODES.items()}[kind]


def read_header(path: Path) -> MrcHeader:
    """Header of an MRC file of either dialect and byte order.

    Raises
    ------
    DataError
        If the file is missing, shorter than its header says, or no MRC file.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), remedy="check the path")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise _unreadable(path, f"{size} bytes are too few for a header")
    order = _byte_order(head)
    if order is None:
        raise _unreadable(path, "sizes and pixel type make no sense in either byte order")
    columns, rows, sections, mode = struct.unpack_from(f"{order}4i", head, 0)
    if mode not in MODES:
        raise DataError(
            f"pixel type {mode} of the MRC file cannot be read",
            where=str(path),
            remedy="export it as 16-bit or 32-bit float MRC",
        )
    priism = head[208:211] != b"MAP"
    dtype = np.dtype(order + MODES[mode])
    if mode == 0 and not priism and not _unsigned_bytes(head, order):
        dtype = np.dtype("i1")
    extended = struct.unpack_from(f"{order}i", head, 92)[0]
    offset = HEADER_BYTES + max(0, extended)
    expected = offset + math.prod((columns, rows, sections)) * dtype.itemsize
    if size < expected:
        raise _unreadable(
            path, f"truncated: {size} bytes, {expected} are needed for {sections} sections"
        )
    spacing = _spacing(head, order, priism, (columns, sections))
    times, sequence, waves = 0, 0, 0
    wavelengths: tuple[int, ...] = ()
    if priism:
        times, sequence = struct.unpack_from(f"{order}2h", head, 180)
        waves = struct.unpack_from(f"{order}h", head, 196)[0]
        named = struct.unpack_from(f"{order}5h", head, 198)
        wavelengths = tuple(named[: max(0, min(waves, 5))])
    texts = (head[224 + 80 * n : 304 + 80 * n] for n in range(10))
    labels = [text.split(b"\0")[0].decode("ascii", "replace").strip() for text in texts]
    return MrcHeader(
        dialect="priism" if priism else "regular",
        shape=(sections, rows, columns),
        dtype=dtype,
        offset=offset,
        pixel_um=spacing[0],
        section_um=spacing[1],
        time_points=max(0, times),
        wavelengths_nm=wavelengths,
        sequence=sequence,
        labels=tuple(dict.fromkeys(label for label in labels if label)),
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
    blocks: Iterable[Num[np.ndarray, "*axes y x"]],
    shape: tuple[int, int, int],
    dtype: DTypeLike,
    pixel_um: float,
    *,
    dialect: Dialect = "priism",
    section_um: float = 0.0,
    time_points: int = 1,
    wavelength_nm: float = 0.0,
    label: str = "",
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

    Raises
    ------
    DataError
        If the type has no number in MRC, or the blocks are not of the stated shape.
    DiskFull
        If there is no space left.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    numbers = {v: k for k, v in MODES.items()} | {"i1": 0}
    mode = numbers.get(f"{kind.kind}{kind.itemsize}")
    if mode is None or (mode == 0 and (kind.kind == "u") != (dialect == "priism")):
        raise DataError(
            f"pixels of type {kind} have no place in a {dialect} MRC file",
            where=str(path),
            remedy="write 16-bit integers or 32-bit floats",
        )
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    low, high, total, count = math.inf, -math.inf, 0.0, 0
    try:
        with temporary.open("wb") as file:
            file.write(bytes(HEADER_BYTES))
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
            file.seek(0)
            steps = (pixel_um, pixel_um, section_um or pixel_um)
            # Complex pixels have no smallest one; a maximum below the minimum says so.
            statistics = (low, high, total / count) if kind.kind != "c" else (0.0, -1.0, -2.0)
            head = _common_header(shape, mode, steps, statistics, dialect, label)
            if dialect == "priism":
                struct.pack_into("<h", head, 96, PRIISM_ID)
                stated = time_points if time_points < 2**15 else 0
                struct.pack_into("<2h", head, 180, stated, 0)
                struct.pack_into("<2h", head, 196, 1, round(wavelength_nm))
            file.write(head)
        temporary.replace(path)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(
                "no space left for images",
                where=str(path),
                remedy="free some space and start the same command again",
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------- inside


def _byte_order(head: bytes) -> Literal["<", ">"] | None:
    orders: tuple[Literal["<", ">"], Literal["<", ">"]] = ("<", ">")
    for order in orders:
        columns, rows, sections, mode = struct.unpack_from(f"{order}4i", head, 0)
        if 0 <= mode < 128 and all(0 < n < 2**24 for n in (columns, rows, sections)):
            return order
    return None


def _unsigned_bytes(head: bytes, order: str) -> bool:
    """IMOD says in a flag whether its bytes are signed; others follow the format: signed."""
    stamp, flags = struct.unpack_from(f"{order}2i", head, 152)
    return stamp == IMOD_STAMP and not flags & 1


def _spacing(head: bytes, order: str, priism: bool, counts: tuple[int, int]) -> tuple[float, float]:
    """Micrometres along x and from section to section."""
    mark = struct.unpack_from(f"{order}h", head, 96)[0]
    samples = struct.unpack_from(f"{order}3i", head, 28)
    cell = struct.unpack_from(f"{order}3f", head, 40)
    steps = []
    for length, number, count in zip(cell[::2], samples[::2], counts, strict=True):
        # Files without marks hold the pixel size too, unless that would be a micrometre or more.
        itself = priism and (mark == PRIISM_ID or length < 1)
        step = length if itself else length / (number if number > 0 else count)
        if not priism and step >= LARGEST_PIXEL_UM:
            step /= 1e4
        steps.append(step if math.isfinite(step) and step > 0 else 0.0)
    return steps[0], steps[1]


def _common_header(
    shape: tuple[int, int, int],
    mode: int,
    steps: tuple[float, float, float],
    statistics: tuple[float, float, float],
    dialect: Dialect,
    label: str,
) -> bytearray:
    head = bytearray(HEADER_BYTES)
    struct.pack_into("<4i", head, 0, *shape[::-1], mode)
    regular = dialect == "regular"
    samples = shape[::-1] if regular else (1, 1, 1)
    struct.pack_into("<3i", head, 28, *samples)
    cell = [step * n * (1e4 if regular else 1) for step, n in zip(steps, samples, strict=True)]
    struct.pack_into("<6f", head, 40, *cell, 90, 90, 90)
    struct.pack_into("<3i", head, 64, 1, 2, 3)
    struct.pack_into("<3f", head, 76, *statistics)
    if regular:
        struct.pack_into("<i", head, 108, 20140)
        head[208:216] = b"MAP \x44\x44\x00\x00"
        struct.pack_into("<f", head, 216, -1.0)  # standard deviation not determined
    text = label.encode("ascii", "replace")[:80]
    struct.pack_into("<i", head, 220, int(bool(text)))
    head[224 : 224 + len(text)] = text
    return head


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        f"not a readable MRC file: {why}",
        where=str(path),
        remedy="copy or download the file again, or export it as 16-bit MRC",
    )
