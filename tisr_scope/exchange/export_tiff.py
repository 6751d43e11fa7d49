"""Raw frames as OME-TIFF whose axes name angle and phase."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from tisr_scope.errors import DataError
from tisr_scope.exchange.export_cell import Place, level_blocks
from tisr_scope.recording.frame_store import ZARR_NAME
from tisr_scope.recording.recording import Recording


def recording_to_tiff(place: Place, out: Path) -> Sequence[Path]:
    """Raw frames of each light level as OME-TIFF whose axes name angle and phase."""
    if not (place.source / ZARR_NAME).is_dir():
        raise DataError(
            "pairs are OME-TIFF already",
            where=str(place.source),
            remedy="take the files in that folder",
        )
    recording = Recording.open(place.source)
    orientations, phases, levels = recording.sim_shape
    out.mkdir(parents=True, exist_ok=True)
    written = []
    if place.planes > 1:
        raise DataError(
            "OME-TIFF with angle, phase and focal planes is not written",
            where=str(place.source),
            remedy="export the published layout: --biotisr",
        )
    for level in range(levels):
        name = f"{recording.name}_{recording.plan.place_name(place.channel, place.position)}"
        path = out / f"{name}_level_{level + 1}.ome.tif"
        shape = (recording.time_points, orientations, phases, *recording.frame_shape)
        temporary = path.with_name(path.name + ".part")
        try:
            tifffile.imwrite(
                temporary,
                (frame for block in level_blocks(recording, place, level, {}) for frame in block),
                shape=shape,
                dtype=np.uint16,
                ome=True,
                photometric="minisblack",
                metadata={
                    "axes": "TAPYX",
                    "Name": f"{name} level {level + 1}",
                    "PhysicalSizeX": recording.pixel_size_um,
                    "PhysicalSizeXUnit": "µm",
                    "PhysicalSizeY": recording.pixel_size_um,
                    "PhysicalSizeYUnit": "µm",
                    "TimeIncrement": recording.interval_s(place.channel, place.position),
                    "TimeIncrementUnit": "s",
                },
            )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        written.append(path)
    return written
