"""Reconstruction from files to files: recordings of this package and raw stacks of others.

For each channel and position a folder receives ``<name>_widefield.ome.tif``,
``<name>_sim.ome.tif``, ``<name>_parameters.json`` and ``<name>_figure.png``; with a report also
``<name>_report.json``, ``<name>_report.png`` and ``<name>_diagnostics.png``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError, ReconstructionError
from tisr_scope.formats.ome_tiff import write_series
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.order_check import unusable_time_points
from tisr_scope.recording.recording import Recording
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.raw_plan import RawPlan, RawSettings, plan_raw
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings
from tisr_scope.sim.reconstruction.region import (
    Reconstruction,
    detection_otf,
    reconstruct_region,
    recording_nominal,
    saturation_electrons,
)
from tisr_scope.sim.report.diagnostic_figure import write_diagnostics
from tisr_scope.sim.report.quality import measure_quality
from tisr_scope.sim.report.quality_figure import write_report
from tisr_scope.sim.report.reconstruction_figure import write_figure


@dataclass(frozen=True)
class Making:
    """How images are made of frames.

    Attributes
    ----------
    estimation : Estimation
        Orders, phases, weak orientations, background, drift.
    settings : WienerSettings
        Of the reconstruction.
    otf_file : Path, optional
        Measured radial transfer function; the closed form with the optics if omitted.
    device : str
        Where to compute.
    report : bool
        Measure the quality of the first time point too.
    otf_damping : float
        Of the closed form, see :class:`tisr_scope.sim.optics.otf.DetectionOtf`.
    """

    estimation: Estimation = field(default_factory=Estimation)
    settings: WienerSettings = field(default_factory=WienerSettings)
    otf_file: Path | None = None
    device: str = "cpu"
    report: bool = False
    otf_damping: float = 1.0


def reconstruct_recording(
    recording: Recording | Path,
    out: Path,
    making: Making | None = None,
    *,
    nominal: Float[np.ndarray, "orientation 2"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Reconstruct the highest light level of every channel and position of a recording.

    Parameters
    ----------
    recording : Recording or Path
        In paired mode, or a time-lapse that keeps all patterns.
    out : Path
        New or empty folder.
    making : Making, optional
    nominal : array, shape (orientation, 2), optional
        Carriers to search around, instead of the profile's.
    progress : callable, optional
        Called with (done, total) images series.

    Returns
    -------
    files : list of Path
        SIM images.

    Raises
    ------
    DataError
        If the recording holds no patterns, or the folder is not empty.
    ReconstructionError
        For unusable frames, or where no stripes are found that can be trusted.
    """
    making = making or Making()
    if not isinstance(recording, Recording):
        recording = Recording.open(recording)
    profile = recording.profile
    if recording.sim_shape[1] < 3 or recording.time_points < 1:
        raise DataError(
            "the recording holds no complete time point with stripes",
            where=str(recording.path),
            remedy="record in paired mode, or a time-lapse with widefield: pattern_mean",
        )
    new_folder(out)
    jobs = [(c, p) for c in range(len(recording.channels)) for p in range(recording.positions)]
    files = []
    for done, (channel, position) in enumerate(jobs):
        if progress:
            progress(done, len(jobs))
        name = recording.plan.place_name(channel, position)
        left_out = unusable_time_points(recording, channel, position)
        times = [t for t in range(recording.time_points) if t not in left_out]
        _tell(left_out, times, recording)
        frames = np.stack(
            [recording.electrons(recording.frames(t, channel, position)[:, :, -1]) for t in times]
        )
        otf = detection_otf(
            profile.optics.numerical_aperture,
            profile.channels[channel].emission_nm,
            making.otf_file,
            making.otf_damping,
        )
        result = reconstruct_region(
            frames,
            otf,
            recording.pixel_size_um,
            offset_known=True,
            nominal=recording_nominal(profile, channel) if nominal is None else nominal,
            estimation=making.estimation,
            settings=making.settings,
            saturation=saturation_electrons(profile),
            device=making.device,
            where=f"{recording.path}, {name}",
        )
        about = {
            "source": str(recording.path),
            "intensity_unit": "photo-electrons",
            "time_points": times,
            "left_out": {str(t): text for t, text in left_out.items()},
        }
        interval = recording.interval_s(channel, position)
        title = f"{recording.name}, {name}"
        files.append(_write(out, name, result, otf, interval, title, about, making))
    if progress:
        progress(len(jobs), len(jobs))
    return files


