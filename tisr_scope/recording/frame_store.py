"""Where the pixels of a recording lie, and how they are opened."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tensorstore as ts

from tisr_scope.provenance import write_json

ZARR_NAME = "recording.ome.zarr"


def array_paths(folder: Path, positions: int) -> list[Path]:
    """Zarr array of each stage position; one position lies at the root of the OME-Zarr."""
    root = folder / ZARR_NAME
    if positions == 1:
        return [root / "0"]
    return [root / f"p{number}" / "0" for number in range(positions)]


def open_array(path: Path, *, write: bool = False) -> Any:
    """Open a stored array, shape (t, channel, sim, y, x), as a tensorstore."""
    plain = os.path.abspath(path)  # noqa: PTH100 - a path with ".." is refused by tensorstore
    return ts.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": plain}},
        open=True,
        read=True,
        write=write,
    ).result()


def write_interval(folder: Path, positions: int, interval_s: float) -> None:
    """Put the measured time between time points into the OME metadata."""
    for array in array_paths(folder, positions):
        path = array.parent / "zarr.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        for image in content["attributes"]["ome"]["multiscales"]:
            for dataset in image["datasets"]:
                dataset["coordinateTransformations"][0]["scale"][0] = interval_s
        write_json(path, content)
