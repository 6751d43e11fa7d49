"""DeltaVision and OMX files (.dv, .r3d): axes, wavelengths, pixel sizes and times.

Read with the package ``mrc``.  Their raw SIM stacks fold phases and orientations into z: phase
runs fastest, then z, then orientation (the "CPZAT" order of OMX).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mrc
import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.formats.mrc_header import read_header

SUFFIXES = (".dv", ".r3d")


@dataclass(frozen=True)
class DeltaVisionStack:
    """A file as it lies on disk.

    Attributes
    ----------
    frames : array, shape as ``axes`` says
        Read-only memory map.
    axes : str
        ``CTZYX``, ``TZCYX`` or ``TCZYX``; the last runs fastest.
    wavelengths_nm : tuple of int
        Emission wavelength of each channel.
    pixel_um, section_um : float
        Pixel size and distance of sections in micrometres.
    interval_s : float or None
        Mean time between time points, where the extended header keeps times.
    exposure_ms : float or None
        Exposure of the first frame, where the extended header keeps it.
    """

    frames: Num[np.ndarray, "a b c y x"]
    axes: str
    wavelengths_nm: tuple[int, ...]
    pixel_um: float
    section_um: float
    interval_s: float | None
    exposure_ms: float | None


def read_deltavision(path: Path) -> DeltaVisionStack:
    """Open a DeltaVision file; pixels stay on disk until they are used.

    Raises
    ------
    DataError
        If the file is missing, truncated, or no DeltaVision file.
    """
    path = Path(path)
    header = read_header(path)
    try:
        with mrc.DVFile(path) as file:
            sizes, axes = dict(file.sizes), file.axes
            interval, exposure = _timing(file, sizes)
    except (ValueError, KeyError, OSError) as error:
        raise DataError(
            f"not a readable DeltaVision file: {error}",
            where=str(path),
            remedy="export it again, or give it the suffix .mrc if it is an ordinary MRC stack",
        ) from error
    shape = tuple(sizes[axis] for axis in axes)
    if int(np.prod(shape[:3])) != header.shape[0]:
        raise DataError(
            f"{header.shape[0]} sections are no multiple of {sizes['C']} channels x "
            f"{sizes['T']} time points",
            where=str(path),
            remedy="the recording was stopped; export its complete part again",
        )
    frames = np.memmap(path, header.dtype, mode="r", offset=header.offset, shape=shape)
    return DeltaVisionStack(
        frames=frames,
        axes=axes,
        wavelengths_nm=header.wavelengths_nm,
        pixel_um=header.pixel_um,
        section_um=header.section_um,
        interval_s=interval,
        exposure_ms=exposure,
    )


def _timing(file: mrc.DVFile, sizes: dict[str, int]) -> tuple[float | None, float | None]:
    """Interval in seconds and exposure in milliseconds from the extended header."""
    extended = file.ext_hdr
    fields = 14
    if extended is None or file.hdr.n_ints != 8 or file.hdr.n_floats < fields:
        return None, None
    sections = int(np.prod([sizes[axis] for axis in "CTZ"]))
    if file.hdr.ext_hdr_len < sections * 4 * (file.hdr.n_ints + file.hdr.n_floats):
        return None, None
    # Sections of one step along T: the product of the axes that run faster.
    order = file.axes[:3]
    step = int(np.prod([sizes[axis] for axis in order[order.index("T") + 1 :]]))
    last = step * (sizes["T"] - 1)
    first_frame, last_frame = extended.frame(0), extended.frame(last)
    interval = None
    if sizes["T"] > 1:
        elapsed = last_frame.timeStampSeconds - first_frame.timeStampSeconds
        interval = float(elapsed / (sizes["T"] - 1))
    exposure = float(first_frame.expTime) * 1e3
    return (
        interval if interval is not None and interval > 0 else None,
        exposure if exposure > 0 else None,
    )
