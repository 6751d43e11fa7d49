"""Training pairs on disk: wide field at every level, SIM target of the highest.

Made by :mod:`tisr_scope.pairs.prepare`.  One folder for each recording, channel and position, or
for each stretch of time points without a gap::

    PAIRS/split.json                          which folder belongs to which subset
    PAIRS/<recording>_<channel>[_p<k>][_t<first>]/
        widefield_level_1.ome.tif ...         photo-electrons, lowest level first
        target.ome.tif                        SIM reconstruction of the highest level
        truth.ome.tif                         noiseless sample, simulated recordings only
        pair.json                             parameters, settings, versions; written last

The target keeps its negative values: they are the two-sided noise of a linear estimate, and
clipping them would teach a network a bias in dark background.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError
from tisr_scope.formats.ome_tiff import read_series, write_series
from tisr_scope.provenance import write_json
from tisr_scope.types import PairedStack

SUBSETS = ("train", "validation", "test")
UNFINISHED = ".unfinished"
"""End of the name of a folder that is being written."""


def load_pair(folder: Path) -> PairedStack:
    """Read one pair.

    Raises
    ------
    DataError
        If a part is missing or damaged, or the parts do not belong together.
    """
    folder = Path(folder)
    about = read_about(folder)
    if about is None:
        raise DataError(
            "not a finished pair",
            where=str(folder),
            remedy="run 'tisr prepare' again: it goes on where it stopped",
        )
    levels = [
        read_series(folder / f"widefield_level_{number + 1}.ome.tif")
        for number in range(int(about["levels"]))
    ]
    if len({level.shape for level in levels}) != 1:
        raise DataError("the levels differ in shape", where=str(folder))
    otf: Mapping[str, Any] = (about.get("made_from") or {}).get("otf") or {}
    return PairedStack(
        name=str(about["recording"]),
        channel=str(about["channel"]),
        widefield=np.stack(levels),
        target=read_series(folder / "target.ome.tif"),
        pixel_size_um=float(about["pixel_size_um"]),
        interval_s=float(about["interval_s"]),
        position=int(about.get("position", 0)),
        first_time=int(about.get("time_points", [0])[0]),
        raw_frames=about.get("raw_frames"),
        same_unit="imported" not in about,
        numerical_aperture=otf.get("numerical_aperture"),
        emission_nm=otf.get("emission_nm"),
    )


def write_pair(
    folder: Path,
    about: Mapping[str, Any],
    widefield: Iterable[Float[np.ndarray, "time y x"]],
    target: Float[np.ndarray, "time fy fx"],
    truth: Float[np.ndarray, "time fy fx"] | None = None,
) -> None:
    """Write a pair in one step: until it is whole, an older one in its place stays as it was.

    Parameters
    ----------
    folder : Path
        Of the pair.
    about : mapping
        What ``pair.json`` is to say, plain JSON types.
    widefield : iterable of array, shape (time, y, x)
        Each level, lowest first, in photo-electrons; taken one by one.
    target : array, shape (time, f*y, f*x)
        SIM reconstruction.
    truth : array, optional
        Noiseless sample.

    Raises
    ------
    DiskFull
        If there is no space left; nothing half-written stays.
    """
    folder = Path(folder)
    unfinished = folder.with_name(folder.name + UNFINISHED)
    if unfinished.exists():
        # Left by a process that was killed; its name says that nobody else made it.
        shutil.rmtree(unfinished)
    pixel, interval = float(about["pixel_size_um"]), float(about["interval_s"])
    try:
        unfinished.mkdir(parents=True)
        width = target.shape[-1]
        for number, image in enumerate(widefield, start=1):
            path = unfinished / f"widefield_level_{number}.ome.tif"
            write_series(path, image, pixel, interval, f"{folder.name} wide field level {number}")
            width = image.shape[-1]
        fine = pixel * width / target.shape[-1]
        for name, series in (("target", target), ("truth", truth)):
            if series is not None:
                path = unfinished / f"{name}.ome.tif"
                write_series(path, series, fine, interval, f"{folder.name} {name}")
        write_json(unfinished / "pair.json", about)
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def load_truth(folder: Path) -> Float[np.ndarray, "time fy fx"] | None:
    """Noiseless sample of a simulated pair; None for a real one."""
    path = Path(folder) / "truth.ome.tif"
    return read_series(path) if path.is_file() else None


def pair_folders(
    pairs: Path, subset: Literal["train", "validation", "test"] | None = None
) -> list[Path]:
    """Folders of all pairs, or of one subset of the split.

    Raises
    ------
    DataError
        If the folder holds no prepared pairs, or the subset is empty.
    """
    pairs = Path(pairs)
    try:
        table = json.loads((pairs / "split.json").read_text(encoding="utf-8"))
        names = [name for s in SUBSETS if subset in (None, s) for name in table[s]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"no folder of prepared pairs: {error}",
            where=str(pairs),
            remedy="make it with 'tisr prepare'",
        ) from error
    if not names:
        raise DataError(
            f"there are no pairs for {subset or 'any subset'}",
            where=str(pairs),
            remedy="prepare more recordings, or change the split",
        )
    return [pairs / name for name in names]


def read_about(folder: Path) -> dict[str, Any] | None:
    """What ``pair.json`` says; None where there is no finished pair."""
    try:
        about: dict[str, Any] = json.loads((folder / "pair.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about
