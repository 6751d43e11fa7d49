"""The arrays of super-resolved frames and confidence: stored values, sizes, OME-Zarr on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from jaxtyping import Float, UInt8, UInt16

from tisr_scope.provenance import write_json

INTENSITY_STEP = 1 / 20_000
"""Normalised intensity of one stored unit: the usual credible half-width 0.04 is 800."""
INTENSITY_OFFSET = 4_000
"""Stored value of zero intensity, so that the noise around zero is kept: -0.2 to 3.08 fit."""


def encode_intensity(mean: Float[np.ndarray, "*axes"]) -> UInt16[np.ndarray, "*axes"]:
    """Normalised intensity as stored; values outside -0.2 to 3.08 are clipped."""
    stored = np.rint(mean / INTENSITY_STEP + INTENSITY_OFFSET)
    return np.asarray(np.clip(stored, 0, 65_535), dtype=np.uint16)


def decode_intensity(stored: UInt16[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
    """Normalised intensity from what is stored."""
    return np.asarray((stored.astype(np.float32) - INTENSITY_OFFSET) * np.float32(INTENSITY_STEP))


def encode_confidence(confidence: Float[np.ndarray, "*axes"]) -> UInt8[np.ndarray, "*axes"]:
    """Confidence from 0 to 1 as 0 to 255."""
    return np.asarray(np.clip(np.rint(confidence * 255), 0, 255), dtype=np.uint8)


def decode_confidence(stored: UInt8[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
    """Confidence from 0 to 1 from what is stored."""
    return np.asarray(stored.astype(np.float32) / np.float32(255))


@dataclass(frozen=True)
class Grid:
    """Sizes of the super-resolved images.

    Attributes
    ----------
    shape : tuple of int
        Height and width in super-resolved pixels.
    pixel_size_um : float
        Super-resolved pixel in the sample: camera pixel / upscale.
    interval_s : float
        Time between time points of the recording, in seconds.
    upscale : int
        Super-resolved pixels per camera pixel along an axis.
    start_s : float
        Time of time point 0 on the clock of the recording, in seconds.
    """

    shape: tuple[int, int]
    pixel_size_um: float
    interval_s: float
    upscale: int
    start_s: float = 0.0


def image_metadata(name: str, grid: Grid, extra: Mapping[str, Any]) -> dict[str, Any]:
    """OME-NGFF 0.5 metadata of a t, y, x image; the origin is the centre of the first camera pixel.

    A camera pixel covers upscale x upscale fine pixels, so the first fine pixel's centre lies
    (1 - upscale) / 2 fine pixels from the first camera pixel's.
    """
    shift = (1 - grid.upscale) / 2 * grid.pixel_size_um
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {
            "ome": {
                "version": "0.5",
                "multiscales": [
                    {
                        "name": name,
                        "axes": [
                            {"name": "t", "type": "time", "unit": "second"},
                            {"name": "y", "type": "space", "unit": "micrometer"},
                            {"name": "x", "type": "space", "unit": "micrometer"},
                        ],
                        "datasets": [
                            {
                                "path": "0",
                                "coordinateTransformations": [
                                    {
                                        "type": "scale",
                                        "scale": [
                                            grid.interval_s or 1.0,
                                            grid.pixel_size_um,
                                            grid.pixel_size_um,
                                        ],
                                    },
                                    {
                                        "type": "translation",
                                        "translation": [grid.start_s, shift, shift],
                                    },
                                ],
                            }
                        ],
                    }
                ],
            },
            "tisr_scope": dict(extra),
        },
    }


class GrowingArray:
    """A sharded zarr array that grows along its first axis; what was never written is zero.

    Parameters
    ----------
    folder : Path
        Of the OME-Zarr image; gone on with if it is there.
    dtype : str
        ``"uint16"`` or ``"uint8"``.
    shape : (height, width)
        Of a frame.
    shard : int
        Frames in one file.
    metadata : mapping
        Content of the image's ``zarr.json``.
    """

    def __init__(
        self,
        folder: Path,
        dtype: str,
        shape: tuple[int, int],
        shard: int,
        metadata: Mapping[str, Any],
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "zarr.json", metadata)
        inner = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1}},
        ]
        sharding = {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [1, *shape],
                "codecs": inner if dtype != "uint8" else [{"name": "bytes"}, inner[1]],
                "index_codecs": [inner[0], {"name": "crc32c"}],
            },
        }
        grid = {"name": "regular", "configuration": {"chunk_shape": [shard, *shape]}}
        spec: dict[str, Any] = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(folder / "0")},
        }
        there = (folder / "0" / "zarr.json").is_file()
        if not there:
            spec["metadata"] = {
                "shape": [0, *shape],
                "data_type": dtype,
                "fill_value": 0,
                "dimension_names": ["t", "y", "x"],
                "chunk_grid": grid,
                "codecs": [sharding],
            }
        self._array = ts.open(spec, open=there, create=not there).result()

    def write(self, frames: np.ndarray, places: Sequence[int]) -> None:
        """Write frames at their places in one step; the array grows as far as it must."""
        stop = max(places) + 1
        if stop > self._array.shape[0]:
            size = [stop, *self._array.shape[1:]]
            self._array = self._array.resize(exclusive_max=size).result()
        with ts.Transaction() as transaction:
            into = self._array.with_transaction(transaction)
            for frame, place in zip(frames, places, strict=True):
                into[place] = frame
