"""Audit of stored results: every super-resolved frame against the patterned frames of its moment.

No truth is needed, see :mod:`tisr_scope.confidence.side_band_audit`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tisr_scope.confidence.audit_alarm import AuditAlarm, in_words
from tisr_scope.confidence.side_band_audit import Audit, AuditSums, SideBandAuditor
from tisr_scope.errors import DataError
from tisr_scope.evaluation.audit_figure import write_audit_figure
from tisr_scope.formats.raw_stack import PatternLayout, read_raw_stack
from tisr_scope.inference.result_store import RESULT, StoredResults, open_results
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.recording import Recording
from tisr_scope.sim.optics.otf import DetectionOtf, incoherent_otf
from tisr_scope.sim.parameters.estimate import SimParameters, estimate_parameters
from tisr_scope.sim.reconstruction.region import recording_nominal

MOST_SETS = 16
"""Whose mean gives carriers and depths: dim frames are lifted out of the noise."""
TILES = 4
"""Regions along an axis."""
BRIGHT, DIM = 0.3, 0.05
"""Of the 99.9th percentile of the result: structure, and where there is next to nothing."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PatternedFrames:
    """Patterned frames of one channel and position, and their optics."""

    source: str
    count: int
    read: Callable[[int], Float[np.ndarray, "orientation phase y x"]]
    """Frames of one time point in photo-electrons."""
    otf: DetectionOtf
    pixel_size_um: float
    nominal: Float[np.ndarray, "orientation 2"] | None

    def parameters(self) -> SimParameters:
        """Carriers, depths and phases from the mean of evenly spaced time points."""
        chosen = np.unique(np.linspace(0, self.count - 1, min(self.count, MOST_SETS)).astype(int))
        mean = np.mean([self.read(int(t)) for t in chosen], axis=0)
        return estimate_parameters(
            mean,
            self.otf,
            self.pixel_size_um,
            nominal=self.nominal,
            allow_weak=True,
            where=self.source,
        )


@dataclass(frozen=True)
class AuditReport:
    """Audit of one result.

    Attributes
    ----------
    result : Path
        Folder of the results.
    time_indices : tuple of int
        Time points that were audited.
    moments : tuple of Audit
        Of every time point.
    regions : dict
        Name to mask on the camera's grid.
    image : array, shape (fy, fx)
        Super-resolved frame in the middle.
    optics_cutoff : float
        Cycles per micrometre.
    pixel_size_um : float
        Camera pixel.
    """

    result: Path
    time_indices: tuple[int, ...]
    moments: tuple[Audit, ...]
    regions: dict[str, Bool[np.ndarray, "y x"]]
    image: Float[np.ndarray, "fy fx"]
    optics_cutoff: float
    pixel_size_um: float

    @property
    def total(self) -> Audit:
        """All time points together."""
        total = self.moments[0]
        for one in self.moments[1:]:
            total = total + one
        return total

    @property
    def verdict(self) -> str:
        """In one line."""
        return in_words(self.total.overall)

    @property
    def alarm(self) -> str | None:
        """Why the result is not to be believed, at any time point; None where nothing alarms."""
        judge = AuditAlarm()
        reasons = [judge.add(one.overall) for one in self.moments]
        return next((reason for reason in reversed(reasons) if reason), None)

    def as_json(self) -> dict[str, Any]:
        """Plain types."""
        total = self.total
        return {
            "verdict": self.verdict,
            "alarm": self.alarm,
            "true_beyond_the_diffraction_limit": _values(total.overall),
            "by_orientation": _values(total.by_orientation),
            "by_frequency": {
                "cycles_per_um": np.round(total.frequency, 3).tolist(),
                **_values(total.by_frequency),
            },
            "by_region": {
                name: _values(total.maps.inside(mask)) for name, mask in self.regions.items()
            },
            "time_points": {
                "t": list(self.time_indices),
                **{
                    key: [_values(one.overall)[key] for one in self.moments]
                    for key in ("correlation", "standard_error")
                },
            },
            "optics_cutoff_cycles_per_um": self.optics_cutoff,
        }


