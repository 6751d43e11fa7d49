"""Files of Nikon (ND2) and Zeiss (CZI), through the readers ``nd2`` and ``czifile``.

They come with the extra ``vendor``: ``pip install "tisr-scope[vendor]"``.  Elyra files name the
rotation and the phase of the pattern themselves; Nikon mosaics (all patterns side by side in one
frame) are taken apart by naming their axes, see :mod:`tisr_scope.formats.stack_axes`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.formats.facts import Fact
from tisr_scope.formats.stack import AXIS_NAMES, Stack, require_frames, squeezed

SUFFIXES = (".nd2", ".czi")
CZI_AXES = {"R": "O", "H": "P"}
"""Rotation and phase."""


def open_vendor(path: Path) -> Stack:
    """Open an ND2 or CZI file.

    Raises
    ------
    DataError
        If its reader is not installed, or the file cannot be read.
    """
    reader, opener = {".nd2": ("nd2", _nd2), ".czi": ("czifile", _czi)}[path.suffix.lower()]
    try:
        module = importlib.import_module(reader)
    except ImportError as error:
        raise DataError(
            f"{path.suffix.lower()} files need the package {reader}",
            where=str(path),
            remedy='install it: pip install "tisr-scope[vendor]", or export the file as OME-TIFF',
        ) from error
    try:
        return opener(module, path)
    except DataError:
        raise
    except Exception as error:  # both readers raise what their parsers do
        raise DataError(
            f"not a readable {path.suffix.lower()} file: {error}",
            where=str(path),
            remedy="copy the file again, or export it as OME-TIFF",
        ) from error


# ------------------------------------------------------------------------------------- inside


def _nd2(module: Any, path: Path) -> Stack:
    with module.ND2File(path) as file:
        axes = "".join(name if len(name) == 1 else "?" for name in file.sizes)
        data = np.asarray(file.asarray())
        voxel = file.voxel_size()
        channels = file.metadata.channels or []
        scope = channels[0].microscope if channels else None
        rate = [getattr(loop, "parameters", None) for loop in file.experiment]
    found: dict[str, Any] = {"pixel_size_um": Fact((voxel.y, voxel.x), "file")}
    if "Z" in axes:
        found["section_um"] = Fact(float(voxel.z), "file")
    periods = [float(getattr(one, "periodMs", 0.0) or 0.0) for one in rate]
    period_ms = max(periods, default=0.0)
    if period_ms:
        found["interval_s"] = Fact(1e-3 * period_ms, "file")
    for kind in ("emission", "excitation"):
        waves = tuple(float(getattr(c.channel, f"{kind}LambdaNm") or 0) for c in channels)
        if any(waves):
            found[f"{kind}_nm"] = Fact(waves, "file")
    if scope is not None and scope.objectiveNumericalAperture:
        found["numerical_aperture"] = Fact(float(scope.objectiveNumericalAperture), "file")
    names = tuple(str(c.channel.name) for c in channels)
    return _stack(path, data, axes, "ND2 file", {**found, "channels": names})


def _czi(module: Any, path: Path) -> Stack:
    with module.CziFile(str(path)) as file:
        axes = "".join(CZI_AXES.get(a, a) for a in file.axes).replace("0", "S")
        data = np.asarray(file.asarray())
        about = file.metadata(raw=False)["ImageDocument"]["Metadata"]
    found: dict[str, Any] = {}
    scale = about.get("Scaling", {}).get("Items", {}).get("Distance", [])
    steps = {d["Id"]: 1e6 * float(d["Value"]) for d in scale if "Value" in d}
    if {"X", "Y"} <= set(steps):
        found["pixel_size_um"] = Fact((steps["Y"], steps["X"]), "file")
    if "Z" in steps and "Z" in axes:
        found["section_um"] = Fact(steps["Z"], "file")
    image = about.get("Information", {}).get("Image", {})
    channels = image.get("Dimensions", {}).get("Channels", {}).get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    for kind in ("Emission", "Excitation"):
        waves = tuple(float(c.get(f"{kind}Wavelength", 0) or 0) for c in channels)
        if any(waves):
            found[f"{kind.lower()}_nm"] = Fact(waves, "file")
    lenses = about.get("Information", {}).get("Instrument", {}).get("Objectives", {})
    lens = lenses.get("Objective", {})
    lens = lens[0] if isinstance(lens, list) else lens
    if lens.get("LensNA"):
        found["numerical_aperture"] = Fact(float(lens["LensNA"]), "file")
    return _stack(path, data, axes, "CZI file", found)


def _stack(
    path: Path, data: Num[np.ndarray, "*axes"], axes: str, kind: str, found: dict[str, Any]
) -> Stack:
    require_frames(data, path)
    if axes.endswith("S") and data.shape[-1] == 1:
        data, axes = data[..., 0], axes[:-1]
    pixels, named = squeezed(data, axes)
    if not named.endswith("YX") or set(named) - set(AXIS_NAMES) - set("YX"):
        raise DataError(
            f"a {kind} with the axes {named} is no stack of raw frames",
            where=str(path),
            remedy="export one position as OME-TIFF",
        )
    return Stack(path, pixels, named, kind, **found)
