"""Reconstruction of raw focal series of three-beam SIM, from file to files.

A folder receives ``<name>_widefield.ome.tif``, ``<name>_sim.ome.tif``, ``<name>_parameters.json``
and ``<name>_figure.png``; with a report also ``<name>_report.json`` and ``<name>_report.png``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
from jaxtyping import Float, Num

from tisr_scope.disk import writing
from tisr_scope.errors import DataError
from tisr_scope.formats.facts import settle_pixel
from tisr_scope.formats.raw_stack import PatternLayout, RawStack, read_raw_stack
from tisr_scope.formats.reader import open_stack
from tisr_scope.provenance import provenance, write_json
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.optics.volume_psf import with_measured_psf
from tisr_scope.sim.parameters.volume_parameters import (
    check_series,
    estimate_volume,
    measured_optics,
)
from tisr_scope.sim.reconstruction.reconstruct_files import new_folder
from tisr_scope.sim.reconstruction.region import background_of
from tisr_scope.sim.reconstruction.volume_wiener import UPSCALE, volumes
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings
from tisr_scope.sim.report.volume_figure import write_volume_figure
from tisr_scope.sim.report.volume_quality import measure_volume_quality, saturated_share
from tisr_scope.sim.report.volume_quality_figure import write_volume_report

AXES = "TOZPYX"
"""As instruments record: all phases of a section, then the next section."""


@dataclass(frozen=True)
class SeriesLayout:
    """How the frames of a raw file become focal series.

    Attributes
    ----------
    sections : int
        Focal planes.
    axes : str
        Order of the frames, slowest first.
    orientations, phases : int
        Of the illumination.
    section_um, pixel_um : float, optional
        Distances in the sample; read from the file if omitted.
    interval_s : float
        Between time points.
    """

    sections: int
    axes: str = AXES
    orientations: int = 3
    phases: int = 5
    section_um: float | None = None
    pixel_um: float | None = None
    interval_s: float = 1.0


def reconstruct_series_file(
    path: Path,
    out: Path,
    layout: SeriesLayout,
    *,
    numerical_aperture: float,
    emission_nm: float,
    excitation_nm: float,
    immersion_index: float = 1.515,
    excitation_na: float | None = None,
    psf: Path | None = None,
    background: float | None = None,
    settings: WienerSettings | None = None,
    device: str = "cpu",
    report: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Reconstruct the focal series of a raw file, every time point with the first one's stripes.

    Parameters
    ----------
    path : Path
        ``.mrc``, ``.tif``, ``.dv``.
    out : Path
        New or empty folder.
    layout : SeriesLayout
    numerical_aperture, emission_nm, immersion_index : float
        Of the detection.
    excitation_nm : float
    excitation_na : float, optional
        Aperture of the outer beams; measured from the period of the stripes if omitted.
    psf : Path, optional
        TIFF file of one bead's focal series, in the pixels and sections of the frames; it
        replaces the closed form of the transfer function.
    background : float, optional
        Taken off every frame; the 1st percentile of each orientation's wide field if omitted.
    settings : WienerSettings, optional
    device : str
    report : bool
        Judge the first time point, see :mod:`tisr_scope.sim.report.volume_quality`.
    progress : callable, optional
        Called with (done, total) time points.

    Returns
    -------
    file : Path
        The SIM volume.

    Raises
    ------
    DataError
        If the file cannot be read, or the number of frames does not fit.
    ReconstructionError
        For unusable frames, or where no stripes are found that can be trusted.
    """
    path, out = Path(path), Path(out)
    stack = read_raw_stack(
        path,
        PatternLayout(layout.orientations, layout.phases, layout.axes, layout.sections),
    )
    pixel, section = _spacing(stack, layout, path)
    optics = VolumeOptics(
        numerical_aperture,
        emission_nm,
        immersion_index,
        excitation_na or min(numerical_aperture, 0.99 * immersion_index),
        excitation_nm,
    )
    first_time = np.asarray(stack.frames[0, 0], np.float32).transpose(1, 2, 0, 3, 4)
    offset = background_of(first_time[None], background, offset_known=False)[0]
    series = _Series(stack.frames, offset)
    first = torch.from_numpy(next(iter(series)))
    check_series(first, optics, section, str(path))
    if psf is not None:
        bead = np.asarray(open_stack(psf).data)
        optics = with_measured_psf(optics, bead, pixel, section, str(psf))
    if excitation_na is None:
        optics = measured_optics(first, optics, pixel, str(path))
    parameters = estimate_volume(first, optics, pixel, section, where=str(path))
    new_folder(out)
    wide_path, image_path = (out / f"{path.stem}_{kind}.ome.tif" for kind in ("widefield", "sim"))
    times, _, sections, _, _, height, width = stack.frames.shape
    wide_shape = (times, sections, height, width)
    interval = layout.interval_s
    wide = (one.mean(axis=(0, 1)) for one in series)
    write_volumes(wide_path, wide, wide_shape, pixel, section, interval)
    made = volumes(series, parameters, optics, settings, device=device, progress=progress)
    shape = (times, sections, UPSCALE * height, UPSCALE * width)
    write_volumes(image_path, made, shape, pixel / UPSCALE, section, interval)
    volume = tifffile.imread(image_path, key=range(sections))
    write_volume_figure(
        out / f"{path.stem}_figure.png",
        first.mean(dim=(0, 1)).numpy(),
        volume,
        parameters,
        optics,
        path.name,
    )
    write_json(
        out / f"{path.stem}_parameters.json",
        {
            "source": str(path),
            "intensity_unit": "counts of the file over background",
            "background": np.round(offset, 2).tolist(),
            "axes": layout.axes,
            "sim_parameters": parameters.to_dict(),
            "wiener": asdict(settings or WienerSettings()),
            "optics": {
                **{key: value for key, value in asdict(optics).items() if key != "measured"},
                "transfer": "closed form" if psf is None else f"measured, {psf}",
            },
            "provenance": provenance(),
        },
    )
    if report:
        quality = measure_volume_quality(
            first.numpy(),
            volume,
            parameters,
            optics,
            settings,
            axes=layout.axes,
            saturated=saturated_share(np.asarray(stack.frames[0, 0])),
            device=device,
        )
        write_volume_report(out, path.stem, quality, path.name)
    return image_path


