"""What a foreign folder or file holds, from headers alone, before anything is converted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Num

from tisr_scope.data.biotisr import BioTisrCell
from tisr_scope.data.import_settings import ImportSettings
from tisr_scope.data.imported_profile import ImportedOptics
from tisr_scope.data.mrc import open_mrc
from tisr_scope.data.mrc_header import MrcHeader, read_header
from tisr_scope.data.raw_stack import RawStack, read_raw_stack
from tisr_scope.errors import DataError
from tisr_scope.profiles.library import parse_profile
from tisr_scope.profiles.schema import Profile

LAYOUTS = ((3, 3), (5, 5), (3, 5), (5, 3))
"""Orientations and phases that instruments use, offered where the stated ones do not fit."""
LAYOUT_NAME = "layout.json"
"""Axes and sections of a 3D stack, beside its files."""
EMPTY = np.empty((0,) * 7, np.uint16)


@dataclass(frozen=True)
class ImportPlan:
    """One region as it will be imported.

    Attributes
    ----------
    cell : BioTisrCell
        Its files.
    time_points, sections, orientations, phases : int
        Layout of each raw stack; 1 x 1 x 1 without raw frames.
    axes : str or None
        Order of the axes in the files.
    pixel_types : tuple of str
        Of each chosen level, as NumPy writes it.
    frame_shape : (height, width)
        In pixels.
    optics : ImportedOptics
        From options, profile and files, in this order.
    interval_s : float
        Time between time points; 0 where nobody says.
    exposure_ms : float
        Of each raw frame.
    target : MrcHeader or None
        Of the published SIM image.
    upscale : int
        Enlargement of the target; 0 without one.
    profile : Profile or None
        From the options, or from the folder of the region.
    channel : int
        Counted from 0.
    planes : tuple of int
        Focal planes to take, counted from 0.
    section_um : float or None
        Distance of focal planes, where the file says.
    drop_incomplete : bool
        Frames at the end of the files are left out.
    """

    cell: BioTisrCell
    time_points: int
    sections: int
    orientations: int
    phases: int
    axes: str | None
    pixel_types: tuple[str, ...]
    frame_shape: tuple[int, int]
    optics: ImportedOptics
    interval_s: float
    exposure_ms: float
    target: MrcHeader | None
    upscale: int
    profile: Profile | None
    channel: int = 0
    planes: tuple[int, ...] = (0,)
    section_um: float | None = None
    drop_incomplete: bool = False

    @property
    def name(self) -> str:
        """Of the recording or pair."""
        return "_".join(part for part in (self.cell.name, self.plane_name) if part)

    @property
    def plane_name(self) -> str:
        """Of the only plane of several that is taken; empty otherwise."""
        one = self.sections > 1 and len(self.planes) == 1
        return f"z{self.planes[0] + 1:03d}" if one else ""

    @property
    def sample(self) -> str:
        """Structure and cell: what a split must keep together."""
        return replace(self.cell, part="").name

    @property
    def levels(self) -> int:
        """Chosen light levels."""
        return len(self.cell.levels or self.cell.widefield)

    @property
    def frames(self) -> int:
        """Raw frames to convert."""
        patterns = self.orientations * self.phases
        return self.time_points * len(self.planes) * patterns * self.levels

    def by_plane(self) -> list[ImportPlan]:
        """One plan for each focal plane."""
        return [replace(self, planes=(plane,)) for plane in self.planes]

    def level(
        self, number: int, plane: int | None = None
    ) -> Num[np.ndarray, "time orientation phase y x"]:
        """Raw frames of one level and plane (the first one if omitted).

        Opened anew: a plan of a thousand files holds none of them open.

        Raises
        ------
        DataError
            If the file was changed since the plan was made.
        """
        stack = read_raw_stack(
            self.cell.levels[number],
            self.axes,
            orientations=self.orientations,
            phases=self.phases,
            sections=self.sections,
            drop_incomplete=self.drop_incomplete,
        )
        return stack.plane(self.channel, self.planes[0] if plane is None else plane)

    def target_frames(self) -> Num[np.ndarray, "time fy fx"]:
        """The published SIM image of the first focal plane on disk.

        Raises
        ------
        DataError
            If the region has none.
        """
        if self.cell.target is None or self.target is None:
            raise DataError(
                "the region has no SIM image",
                where=str(self.cell.folder),
                remedy="import it as a recording (--to recordings) and run 'tisr prepare'",
            )
        data, header = open_mrc(self.cell.target)
        planes = header.shape[0] // self.time_points
        images = data.reshape(self.time_points, planes, *data.shape[1:])
        return images[:, self.planes[0] % planes]

    def describe(self) -> str:
        """What was found, in words."""
        height, width = self.frame_shape
        kind = f"{self.orientations} x {self.phases} frames" if self.cell.levels else "wide field"
        target = f"SIM image x{self.upscale}" if self.target else "no SIM image"
        deep = f"{len(self.planes)} of {self.sections} planes, " if self.sections > 1 else ""
        return (
            f"{self.levels} levels, {self.time_points} time points, {deep}{kind} of "
            f"{height} x {width} "
            f"pixels of {self.optics.pixel_size_um:.4g} um, {target}"
        )

    def require_interval(self) -> None:
        """Refuse a time-lapse of unknown rhythm.

        Raises
        ------
        DataError
        """
        if not self.interval_s:
            raise DataError(
                "the files do not say how much time lies between their "
                f"{self.time_points} time points",
                where=str(self.cell.folder),
                remedy="state it with --interval-s",
            )


def plan_region(cell: BioTisrCell, settings: ImportSettings) -> ImportPlan:
    """Check the files of a region against each other and against the settings.

    Raises
    ------
    DataError
        If files are damaged, or differ in length or size, or the layout does not fit.
    """
    settings = _with_layout_beside(cell, settings)
    profile = settings.profile or _profile_beside(cell)
    files = _chosen_levels(cell.levels or cell.widefield, settings.levels, cell)
    if cell.levels:
        orientations, phases = _layout(cell, settings, profile)
        # Opened one after the other, and closed: only shapes and types are kept.
        opened = (_open(file, cell, settings, orientations, phases) for file in files)
        found = [(s.frames.shape, s.frames.dtype.str, replace(s, frames=EMPTY)) for s in opened]
        shapes, first = [shape for shape, _, _ in found], found[0][2]
        types = tuple(kind for _, kind, _ in found)
        _, channels, sections, orientations, phases = shapes[0][:5]
        channel = _one_of("channel", settings.channel, channels, cell)
        planes = tuple(range(sections))
        if settings.plane is not None:
            planes = (_one_of("plane", settings.plane, sections, cell),)
        chosen = replace(cell, levels=files)
    else:
        headers = [read_header(file) for file in files]
        shapes = [header.shape for header in headers]
        waves = tuple(w for w in headers[0].wavelengths_nm if w > 0)
        first = RawStack(EMPTY, pixel_um=headers[0].pixel_um or None, wavelengths_nm=waves)
        types = tuple(header.dtype.str for header in headers)
        sections, orientations, phases, channel, planes = 1, 1, 1, 0, (0,)
        chosen = replace(cell, widefield=files)
    time_points, frame_shape = shapes[0][0], shapes[0][-2:]
    if len(set(shapes)) != 1:
        told = "; ".join(f"{f.name}: {s}" for f, s in zip(files, shapes, strict=True))
        raise DataError(
            f"the light levels differ in length or size: {told}",
            where=str(cell.folder),
            remedy="download the files again, or leave a level out with --levels",
        )
    target = read_header(cell.target) if cell.target is not None else None
    upscale = _upscale(cell, target, time_points, sections, frame_shape) if target else 0
    optics = _optics(settings, profile, first, channel)
    interval, exposure = _timing(settings, profile, first, time_points)
    return ImportPlan(
        cell=chosen,
        time_points=time_points,
        sections=sections,
        orientations=orientations,
        phases=phases,
        axes=settings.axes,
        pixel_types=types,
        frame_shape=(int(frame_shape[0]), int(frame_shape[1])),
        optics=optics,
        interval_s=interval,
        exposure_ms=exposure,
        target=target,
        upscale=upscale,
        profile=profile,
        channel=channel,
        planes=planes,
        section_um=first.section_um,
        drop_incomplete=settings.drop_incomplete,
    )


# ------------------------------------------------------------------------------------- inside


def _profile_beside(cell: BioTisrCell) -> Profile | None:
    path = cell.folder / "profile.yaml"
    if not path.is_file():
        return None
    return parse_profile(path.read_text(encoding="utf-8"), str(path))


def _with_layout_beside(cell: BioTisrCell, settings: ImportSettings) -> ImportSettings:
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


def _chosen_levels(
    files: Sequence[Path], chosen: Sequence[int], cell: BioTisrCell
) -> tuple[Path, ...]:
    wrong = [n for n in chosen if not 1 <= n <= len(files)]
    if wrong or list(chosen) != sorted(set(chosen)):
        raise DataError(
            f"levels {list(chosen)} cannot be chosen from 1 to {len(files)}",
            where=str(cell.folder),
            remedy="name existing levels in rising order: --levels 1,3",
        )
    return tuple(files[n - 1] for n in chosen) if chosen else tuple(files)


def _layout(
    cell: BioTisrCell, settings: ImportSettings, profile: Profile | None
) -> tuple[int, int]:
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


def _open(
    file: Path, cell: BioTisrCell, settings: ImportSettings, orientations: int, phases: int
) -> RawStack:
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
    try:
        return read_raw_stack(
            file,
            settings.axes,
            orientations=orientations,
            phases=phases,
            sections=settings.sections,
            drop_incomplete=settings.drop_incomplete,
        )
    except DataError as error:
        if "frames are no" not in error.what:
            raise
        count = re.match(r"\d+", error.what)
        raise DataError(
            error.what, where=error.where, remedy=_fitting(int(count[0]) if count else 0)
        ) from error


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


def _one_of(what: str, chosen: int | None, count: int, cell: BioTisrCell) -> int:
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


def _upscale(
    cell: BioTisrCell,
    target: MrcHeader,
    time_points: int,
    sections: int,
    frame_shape: Sequence[int],
) -> int:
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


def _optics(
    settings: ImportSettings, profile: Profile | None, stack: RawStack, channel: int
) -> ImportedOptics:
    """Options first, then the profile, then the file, then the published instrument."""
    default = ImportedOptics()
    pixel, aperture = stack.pixel_um, None
    excitation = None
    waves = stack.wavelengths_nm
    emission = float(waves[channel]) if channel < len(waves) and waves[channel] > 0 else None
    if profile is not None:
        aperture = profile.optics.numerical_aperture
        # MRC keeps pixel sizes in single precision; the profile knows the same one exactly.
        exact = profile.optics.pixel_size_um
        if pixel is None or np.float32(pixel) == np.float32(exact):
            pixel = exact
        excitation = profile.channels[0].excitation_nm
        emission = profile.channels[0].emission_nm
    return ImportedOptics(
        settings.pixel_size_um or pixel or default.pixel_size_um,
        settings.numerical_aperture or aperture or default.numerical_aperture,
        settings.excitation_nm or excitation or default.excitation_nm,
        settings.emission_nm or emission or default.emission_nm,
    )


def _timing(
    settings: ImportSettings,
    profile: Profile | None,
    stack: RawStack,
    time_points: int,
) -> tuple[float, float]:
    plan = (profile.paired or profile.timelapse) if profile else None
    interval = settings.interval_s or stack.interval_s or (plan.interval_s if plan else None)
    exposure = settings.exposure_ms or stack.exposure_ms or (plan.exposure_ms if plan else None)
    return interval or (1.0 if time_points == 1 else 0.0), exposure or 1.0
