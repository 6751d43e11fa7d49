"""Recordings and pairs in the published layout, or raw frames as OME-TIFF.

Every region becomes a folder ``BioTISR_<structure>/Cell_NNN`` as described in
``biotisr``, with a ``profile.yaml`` that keeps what MRC headers cannot: timing,
camera, stripes.  Imported regions go back to the structure and number they came with, in the pixel
type they came with, so that exporting what was imported gives the same pixels again.  Pairs have no
raw frames any more; their wide field goes to ``WF_level_NN.mrc``, photo-electrons in 32-bit floats.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tisr_scope.errors import DataError
from tisr_scope.exchange.export_cell import SIM_IMAGE, Place, pair_to_cell, recording_to_cell
from tisr_scope.exchange.export_tiff import recording_to_tiff
from tisr_scope.exchange.hyperstack import recording_to_hyperstack
from tisr_scope.pairs.pair_folder import read_about
from tisr_scope.recording.frame_store import ZARR_NAME
from tisr_scope.recording.origin import imported_from
from tisr_scope.recording.recording import Recording

Progress = Callable[[int, int], None]
Layout = Literal["biotisr", "tiff", "hyperstack"]


def export(
    source: Path,
    out: Path,
    *,
    layout: Layout = "biotisr",
    structure: str | None = None,
    sim_images: Path | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write recordings or pairs for other software; finished regions are kept.

    Parameters
    ----------
    source : Path
        A recording, a pair, or a folder of several.
    out : Path
        Folder of the structures (``biotisr``) or of the files (``tiff``).
    layout : {"biotisr", "tiff", "hyperstack"}
        Published MRC layout, one OME-TIFF for each light level with axes of angle and phase, or
        one OME-TIFF hyperstack (T, C, Z, Y, X) for each stage position.
    structure : str, optional
        Name of the structure; for imported regions the one they came with.
    sim_images : Path, optional
        Folder of pairs with the SIM images of recordings that have none of their own.
    progress : callable, optional
        Called with (done, total) regions.

    Returns
    -------
    written : list of Path
        Folders of the regions, or TIFF files.

    Raises
    ------
    DataError
        If there is nothing to export, or a folder holds another region.
    DiskFull
        If there is no space left.
    """
    places = _places(Path(source))
    written: list[Path] = []
    numbers: dict[str, int] = {}
    for done, place in enumerate(places):
        if progress:
            progress(done, len(places))
        if layout == "hyperstack":
            if (place.channel, place.position) == (0, 0):  # holds all of them
                written += recording_to_hyperstack(place, Path(out))
            continue
        if layout == "tiff":
            written += recording_to_tiff(place, Path(out))
            continue
        folder = _cell_folder(place, Path(out), structure, numbers)
        if not _is_written(folder, place, sim_images):
            _to_cell(place, folder, sim_images)
        written.append(folder)
    if progress:
        progress(len(places), len(places))
    return written


# ------------------------------------------------------------------------------------- inside


def _places(source: Path) -> list[Place]:
    folders = [source, *sorted(p for p in source.glob("*") if p.is_dir())]
    places = []
    for folder in folders:
        if (folder / ZARR_NAME).is_dir():
            recording = Recording.open(folder)
            if recording.time_points < 1:
                raise DataError("the recording holds no complete time point", where=str(folder))
            planes = len((imported_from(folder) or {}).get("planes", [0]))
            if planes > 1:
                places.append(Place(folder, planes=planes))
                continue
            places += [
                Place(folder, channel, position)
                for channel in range(len(recording.channels))
                for position in range(recording.positions)
            ]
        elif read_about(folder) is not None:
            places.append(Place(folder))
    if not places:
        raise DataError(
            "there are no recordings or pairs",
            where=str(source),
            remedy="give a folder of 'tisr acquire', 'tisr import' or 'tisr prepare'",
        )
    return places


def _cell_folder(place: Place, out: Path, structure: str | None, numbers: dict[str, int]) -> Path:
    """Where a region goes: where it came from, or the next number of its structure."""
    about = imported_from(place.source) or {}
    name = structure or about.get("structure") or _own_structure(place)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(name)).strip("-") or "regions"
    came = re.fullmatch(r"Cell_(\d+)", str(about.get("cell", "")))
    if came and not about.get("part"):
        return out / f"BioTISR_{name}" / str(came[0])
    numbers[name] = numbers.get(name, 0) + 1
    return out / f"BioTISR_{name}" / f"Cell_{numbers[name]:03d}"


def _own_structure(place: Place) -> str:
    about = read_about(place.source)
    if about is not None:
        return f"pairs_{about['channel']}"
    profile = Recording.open(place.source).profile
    several = len(profile.channels) > 1
    return profile.name + (f"_{profile.channels[place.channel].name}" if several else "")


def _is_written(folder: Path, place: Place, sim_images: Path | None) -> bool:
    """Whether this region is there already, whole: the file that names it is written last."""
    note = folder / "source.txt"
    if not folder.exists():
        return False
    told = note.read_text(encoding="utf-8") if note.is_file() else ""
    if told and told != _note(place):
        raise DataError(
            "the folder holds another region",
            where=str(folder),
            remedy="export into another folder, or name another --structure",
        )
    if not told and any(folder.iterdir()) and not (folder / ".unfinished").is_file():
        raise DataError(
            "the folder was not written by 'tisr export'",
            where=str(folder),
            remedy="export into another folder",
        )
    return bool(told) and (sim_images is None or (folder / SIM_IMAGE).is_file())


def _note(place: Place) -> str:
    where = f"channel {place.channel + 1}, position {place.position + 1}"
    return f"{place.source.absolute().name}, {where}\n"


def _to_cell(place: Place, folder: Path, sim_images: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".unfinished").touch()
    if (place.source / ZARR_NAME).is_dir():
        recording_to_cell(place, folder, sim_images)
    else:
        pair_to_cell(place, folder)
    (folder / "source.txt").write_text(_note(place), encoding="utf-8")
    (folder / ".unfinished").unlink()
