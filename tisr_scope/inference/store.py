"""Super-resolved frames and confidence on disk, as two OME-Zarr images and a journal.

::

    FOLDER/super_resolution.ome.zarr    uint16, intensity = (stored - offset) * step
    FOLDER/confidence.ome.zarr          uint8, confidence = stored / 255
    FOLDER/frames.jsonl                 one line a frame: its index here, its time point, its lag
    FOLDER/result.json                  model, scale, calibration, sizes: how it was made

Frames are buffered per shard and both arrays grow shard by shard; the journal follows once the
pixels are on disk.  After a lost process everything up to the last whole shard is readable.
Frames that were skipped take no place: the journal says which time point each index shows.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from jaxtyping import Float, UInt8, UInt16

from tisr_scope.errors import DiskFull, RecordingError
from tisr_scope.types import Prediction

SUPER_RESOLUTION = "super_resolution.ome.zarr"
CONFIDENCE = "confidence.ome.zarr"
JOURNAL = "frames.jsonl"
RESULT = "result.json"

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
    """

    shape: tuple[int, int]
    pixel_size_um: float
    interval_s: float
    upscale: int


def _image_metadata(name: str, grid: Grid, extra: Mapping[str, Any]) -> dict[str, Any]:
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
                                    {"type": "translation", "translation": [0.0, shift, shift]},
                                ],
                            }
                        ],
                    }
                ],
            },
            "tisr_scope": dict(extra),
        },
    }


class _GrowingArray:
    """A sharded zarr array that grows by whole shards."""

    def __init__(
        self,
        folder: Path,
        dtype: str,
        shape: tuple[int, int],
        shard: int,
        metadata: Mapping[str, Any],
    ) -> None:
        folder.mkdir(parents=True)
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
        self._array = ts.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": str(folder / "0")},
                "metadata": {
                    "shape": [0, *shape],
                    "data_type": dtype,
                    "fill_value": 0,
                    "dimension_names": ["t", "y", "x"],
                    "chunk_grid": grid,
                    "codecs": [sharding],
                },
                "create": True,
            }
        ).result()

    def append(self, frames: np.ndarray[Any, Any], start: int) -> None:
        """Write frames that begin at a shard boundary."""
        stop = start + len(frames)
        self._array = self._array.resize(exclusive_max=[stop, *self._array.shape[1:]]).result()
        with ts.Transaction() as transaction:
            self._array.with_transaction(transaction)[start:stop] = frames


