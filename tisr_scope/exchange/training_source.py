"""Whatever a user trains from becomes a folder of pairs: pairs, recordings, a published folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from tisr_scope.errors import DataError
from tisr_scope.exchange.import_pairs import import_pairs
from tisr_scope.exchange.import_plan import plan_region
from tisr_scope.exchange.import_settings import ImportSettings
from tisr_scope.exchange.regions import find_regions
from tisr_scope.pairs.prepare import prepare
from tisr_scope.pairs.recording_split import Split
from tisr_scope.recording.frame_store import ZARR_NAME
from tisr_scope.recording.recording import Recording

SPLIT = "split.json"


def find_pairs(
    source: Path,
    cache: Path,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Folder of pairs of a source; recordings and published images are converted into ``cache``.

    Finished pairs in the cache are kept, so that a resumed run starts at once.

    Parameters
    ----------
    source : Path
        Folder of pairs, a recording, a folder of recordings, or a published (BioTISR) folder.
    cache : Path
        Where pairs are made, if they have to be.
    device : str
        Where SIM images are reconstructed.
    progress : callable, optional
        Called with (done, total) pairs or frames.

    Raises
    ------
    DataError
        If the source is none of these, one sample is all there is, or a published folder lacks
        what only the user can say; the message then holds the command to run.
    """
    source = Path(source)
    if (source / SPLIT).is_file():
        return source
    recordings = recording_folders(source)
    if recordings:
        names = [Recording.open(folder).name for folder in recordings]
        prepare(recordings, cache, split=_split(names, source), device=device, progress=progress)
        return cache
    _import_published(source, cache, progress)
    return cache


def recording_folders(source: Path) -> list[Path]:
    """The recording a folder is, or the recordings in it."""
    if (source / ZARR_NAME).is_dir():
        return [source]
    return sorted(found.parent for found in source.glob(f"*/{ZARR_NAME}"))


def _import_published(
    source: Path, cache: Path, progress: Callable[[int, int], None] | None
) -> None:
    given, made = shlex.quote(str(source)), shlex.quote(str(cache))
    try:
        regions = find_regions(source)
    except DataError as error:
        raise DataError(
            "there is nothing to train from: no pairs, no recordings, no published images",
            where=str(source),
            remedy="give a folder of 'tisr prepare', of recordings, or of BioTISR data",
        ) from error
    settings = ImportSettings()
    plans = [plan_region(region, settings) for region in regions]
    raw = [plan.name for plan in plans if plan.target is None]
    if raw:
        raise DataError(
            f"{raw[0]} has raw frames but no SIM image to learn from",
            where=str(source),
            remedy=f"import it as recordings, then train from these: tisr import {given} "
            f"{made}_recordings --interval-s SECONDS",
        )
    if not all(plan.interval_s for plan in plans):
        raise DataError(
            "the files do not say how much time lies between their time points",
            where=str(source),
            remedy=f"run: tisr import {given} {made} --to pairs --interval-s SECONDS\n"
            f"              and train from {made}",
        )
    split = _split(sorted({plan.sample for plan in plans}), source)
    import_pairs(plans, cache, settings, split=split, progress=progress)


def _split(names: list[str], source: Path) -> Split:
    """By name where every name says its subset; at random otherwise."""
    if len(names) < 2:
        raise DataError(
            "one sample cannot be both learnt from and judged by",
            where=str(source),
            remedy="give two recordings or more",
        )
    try:
        by_name = Split(by_name=True)
        by_name.assign(names)
    except DataError:
        return Split()
    return by_name
