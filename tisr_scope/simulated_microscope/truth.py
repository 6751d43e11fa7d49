"""What a simulated recording really looked at.

The truth of a time point is the specimen under even light, without noise, at the mean time of the
point's frames, as bleached as it was on their average, seen through the transfer function that an
ideal SIM reconstruction reaches: the cosine apodisation

    A(k) = cos(pi/2 * k / (fc + k0))   for k < fc + k0, else 0

with detection cut-off fc and pattern frequency k0.  Reconstructions use the same one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from tisr_scope.errors import DataError, RecordingError
from tisr_scope.profiles.library import config_path
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.simulated_microscope.detection import CosineApodisation, cutoff
from tisr_scope.simulated_microscope.world_config import is_simulation, load_world


@runtime_checkable
class Entry(Protocol):
    """What is needed of a journal entry."""

    @property
    def t(self) -> int:
        """Time point."""

    @property
    def channel(self) -> int:
        """Channel index."""

    @property
    def position(self) -> int:
        """Position index."""

    @property
    def camera(self) -> Mapping[str, Any]:
        """Metadata the camera gave with the frame."""


@runtime_checkable
class SimulatedRecording(Protocol):
    """What is needed of a recording."""

    @property
    def path(self) -> Path:
        """Folder."""

    @property
    def profile(self) -> Profile:
        """Profile as it was run."""

    @property
    def mode(self) -> str:
        """``paired`` or ``timelapse``."""

    @property
    def time_points(self) -> int:
        """Complete time points."""

    @property
    def settings(self) -> Sequence[DeviceSetting]:
        """Device settings on top of the profile's."""

    @property
    def journal(self) -> Sequence[Entry]:
        """Every frame on disk."""


def is_simulated(recording: SimulatedRecording) -> bool:
    """Whether a recording was made with the simulated microscope."""
    text = _config_text(recording)
    return text is not None and is_simulation(text)


def truth_stack(
    recording: SimulatedRecording, channel: int = 0, position: int = 0, upscale: int = 2
) -> Float32[np.ndarray, "time fy fx"]:
    """Noiseless specimen at each complete time point of a simulated recording.

    Parameters
    ----------
    recording : Recording
        A paired or time-lapse recording of the simulated microscope.
    channel, position : int
        Which channel and stage position.
    upscale : int
        Each camera pixel is split into ``upscale`` x ``upscale`` (centre-aligned).

    Returns
    -------
    array, shape (time, upscale*y, upscale*x), float32
        Photons per camera pixel area at the highest level (paired) or at the power of the
        time-lapse, for one exposure: its mean is that of a noiseless wide-field frame in photons.

    Raises
    ------
    RecordingError
        If the recording was not simulated, or has no frames of this channel and position.
    DataError
        If the upscaled grid is too coarse for the resolution.
    """
    text = _config_text(recording)
    if text is None:
        raise RecordingError(
            "the configuration of the simulated microscope is not stored with the recording",
            where=str(recording.path),
            remedy="restore provenance.json, or only ask recordings with a known configuration",
        )
    profile = recording.profile
    settings = (*profile.microscope.settings, *recording.settings)
    world, lines = load_world(text, settings, str(recording.path))
    of = profile.channels[channel]
    line = lines[of.laser.device]
    world.lines[line].power_mw, world.exposure_ms = _light(recording, channel)
    edge = cutoff(world.numerical_aperture, world.lines[line].emission_nm)
    if of.pattern_period_um is not None:
        edge += 1 / of.pattern_period_um
    if edge >= upscale / (2 * world.pixel_um):
        raise DataError(
            f"{upscale} x {upscale} parts of a {world.pixel_um} um pixel cannot hold "
            f"{edge:.1f} cycles/um",
            where=str(recording.path),
            remedy="ask for a higher upscale",
        )
    stack = []
    for t in range(recording.time_points):
        cameras = [
            entry.camera
            for entry in recording.journal
            if (entry.t, entry.channel, entry.position) == (t, channel, position)
        ]
        if not cameras:
            raise RecordingError(
                f"the journal has no frames of time point {t}, channel {channel}, "
                f"position {position}",
                where=str(recording.path),
                remedy="check the channel and position numbers, which count from 0",
            )
        world.stage_um = (_mean(cameras, "stage_x_um"), _mean(cameras, "stage_y_um"))
        left = 1 - _mean(cameras, f"bleached_fraction_{line}")
        image = world.photons(
            line, _mean(cameras, "sim_time_s"), transfer=CosineApodisation(edge), upscale=upscale
        )
        stack.append(left * image)
    return np.stack(stack).astype(np.float32)


def _light(recording: SimulatedRecording, channel: int) -> tuple[float, float]:
    """Power in milliwatts and exposure in milliseconds that set the scale."""
    profile = recording.profile
    of = profile.channels[channel]
    if recording.mode == "paired" and profile.paired is not None:
        return of.levels_mw[-1], profile.paired.exposure_ms
    if recording.mode == "timelapse" and profile.timelapse is not None:
        return of.timelapse_mw, profile.timelapse.exposure_ms
    raise RecordingError(
        f"the profile of the recording has no {recording.mode!r} section",
        where=str(recording.path),
        remedy="restore profile.yaml from a copy of the recording",
    )


def _mean(cameras: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([float(camera[key]) for camera in cameras]))


def _config_text(recording: SimulatedRecording) -> str | None:
    """The configuration as it was when recorded, else as it is now."""
    provenance = recording.path / "provenance.json"
    if provenance.is_file():
        try:
            text = json.loads(provenance.read_text(encoding="utf-8")).get("config_text")
        except ValueError:
            text = None
        if isinstance(text, str):
            return text
    config = Path(config_path(recording.profile, recording.path / "profile.yaml"))
    return config.read_text(encoding="utf-8") if config.is_file() else None
