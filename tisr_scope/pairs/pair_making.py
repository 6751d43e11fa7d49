"""The pairs of one recording, channel and position: check, reconstruct, cut, write."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt16

from tisr_scope.errors import DiskFull, ReconstructionError, RecordingError
from tisr_scope.pairs.pair_folder import read_about, write_pair
from tisr_scope.pairs.pair_measures import measure_time_point, with_offsets
from tisr_scope.pairs.pair_quality import Limits, PairQuality, TimePoint
from tisr_scope.pairs.pair_records import read_quality, write_quality
from tisr_scope.pairs.pair_verdict import decide
from tisr_scope.provenance import provenance
from tisr_scope.recording.order_check import OrderChecker
from tisr_scope.recording.origin import imported_from
from tisr_scope.recording.recording import Recording
from tisr_scope.sim.optics.otf import DetectionOtf, incoherent_otf
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings
from tisr_scope.sim.reconstruction.region import (
    Reconstruction,
    reconstruct_region,
    recording_nominal,
    saturation_electrons,
)
from tisr_scope.sim.reconstruction.widefield import widefield
from tisr_scope.simulated_microscope.truth import is_simulated, truth_stack

FORMAT = 5
"""Raised whenever the numbers of a pair would come out differently."""


@dataclass(frozen=True)
class PairSource:
    """One channel and stage position of a recording."""

    recording: Recording
    channel: int = 0
    position: int = 0

    @property
    def name(self) -> str:
        """Of its pair."""
        place = self.recording.plan.place_name(self.channel, self.position)
        return f"{self.recording.name}_{place}"

    @property
    def channel_name(self) -> str:
        """As the profile has it."""
        return self.recording.profile.channels[self.channel].name

    def frames(self, t: int) -> UInt16[np.ndarray, "orientation phase level y x"]:
        """Raw frames of a time point."""
        return self.recording.frames(t, self.channel, self.position)

    def electrons(self, t: int) -> Float[np.ndarray, "orientation phase level y x"]:
        """Raw frames of a time point in photo-electrons; zeros where it is not complete."""
        if not self.recording.is_complete(t):
            shape = (*self.recording.sim_shape, *self.recording.frame_shape)
            return np.zeros(shape, np.float32)
        return self.recording.electrons(self.frames(t))

    def camera(self, t: int) -> list[dict[str, Any]]:
        """What the camera said of each frame of a time point, in the order of exposure."""
        entries = self.recording.entries(t, self.channel, self.position)
        return [entry.camera for entry in sorted(entries, key=lambda entry: entry.index)]


@dataclass(frozen=True)
class MakingSettings:
    """What decides how a pair comes out, beside its frames; ``otf`` of the profile if None."""

    estimation: Estimation
    wiener: WienerSettings
    otf: DetectionOtf | None
    limits: Limits
    device: str


def make_pairs(
    source: PairSource, out: Path, settings: MakingSettings, advance: Callable[[int], None]
) -> PairQuality:
    """Write the pairs of a source, unless they are there already.

    Parameters
    ----------
    source : PairSource
    out : Path
        Folder of the pairs.
    settings : MakingSettings
    advance : callable
        Called with the number of time points that are checked, and checked again against their
        reconstruction: twice as many as there are.

    Returns
    -------
    quality : PairQuality
        With the folders that were made, or the reason why there are none.

    Raises
    ------
    DiskFull
        If there is no space left.
    """
    otf = settings.otf or _profile_otf(source)
    made_from = _made_from(source, settings, otf)
    before = read_quality(out, source.name, made_from)
    if before is not None and all(_is_finished(out / name, made_from) for name in before.pairs):
        return before
    quality = _unmeasured(source, settings)
    try:
        quality = decide(replace(quality, points=_measured(source, advance)))
        if quality.runs:
            quality = _written(source, out, settings, otf, made_from, quality)
    except (ReconstructionError, RecordingError) as error:
        # A full disk is a recording error too, but none of this recording.
        if isinstance(error, DiskFull):
            raise
        quality = replace(quality, runs=(), pairs=(), rejected=error.what)
    write_quality(out, quality, made_from)
    return quality


# ------------------------------------------------------------------------------------- inside


def _profile_otf(source: PairSource) -> DetectionOtf:
    profile = source.recording.profile
    return incoherent_otf(
        profile.optics.numerical_aperture, profile.channels[source.channel].emission_nm
    )


def _made_from(source: PairSource, settings: MakingSettings, otf: DetectionOtf) -> dict[str, Any]:
    """What a pair depends on, as JSON gives it back, so that it compares equal after reading."""
    checksums = np.array([entry.crc32 for entry in source.recording.journal], np.uint32)
    content = {
        "format": FORMAT,
        "time_points": source.recording.time_points,
        "frames_crc32": zlib.crc32(checksums.tobytes()),
        "estimation": asdict(settings.estimation),
        "wiener": asdict(settings.wiener),
        "otf": asdict(otf),
        "limits": asdict(settings.limits),
        "simulated": is_simulated(source.recording),
        "marks": [
            [mark.t, mark.text]
            for mark in source.recording.marks
            if mark.concerns(mark.t, source.channel, source.position)
        ],
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _is_finished(folder: Path, made_from: dict[str, Any]) -> bool:
    about = read_about(folder)
    return about is not None and about.get("made_from") == made_from


def _unmeasured(source: PairSource, settings: MakingSettings) -> PairQuality:
    recording = source.recording
    return PairQuality(
        name=source.name,
        recording=recording.name,
        channel=source.channel_name,
        position=source.position,
        levels_mw=recording.profile.channels[source.channel].levels_mw,
        interval_s=recording.interval_s(source.channel, source.position),
        points=(),
        limits=settings.limits,
    )


def _measured(source: PairSource, advance: Callable[[int], None]) -> tuple[TimePoint, ...]:
    recording = source.recording
    full, pixel_nm = saturation_electrons(recording.profile), 1e3 * recording.pixel_size_um
    checker = OrderChecker(recording.plan, source.channel, source.position)
    # Powers of imported recordings are often ranks only, which light need not follow.
    doubts = imported_from(recording.path) is None
    points = []
    for t in range(recording.time_points):
        told = [mark.text for mark in recording.faults(t, source.channel, source.position)]
        if recording.is_complete(t):
            frames = source.frames(t).reshape(-1, *recording.frame_shape)
            _, marks = checker.check(t, frames, source.camera(t))
            told += [mark.text for mark in marks if mark.bad or (doubts and mark.kind == "doubt")]
        point = measure_time_point(t, source.electrons(t), pixel_nm, full)
        points.append(replace(point, order_faults=tuple(dict.fromkeys(told))))
        advance(t + 1)
    return tuple(points)


def _written(
    source: PairSource,
    out: Path,
    settings: MakingSettings,
    otf: DetectionOtf,
    made_from: dict[str, Any],
    quality: PairQuality,
) -> PairQuality:
    """Reconstruct what is good, check it against its input, and write one pair for each run."""
    chosen, recording = quality.kept, source.recording
    frames = np.stack([source.frames(t) for t in chosen])  # (time, o, p, level, y, x)
    profile, pixel_um = recording.profile, recording.pixel_size_um
    images = np.stack(
        [widefield(recording.electrons(frames[:, :, :, n])) for n in range(frames.shape[3])]
    )  # (level, time, y, x)
    with warnings.catch_warnings():
        # What it warns of is kept as remarks, and told together with everything else.
        warnings.simplefilter("ignore", UserWarning)
        result = reconstruct_region(
            recording.electrons(frames[:, :, :, -1]),
            otf,
            pixel_um,
            offset_known=True,
            nominal=recording_nominal(profile, source.channel),
            estimation=settings.estimation,
            settings=settings.wiener,
            saturation=saturation_electrons(profile),
            device=settings.device,
            where=f"{recording.path}, channel {source.channel_name}",
        )
    points = list(quality.points)
    for place, t in enumerate(chosen):
        points[t] = with_offsets(points[t], images[:, place], result.image[place], 1e3 * pixel_um)
    remarks = result.parameters.remarks
    quality = decide(replace(quality, points=tuple(points), remarks=remarks))
    truth = None
    if is_simulated(recording) and quality.runs:
        upscale = result.image.shape[-1] // images.shape[-1]
        truth = truth_stack(
            recording, channel=source.channel, position=source.position, upscale=upscale
        )
    # A recording that lost nothing keeps its plain name.
    whole = quality.runs == ((0, recording.time_points - 1),)
    names = [source.name if whole else f"{source.name}_t{first:03d}" for first, _ in quality.runs]
    for name, (first, last) in zip(names, quality.runs, strict=True):
        places = slice(chosen.index(first), chosen.index(last) + 1)
        write_pair(
            out / name,
            _about(source, result, chosen, (first, last), frames.shape) | {"made_from": made_from},
            images[:, places],
            result.image[places],
            None if truth is None else truth[first : last + 1],
        )
    return replace(quality, pairs=tuple(names))


def _about(
    source: PairSource,
    result: Reconstruction,
    reconstructed: Sequence[int],
    run: tuple[int, int],
    shape: tuple[int, ...],
) -> dict[str, Any]:
    recording, profile = source.recording, source.recording.profile
    times = recording.times_s(source.channel, source.position)[run[0] : run[1] + 1]
    interval = recording.interval_s(source.channel, source.position)
    if len(times) > 1:
        interval = float((times[-1] - times[0]) / (len(times) - 1))
    return {
        "recording": recording.name,
        "channel": source.channel_name,
        "position": source.position,
        "time_points": list(run),
        "levels": shape[3],
        "raw_frames": shape[1] * shape[2],
        "levels_mw": list(profile.channels[source.channel].levels_mw),
        "pixel_size_um": recording.pixel_size_um,
        "interval_s": interval,
        "intensity_unit": "photo-electrons per camera pixel and raw frame",
        "sim_parameters": result.parameters.to_dict(),
        "sim_time_points": list(reconstructed),
        "provenance": provenance(),
    }
