"""Raw SIM stacks of other software: MRC, DeltaVision and TIFF files with named axes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.formats.deltavision import SUFFIXES as DV_SUFFIXES
from tisr_scope.formats.deltavision import read_deltavision
from tisr_scope.formats.mrc import open_mrc
from tisr_scope.formats.stack_axes import ORDER, parse_axes, unfold

SUFFIXES = (".mrc", ".tif", ".tiff", *DV_SUFFIXES)
TO_MICROMETRE = {"µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}


@dataclass(frozen=True)
class RawStack:
    """Raw frames with named axes; pixels may still lie on disk.

    Attributes
    ----------
    frames : array, shape (time, channel, z, orientation, phase, y, x)
        As stored: counts, not scaled.
    pixel_um, section_um : float or None
        Sizes in micrometres, where the file says.
    interval_s, exposure_ms : float or None
        Timing, where the file says.
    wavelengths_nm : tuple of int
        Emission, where the file says.
    """

    frames: Num[np.ndarray, "time channel z orientation phase y x"]
    pixel_um: float | None = None
    section_um: float | None = None
    interval_s: float | None = None
    exposure_ms: float | None = None
    wavelengths_nm: tuple[int, ...] = ()

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


def read_raw_stack(
    path: Path,
    axes: str | None = None,
    *,
    orientations: int = 3,
    phases: int = 3,
    sections: int | None = None,
    time_points: int | None = None,
    channels: int | None = None,
    drop_incomplete: bool = False,
) -> RawStack:
    """Open a raw SIM stack (.mrc, .tif, .tiff, .dv, .r3d); big files stay on disk.

    Parameters
    ----------
    path : Path
        File.
    axes : str, optional
        Order of the axes, slowest first, such as ``"TOPYX"``.  If omitted: the one of the header
        in DeltaVision files, with orientation, z and phase folded into z as in OMX; angle and
        phase of OME-TIFF where it names them; else ``TOPYX``.
    orientations, phases : int
        Of the illumination.
    sections, time_points, channels : int, optional
        One of the axes that are named may be left open, it follows from the number of frames.
    drop_incomplete : bool
        Leave out frames at the end that make no whole time point (not of DeltaVision files, whose
        header states the time points).

    Raises
    ------
    DataError
        If the file cannot be read, is no stack of real numbers, or the number of frames does not
        fit.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in SUFFIXES:
        raise DataError(
            "no raw stack", where=str(path), remedy=f"give an existing {', '.join(SUFFIXES)} file"
        )
    sizes = {
        "O": orientations,
        "P": phases,
        "Z": sections or 0,
        "T": time_points or 0,
        "C": channels or 0,
    }
    if suffix in DV_SUFFIXES:
        return _from_deltavision(path, axes, sizes)
    if suffix == ".mrc":
        data, header = open_mrc(path)
        axes = axes or "TOPYX"
        frames = unfold(
            _real(data, path),
            axes,
            _named(axes, sizes),
            str(path),
            drop_incomplete=drop_incomplete,
        )
        return RawStack(
            frames,
            pixel_um=header.pixel_um or None,
            section_um=header.section_um or None,
            wavelengths_nm=tuple(w for w in header.wavelengths_nm if w > 0),
        )
    return _from_tiff(path, axes, sizes, drop_incomplete)


# ------------------------------------------------------------------------------------- inside