class ResultStore:
    """Writes predictions of one channel at one position.

    Parameters
    ----------
    folder : path
        Created; must not hold results yet.
    grid : Grid
        Sizes of the images.
    description : mapping
        Saved as ``result.json`` and in the images' metadata: model, intensity scale, calibration.
    shard_frames : int
        Frames per shard file: what a lost process may cost.

    Raises
    ------
    RecordingError
        If the folder already holds results, or cannot be written.
    """

    def __init__(
        self, folder: Path, grid: Grid, description: Mapping[str, Any], *, shard_frames: int = 8
    ) -> None:
        self.folder = folder
        self.grid = grid
        if (folder / SUPER_RESOLUTION).exists():
            raise RecordingError(
                "this folder already holds super-resolved frames",
                where=str(folder),
                remedy="choose another output folder, or remove the old results",
            )
        self._shard_frames = shard_frames
        self._intensity = np.zeros((shard_frames, *grid.shape), np.uint16)
        self._confidence = np.zeros((shard_frames, *grid.shape), np.uint8)
        self._lines: list[dict[str, Any]] = []
        self._written = 0
        self._closed = False
        self._description = {
            **description,
            "pixel_size_um": grid.pixel_size_um,
            "interval_s": grid.interval_s,
            "upscale": grid.upscale,
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open_arrays()
            write_json(folder / RESULT, self._description)
            self._journal = (folder / JOURNAL).open("a", encoding="utf-8")
        except OSError as error:
            raise disk_error(error, folder) from error

    def _open_arrays(self) -> None:
        shape, shard = self.grid.shape, self._shard_frames
        intensity = {
            "quantity": "super-resolved intensity on the model's normalised scale",
            "intensity": {"step": INTENSITY_STEP, "offset": INTENSITY_OFFSET},
            **self._description,
        }
        confidence = {"quantity": "confidence", "confidence": {"step": 1 / 255, "offset": 0}}
        confidence |= self._description
        self._sr_array = _GrowingArray(
            self.folder / SUPER_RESOLUTION,
            "uint16",
            shape,
            shard,
            _image_metadata("super resolution", self.grid, intensity),
        )
        self._confidence_array = _GrowingArray(
            self.folder / CONFIDENCE,
            "uint8",
            shape,
            shard,
            _image_metadata("confidence", self.grid, confidence),
        )

    @property
    def frames(self) -> int:
        """Frames taken so far, on disk or still in the buffer."""
        return self._written + len(self._lines)

    def append(self, prediction: Prediction, **facts: float | str | bool) -> None:
        """Take one prediction; every full shard goes to disk.

        Parameters
        ----------
        prediction : Prediction
            On the super-resolved grid of this store.
        **facts
            Further numbers for its line of the journal (``lag_s=...``).

        Raises
        ------
        RecordingError
            If the image has another size than announced, or cannot be written.
        DiskFull
            If no space is left.
        """
        if prediction.mean.shape != self.grid.shape:
            raise RecordingError(
                f"a result of {prediction.mean.shape} pixels does not fit {self.grid.shape}",
                where=str(self.folder),
            )
        slot = len(self._lines)
        self._intensity[slot] = encode_intensity(prediction.mean)
        self._confidence[slot] = encode_confidence(prediction.confidence)
        self._lines.append(
            {
                "index": self._written + slot,
                "t": prediction.time_index,
                "calibrated": prediction.calibrated,
                **facts,
            }
        )
        if len(self._lines) == self._shard_frames:
            self._flush()

    def _flush(self) -> None:
        count = len(self._lines)
        if not count:
            return
        try:
            self._sr_array.append(self._intensity[:count], self._written)
            self._confidence_array.append(self._confidence[:count], self._written)
            self._journal.writelines(json.dumps(line) + "\n" for line in self._lines)
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except (OSError, ValueError) as error:
            raise disk_error(error, self.folder) from error
        self._written += count
        self._lines = []

    def close(self) -> None:
        """Write what is left; may be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._flush()
        finally:
            self._journal.close()

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class StoredResults:
    """Results read back.

    Attributes
    ----------
    folder : path
        Where they are.
    journal : tuple of dict
        One entry a frame: ``index``, ``t``, ``calibrated`` and further facts.
    description : dict
        Content of ``result.json``.
    """

    folder: Path
    journal: tuple[dict[str, Any], ...]
    description: dict[str, Any]

    def __len__(self) -> int:
        return len(self.journal)

    @property
    def time_indices(self) -> list[int]:
        """Time point of the recording that each stored frame shows."""
        return [int(line["t"]) for line in self.journal]

    def intensity(self, index: int) -> Float[np.ndarray, "y x"]:
        """Super-resolved frame on the normalised scale."""
        return decode_intensity(self._read(SUPER_RESOLUTION, index))

    def confidence(self, index: int) -> Float[np.ndarray, "y x"]:
        """Confidence of a frame, 0 to 1."""
        return decode_confidence(self._read(CONFIDENCE, index))

    def _read(self, name: str, index: int) -> np.ndarray[Any, Any]:
        if not 0 <= index < len(self.journal):
            raise RecordingError(
                f"there is no frame {index} among {len(self.journal)} results",
                where=str(self.folder),
            )
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(self.folder / name / "0")},
        }
        try:
            return np.asarray(ts.open(spec, open=True).result()[index].read().result())
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"frame {index} cannot be read: {str(error).splitlines()[0]}",
                where=str(self.folder / name),
                remedy="copy the folder again, or super-resolve the recording again",
            ) from error


def open_results(folder: Path) -> StoredResults:
    """Open results, also those of a run that was killed.

    Raises
    ------
    RecordingError
        If the folder holds no results, or its journal is damaged.
    """
    journal_path = folder / JOURNAL
    if not journal_path.is_file() or not (folder / RESULT).is_file():
        raise RecordingError(
            "there are no super-resolved frames in this folder",
            where=str(folder),
            remedy="make them with 'tisr infer', or give the folder of one channel",
        )
    text = journal_path.read_text(encoding="utf-8")
    # The last line of a killed run may be cut short; without its end it does not count.
    whole = text[: text.rfind("\n") + 1].splitlines()
    try:
        journal = tuple(json.loads(line) for line in whole)
        description = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RecordingError(
            f"the journal of the results is damaged: {error}",
            where=str(journal_path),
            remedy="super-resolve the recording again with 'tisr infer'",
        ) from error
    return StoredResults(folder=folder, journal=journal, description=description)


def disk_error(error: Exception, folder: Path) -> RecordingError:
    """A full disk or another failure to write, in words."""
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    # tensorstore reports a full disk as a ValueError with the system's message.
    if full or "No space left" in str(error) or "RESOURCE_EXHAUSTED" in str(error):
        return DiskFull(
            "no space is left for super-resolved frames",
            where=str(folder),
            remedy="free space, or give an output folder on another disk",
        )
    return RecordingError(
        f"super-resolved frames cannot be written: {str(error).splitlines()[0]}",
        where=str(folder),
        remedy="check the folder and its permissions",
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old or the new file, never half of one."""
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)
