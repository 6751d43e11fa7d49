"""Image series as OME-TIFF with pixel size in micrometres and time step in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Float

from tisr_scope.disk import writing
from tisr_scope.errors import DataError


def write_series(
    path: Path,
    series: Float[np.ndarray, "time y x"],
    pixel_size_um: float,
    interval_s: float,
    name: str,
) -> None:
    """Write a time series as float32 OME-TIFF, in one step: a reader never sees half a file.

    Raises
    ------
    DiskFull
        If there is no space left.
    """
    metadata = {
        "axes": "TYX",
        "Name": name,
        "PhysicalSizeX": pixel_size_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_size_um,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": interval_s,
        "TimeIncrementUnit": "s",
    }
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.asarray(series, np.float32),
            ome=True,
            photometric="minisblack",
            metadata=metadata,
            resolution=(1e4 / pixel_size_um, 1e4 / pixel_size_um),
            resolutionunit="CENTIMETER",
        )


def read_series(path: Path) -> Float[np.ndarray, "time y x"]:
    """Read a time series written by :func:`write_series`, float32.

    Raises
    ------
    DataError
        If the file is missing or damaged, or holds no series of images.
    """
    try:
        series = tifffile.imread(path)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise DataError(
            f"not a readable TIFF series: {error}",
            where=str(path),
            remedy="make it again with the command that wrote it",
        ) from error
    series = series[None] if series.ndim == 2 else series
    if series.ndim != 3:
        raise DataError(
            f"an array of shape {series.shape} is no time series of images", where=str(path)
        )
    return np.asarray(series, np.float32)