def _named(axes: str, sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the axes that occur; orientations and phases may be absent without a protest."""
    leading = parse_axes(axes)
    return {axis: n for axis, n in sizes.items() if axis in leading or axis in "TCZ"}


def _from_deltavision(path: Path, axes: str | None, sizes: dict[str, int]) -> RawStack:
    stack = read_deltavision(path)
    if axes is None:
        axes = stack.axes.replace("Z", "OZP")
        here = dict(zip(stack.axes, stack.frames.shape, strict=True))
        sizes = {**sizes, "T": here["T"], "C": here["C"]}
    frames = unfold(_real(stack.frames, path), axes, _named(axes, sizes), str(path))
    return RawStack(
        frames,
        pixel_um=stack.pixel_um or None,
        section_um=stack.section_um or None,
        interval_s=stack.interval_s,
        exposure_ms=stack.exposure_ms,
        wavelengths_nm=stack.wavelengths_nm,
    )


def _from_tiff(
    path: Path, axes: str | None, sizes: dict[str, int], drop_incomplete: bool
) -> RawStack:
    try:
        with _loud(), tifffile.TiffFile(path) as file:
            if not file.series:
                raise ValueError("it holds no image")
            # All pages, so that one that is missing is missed here.
            len(file.pages)
            if len(file.series) != 1:
                raise DataError(
                    f"the TIFF file holds {len(file.series)} series of images",
                    where=str(path),
                    remedy="export the raw frames alone, as one stack",
                )
            series = file.series[0]
            file_axes = series.axes
            offset, shape, dtype = series.dataoffset, series.shape, series.dtype
            pixel, interval = _tiff_scale(file)
            # Contiguous and not compressed: leave the pixels on disk.
            if offset is not None:
                kind = np.dtype(dtype).newbyteorder(file.byteorder)
                data = np.memmap(path, kind, mode="r", offset=offset, shape=shape)
            else:
                data = series.asarray()
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise DataError(
            f"not a readable TIFF file: {error}",
            where=str(path),
            remedy="copy the file again, or export it as uncompressed TIFF",
        ) from error
    if axes is None:
        axes, sizes = _ome_axes(file_axes, shape, sizes)
    frames = unfold(
        _real(data, path), axes, _named(axes, sizes), str(path), drop_incomplete=drop_incomplete
    )
    return RawStack(frames, pixel_um=pixel, interval_s=interval)


@contextmanager
def _loud() -> Iterator[None]:
    """What tifffile only logs as an error, such as a chain of pages that breaks off, is one."""
    heard: list[str] = []
    ear = logging.Handler(logging.ERROR)
    ear.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("tifffile")
    log.addHandler(ear)
    try:
        yield
    finally:
        log.removeHandler(ear)
    if heard:
        raise ValueError(heard[0])


def _ome_axes(
    file_axes: str, shape: tuple[int, ...], sizes: dict[str, int]
) -> tuple[str, dict[str, int]]:
    """Axes of a file that names angle and phase itself; else ``TOPYX``."""
    renamed = file_axes.replace("A", "O")
    known = {"O", "P"} <= set(renamed) and not set(renamed[:-2]) - set(ORDER)
    if not known or renamed[-2:] != "YX":
        return "TOPYX", sizes
    lengths = dict(zip(renamed[:-2], shape[:-2], strict=True))
    return renamed, {**sizes, **lengths}


def _tiff_scale(file: tifffile.TiffFile) -> tuple[float | None, float | None]:
    """Pixel size in micrometres and interval in seconds from OME or ImageJ metadata."""
    if file.is_ome and file.ome_metadata:
        described = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        image = described[0] if isinstance(described, list) else described
        about = image["Pixels"]
        size, step = about.get("PhysicalSizeX"), about.get("TimeIncrement")
        unit = TO_MICROMETRE.get(str(about.get("PhysicalSizeXUnit", "µm")))
        second = {"s": 1.0, "ms": 1e-3}.get(str(about.get("TimeIncrementUnit", "s")))
        return (
            float(size) * unit if size and unit else None,
            float(step) * second if step and second else None,
        )
    about = file.imagej_metadata or {}
    unit = TO_MICROMETRE.get(str(about.get("unit", "")).replace("\\u00B5", "µ"))
    tag = file.pages[0].tags.get("XResolution")
    ratio = tag.value[0] / tag.value[1] if tag is not None and tag.value[1] else 0.0
    interval = about.get("finterval")
    return (
        unit / ratio if unit and ratio > 0 else None,
        float(interval) if interval else None,
    )


def _real(data: Num[np.ndarray, "*axes"], path: Path) -> Num[np.ndarray, "*folded y x"]:
    if data.ndim < 2 or np.iscomplexobj(data) or data.size == 0:
        raise DataError(
            f"an array of shape {data.shape}, {data.dtype} is no series of frames",
            where=str(path),
            remedy="give the raw frames as one stack",
        )
    return data
