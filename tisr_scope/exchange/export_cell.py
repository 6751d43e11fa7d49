"""One region in the published layout, and the order of its frames in a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num, UInt16

from tisr_scope.errors import DataError
from tisr_scope.exchange.import_checks import LAYOUT_NAME
from tisr_scope.exchange.import_record import HEADER_SUFFIX, REFERENCE
from tisr_scope.exchange.imported_profile import ImportedOptics, imported_profile
from tisr_scope.formats.counts import CountsRule
from tisr_scope.formats.mrc import write_mrc
from tisr_scope.formats.mrc_header import parse_header
from tisr_scope.formats.stack_axes import fold, parse_axes
from tisr_scope.pairs.pair_folder import load_pair, read_about
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import Profile
from tisr_scope.provenance import write_json
from tisr_scope.recording.origin import imported_from
from tisr_scope.recording.recording import Recording
from tisr_scope.types import PairedStack


@dataclass(frozen=True)
class Place:
    """One channel and stage position of a recording, or all planes of it, or one pair."""

    source: Path
    channel: int = 0
    position: int = 0
    planes: int = 1


SIM_IMAGE = "SIM_gt.mrc"


def recording_to_cell(place: Place, folder: Path, pairs: Path | None = None) -> None:
    """Raw stacks of every level, what the headers cannot keep, and the SIM image.

    Parameters
    ----------
    place : Place
        What to write.
    folder : Path
        Of the region.
    pairs : Path, optional
        Folder of ``tisr prepare`` that has the SIM image; the published one of imported
        recordings needs none.

    Raises
    ------
    DataError
        If the pairs do not have it, or not for every time point.
    """
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
            (rule.stored(block, kind) for block in level_blocks(recording, place, level, about)),
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
    if pairs is not None and not (folder / SIM_IMAGE).is_file():
        pair = _pair_of(place, recording, pairs)
        fine = pair.pixel_size_um / pair.upscale
        _write_series_mrc(folder / SIM_IMAGE, pair.target, fine, channel.emission_nm)


def level_blocks(
    recording: Recording, place: Place, level: int, about: Mapping[str, Any]
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


def pair_to_cell(place: Place, folder: Path) -> None:
    """Wide field of every level in photo-electrons, and the SIM image."""
    pair, about = load_pair(place.source), read_about(place.source) or {}
    (folder / "profile.yaml").write_text(profile_yaml(_pair_profile(pair, about)), encoding="utf-8")
    emission = float(about.get("made_from", {}).get("otf", {}).get("emission_nm", 0.0))
    for level, series in enumerate(pair.widefield):
        _write_series_mrc(
            folder / f"WF_level_{level + 1:02d}.mrc", series, pair.pixel_size_um, emission
        )
    kind = np.dtype(about.get("imported", {}).get("target_pixel_type", "<f4"))
    _write_series_mrc(
        folder / SIM_IMAGE,
        pair.target.astype(kind) if kind.kind in "iuf" else pair.target,
        pair.pixel_size_um / pair.upscale,
        emission,
    )


# ------------------------------------------------------------------------------------- inside


def _pair_of(place: Place, recording: Recording, pairs: Path) -> PairedStack:
    """The pair of a recording that has all of its time points."""
    here = (recording.name, recording.channels[place.channel], place.position)
    for folder in sorted(p for p in pairs.glob("*") if p.is_dir()):
        about = read_about(folder) or {}
        if tuple(about.get(key) for key in ("recording", "channel", "position")) != here:
            continue
        pair = load_pair(folder)
        if len(pair.target) == recording.time_points:
            return pair
    raise DataError(
        f"there is no SIM image for every one of {recording.time_points} time points",
        where=f"{recording.path}, channel {here[1]}, position {place.position + 1}",
        remedy="prepare the recording with --keep-all, and name that folder with --sim-images",
    )


def _frames_of(recording: Recording) -> int:
    """Raw frames of one level and position."""
    orientations, phases, _ = recording.sim_shape
    return recording.time_points * orientations * phases


def _kept_header(
    place: Place, file: Sequence[str], shape: tuple[int, int, int], kind: np.dtype[np.generic]
) -> bytes | None:
    """Header the stack was imported with, so that it comes back to the byte."""
    path = place.source / REFERENCE / ("".join(file) + HEADER_SUFFIX)
    if not file or not path.is_file():
        return None
    head = path.read_bytes()
    told = parse_header(head, path)
    return head if (told.shape, told.dtype) == (shape, kind) else None


def _profile_of(recording: Recording, place: Place, rule: CountsRule) -> Profile:
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