def audit_recording(
    recording: Recording, channel: int, position: int, level: int | None = None
) -> PatternedFrames:
    """Patterned frames of a recording; of its highest light level unless one is named.

    Raises
    ------
    DataError
        If it holds no patterns, or has no such level.
    """
    levels = recording.sim_shape[2]
    chosen = levels - 1 if level is None else level
    if recording.sim_shape[1] < 3 or recording.time_points < 1:
        raise DataError(
            "the recording holds no complete time point with stripes, so nothing tells how much "
            "of a super-resolved image is true",
            where=str(recording.path),
            remedy="record a time-lapse with widefield: pattern_mean, or in paired mode",
        )
    if not 0 <= chosen < levels:
        raise DataError(
            f"there is no laser level {chosen + 1}, the recording has {levels}",
            where=str(recording.path),
            remedy=f"choose a level from 1 to {levels}",
        )

    def read(t: int) -> Float[np.ndarray, "orientation phase y x"]:
        return recording.electrons(recording.frames(t, channel, position)[:, :, chosen])

    optics = recording.profile.optics
    return PatternedFrames(
        source=str(recording.path),
        count=recording.time_points,
        read=read,
        otf=incoherent_otf(
            optics.numerical_aperture, recording.profile.channels[channel].emission_nm
        ),
        pixel_size_um=recording.pixel_size_um,
        nominal=recording_nominal(recording.profile, channel),
    )


def audit_raw_stack(
    path: Path,
    *,
    orientations: int = 3,
    phases: int = 3,
    numerical_aperture: float,
    emission_nm: float,
    pixel_size_um: float,
    offset_adu: float = 0.0,
) -> PatternedFrames:
    """Patterned frames of a raw stack, phase fastest, then orientation, then time.

    Raises
    ------
    DataError
        If the file cannot be read, or the number of frames does not fit.
    """
    raw = read_raw_stack(path, PatternLayout(orientations, phases))
    stack = raw.plane().astype(np.float32)
    stack -= np.float32(offset_adu)
    return PatternedFrames(
        source=str(path),
        count=len(stack),
        read=lambda t: stack[t],
        otf=incoherent_otf(numerical_aperture, emission_nm),
        pixel_size_um=pixel_size_um,
        nominal=None,
    )


