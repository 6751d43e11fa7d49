"""Whether the files of a region fit each other and what the user says, from headers alone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tisr_scope.errors import DataError
from tisr_scope.exchange.import_settings import ImportSettings
from tisr_scope.exchange.imported_profile import ImportedOptics
from tisr_scope.formats.biotisr import BioTisrCell
from tisr_scope.formats.facts import Fact, settle, settle_pixel
from tisr_scope.formats.mrc_header import MrcHeader, read_header
from tisr_scope.formats.raw_stack import LAYOUTS, PatternLayout, RawStack, read_raw_stack
from tisr_scope.formats.stack import Stack
from tisr_scope.profiles.library import parse_profile
from tisr_scope.profiles.schema import Profile

LAYOUT_NAME = "layout.json"
"""Axes and sections of a 3D stack, beside its files."""


def profile_beside(cell: BioTisrCell) -> Profile | None:
    """Profile that lies in the folder of a region."""
    path = cell.folder / "profile.yaml"
    if not path.is_file():
        return None
    return parse_profile(path.read_text(encoding="utf-8"), str(path))


def with_layout_beside(cell: BioTisrCell, settings: ImportSettings) -> ImportSettings:
    """What ``tisr export`` noted beside a 3D stack, whose order no header can tell."""
    path = cell.folder / LAYOUT_NAME
    if settings.axes is not None or not path.is_file():
        return settings
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        axes, sections = str(told["axes"]), int(told["sections"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the layout of the frames cannot be read: {error}",
            where=str(path),
            remedy="state it with --axes and --sections, or remove the file",
        ) from error
    return replace(settings, axes=axes, sections=sections)


def chosen_levels(
    files: Sequence[Path], chosen: Sequence[int], cell: BioTisrCell
) -> tuple[Path, ...]:
    """Files of the light levels that the user wants, counted from 1; all without a wish.

    Raises
    ------
    DataError
        If there is no such level, or they do not rise.
    """
    wrong = [n for n in chosen if not 1 <= n <= len(files)]
    if wrong or list(chosen) != sorted(set(chosen)):
        raise DataError(
            f"levels {list(chosen)} cannot be chosen from 1 to {len(files)}",
            where=str(cell.folder),
            remedy="name existing levels in rising order: --levels 1,3",
        )
    return tuple(files[n - 1] for n in chosen) if chosen else tuple(files)


def patterns_of(
    cell: BioTisrCell, settings: ImportSettings, profile: Profile | None
) -> tuple[int, int]:
    """Orientations and phases: options, then the profile, then what the structure is named."""
    illumination = profile.illumination if profile else None
    usual = (3, 3)
    if _is_volume(cell):
        usual = (3, 5)
    elif "nonlinear" in cell.structure.lower().replace("-", ""):
        usual = (5, 5)
    default = (illumination.orientations, illumination.phases) if illumination else usual
    return settings.orientations or default[0], settings.phases or default[1]


def _is_volume(cell: BioTisrCell) -> bool:
    """Whether the name of the structure says 3D."""
    return "3d" in re.split(r"[^a-z0-9]+", cell.structure.lower())


def open_level(
    file: Path, cell: BioTisrCell, settings: ImportSettings, orientations: int, phases: int
) -> RawStack:
    """Raw stack of one level, if its number of frames leaves no doubt about its layout.

    Raises
    ------
    DataError
        If it cannot be read, does not fit, or may be a stack of focal planes in unknown order.
    """
    patterns = orientations * phases
    if file.suffix.lower() == ".mrc" and settings.axes is None:
        header = read_header(file)
        folded, stated = header.shape[0], header.time_points
        volume = _is_volume(cell)
        deep = stated > 1 and folded > patterns * stated and folded % (patterns * stated) == 0
        if volume or deep:
            times = f", {stated} time points by its header" if stated > 1 else ""
            raise DataError(
                f"a stack of focal planes ({folded} frames{times}) does not say in which order "
                "planes and patterns follow each other",
                where=str(file),
                remedy="state it: --axes TOZPYX (orientation slowest, as OMX) or --axes TZOPYX "
                "(all patterns of a plane together), with --sections and --plane",
            )
        if stated > 1 and folded != patterns * stated and not settings.drop_incomplete:
            raise DataError(
                f"{folded} frames are not the {stated} time points of the header x "
                f"{orientations} orientations x {phases} phases",
                where=str(file),
                remedy=_fitting(folded, stated),
            )
    return read_raw_stack(file, layout_of(settings, orientations, phases))


def layout_of(settings: ImportSettings, orientations: int, phases: int) -> PatternLayout:
    """What is said of the patterns of a raw stack."""
    return PatternLayout(
        orientations,
        phases,
        settings.axes,
        settings.sections,
        extra_frames=settings.extra_frames,
        drop_incomplete=settings.drop_incomplete,
    )


def _fitting(frames: int, time_points: int | None = None) -> str:
    """Advice: which usual layouts the number of frames would fit."""
    fits = [
        f"--orientations {o} --phases {p}"
        for o, p in LAYOUTS
        if (frames == o * p * time_points if time_points else frames % (o * p) == 0)
    ]
    if not fits:
        return "state the right numbers of orientations and phases, or download the file again"
    return f"state the layout; it would fit {' or '.join(fits)}"


def one_of(what: str, chosen: int | None, count: int, cell: BioTisrCell) -> int:
    """The chosen one of several, counted from 0.

    Raises
    ------
    DataError
        If there are several and none is chosen, or there is no such one.
    """
    if chosen is None and count > 1:
        raise DataError(
            f"there are {count} {what}s, and a recording is one of them",
            where=str(cell.folder),
            remedy=f"choose one with --{what} 1 to --{what} {count}",
        )
    number = 1 if chosen is None else chosen
    if not 1 <= number <= count:
        raise DataError(f"there is no {what} {number}, only 1 to {count}", where=str(cell.folder))
    return number - 1


def enlargement(
    cell: BioTisrCell,
    target: MrcHeader,
    time_points: int,
    sections: int,
    frame_shape: Sequence[int],
) -> int:
    """Enlargement of the SIM image, which must belong to the raw stacks.

    Raises
    ------
    DataError
        If it has other time points, or no whole multiple of their pixels.
    """
    images, height, width = target.shape
    factor = height // frame_shape[0]
    expected = time_points * sections
    if images != expected:
        raise DataError(
            f"the SIM image has {images} frames, the raw stacks {time_points} time points"
            + (f" x {sections} planes" if sections > 1 else ""),
            where=str(cell.target),
            remedy="check --orientations and --phases (a 5 x 5 stack read as 3 x 3 has too many "
            "time points), or download the region again",
        )
    if factor < 1 or (height, width) != (factor * frame_shape[0], factor * frame_shape[1]):
        raise DataError(
            f"a SIM image of {height} x {width} pixels is no whole multiple of raw frames of "
            f"{frame_shape[0]} x {frame_shape[1]}",
            where=str(cell.target),
            remedy="raw frames or SIM image were cropped: download the region again",
        )
    return int(factor)


def optics_of(
    settings: ImportSettings, profile: Profile | None, stack: Stack, channel: int
) -> tuple[ImportedOptics, dict[str, str]]:
    """Options first, then the file, the profile, and the published instrument; and who says so."""
    assumed, known = ImportedOptics(), profile.channels[0] if profile else None
    facts: dict[str, Fact[float]] = {
        "pixel_size_um": settle_pixel(
            stack.pixel_size_um,
            user=settings.pixel_size_um,
            profile=profile.optics.pixel_size_um if profile else None,
            assumed=assumed.pixel_size_um,
            where=str(stack.path),
        ),
        "numerical_aperture": settle(
            user=settings.numerical_aperture,
            file=stack.numerical_aperture,
            profile=profile.optics.numerical_aperture if profile else None,
            assumed=assumed.numerical_aperture,
        ),
        "excitation_nm": settle(
            user=settings.excitation_nm,
            file=stack.excitation_of(channel),
            profile=known.excitation_nm if known else None,
            assumed=assumed.excitation_nm,
        ),
        "emission_nm": settle(
            user=settings.emission_nm,
            # A profile keeps fractions of a nanometre, which headers round away.
            file=None if known else stack.emission_of(channel),
            profile=known.emission_nm if known else None,
            assumed=assumed.emission_nm,
        ),
    }
    told = {name: str(fact) for name, fact in facts.items()}
    return ImportedOptics(**{name: fact.value for name, fact in facts.items()}), told


def timing_of(
    settings: ImportSettings,
    profile: Profile | None,
    stack: Stack,
    time_points: int,
) -> tuple[float, float]:
    """Interval in seconds, 0 where nobody says, and exposure in milliseconds."""
    plan = (profile.paired or profile.timelapse) if profile else None
    interval = settle(
        user=settings.interval_s,
        file=stack.interval_s,
        profile=plan.interval_s if plan else None,
        assumed=1.0 if time_points == 1 else 0.0,
    )
    exposure = settle(
        user=settings.exposure_ms,
        file=stack.exposure_ms,
        profile=plan.exposure_ms if plan else None,
        assumed=1.0,
    )
    return interval.value or (1.0 if time_points == 1 else 0.0), exposure.value
