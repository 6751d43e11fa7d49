"""Frames to disk: OME-Zarr pixels first, then the journal line.

The acquisition thread hands frames over and goes on; one writer thread takes them from a bounded
queue, computes their checksums and looks for saturation.  Pixels are stored unsharded, one chunk a
frame, at an index computed from the running order, so that a missing frame can never shift the ones
after it.  ome-writers lays out the file (OME-NGFF 0.5), tensorstore writes the chunks.
"""

from __future__ import annotations

import math
import queue
import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt16
from ome_writers import AcquisitionSettings, Dimension, OmeZarrFormat, create_stream

from tisr_scope.disk import no_space_left
from tisr_scope.errors import BufferOverflow, DiskFull, RecordingError, TisrScopeError
from tisr_scope.recording.frame_store import ZARR_NAME, array_paths, open_array
from tisr_scope.recording.journal import JournalEntry
from tisr_scope.recording.journal_writer import JournalWriter
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan

QUEUE_BYTES = 256 * 2**20
GROUP = 16
"""Most frames written and journalled together."""
PATIENCE_S = 20.0
"""How long the camera waits for the disk before the run is stopped."""


@dataclass(frozen=True, slots=True)
class _Item:
    info: FrameInfo
    frame: UInt16[np.ndarray, "y x"]
    camera: dict[str, Any]


def create_store(folder: Path, plan: RunPlan) -> None:
    """Lay out the empty OME-Zarr of a recording, with pixel sizes, interval and SIM plan.

    Raises
    ------
    RecordingError, DiskFull
        If the file cannot be created.
    """
    height, width = plan.frame_shape
    pixel = plan.profile.optics.pixel_size_um
    interval_s = plan.nominal_interval_s
    dimensions = [
        Dimension(name="t", count=plan.time_points, type="time", unit="second", scale=interval_s),
        Dimension(name="c", type="channel", coords=[c.name for c in plan.channels]),
        Dimension(name="sim", count=plan.sim_frames, type="other"),
        Dimension(name="y", count=height, type="space", unit="micrometer", scale=pixel),
        Dimension(name="x", count=width, type="space", unit="micrometer", scale=pixel),
    ]
    if plan.positions > 1:
        names = [f"p{number}" for number in range(plan.positions)]
        dimensions.insert(1, Dimension(name="p", type="position", coords=list(names)))
    settings = AcquisitionSettings(
        root_path=str(folder / ZARR_NAME),
        dimensions=tuple(dimensions),
        dtype="uint16",
        format=OmeZarrFormat(backend="tensorstore"),
        storage_order="acquisition",
    )
    try:
        with create_stream(settings) as stream:
            stream.set_global_metadata(
                "tisr_scope",
                {
                    "mode": plan.mode,
                    "sim_axis": ["orientation", "phase", "level"],
                    "sim_shape": [plan.orientations, plan.phases, plan.levels],
                    "nominal_interval_s": interval_s,
                    "exposure_ms": plan.exposure_ms,
                },
            )
    except Exception as error:
        raise _disk_error(error, folder, 0) from error


class Recorder:
    """Writes frames in a thread of its own and journals each one once it is on disk.

    Parameters
    ----------
    folder : Path
        Folder of the recording, with its store already laid out.
    plan : RunPlan
        Where each frame belongs, and its shape.

    Attributes
    ----------
    recorded, saturated, flat : int
        Frames on disk, those of them with more than one pixel in a thousand saturated, and those
        with the same value everywhere.
    """

    def __init__(self, folder: Path, plan: RunPlan) -> None:
        self.folder = folder
        self.recorded = self.saturated = self.flat = 0
        self._plan = plan
        self._shape = plan.frame_shape
        self._arrays = [
            open_array(path, write=True) for path in array_paths(folder, plan.positions)
        ]
        self._journal = JournalWriter(folder)
        frame_bytes = 2 * math.prod(plan.frame_shape)
        self._queue: queue.Queue[_Item | None] = queue.Queue(max(8, QUEUE_BYTES // frame_bytes))
        self._error: TisrScopeError | None = None
        self._thread = threading.Thread(target=self._run, name="tisr-recorder", daemon=True)
        self._thread.start()

    def put(
        self, info: FrameInfo, frame: UInt16[np.ndarray, "y x"], camera: dict[str, Any]
    ) -> None:
        """Hand a frame over; waits while the queue is full.

        Raises
        ------
        DiskFull, RecordingError
            If the writer has failed.
        BufferOverflow
            If the disk took no frame for ``PATIENCE_S`` seconds.
        """
        frame.flags.writeable = False
        item = _Item(info, frame, camera)
        if self._error is not None:
            raise self._error
        try:
            self._queue.put(item, timeout=PATIENCE_S)
        except queue.Full:
            raise self._error or BufferOverflow(
                f"the disk did not take a frame for {PATIENCE_S:g} s",
                where=str(self.folder),
                remedy="record to a faster or less busy disk, or lengthen the exposure",
            ) from None

    def close(self) -> None:
        """Write what is queued, then stop.

        Raises
        ------
        DiskFull, RecordingError
            If a frame could not be written.
        BufferOverflow
            If the disk took no frame for ``PATIENCE_S`` seconds; what is queued is lost.
        """
        written = -1
        while self._thread.is_alive() and written != self.recorded:
            written = self.recorded
            with suppress(queue.Full):
                self._queue.put(None, timeout=PATIENCE_S)
            self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            raise self._error or BufferOverflow(
                f"the disk took no frame for {PATIENCE_S:g} s; about {self._queue.qsize()} frames "
                "that were exposed are not on it",
                where=str(self.folder),
                remedy="check the disk or the network drive, then go on with --resume",
            )
        self._journal.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        finished = False
        while not finished:
            items: list[_Item] = []
            item = self._queue.get()
            while item is not None:
                items.append(item)
                if len(items) == GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            finished = item is None
            # After a failure frames are still taken, so that the camera side never hangs.
            if items and self._error is None:
                self._write(items)

    def _write(self, items: list[_Item]) -> None:
        try:
            pending = []
            for item in items:
                info = item.info
                sim = self._plan.sim_index(info.orientation, info.phase, info.level)
                target = self._arrays[info.position][info.t, info.channel, sim]
                pending.append(target.write(item.frame).commit)
            for write in pending:
                write.result()
            self._journal.append(_entry(item) for item in items)
            for item in items:
                self._look_at(item.frame)
            self.recorded += len(items)
        except Exception as error:
            self._error = _disk_error(error, self.folder, self.recorded)

    def _look_at(self, frame: UInt16[np.ndarray, "y x"]) -> None:
        brightest = frame.max()
        limit = self._plan.profile.microscope.camera.saturation_adu
        if brightest >= limit:
            saturated = np.count_nonzero(frame >= np.float32(limit))
            self.saturated += bool(saturated > frame.size / 1000)
        self.flat += bool(frame.min() == brightest)


def _entry(item: _Item) -> JournalEntry:
    crc32 = zlib.crc32(np.ascontiguousarray(item.frame).data)
    return JournalEntry.of(item.info, crc32, item.camera)


def _disk_error(error: Exception, folder: Path, recorded: int) -> RecordingError:
    if no_space_left(error):
        return DiskFull(
            f"the disk is full after {recorded} frames of this run",
            where=str(folder),
            remedy="free some space and go on with --resume; the frames recorded so far are "
            "complete and readable",
        )
    return RecordingError(
        f"a frame could not be written: {error}",
        where=str(folder),
        remedy="check the disk and the rights of the folder, then go on with --resume",
    )
