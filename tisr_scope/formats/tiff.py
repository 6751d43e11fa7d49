"""TIFF files of all kinds: OME, ImageJ, Micro-Manager, plain; read and described by tifffile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.formats.facts import LARGEST_PIXEL_UM, SMALLEST_PIXEL_UM, Fact
from tisr_scope.formats.stack import AXIS_NAMES, Stack, require_frames, squeezed

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk")
MICROMETRES = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **{"cm": 1e4, "inch": 25400.0, "å": 1e-4},
}
SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **{"min": 60.0, "h": 3600.0, "µs": 1e-6},
}
RENAMED = {"A": "O", "I": "Q", "R": "Q"}
"""Of tifffile's letters: angle is the orientation; a plain sequence has no name."""


def open_tiff(path: Path) -> Stack:
    """Open a TIFF file; uncompressed pixels stay on disk until they are used.

    Raises
    ------
    DataError
        If it is damaged, truncated, no series of frames, or holds several series.
    """
    try:
        with _loud(), tifffile.TiffFile(path) as file:
            if not file.series:
                raise ValueError("it holds no image")
            len(file.pages)  # all pages, so that one that is missing is missed here
            if len(file.series) != 1:
                raise DataError(
                    f"the TIFF file holds {len(file.series)} series of images",
                    where=str(path),
                    remedy="export the raw frames alone, as one stack",
                )
            series = file.series[0]
            data = _pixels(file, series, path)
            axes = [RENAMED.get(letter, letter) for letter in series.axes]
            about = _about(file)
    except (OSError, ValueError, IndexError, KeyError, tifffile.TiffFileError) as error:
        raise DataError(
            f"not a readable TIFF file: {error}",
            where=str(path),
            remedy="copy the file again, or export it as uncompressed TIFF",
        ) from error
    require_frames(data, path)
    if axes[-1] == "S" and data.shape[-1] > 1:
        raise DataError(
            f"colour images (RGB) of {data.shape[-1]} samples a pixel are no camera counts",
            where=str(path),
            remedy="export the raw grey frames, not a picture of them",
        )
    data, named = squeezed(data, axes)
    # Letters that mean nothing here, such as a lifetime, are axes without a name.
    named = "".join(a if a in AXIS_NAMES or a in "YX" else "Q" for a in named)
    if len(set(named)) != len(named) or not named.endswith("YX"):
        merged = data.reshape(-1, *data.shape[-2:])
        data, named = squeezed(merged, "QYX")
    return Stack(path, data, named, **about)


# ------------------------------------------------------------------------------------- inside


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


def _pixels(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path
) -> Num[np.ndarray, "*axes"]:
    size = path.stat().st_size
    last = series.pages[-1] or series.keyframe
    ends = [o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=False)]
    if max(ends, default=0) > size:
        raise ValueError(f"truncated: {size} bytes, the last frame ends at {max(ends)}")
    if series.dataoffset is None:
        data: Num[np.ndarray, "*axes"] = series.asarray()
        return data
    kind = np.dtype(series.dtype).newbyteorder(file.byteorder)
    return np.memmap(path, kind, mode="r", offset=series.dataoffset, shape=series.shape)


def _about(file: tifffile.TiffFile) -> dict[str, Any]:
    if file.is_ome and file.ome_metadata:
        return {"format": "OME-TIFF", **_ome(file.ome_metadata)}
    if file.is_imagej:
        return {"format": "ImageJ TIFF", **_imagej(file)}
    if file.is_micromanager and file.micromanager_metadata:
        summary = file.micromanager_metadata.get("Summary", {})
        return {"format": "Micro-Manager TIFF", **_micromanager(summary)}
    pixel = _resolution(file, None)
    return {"format": "TIFF", **({"pixel_size_um": pixel} if pixel else {})}


