"""Where offline inference takes its wide-field frames from: recordings and image stacks."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
from jaxtyping import Float

from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.errors import DataError
from tisr_scope.formats.facts import settle_pixel
from tisr_scope.formats.reader import open_stack, time_series
from tisr_scope.formats.stack import Stack
from tisr_scope.recording.recording import Recording
from tisr_scope.types import InputMode


class StackOptions(TypedDict, total=False):
    """What can be said of an image file, see :class:`ImageStack`."""

    axes: str | None
    pixel_size_um: float | None
    interval_s: float | None
    numerical_aperture: float | None
    emission_nm: float | None
    offset_adu: float | None
    electrons_per_adu: float
    average: int
    repeat: int | None


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
    offset_known: bool
    """Whether zero means no light."""
    still: bool
    """Whether one image is shown again and again on purpose."""
    assumed: list[str]
    """What nobody has said and is taken to be so."""

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
        self.offset_known, self.still, self.assumed = True, False, list[str]()
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
    """Frames from an image file of other software, read one at a time.

    Parameters
    ----------
    path : path
        What :func:`~tisr_scope.formats.reader.open_stack` takes: TIFF of any kind, MRC and others.
    axes : str, optional
        What the axes of the file are, slowest first (``"TYX"``), where it names them wrongly.
    channel : str, optional
        Number of the channel, from 1, or its name in the file; needed where there are several.
    pixel_size_um, interval_s : float, optional
        Needed where the file does not tell.
    numerical_aperture, emission_nm : float, optional
        Without them, here or in the file, no calibration is known to hold.
    offset_adu : float, optional
        Camera offset in counts; without it the offset counts as unknown and none is subtracted.
    electrons_per_adu : float
        Turn stored values into photo-electrons: (value - offset) * electrons per count.
    average : int
        Frames of one time point, which are averaged (the patterns of SIM raw data).
    repeat : int, optional
        Show a single image so many times: a still time-lapse.

    Attributes
    ----------
    assumed : list of str
        What neither the file nor the user says, and is taken to be so.

    Raises
    ------
    DataError
        If the file cannot be read as a time-lapse of one channel, or sizes are missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        axes: str | None = None,
        channel: str | None = None,
        pixel_size_um: float | None = None,
        interval_s: float | None = None,
        numerical_aperture: float | None = None,
        emission_nm: float | None = None,
        offset_adu: float | None = None,
        electrons_per_adu: float = 1.0,
        average: int = 1,
        repeat: int | None = None,
    ) -> None:
        stack = open_stack(path)
        number = _channel_number(stack, channel)
        if axes is None and average > 1 and len(stack.lengths) == 1:
            axes = "TYX"  # patterns may lie along any axis; the user has said how many there are
        self._frames, said = time_series(stack, axes, number)
        count = len(self._frames)
        if average < 1 or count % average:
            raise DataError(
                f"{count} frames do not divide into groups of {average}",
                where=str(path),
                remedy="give the number of frames that make one wide-field image",
            )
        self._length, self._repeats = count // average, repeat or 1
        if repeat is not None and (self._length != 1 or repeat < 1):
            raise DataError(
                f"a stack of {self._length} images cannot be repeated {repeat} times",
                where=str(path),
                remedy="repeat a single image; average the frames of a SIM stack first",
            )
        pixel = settle_pixel(stack.pixel_size_um, user=pixel_size_um, where=str(path))
        told_interval = None if stack.interval_s is None else stack.interval_s.value
        index = (number or 1) - 1
        emission, aperture = stack.emission_of(index), stack.numerical_aperture
        self.name = path.name.partition(".")[0]
        self.pixel_size_um = pixel.value
        self.optics = KnownOptics(
            numerical_aperture=numerical_aperture or (aperture.value if aperture else None),
            emission_nm=emission_nm or (emission.value if emission else None),
            pixel_size_um=pixel.value,
        )
        self.interval_s = interval_s or told_interval or 0.0
        self.start_s = 0.0
        self.input_mode: InputMode = "pattern_mean" if average > 1 else "single"
        self.level: int | None = None
        self.still = repeat is not None
        self.offset_known = offset_adu is not None
        self._average = average
        self._offset, self._gain = np.float32(offset_adu or 0), np.float32(electrons_per_adu)
        self.assumed = []
        if said == "assumed" and count > 1 and average == 1:
            self.assumed.append(f"its {count} frames, which have no name, are time points")
        if not self.offset_known:
            self.assumed.append("stored values are taken as they are, no camera offset subtracted")
        if not self.interval_s and repeat is None:
            self.assumed.append("the time between frames is not known")

    def __len__(self) -> int:
        return self._length * self._repeats

    def frame(self, t: int) -> Float[np.ndarray, "y x"]:
        """One frame in photo-electrons."""
        first = t % self._length * self._average
        stored = self._frames[first : first + self._average]
        mean = stored.mean(axis=0, dtype=np.float64 if stored.dtype.itemsize > 4 else np.float32)
        _release(self._frames)
        with np.errstate(over="ignore"):  # values beyond single precision are found as infinite
            image: Float[np.ndarray, "y x"] = mean.astype(np.float32)
        return (image - self._offset) * self._gain


def _channel_number(stack: Stack, channel: str | None) -> int | None:
    """Number of a channel, from 1, given by number or by name."""
    if channel is None or channel.isdigit():
        return None if channel is None else int(channel)
    if channel not in stack.channels:
        raise DataError(
            f"the file has no channel {channel!r}",
            where=str(stack.path),
            remedy=f"choose one of {', '.join(stack.channels) or 'its numbers, from 1'}",
        )
    return stack.channels.index(channel) + 1


def _release(pixels: np.ndarray[Any, Any]) -> None:
    """Give back the memory of a mapped file that was read: stacks are larger than memory."""
    base: Any = pixels
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
