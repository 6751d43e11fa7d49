"""What models are judged on: prepared pairs, recordings, image stacks, or folders of them.

Pairs have a SIM target; simulated pairs and recordings have a truth; everything else is judged by
what needs no reference (resolution, correlation of frames).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError
from tisr_scope.inference.sources import ImageStack, RecordedChannel
from tisr_scope.pairs.pair_folder import load_pair, load_truth, pair_folders, read_about
from tisr_scope.recording.recording import Recording
from tisr_scope.simulated_microscope.truth import is_simulated, truth_stack
from tisr_scope.types import InputMode, PairedStack

Subset = Literal["train", "validation", "test"]
_STACKS = (".tif", ".tiff", ".mrc")


@dataclass(frozen=True)
class Case:
    """One time-lapse that every model is run on.

    Attributes
    ----------
    stack : str
        Name in the tables, different for every case.
    recording : str
        Cases of one recording are not independent: limits count recordings.
    channel : str
    widefield : array, shape (time, y, x), float32
        Photo-electrons.
    target, truth : array, shape (time, f*y, f*x), or None
        SIM of the highest level; noiseless sample.
    shared_light : bool
        Whether the target was made from the very frames of ``widefield``, noise included.
    pixel_size_um, interval_s : float
    numerical_aperture, emission_nm : float or None
        Where the source tells.
    input_mode : {"pattern_mean", "single"}
        What the wide-field frames are.
    where : Path
    """

    stack: str
    recording: str
    channel: str
    widefield: Float[np.ndarray, "time y x"]
    target: Float[np.ndarray, "time fy fx"] | None
    truth: Float[np.ndarray, "time fy fx"] | None
    shared_light: bool
    pixel_size_um: float
    interval_s: float
    numerical_aperture: float | None
    emission_nm: float | None
    input_mode: InputMode
    where: Path
    pair: PairedStack | None = None
    """All of a prepared pair; its target belongs to the wide field of its highest level."""

    @property
    def upscale(self) -> int | None:
        """Enlargement of the target; None where there is none."""
        if self.target is None:
            return None
        return int(self.target.shape[1] // self.widefield.shape[1])


Loader = Callable[[], Case]
"""Reads one case; they are read one after the other, for a set need not fit into memory."""


def find_cases(
    source: Path, *, subset: Subset, level: int, channel: str | None, upscale: int
) -> list[Loader]:
    """Cases of a folder of pairs, a recording, a folder of recordings or stacks, or a stack.

    Parameters
    ----------
    source : Path
    subset : {"train", "validation", "test"}
        Of pairs; recordings and stacks belong to none.
    level : int
        Laser level of the input, from 0 (lowest).
    channel : str, optional
        Only this channel of pairs and recordings.
    upscale : int
        Enlargement of the models, on whose grid the truth of a simulated recording is made.

    Raises
    ------
    DataError
        If there is nothing to judge, the subset is empty, or no case has the channel.
    RecordingError
        If a recording cannot be opened.
    """
    source = Path(source)
    if (source / "split.json").is_file():
        return _pairs(source, subset, level, channel)
    if source.suffix.lower() in _STACKS:
        return [lambda: _stack(source)]
    found: list[Loader] = []
    for folder in _recordings(source):
        found += _recording(Recording.open(folder), level, channel, upscale)
    if channel is None and source.is_dir():
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in _STACKS)
        found += [_stack_loader(file) for file in files]
    if not found:
        raise DataError(
            "there is nothing to evaluate" + (f" of channel {channel}" if channel else ""),
            where=str(source),
            remedy="give a folder of 'tisr prepare', a recording, a folder of recordings, or a "
            "stack (.tif, .mrc)",
        )
    return found


def _recordings(source: Path) -> list[Path]:
    if not source.is_dir():
        return []
    if (source / "provenance.json").is_file():
        return [source]
    return sorted(p for p in source.iterdir() if (p / "provenance.json").is_file())


def _pairs(pairs: Path, subset: Subset, level: int, channel: str | None) -> list[Loader]:
    folders = pair_folders(pairs, subset)
    kept = [f for f in folders if channel in (None, (read_about(f) or {}).get("channel", channel))]
    if not kept:
        raise DataError(
            f"no {subset} stack of channel {channel}",
            where=str(pairs),
            remedy="choose a channel of the pairs",
        )
    return [_pair_loader(folder, level) for folder in kept]


def _pair_loader(folder: Path, level: int) -> Loader:
    def load() -> Case:
        stack = load_pair(folder)
        levels = len(stack.widefield)
        if not 0 <= level < levels:
            raise DataError(
                f"there is no laser level {level}: the stack has {levels}",
                where=str(folder),
                remedy=f"choose a level from 0 (lowest) to {levels - 1}",
            )
        return Case(
            stack=folder.name,
            recording=stack.name,
            channel=stack.channel,
            widefield=stack.widefield[level],
            target=stack.target,
            truth=load_truth(folder),
            shared_light=level == levels - 1,
            pixel_size_um=stack.pixel_size_um,
            interval_s=stack.interval_s,
            numerical_aperture=stack.numerical_aperture,
            emission_nm=stack.emission_nm,
            input_mode="single" if stack.raw_frames == 1 else "pattern_mean",
            where=folder,
            pair=stack,
        )

    return load


def _recording(
    recording: Recording, level: int, channel: str | None, upscale: int
) -> Sequence[Loader]:
    if channel is not None and channel not in recording.channels:
        return []

    def loader(name: str, number: int, position: int) -> Loader:
        def load() -> Case:
            source = RecordedChannel(recording, number, position, level)
            truth = None
            if is_simulated(recording):
                truth = truth_stack(recording, number, position, upscale)
            of = recording.profile.channels[number]
            return Case(
                stack=f"{recording.name}_{source.name}",
                recording=recording.name,
                channel=name,
                widefield=np.stack([source.frame(t) for t in range(len(source))]),
                target=None,
                truth=truth,
                shared_light=False,
                pixel_size_um=source.pixel_size_um,
                interval_s=source.interval_s,
                numerical_aperture=recording.profile.optics.numerical_aperture,
                emission_nm=of.emission_nm,
                input_mode=source.input_mode,
                where=recording.path,
            )

        return load

    return [
        loader(name, number, position)
        for number, name in enumerate(recording.channels)
        if channel in (None, name)
        for position in range(recording.positions)
    ]


def _stack_loader(file: Path) -> Loader:
    return lambda: _stack(file)


def _stack(file: Path) -> Case:
    source = ImageStack(file)
    return Case(
        stack=source.name,
        recording=source.name,
        channel="",
        widefield=np.stack([source.frame(t) for t in range(len(source))]),
        target=None,
        truth=None,
        shared_light=False,
        pixel_size_um=source.pixel_size_um,
        interval_s=source.interval_s,
        numerical_aperture=None,
        emission_nm=None,
        input_mode=source.input_mode,
        where=file,
    )