def audit_result(
    frames: PatternedFrames, result: Path, out: Path, *, progress: Progress | None = None
) -> AuditReport:
    """Audit every stored frame of one result.

    Writes ``audit.csv`` (one row for each time point and region), ``audit.json`` and
    ``audit.png``.

    Parameters
    ----------
    frames : PatternedFrames
        Of the recording that was super-resolved.
    result : Path
        Folder of one channel, as ``tisr infer`` and ``tisr live`` write it.
    out : Path
        Folder for the files.
    progress : callable, optional
        Called with (done, total) frames.

    Raises
    ------
    DataError
        If the result does not belong to the frames.
    RecordingError
        If it cannot be read.
    ReconstructionError
        If the frames show no stripes.
    """
    stored = open_results(result)
    upscale = int(stored.description["upscale"])
    chosen = _shared(stored, frames)
    parameters = frames.parameters()
    shape = frames.read(0).shape[-2:]
    auditor = SideBandAuditor(parameters, frames.otf, (shape[0], shape[1]), upscale)
    moments: list[Audit] = []
    brightness: Float[np.ndarray, "fy fx"] | None = None
    for done, (index, t) in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen))
        image = stored.intensity(index)
        moments.append(auditor.audit(frames.read(t), image))
        brightness = image if brightness is None else brightness + image
    if progress is not None:
        progress(len(chosen), len(chosen))
    assert brightness is not None
    report = AuditReport(
        result=result,
        time_indices=tuple(t for _, t in chosen),
        moments=tuple(moments),
        regions=regions(brightness / len(chosen), upscale),
        image=stored.intensity(chosen[len(chosen) // 2][0]),
        optics_cutoff=frames.otf.cutoff,
        pixel_size_um=frames.pixel_size_um,
    )
    out.mkdir(parents=True, exist_ok=True)
    settings = {"recording": frames.source, "result": str(result)}
    write_json(out / "audit.json", report.as_json() | {"provenance": provenance(settings)})
    with (out / "audit.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time_point", "region", "correlation", "standard_error", "signal_share"])
        writer.writerows(_rows(report))
    write_audit_figure(
        out / "audit.png",
        report.total,
        {t: one.overall for t, one in zip(report.time_indices, report.moments, strict=True)},
        report.image,
        pixel_size_um=report.pixel_size_um,
        title=f"{result.name}: {report.verdict}",
    )
    return report


def result_folders(result: Path) -> list[Path]:
    """Folders of single channels in a folder of results, or that folder itself.

    Raises
    ------
    DataError
        If there are no results.
    """
    for parent in (result, result / "super_resolution"):
        if (parent / RESULT).is_file():
            return [parent]
        found = sorted(p.parent for p in parent.glob(f"*/{RESULT}"))
        if found:
            return found
    raise DataError(
        "there are no super-resolved frames in this folder",
        where=str(result),
        remedy="give the folder that 'tisr infer' or 'tisr live' wrote",
    )


def place_of(recording: Recording, folder: Path) -> tuple[int, int]:
    """Channel and position of a recording that a result shows.

    Raises
    ------
    DataError
        If the recording has no such channel.
    """
    description = open_results(folder).description
    name = str(description.get("channel", folder.name))
    for number, channel in enumerate(recording.channels):
        match = re.fullmatch(rf"{re.escape(channel)}(?:_p(\d+))?", name)
        if match:
            return number, int(description.get("position") or match[1] or 0)
    raise DataError(
        f"the result shows a channel {name!r}, the recording has {', '.join(recording.channels)}",
        where=str(folder),
        remedy="give the recording that the result was made of",
    )


def regions(image: Float[np.ndarray, "fy fx"], upscale: int) -> dict[str, Bool[np.ndarray, "y x"]]:
    """Bright structure, dim structure, next to nothing, and even tiles, on the camera's grid."""
    height, width = (n // upscale for n in image.shape)
    small = image.reshape(height, upscale, width, upscale).mean(axis=(1, 3))
    top = float(np.percentile(small, 99.9))
    found = {
        "bright": small >= BRIGHT * top,
        "dim": (small < BRIGHT * top) & (small >= DIM * top),
        "empty": small < DIM * top,
    }
    rows, columns = (np.array_split(np.arange(n), TILES) for n in (height, width))
    for r, row in enumerate(rows):
        for c, column in enumerate(columns):
            tile = np.zeros((height, width), bool)
            tile[np.ix_(row, column)] = True
            found[f"row {r + 1} column {c + 1}"] = tile
    return found


def _shared(stored: StoredResults, frames: PatternedFrames) -> list[tuple[int, int]]:
    """Index and time point of the results that have patterned frames of their own."""
    times = list(enumerate(stored.time_indices))
    still = frames.count == 1 and len(times) > 1
    chosen = [times[len(times) // 2]] if still else times
    found = [(index, 0 if still else t) for index, t in chosen if still or t < frames.count]
    if not found:
        raise DataError(
            f"none of the {len(times)} super-resolved time points has patterned frames",
            where=str(stored.folder),
            remedy="give the recording that the result was made of",
        )
    return found


def _rows(report: AuditReport) -> Iterator[tuple[int, str, float | str, float | str, float]]:
    for t, one in zip(report.time_indices, report.moments, strict=True):
        for name, sums in (
            ("all", one.overall),
            *((name, one.maps.inside(mask)) for name, mask in report.regions.items()),
        ):
            value = _values(sums)
            yield (
                t,
                name,
                "" if value["correlation"] is None else value["correlation"],
                "" if value["standard_error"] is None else value["standard_error"],
                value["signal_share"] or 0.0,
            )


def _values(sums: AuditSums) -> dict[str, Any]:
    share = sums.signal / np.maximum(sums.measured, 1e-300)
    return {
        "correlation": _plain(sums.correlation),
        "standard_error": _plain(sums.standard_error),
        "signal_share": _plain(share),
    }


def _plain(values: Float[np.ndarray, "*any"]) -> Any:
    """Numbers for JSON; None stands for what cannot be told."""
    if np.ndim(values) == 0:
        return round(float(values), 4) if np.isfinite(values) else None
    return [_plain(value) for value in values]
