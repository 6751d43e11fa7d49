"""Where offline inference takes its wide-field frames from: recordings and image stacks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Protocol

import mrcfile
import numpy as np
import tifffile
from jaxtyping import Float

from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.errors import DataError
from tisr_scope.inference.predictor import InputMode
from tisr_scope.recording.recording import Recording


class Source(Protocol):
    """Wide-field frames in photo-electrons, read one at a time."""

    name: str
    pixel_size_um: float
    interval_s: float
    start_s: float
    """Time of the first frame."""
    input_mode: InputMode
    level: int | None
    optics: KnownOptics

    def __len__(self) -> int:
        """Frames there are."""

    def frame(self, t: int) -> Float[np.ndarray, "y x"]:
        """One frame."""


class RecordedChannel:
    """One channel at one position of a recording."""

    def __init__(self, recording: Recording, channel: int, position: int, level: int = 0) -> None:
        self.name = recording.plan.place_name(channel, position)
        self.pixel_size_um = recording.pixel_size_um
        self.optics = KnownOptics.of_profile(recording.profile, channel)
        self.interval_s = recording.interval_s(channel, position)
        self.start_s = recording.time_s(0, channel, position) if recording.time_points else 0.0
        self.input_mode: InputMode = "pattern_mean" if recording.plan.patterned else "single"
        self.level = level if recording.mode == "paired" else None
        self._recording, self._place, self._level = recording, (channel, position), level

    def __len__(self) -> int:
        return self._recording.time_points

    def frame(self, t: int) -> Float[np.ndarray, "y x"]:
        """Mean over the patterns, in photo-electrons."""
        return self._recording.widefield(t, *self._place, self._level)


def recorded_channels(recording: Recording, channel: str | None, level: int = 0) -> list[Source]:
    """Channels and positions of a recording.

    Raises
    ------
    DataError
        If there is no such channel.
    """
    if channel is not None and channel not in recording.channels:
        raise DataError(
            f"the recording has no channel {channel!r}",
            where=str(recording.path),
            remedy=f"choose one of {', '.join(recording.channels)}",
        )
    return [
        RecordedChannel(recording, index, position, level)
        for index, name in enumerate(recording.channels)
        if channel in (None, name)
        for position in range(recording.positions)
    ]


class ImageStack:
    """Frames from a TIFF, OME-TIFF or MRC file.

    Parameters
    ----------
    path : path
        Two or three axes; further axes of length one are dropped.
    pixel_size_um, interval_s : float, optional
        Needed where the file does not tell.
    numerical_aperture, emission_nm : float, optional
        Without them no calibration is known to hold.
    offset_adu, electrons_per_adu : float
        Turn stored values into photo-electrons: (value - offset) * electrons per count.
    average : int
        Frames of one time point, which are averaged (the patterns of SIM raw data).
    repeat : int, optional
        Show a single image so many times: a still time-lapse.

    Raises
    ------
    DataError
        If the file cannot be read as a stack, or sizes are missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        pixel_size_um: float | None = None,
        interval_s: float | None = None,
        numerical_aperture: float | None = None,
        emission_nm: float | None = None,
        offset_adu: float = 0.0,
        electrons_per_adu: float = 1.0,
        average: int = 1,
        repeat: int | None = None,
    ) -> None:
        raw, found_pixel, found_interval = read_stack(path)
        if average < 1 or len(raw) % average:
            raise DataError(
                f"{len(raw)} frames do not divide into groups of {average}",
                where=str(path),
                remedy="give the number of frames that make one wide-field image",
            )
        grouped = raw.reshape(-1, average, *raw.shape[1:]).mean(axis=1, dtype=np.float32)
        self._stack = (grouped - np.float32(offset_adu)) * np.float32(electrons_per_adu)
        if not np.isfinite(self._stack).all():
            raise DataError("the stack holds NaN or infinite values", where=str(path))
        if repeat is not None:
            if len(self._stack) != 1 or repeat < 1:
                raise DataError(
                    f"a stack of {len(self._stack)} images cannot be repeated {repeat} times",
                    where=str(path),
                    remedy="repeat a single image; average the frames of a SIM stack first",
                )
            self._stack = np.repeat(self._stack, repeat, axis=0)
        pixel = pixel_size_um or found_pixel
        if pixel is None:
            raise DataError(
                "the file does not tell its pixel size",
                where=str(path),
                remedy="give the size of a pixel in the sample with --pixel-size-um",
            )
        self.name = path.name.partition(".")[0]
        self.pixel_size_um = pixel
        self.optics = KnownOptics(
            numerical_aperture=numerical_aperture, emission_nm=emission_nm, pixel_size_um=pixel
        )
        self.interval_s = interval_s or found_interval or 0.0
        self.start_s = 0.0
        self.input_mode: InputMode = "pattern_mean" if average > 1 else "single"
        self.level: int | None = None

    def __len__(self) -> int:
        return len(self._stack)

    def frame(self, t: int) -> Float[np.ndarray, "y x"]:
        """One frame in photo-electrons."""
        image: Float[np.ndarray, "y x"] = self._stack[t]
        return image


def read_stack(path: Path) -> tuple[np.ndarray[Any, Any], float | None, float | None]:
    """Frames (n, y, x) of a TIFF or MRC file, pixel size in µm and interval in s where told.

    Raises
    ------
    DataError
        If the file is missing, damaged, or no stack of grey images.
    """
    pixel = interval = None
    try:
        if path.suffix.lower() == ".mrc":
            # Old headers without a stamp are common and only worth a warning.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                with mrcfile.open(path, permissive=True) as file:
                    data = np.array(file.data)
        else:
            with tifffile.TiffFile(path) as file:
                data = file.asarray()
                pixel, interval = _ome_sizes(file.ome_metadata)
        if data.size == 0:
            raise ValueError("it holds no image")
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise DataError(
            f"the stack cannot be read: {error}",
            where=str(path),
            remedy="give a recording folder, a .tif, .ome.tif or .mrc file",
        ) from error
    data = np.squeeze(data)
    stack = data[None] if data.ndim == 2 else data
    if stack.ndim != 3 or np.iscomplexobj(stack):
        raise DataError(
            f"an array of shape {data.shape} is no time-lapse of grey images",
            where=str(path),
            remedy="save one channel at one position, with axes time, y, x",
        )
    return stack, pixel, interval


_MICROMETRES = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}


_SECONDS = {"s": 1.0, "ms": 1e-3, "min": 60.0}


def _ome_sizes(metadata: str | None) -> tuple[float | None, float | None]:
    """Pixel size in µm and interval in s from OME-XML, each None where it is not told."""
    if not metadata:
        return None, None
    found = tifffile.xml2dict(metadata).get("OME", {}).get("Image", {})
    image = found[0] if isinstance(found, list) else found
    pixels = image.get("Pixels", {})
    size, step = pixels.get("PhysicalSizeX"), pixels.get("TimeIncrement")
    size_unit = _MICROMETRES.get(str(pixels.get("PhysicalSizeXUnit", "µm")))
    step_unit = _SECONDS.get(str(pixels.get("TimeIncrementUnit", "s")))
    return (
        None if not size or size_unit is None else float(size) * size_unit,
        None if not step or step_unit is None else float(step) * step_unit,
    )
