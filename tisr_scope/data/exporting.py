"""Recordings and pairs in the published layout, or raw frames as OME-TIFF.

Every region becomes a folder ``BioTISR_<structure>/Cell_NNN`` as described in
:mod:`tisr_scope.data.biotisr`, with a ``profile.yaml`` that keeps what MRC headers cannot: timing,
camera, stripes.  Imported regions go back to the structure and number they came with, in the pixel
type they came with, so that exporting what was imported gives the same pixels again.  Pairs have no
raw frames any more; their wide field goes to ``WF_level_NN.mrc``, photo-electrons in 32-bit floats.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from jaxtyping import Num, UInt16

from tisr_scope.data.counts import CountsRule
from tisr_scope.data.import_plan import LAYOUT_NAME
from tisr_scope.data.imported_profile import ImportedOptics, imported_profile
from tisr_scope.data.importing import HEADER_SUFFIX, REFERENCE, imported_from
from tisr_scope.data.mrc import write_mrc
from tisr_scope.data.mrc_header import parse_header
from tisr_scope.data.pairs import load_pair, read_about
from tisr_scope.data.raw_stack import fold, parse_axes
from tisr_scope.data.recording import Recording
from tisr_scope.data.store import ZARR_NAME
from tisr_scope.errors import DataError
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import Profile
from tisr_scope.provenance import write_json
from tisr_scope.types import PairedStack

Progress = Callable[[int, int], None]
FORMATS = ("biotisr", "tiff")


@dataclass(frozen=True)
class _Place:
    """One channel and stage position of a recording, or all planes of it, or one pair."""

    source: Path
    channel: int = 0
    position: int = 0
    planes: int = 1


def export(
    source: Path,
    out: Path,
    *,
    layout: Literal["biotisr", "tiff"] = "biotisr",
    structure: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write recordings or pairs for other software; finished regions are kept.

    Parameters
    ----------
    source : Path
        A recording, a pair, or a folder of several.
    out : Path
        Folder of the structures (``biotisr``) or of the files (``tiff``).
    layout : {"biotisr", "tiff"}
        Published MRC layout, or one OME-TIFF for each light level.
    structure : str, optional
        Name of the structure; for imported regions the one they came with.
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
        if layout == "tiff":
            written += _to_tiff(place, Path(out))
            continue
        folder = _cell_folder(place, Path(out), structure, numbers)
        if not _is_written(folder, place):
            _to_cell(place, folder)
        written.append(folder)
    if progress:
        progress(len(places), len(places))
    return written


# ------------------------------------------------------------------------------------- inside


def _places(source: Path) -> list[_Place]:
    folders = [source, *sorted(p for p in source.glob("*") if p.is_dir())]
    places = []
    for folder in folders:
        if (folder / ZARR_NAME).is_dir():
            recording = Recording.open(folder)
            if recording.time_points < 1:
                raise DataError("the recording holds no complete time point", where=str(folder))
            planes = len((imported_from(folder) or {}).get("planes", [0]))
            if planes > 1:
                places.append(_Place(folder, planes=planes))
                continue
            places += [
                _Place(folder, channel, position)
                for channel in range(len(recording.channels))
                for position in range(recording.positions)
            ]
        elif read_about(folder) is not None:
            places.append(_Place(folder))
    if not places:
        raise DataError(
            "there are no recordings or pairs",
            where=str(source),
            remedy="give a folder of 'tisr acquire', 'tisr import' or 'tisr prepare'",
        )
    return places


def _cell_folder(place: _Place, out: Path, structure: str | None, numbers: dict[str, int]) -> Path:
    """Where a region goes: where it came from, or the next number of its structure."""
    about = imported_from(place.source) or {}
    name = structure or about.get("structure") or _own_structure(place)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(name)).strip("-") or "regions"
    came = re.fullmatch(r"Cell_(\d+)", str(about.get("cell", "")))
    if came and not about.get("part"):
        return out / f"BioTISR_{name}" / str(came[0])
    numbers[name] = numbers.get(name, 0) + 1
    return out / f"BioTISR_{name}" / f"Cell_{numbers[name]:03d}"


def _own_structure(place: _Place) -> str:
    about = read_about(place.source)
    if about is not None:
        return f"pairs_{about['channel']}"
    profile = Recording.open(place.source).profile
    several = len(profile.channels) > 1
    return profile.name + (f"_{profile.channels[place.channel].name}" if several else "")


def _is_written(folder: Path, place: _Place) -> bool:
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
    return bool(told)


def _note(place: _Place) -> str:
    where = f"channel {place.channel + 1}, position {place.position + 1}"
    return f"{place.source.absolute().name}, {where}\n"


def _to_cell(place: _Place, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".unfinished").touch()
    if (place.source / ZARR_NAME).is_dir():
        _recording_to_cell(place, folder)
    else:
        _pair_to_cell(place, folder)
    (folder / "source.txt").write_text(_note(place), encoding="utf-8")
    (folder / ".unfinished").unlink()


def _recording_to_cell(place: _Place, folder: Path) -> None:
    recording = Recording.open(place.source)
    about = imported_from(place.source) or {}
    levels = recording.sim_shape[2]
    rule = CountsRule(**about.get("counts", {}))
    types = about.get("pixel_types", ["<u2"] * levels)
    channel = recording.profile.channels[place.channel]
    profile = _profile_of(recording, place, rule)
    (folder / "profile.yaml").write_text(profile_yaml(profile), encoding="utf-8")
    if place.planes > 1:
        layout = {"axes": about["axes"], "sections": place.planes}
        write_json(folder / LAYOUT_NAME, layout)
    files = [str(file["name"]) for file in about.get("files", [])]
    for level in range(levels):
        kind = np.dtype(types[level])
        name = f"RawSIMData_level_{level + 1:02d}.mrc"
        if level == levels - 1 and "RawSIMData_gt.mrc" in files[level : level + 1]:
            name = "RawSIMData_gt.mrc"
        shape = (_frames_of(recording) * place.planes, *recording.frame_shape)
        write_mrc(
            folder / name,
            (rule.stored(block, kind) for block in _level_blocks(recording, place, level, about)),
            shape,
            kind,
            recording.pixel_size_um,
            section_um=about.get("section_um") or 0.0,
            time_points=recording.time_points,
            wavelength_nm=channel.emission_nm,
            label=f"{recording.name} {channel.name}",
            header=_kept_header(place, files[level : level + 1], shape, kind),
        )
    for file in sorted((place.source / REFERENCE).glob("*.mrc")):
        shutil.copyfile(file, folder / file.name)


def _frames_of(recording: Recording) -> int:
    """Raw frames of one level and position."""
    orientations, phases, _ = recording.sim_shape
    return recording.time_points * orientations * phases


def _kept_header(
    place: _Place, file: Sequence[str], shape: tuple[int, int, int], kind: np.dtype[np.generic]
) -> bytes | None:
    """Header the stack was imported with, so that it comes back to the byte."""
    path = place.source / REFERENCE / ("".join(file) + HEADER_SUFFIX)
    if not file or not path.is_file():
        return None
    head = path.read_bytes()
    told = parse_header(head, path)
    return head if (told.shape, told.dtype) == (shape, kind) else None


def _level_blocks(
    recording: Recording, place: _Place, level: int, about: Mapping[str, Any]
) -> Iterator[UInt16[np.ndarray, "frame y x"]]:
    """Frames of a level in their order in the file; a plane of several in that of the import."""
    if place.planes == 1:
        for t in range(recording.time_points):
            block = recording.frames(t, place.channel, place.position)[:, :, level]
            yield block.reshape(-1, *recording.frame_shape)
        return
    axes = str(about["axes"])
    every = list(range(recording.time_points))
    # Only where time runs slowest do its points come one after the other.
    for times in [[t] for t in every] if parse_axes(axes)[0] == "T" else [every]:
        stack = np.array(
            [
                [recording.frames(t, place.channel, z)[:, :, level] for z in range(place.planes)]
                for t in times
            ]
        )
        yield fold(stack[:, None], axes)


def _profile_of(recording: Recording, place: _Place, rule: CountsRule) -> Profile:
    """The profile of one channel, at the measured interval, without the stage positions."""
    profile, mode = recording.profile, recording.mode
    plan = profile.paired if mode == "paired" else profile.timelapse
    if plan is None:
        raise DataError(f"the profile has no {mode!r} section", where=str(recording.path))
    camera = profile.microscope.camera
    offset = camera.offset_adu - rule.pedestal
    timing = {
        "time_points": recording.time_points,
        "interval_s": recording.interval_s(place.channel, place.position),
    }
    changes: dict[str, Any] = {
        "channels": (profile.channels[place.channel],),
        "positions": (),
        "paired": None,
        "timelapse": None,
        "microscope": profile.microscope.model_copy(
            update={"camera": camera.model_copy(update={"offset_adu": max(0.0, offset)})}
        ),
        mode: plan.model_copy(update=timing),
    }
    return profile.model_copy(update=changes)


def _pair_to_cell(place: _Place, folder: Path) -> None:
    pair, about = load_pair(place.source), read_about(place.source) or {}
    (folder / "profile.yaml").write_text(profile_yaml(_pair_profile(pair, about)), encoding="utf-8")
    emission = float(about.get("made_from", {}).get("otf", {}).get("emission_nm", 0.0))
    for level, series in enumerate(pair.widefield):
        _write_series_mrc(
            folder / f"WF_level_{level + 1:02d}.mrc", series, pair.pixel_size_um, emission
        )
    kind = np.dtype(about.get("imported", {}).get("target_pixel_type", "<f4"))
    _write_series_mrc(
        folder / "SIM_gt.mrc",
        pair.target.astype(kind) if kind.kind in "iuf" else pair.target,
        pair.pixel_size_um / pair.upscale,
        emission,
    )


def _write_series_mrc(
    path: Path, series: Num[np.ndarray, "time y x"], pixel_um: float, emission_nm: float
) -> None:
    write_mrc(
        path,
        iter(series[:, None]),
        (series.shape[0], series.shape[1], series.shape[2]),
        series.dtype,
        pixel_um,
        time_points=len(series),
        wavelength_nm=emission_nm,
    )


def _pair_profile(pair: PairedStack, about: dict[str, Any]) -> Profile:
    otf = about.get("made_from", {}).get("otf", {})
    default = ImportedOptics()
    return imported_profile(
        pair.name,
        "Wide field and SIM image of a pair; the raw frames are not here",
        mode="timelapse",
        optics=ImportedOptics(
            pair.pixel_size_um,
            otf.get("numerical_aperture", default.numerical_aperture),
            default.excitation_nm,
            otf.get("emission_nm", default.emission_nm),
        ),
        stripes=None,
        phases=1,
        frame_shape=(int(pair.widefield.shape[2]), int(pair.widefield.shape[3])),
        time_points=int(pair.widefield.shape[1]),
        interval_s=pair.interval_s,
        exposure_ms=1.0,
        levels_mw=(1.0,),
        offset_adu=0.0,
        electrons_per_adu=1.0,
        channel=pair.channel,
    )


def _to_tiff(place: _Place, out: Path) -> Sequence[Path]:
    """Raw frames of each light level as OME-TIFF whose axes name angle and phase."""
    if not (place.source / ZARR_NAME).is_dir():
        raise DataError(
            "pairs are OME-TIFF already",
            where=str(place.source),
            remedy="take the files in that folder",
        )
    recording = Recording.open(place.source)
    orientations, phases, levels = recording.sim_shape
    out.mkdir(parents=True, exist_ok=True)
    written = []
    if place.planes > 1:
        raise DataError(
            "OME-TIFF with angle, phase and focal planes is not written",
            where=str(place.source),
            remedy="export the published layout: --biotisr",
        )
    for level in range(levels):
        name = f"{recording.name}_{recording.channels[place.channel]}"
        name += f"_p{place.position}" if recording.positions > 1 else ""
        path = out / f"{name}_level_{level + 1}.ome.tif"
        shape = (recording.time_points, orientations, phases, *recording.frame_shape)
        temporary = path.with_name(path.name + ".part")
        try:
            tifffile.imwrite(
                temporary,
                (frame for block in _level_blocks(recording, place, level, {}) for frame in block),
                shape=shape,
                dtype=np.uint16,
                ome=True,
                photometric="minisblack",
                metadata={
                    "axes": "TAPYX",
                    "Name": f"{name} level {level + 1}",
                    "PhysicalSizeX": recording.pixel_size_um,
                    "PhysicalSizeXUnit": "µm",
                    "PhysicalSizeY": recording.pixel_size_um,
                    "PhysicalSizeYUnit": "µm",
                    "TimeIncrement": recording.interval_s(place.channel, place.position),
                    "TimeIncrementUnit": "s",
                },
            )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        written.append(path)
    return written
