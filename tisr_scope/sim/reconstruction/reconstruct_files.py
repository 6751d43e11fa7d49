"""Reconstruction from files to files: recordings of this package and raw stacks of others.

For each channel and position a folder receives ``<name>_widefield.ome.tif``,
``<name>_sim.ome.tif``, ``<name>_parameters.json`` and ``<name>_figure.png``; with a report also
``<name>_report.json`` and ``<name>_report.png``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Float, Num

from tisr_scope.errors import DataError, ReconstructionError
from tisr_scope.formats.biotisr import fold_raw, read_mrc
from tisr_scope.formats.ome_tiff import write_series
from tisr_scope.profiles.schema import Profile
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.order_check import unusable_time_points
from tisr_scope.recording.recording import Recording
from tisr_scope.sim.optics.otf import DetectionOtf, incoherent_otf, measured_otf
from tisr_scope.sim.parameters.estimate import SimParameters, nominal_carriers
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings, reconstruct
from tisr_scope.sim.reconstruction.widefield import widefield
from tisr_scope.sim.report.quality import measure_quality
from tisr_scope.sim.report.quality_figure import write_report
from tisr_scope.sim.report.reconstruction_figure import write_figure

BACKGROUND_PERCENTILE = 1.0


@dataclass(frozen=True)
class Reconstruction:
    """Wide field, SIM image and the parameters that gave it.

    Attributes
    ----------
    widefield : array, shape (time, y, x)
        Mean over the patterns.
    image : array, shape (time, u y, u x)
        SIM reconstruction, negative values kept; u is 1 + orders.
    parameters : SimParameters
        As estimated.
    frames : array, shape (time, orientation, phase, y, x)
        That were reconstructed: as given, or with the drift corrected.
    """

    widefield: Float[np.ndarray, "time y x"]
    image: Float[np.ndarray, "time fy fx"]
    parameters: SimParameters
    frames: Float[np.ndarray, "time orientation phase y x"]


def detection_otf(
    numerical_aperture: float, emission_nm: float, otf_file: Path | None = None
) -> DetectionOtf:
    """Measured transfer function where a file is given, else the closed form."""
    if otf_file is None:
        return incoherent_otf(numerical_aperture, emission_nm)
    return measured_otf(otf_file, numerical_aperture, emission_nm)


def reconstruct_stack(
    frames: Float[np.ndarray, "time orientation phase y x"],
    otf: DetectionOtf,
    pixel_um: float,
    *,
    nominal: Float[np.ndarray, "orientation 2"] | None = None,
    estimation: Estimation | None = None,
    settings: WienerSettings | None = None,
    saturation: float | None = None,
    device: str = "cpu",
    where: str = "SIM stack",
) -> Reconstruction:
    """Estimate the parameters of a stack, whose background is off already, and reconstruct it.

    Raises
    ------
    ReconstructionError
        For unusable frames, or where no stripes are found that can be trusted.
    """
    frames, parameters = (estimation or Estimation()).apply(
        frames, otf, pixel_um, nominal=nominal, saturation=saturation, where=where
    )
    image = reconstruct(frames, parameters, otf, settings, device=device)
    return Reconstruction(widefield(frames), image, parameters, frames)


def recording_nominal(profile: Profile, channel: int) -> Float[np.ndarray, "orientation 2"] | None:
    """Carriers that a profile asks for; None where it does not say."""
    period = profile.channels[channel].pattern_period_um
    if period is None or profile.illumination is None:
        return None
    return nominal_carriers(profile.illumination.angles_rad, period)


def saturation_electrons(profile: Profile) -> float:
    """Photo-electrons at which a pixel of the profile's camera is saturated."""
    camera = profile.microscope.camera
    return (camera.saturation_adu - camera.offset_adu) * camera.electrons_per_adu


