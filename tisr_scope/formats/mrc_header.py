"""Headers of MRC files, in both dialects that microscopes write.

*Regular* files follow the 2014 format of electron microscopy: map identifier, machine stamp, the
length of the cell.  *Priism* files (DeltaVision, OMX, the published SIM data) keep the pixel size
itself where the others keep the cell length, and have numbers of time points and wavelengths in
the rest of the 1024-byte header.  A file without either mark is read as Priism.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tisr_scope.errors import DataError

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
    marked : bool
        Whether the Priism mark is there, and with it the meaning of everything beyond the sizes.
    waves : int
        Number of wavelengths, Priism only; 0 if not stated.
    numbers : tuple of int
        Integers and floats that the extended header keeps for every section, Priism only.
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
    marked: bool = False
    waves: int = 0
    numbers: tuple[int, int] = (0, 0)

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
    with path.open("rb") as file:
        header = parse_header(file.read(HEADER_BYTES), path)
    size = path.stat().st_size
    expected = header.offset + math.prod(header.shape) * header.dtype.itemsize
    if size < expected:
        raise _unreadable(
            path, f"truncated: {size} bytes, {expected} are needed for {header.shape[0]} sections"
        )
    return header


def header_bytes(path: Path) -> bytes:
    """All bytes before the first pixel, those of an extended header included."""
    with Path(path).open("rb") as file:
        return file.read(read_header(path).offset)


def parse_header(head: bytes, path: Path) -> MrcHeader:
    """Header from its first 1024 bytes.

    Raises
    ------
    DataError
        If they are too few or none of an MRC file; ``path`` is named.
    """
    if len(head) < HEADER_BYTES:
        raise _unreadable(path, f"{len(head)} bytes are too few for a header")
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
        marked=priism and struct.unpack_from(f"{order}h", head, 96)[0] == PRIISM_ID,
        waves=max(0, waves),
        numbers=struct.unpack_from(f"{order}2h", head, 128) if priism else (0, 0),
    )


def build_header(
    shape: tuple[int, int, int],
    mode: int,
    steps_um: tuple[float, float, float],
    statistics: tuple[float, float, float],
    *,
    dialect: Dialect,
    time_points: int,
    wavelength_nm: float,
    label: str,
) -> bytes:
    """Header of a new file.

    Parameters
    ----------
    shape : tuple of int
        Sections, rows, columns.
    mode : int
        Number of the pixel type.
    steps_um : tuple of float
        Pixel sizes along x, y and from section to section.
    statistics : tuple of float
        Smallest, largest and mean pixel.
    dialect, time_points, wavelength_nm, label
        As :func:`tisr_scope.formats.mrc.write_mrc` takes them.
    """
    head = bytearray(HEADER_BYTES)
    struct.pack_into("<4i", head, 0, *shape[::-1], mode)
    regular = dialect == "regular"
    samples = shape[::-1] if regular else (1, 1, 1)
    struct.pack_into("<3i", head, 28, *samples)
    cell = [step * n * (1e4 if regular else 1) for step, n in zip(steps_um, samples, strict=True)]
    struct.pack_into("<6f", head, 40, *cell, 90, 90, 90)
    struct.pack_into("<3i", head, 64, 1, 2, 3)
    struct.pack_into("<3f", head, 76, *statistics)
    if regular:
        struct.pack_into("<i", head, 108, 20140)
        head[208:216] = b"MAP \x44\x44\x00\x00"
        struct.pack_into("<f", head, 216, -1.0)  # standard deviation not determined
    else:
        struct.pack_into("<h", head, 96, PRIISM_ID)
        struct.pack_into("<2h", head, 180, time_points if time_points < 2**15 else 0, 0)
        struct.pack_into("<2h", head, 196, 1, round(wavelength_nm))
    text = label.encode("ascii", "replace")[:80]
    struct.pack_into("<i", head, 220, int(bool(text)))
    head[224 : 224 + len(text)] = text
    return bytes(head)


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


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        f"not a readable MRC file: {why}",
        where=str(path),
        remedy="copy or download the file again, or export it as 16-bit MRC",
    )