def _ome(metadata: str) -> dict[str, Any]:
    content = tifffile.xml2dict(metadata)["OME"]
    image = _first(content["Image"])
    pixels = image["Pixels"]
    length = {axis: _scaled(pixels, f"PhysicalSize{axis}", "µm", MICROMETRES) for axis in "XYZ"}
    found: dict[str, Any] = {}
    if length["X"]:
        found["pixel_size_um"] = Fact((length["Y"] or length["X"], length["X"]), "file")
    found["section_um"] = length["Z"]
    found["interval_s"] = _scaled(pixels, "TimeIncrement", "s", SECONDS)
    planes = _many(pixels.get("Plane"))
    if planes:
        found["exposure_ms"] = _scaled(planes[0], "ExposureTime", "s", SECONDS, 1e3)
    channels = _many(pixels.get("Channel"))
    for kind in ("Emission", "Excitation"):
        waves = [_scaled(c, f"{kind}Wavelength", "nm", MICROMETRES, 1e3) or 0.0 for c in channels]
        found[f"{kind.lower()}_nm"] = tuple(waves) if any(waves) else None
    found["refractive_index"] = _number(_first(image.get("ObjectiveSettings")), "RefractiveIndex")
    wanted = _first(image.get("ObjectiveSettings")).get("ID")
    for instrument in _many(content.get("Instrument")):
        for lens in _many(instrument.get("Objective")):
            if wanted is None or lens.get("ID") == wanted:
                found["numerical_aperture"] = _number(lens, "LensNA")
    facts = {k: v if isinstance(v, Fact) else Fact(v, "file") for k, v in found.items() if v}
    names = tuple(str(channel["Name"]) for channel in channels if "Name" in channel)
    return {**facts, "channels": names}


def _imagej(file: tifffile.TiffFile) -> dict[str, Any]:
    about = file.imagej_metadata or {}
    unit = str(about.get("unit", "")).replace("\\u00B5", "µ").strip().lower()
    found: dict[str, Any] = {}
    scale = MICROMETRES.get(unit)
    if scale:
        pixel = _resolution(file, scale)
        if pixel:
            found["pixel_size_um"] = pixel
        if about.get("spacing"):
            found["section_um"] = Fact(abs(float(about["spacing"])) * scale, "file")
    if about.get("finterval"):
        second = SECONDS.get(str(about.get("tunit", "s")).lower(), 1.0)
        found["interval_s"] = Fact(float(about["finterval"]) * second, "file")
    return found


def _micromanager(summary: dict[str, Any]) -> dict[str, Any]:
    pixel, step = _number(summary, "PixelSize_um"), _number(summary, "z-step_um")
    interval = _number(summary, "Interval_ms")
    return {
        **({"pixel_size_um": Fact((pixel, pixel), "file")} if pixel else {}),
        **({"section_um": Fact(step, "file")} if step else {}),
        **({"interval_s": Fact(1e-3 * interval, "file")} if interval else {}),
        "channels": tuple(str(name) for name in summary.get("ChNames", ())),
    }


def _resolution(file: tifffile.TiffFile, unit_um: float | None) -> Fact[tuple[float, float]] | None:
    """Pixel (y, x) of the resolution tags; without a unit of the sample only where it can be one.

    Plain TIFF files state the size of a print in most cases: 72 dots an inch.
    """
    page = file.pages[0]
    tags = [page.tags.get(f"{axis}Resolution") for axis in "YX"]
    if any(tag is None or not tag.value[0] or not tag.value[1] for tag in tags):
        return None
    if unit_um is None:
        unit_um = {2: 25400.0, 3: 1e4}.get(int(page.resolutionunit))
        if unit_um is None:
            return None
    sizes = [unit_um * tag.value[1] / tag.value[0] for tag in tags]
    if page.resolutionunit in (2, 3) and not all(
        SMALLEST_PIXEL_UM <= size < LARGEST_PIXEL_UM for size in sizes
    ):
        return None
    return Fact((sizes[0], sizes[1]), "file")


def _many(value: Any) -> list[dict[str, Any]]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _first(value: Any) -> dict[str, Any]:
    return (_many(value) or [{}])[0]


def _number(about: dict[str, Any], key: str) -> float | None:
    try:
        value = float(about[key])
    except (KeyError, TypeError, ValueError):
        return None
    return value if np.isfinite(value) and value > 0 else None


def _scaled(
    about: dict[str, Any], key: str, unit: str, units: dict[str, float], factor: float = 1.0
) -> float | None:
    value = _number(about, key)
    scale = units.get(str(about.get(f"{key}Unit", unit)).strip().lower())
    return None if value is None or scale is None else value * scale * factor