def reconstruct_recording(
    recording: Recording | Path,
    out: Path,
    *,
    estimation: Estimation | None = None,
    settings: WienerSettings | None = None,
    otf_file: Path | None = None,
    device: str = "cpu",
    report: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Reconstruct the highest light level of every channel and position of a recording.

    Parameters
    ----------
    recording : Recording or Path
        In paired mode, or a time-lapse that keeps all patterns.
    out : Path
        New or empty folder.
    estimation : Estimation, optional
        Orders, phases, weak orientations, background.
    settings : WienerSettings, optional
        Of the reconstruction.
    otf_file : Path, optional
        Measured radial transfer function; the closed form with the profile's optics if omitted.
    device : str
        Where to compute.
    report : bool
        Measure the quality of the first time point too.
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
        background = (estimation or Estimation()).background or 0.0
        frames -= np.float32(background)
        saturation = saturation_electrons(profile) - background
        otf = detection_otf(
            profile.optics.numerical_aperture, profile.channels[channel].emission_nm, otf_file
        )
        result = reconstruct_stack(
            frames,
            otf,
            recording.pixel_size_um,
            nominal=recording_nominal(profile, channel),
            estimation=estimation,
            settings=settings,
            saturation=saturation,
            device=device,
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
        files.append(_write(out, name, result, otf, interval, title, about, settings))
        if report:
            quality = measure_quality(
                result.frames,
                result.image,
                result.parameters,
                otf,
                settings,
                saturation=saturation,
            )
            write_report(out, name, quality, otf.cutoff, title)
    if progress:
        progress(len(jobs), len(jobs))
    return files


def reconstruct_raw_file(
    path: Path,
    out: Path,
    *,
    orientations: int = 3,
    phases: int = 3,
    pixel_size_um: float = 0.0626,
    numerical_aperture: float = 1.49,
    emission_nm: float = 525.0,
    interval_s: float = 1.0,
    profile: Profile | None = None,
    channel: int = 0,
    estimation: Estimation | None = None,
    settings: WienerSettings | None = None,
    otf_file: Path | None = None,
    device: str = "cpu",
    report: bool = False,
) -> Path:
    """Reconstruct a raw stack whose frames are folded into one axis, phase fastest.

    Raw stacks come with offsets of every kind, even another one for each orientation, so the
    background (1st percentile of the wide field of each orientation and time point) is taken off
    before the orientations are brought to the same brightness.

    Parameters
    ----------
    path : Path
        ``.mrc``, ``.tif`` or ``.tiff``.
    out : Path
        New or empty folder.
    orientations, phases : int
        Layout of the stack.
    pixel_size_um, numerical_aperture, emission_nm : float
        Optics in the sample.
    interval_s : float
        Time between time points, for the files' metadata.
    profile : Profile, optional
        Overrides layout and optics and gives the nominal carriers.
    channel : int
        Channel of the profile.
    estimation : Estimation, optional
        Orders, phases, weak orientations, background.
    settings : WienerSettings, optional
        Of the reconstruction.
    otf_file : Path, optional
        Measured radial transfer function.
    device : str
        Where to compute.
    report : bool
        Measure the quality of the first time point too.

    Returns
    -------
    file : Path
        The SIM image.

    Raises
    ------
    DataError
        If the file cannot be read, or the number of frames does not fit.
    ReconstructionError
        For unusable frames, or where no stripes are found that can be trusted.
    """
    path = Path(path)
    nominal = None
    if profile is not None:
        if profile.illumination is None:
            raise DataError(
                "the profile has no structured illumination",
                where=profile.name,
                remedy="choose a profile with illumination, or state the optics",
            )
        orientations, phases = profile.illumination.orientations, profile.illumination.phases
        pixel_size_um = profile.optics.pixel_size_um
        numerical_aperture = profile.optics.numerical_aperture
        emission_nm = profile.channels[channel].emission_nm
        nominal = recording_nominal(profile, channel)
    frames = fold_raw(read_stack(path), orientations, phases, str(path)).astype(np.float32)
    background = np.percentile(frames.mean(axis=2), BACKGROUND_PERCENTILE, axis=(-2, -1))
    if estimation is not None and estimation.background is not None:
        background = np.full(background.shape, estimation.background)
    frames -= background[:, :, None, None, None].astype(np.float32)
    otf = detection_otf(numerical_aperture, emission_nm, otf_file)
    new_folder(out)
    result = reconstruct_stack(
        frames,
        otf,
        pixel_size_um,
        nominal=nominal,
        estimation=estimation,
        settings=settings,
        device=device,
        where=str(path),
    )
    about = {
        "source": str(path),
        "intensity_unit": "counts of the file over background",
        "background": np.round(background, 2).tolist(),
    }
    image = _write(out, path.stem, result, otf, interval_s, path.name, about, settings)
    if report:
        quality = measure_quality(result.frames, result.image, result.parameters, otf, settings)
        write_report(out, path.stem, quality, otf.cutoff, path.name)
    return image


def read_stack(path: Path) -> Num[np.ndarray, "frame y x"]:
    """Frames of an MRC or TIFF file.

    Raises
    ------
    DataError
        If it is missing, damaged, of another format, or no series of frames.
    """
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in {".mrc", ".tif", ".tiff"}:
        raise DataError(
            "no raw stack", where=str(path), remedy="give an existing .mrc, .tif or .tiff file"
        )
    if suffix == ".mrc":
        data, _ = read_mrc(path)
    else:
        try:
            data = tifffile.imread(path)
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise DataError(
                f"not a readable TIFF file: {error}", where=str(path), remedy="export it again"
            ) from error
    if data.ndim < 3 or np.iscomplexobj(data):
        raise DataError(
            f"an array of shape {data.shape}, {data.dtype} is no series of frames",
            where=str(path),
            remedy="give the raw frames as one stack",
        )
    return data.reshape(-1, *data.shape[-2:])


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
    settings: WienerSettings | None,
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
            "sim_parameters": result.parameters.to_dict(),
            "wiener": asdict(settings or WienerSettings()),
            "optics": {
                "numerical_aperture": otf.numerical_aperture,
                "emission_nm": otf.emission_nm,
                "transfer": "closed form" if otf.radial_step is None else "measured",
            },
            "provenance": provenance(),
        },
    )
    return image_path
