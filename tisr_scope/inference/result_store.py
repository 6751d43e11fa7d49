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

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from jaxtyping import Float

from tisr_scope.disk import no_space_left
from tisr_scope.errors import DiskFull, RecordingError
from tisr_scope.inference.result_arrays import (
    INTENSITY_OFFSET,
    INTENSITY_STEP,
    Grid,
    GrowingArray,
    decode_confidence,
    decode_intensity,
    encode_confidence,
    encode_intensity,
    image_metadata,
)
from tisr_scope.provenance import write_json
from tisr_scope.types import Prediction

SUPER_RESOLUTION = "super_resolution.ome.zarr"
CONFIDENCE = "confidence.ome.zarr"
JOURNAL = "frames.jsonl"
RESULT = "result.json"


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
        self._sr_array = GrowingArray(
            self.folder / SUPER_RESOLUTION,
            "uint16",
            shape,
            shard,
            image_metadata("super resolution", self.grid, intensity),
        )
        self._confidence_array = GrowingArray(
            self.folder / CONFIDENCE,
            "uint8",
            shape,
            shard,
            image_metadata("confidence", self.grid, confidence),
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
    if no_space_left(error):
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