def write_volumes(
    path: Path,
    volumes: Iterable[Float[np.ndarray, "z y x"]],
    shape: tuple[int, int, int, int],
    pixel_um: float,
    section_um: float,
    interval_s: float,
) -> None:
    """Write volumes as float32 OME-TIFF, one after the other, sizes in micrometres and seconds.

    Raises
    ------
    DiskFull
        If there is no space left.
    """
    micrometre = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    metadata = {
        "axes": "TZYX",
        "Name": path.name.removesuffix(".ome.tif"),
        "PhysicalSizeX": pixel_um,
        "PhysicalSizeY": pixel_um,
        "PhysicalSizeZ": section_um,
        "TimeIncrement": interval_s,
        "TimeIncrementUnit": "s",
        **micrometre,
    }
    planes = (np.asarray(plane, np.float32) for volume in volumes for plane in volume)
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary,
            planes,
            shape=shape,
            dtype=np.float32,
            ome=True,
            photometric="minisblack",
            metadata=metadata,
            resolution=(1e4 / pixel_um, 1e4 / pixel_um),
            resolutionunit="CENTIMETER",
        )


# ------------------------------------------------------------------------------------- inside


class _Series:
    """Focal series of the time points, read when they are wanted."""

    def __init__(
        self,
        frames: Num[np.ndarray, "time channel z orientation phase y x"],
        offset: Float[np.ndarray, " orientation"],
    ) -> None:
        self.frames, self.offset = frames, offset.astype(np.float32)

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Float[np.ndarray, "orientation phase z y x"]]:
        for one in self.frames[:, 0]:
            series = np.asarray(one, np.float32).transpose(1, 2, 0, 3, 4)
            yield series - self.offset[:, None, None, None, None]


def _spacing(stack: RawStack, layout: SeriesLayout, path: Path) -> tuple[float, float]:
    pixel = settle_pixel(stack.stack.pixel_size_um, user=layout.pixel_um, where=str(path)).value
    told = stack.stack.section_um
    section = layout.section_um or (told.value if told else None)
    if section is None:
        raise DataError(
            "the file does not say how far its sections are apart",
            where=str(path),
            remedy="state it with --z-step-um",
        )
    return pixel, section
