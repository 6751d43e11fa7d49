"""Super-resolved frames and confidence on disk, as two OME-Zarr images and a journal.

::

    FOLDER/super_resolution.ome.zarr    uint16, intensity = (stored - offset) * step
    FOLDER/confidence.ome.zarr          uint8, confidence = stored / 255
    FOLDER/frames.jsonl                 one line a frame: its index here, its time point, its lag
    FOLDER/result.json                  model, scale, calibration, sizes: how it was made

Every frame lies at the place of its own time point, so that the time axis is that of the recording
and what was skipped can be filled in later; the journal says which frames are there and when each
was exposed.  Frames are buffered per shard; the journal follows once the pixels are on disk.  After
a lost process everything up to the last whole shard is readable, and the store can be gone on with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from jaxtyping import Float

from tisr_scope.disk import no_space_left, writing
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
        Created; must not hold results yet unless ``resume``.
    grid : Grid
        Sizes of the images.
    description : mapping
        Saved as ``result.json`` and in the images' metadata: model, intensity scale, calibration.
    shard_frames : int
        Time points per shard file: what a lost process may cost.
    resume : bool
        Go on with the results in the folder, if there are any.

    Attributes
    ----------
    time_points : set of int
        What is in the store, or in its buffer.

    Raises
    ------
    RecordingError
        If the folder already holds results, those of another model or scale where ``resume``, or
        cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        grid: Grid,
        description: Mapping[str, Any],
        *,
        shard_frames: int = 8,
        resume: bool = False,
    ) -> None:
        self.folder = folder
        self.grid = grid
        self.time_points: set[int] = set()
        if not resume and (folder / SUPER_RESOLUTION).exists():
            raise RecordingError(
                "this folder already holds super-resolved frames",
                where=str(folder),
                remedy="choose another output folder, or remove the old results",
            )
        self._shard_frames = shard_frames
        self._intensity = np.zeros((shard_frames, *grid.shape), np.uint16)
        self._confidence = np.zeros((shard_frames, *grid.shape), np.uint8)
        self._lines: list[dict[str, Any]] = []
        self._closed = False
        self._description = {
            **description,
            "pixel_size_um": grid.pixel_size_um,
            "interval_s": grid.interval_s,
            "upscale": grid.upscale,
        }
        if resume and (folder / RESULT).is_file():
            self._go_on()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open_arrays()
            write_json(folder / RESULT, self._description)
            self._journal = (folder / JOURNAL).open("a", encoding="utf-8")
        except OSError as error:
            raise disk_error(error, folder) from error

    def _go_on(self) -> None:
        """Take over what an earlier process left, if it was made in the same way."""
        stored = open_results(self.folder)
        same = (
            *("weights_sha256", "normalisation", "scale_electrons", "upscale"),
            *("passes", "seed", "emitted", "input"),
        )
        other = [
            key
            for key in same
            if stored.description.get(key) != self._description.get(key)
            and key in stored.description
        ]
        if any(line["index"] != line["t"] for line in stored.journal):
            other.append("layout")
        if other:
            raise RecordingError(
                f"the results in this folder were made in another way ({', '.join(other)})",
                where=str(self.folder),
                remedy="choose another output folder, or remove the old results",
            )
        self.time_points = set(stored.time_indices)
        lines = [json.dumps(line) + "\n" for line in stored.journal]
        with writing(self.folder / JOURNAL, "results") as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")

    def _open_arrays(self) -> None:
        shape, shard = self.grid.shape, self._shard_frames
        intensity, confidence = self._metadata()
        folder = self.folder
        self._sr_array = GrowingArray(folder / SUPER_RESOLUTION, "uint16", shape, shard, intensity)
        self._confidence_array = GrowingArray(
            folder / CONFIDENCE, "uint8", shape, shard, confidence
        )

    def _metadata(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """OME metadata of both images."""
        intensity = {
            "quantity": "super-resolved intensity on the model's normalised scale",
            "intensity": {"step": INTENSITY_STEP, "offset": INTENSITY_OFFSET},
            **self._description,
        }
        confidence = {"quantity": "confidence", "confidence": {"step": 1 / 255, "offset": 0}}
        confidence |= self._description
        return (
            image_metadata("super resolution", self.grid, intensity),
            image_metadata("confidence", self.grid, confidence),
        )

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
        shard, slot = divmod(prediction.time_index, self._shard_frames)
        if self._lines and self._lines[0]["t"] // self._shard_frames != shard:
            self._flush()
        self._intensity[slot] = encode_intensity(prediction.mean)
        self._confidence[slot] = encode_confidence(prediction.confidence)
        self.time_points.add(prediction.time_index)
        self._lines.append(
            {
                "index": prediction.time_index,
                "t": prediction.time_index,
                "calibrated": prediction.calibrated,
                **facts,
            }
        )
        if slot == self._shard_frames - 1:
            self._flush()

    def _flush(self) -> None:
        if not self._lines:
            return
        places = [line["t"] for line in self._lines]
        slots = [place % self._shard_frames for place in places]
        try:
            self._sr_array.write(self._intensity[slots], places)
            self._confidence_array.write(self._confidence[slots], places)
            self._journal.writelines(json.dumps(line) + "\n" for line in self._lines)
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except (OSError, ValueError) as error:
            raise disk_error(error, self.folder) from error
        self._lines = []

    def set_times(self, start_s: float, interval_s: float) -> None:
        """Put the measured time axis into the metadata, once it is known.

        Parameters
        ----------
        start_s : float
            Time of time point 0, in seconds.
        interval_s : float
            Mean time from one time point to the next.
        """
        self.grid = replace(self.grid, start_s=start_s, interval_s=interval_s)
        self._description["interval_s"] = interval_s
        try:
            write_json(self.folder / RESULT, self._description)
            for name, content in zip((SUPER_RESOLUTION, CONFIDENCE), self._metadata(), strict=True):
                write_json(self.folder / name / "zarr.json", content)
        except OSError as error:
            raise disk_error(error, self.folder) from error

    def describe(self, **facts: Any) -> None:
        """Change or add facts of ``result.json``: what is only known later in a run."""
        self._description |= facts
        try:
            write_json(self.folder / RESULT, self._description)
        except OSError as error:
            raise disk_error(error, self.folder) from error

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
        One entry a frame, in the order of time: its place in the arrays ``index``, its time point
        ``t``, ``calibrated`` and further facts.
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

    def _read(self, name: str, index: int) -> np.ndarray:
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
            place = int(self.journal[index]["index"])
            return np.asarray(ts.open(spec, open=True).result()[place].read().result())
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
        journal = tuple(sorted(map(json.loads, whole), key=lambda line: int(line["t"])))
        description = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError) as error:
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