def reconstruct_raw_file(
    source: Path | RawPlan,
    out: Path,
    raw: RawSettings | None = None,
    making: Making | None = None,
) -> Path:
    """Reconstruct a raw stack of other software.

    Parameters
    ----------
    source : Path or RawPlan
        What :func:`tisr_scope.formats.reader.open_stack` takes, or its plan.
    out : Path
        New or empty folder.
    raw : RawSettings, optional
        What the file does not say, or says wrongly.
    making : Making, optional

    Returns
    -------
    file : Path
        The SIM image.

    Raises
    ------
    DataError
        If the file cannot be read, or it is not clear which of its frames are patterns.
    ReconstructionError
        For unusable frames, or where no stripes are found that can be trusted.
    """
    making = making or Making()
    plan = source if isinstance(source, RawPlan) else plan_raw(source, raw)
    otf = detection_otf(
        plan.numerical_aperture.value,
        plan.emission_nm.value,
        making.otf_file,
        making.otf_damping,
    )
    frames = np.asarray(plan.frames, np.float32)
    new_folder(out)
    result = reconstruct_region(
        frames,
        otf,
        plan.pixel_size_um.value,
        offset_known=False,
        nominal=plan.nominal,
        estimation=making.estimation,
        settings=making.settings,
        device=making.device,
        where=str(plan.path),
    )
    about = {
        "source": str(plan.path),
        "intensity_unit": "counts of the file over background",
        "read_as": plan.told,
    }
    name = plan.path.name.partition(".")[0]
    return _write(out, name, result, otf, plan.interval_s.value, plan.path.name, about, making)


def new_folder(out: Path) -> None:
    """Make the folder for the images; refuse one that holds something already."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            "the folder for the images is not empty",
            where=str(out),
            remedy="name a new one, or move the old images away",
        )
    out.mkdir(parents=True, exist_ok=True)


def _tell(left_out: dict[int, str], times: list[int], recording: Recording) -> None:
    """Warn of time points that are left out; refuse where nothing is left."""
    if not left_out:
        return
    first, text = next(iter(left_out.items()))
    told = f"time point {first + 1}: {text}"
    if not times:
        raise ReconstructionError(
            f"none of {len(left_out)} time points is as it was commanded; {told}",
            where=str(recording.path),
            remedy="look at 'tisr verify' for all of them, mend wiring or profile, record again",
        )
    warnings.warn(f"{len(left_out)} time points are left out; {told}", stacklevel=3)


def _write(
    out: Path,
    name: str,
    result: Reconstruction,
    otf: DetectionOtf,
    interval_s: float,
    title: str,
    about: dict[str, Any],
    making: Making,
) -> Path:
    pixel = result.parameters.pixel_size_um
    fine = pixel * result.widefield.shape[-1] / result.image.shape[-1]
    wide_path, image_path = (out / f"{name}_{kind}.ome.tif" for kind in ("widefield", "sim"))
    write_series(wide_path, result.widefield, pixel, interval_s, f"{title} wide field")
    write_series(image_path, result.image, fine, interval_s, f"{title} SIM")
    write_figure(
        out / f"{name}_figure.png",
        result.widefield[0],
        result.image[0],
        result.parameters,
        otf.cutoff,
        title,
    )
    write_json(
        out / f"{name}_parameters.json",
        {
            **about,
            "background": np.round(result.background, 2).tolist(),
            "hot_pixels_yx": result.defects.hot.tolist(),
            "dead_pixels_yx": result.defects.dead.tolist(),
            "sim_parameters": result.parameters.to_dict(),
            "wiener": asdict(making.settings),
            "optics": {
                "numerical_aperture": otf.numerical_aperture,
                "emission_nm": otf.emission_nm,
                "transfer": otf.kind,
            },
            "provenance": provenance(),
        },
    )
    if making.report:
        quality = measure_quality(
            result.frames,
            result.image,
            result.parameters,
            otf,
            making.settings,
            saturation=result.saturation,
        )
        write_report(out, name, quality, otf.cutoff, title)
        write_diagnostics(
            out / f"{name}_diagnostics.png", result.frames, result.parameters, otf, title
        )
    return image_path
