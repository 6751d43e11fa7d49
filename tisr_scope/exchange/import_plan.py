"""What a foreign folder or file holds, from headers alone, before anything is converted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.exchange.import_checks import (
    chosen_levels,
    enlargement,
    layout_of,
    one_of,
    open_level,
    optics_of,
    patterns_of,
    profile_beside,
    timing_of,
    with_layout_beside,
)
from tisr_scope.exchange.import_settings import ImportSettings
from tisr_scope.exchange.imported_profile import ImportedOptics
from tisr_scope.formats.biotisr import BioTisrCell
from tisr_scope.formats.facts import SAID
from tisr_scope.formats.mrc import open_mrc
from tisr_scope.formats.mrc_header import MrcHeader, read_header
from tisr_scope.formats.mrc_stack import open_mrc_stack
from tisr_scope.formats.raw_stack import PatternLayout, read_raw_stack
from tisr_scope.formats.stack import Stack
from tisr_scope.profiles.schema import Profile

EMPTY = np.empty((0, 0), np.uint16)


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
    layout : PatternLayout
        Which frames of the files are patterns.
    told : dict
        Optics and axes in words, with who says so.
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
    layout: PatternLayout = field(default_factory=PatternLayout)
    told: dict[str, str] = field(default_factory=dict)

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
        stack = read_raw_stack(self.cell.levels[number], self.layout)
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
    settings = with_layout_beside(cell, settings)
    profile = settings.profile or profile_beside(cell)
    files = chosen_levels(cell.levels or cell.widefield, settings.levels, cell)
    if cell.levels:
        orientations, phases = patterns_of(cell, settings, profile)
        # Opened one after the other, and closed: only shapes and types are kept.
        opened = (open_level(file, cell, settings, orientations, phases) for file in files)
        found = [
            (s.frames.shape, s.frames.dtype.str, f"{s.axes} ({SAID[s.source]})", _about(s.stack))
            for s in opened
        ]
        shapes, first, named = [one[0] for one in found], found[0][3], found[0][2]
        types = tuple(one[1] for one in found)
        _, channels, sections, orientations, phases = shapes[0][:5]
        channel = one_of("channel", settings.channel, channels, cell)
        planes = tuple(range(sections))
        if settings.plane is not None:
            planes = (one_of("plane", settings.plane, sections, cell),)
        chosen = replace(cell, levels=files)
    else:
        headers = [read_header(file) for file in files]
        shapes = [header.shape for header in headers]
        first, named = _about(open_mrc_stack(files[0])), "TYX"
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
    upscale = enlargement(cell, target, time_points, sections, frame_shape) if target else 0
    optics, said = optics_of(settings, profile, first, channel)
    interval, exposure = timing_of(settings, profile, first, time_points)
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
        section_um=first.section_um.value if first.section_um else None,
        layout=layout_of(settings, orientations, phases),
        told={"axes": named, **said},
    )


# ------------------------------------------------------------------------------------- inside


def _about(stack: Stack) -> Stack:
    """What a file says, without its pixels."""
    return replace(stack, data=EMPTY, axes="YX")
