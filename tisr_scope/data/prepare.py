"""From recordings to training pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tisr_scope.data.ome_tiff import write_series
from tisr_scope.data.pairs import SUBSETS, read_about
from tisr_scope.data.recording import Recording
from tisr_scope.errors import DataError
from tisr_scope.provenance import provenance, write_json
from tisr_scope.sim.files import reconstruct_stack, recording_nominal, saturation_electrons
from tisr_scope.sim.optics import DetectionOtf, incoherent_otf
from tisr_scope.sim.reconstruct import WienerSettings
from tisr_scope.sim.widefield import widefield

_NAMED = {"train": "train", "training": "train", "validation": "validation", "test": "test"}
FORMAT = 2
"""Raised whenever the numbers of a pair would come out differently."""


@dataclass(frozen=True)
class Split:
    """How recordings are divided into training, validation and test.

    Attributes
    ----------
    by_name : bool
        Recordings whose name starts with ``training``, ``validation`` or ``test`` and an
        underscore go there; any other name is an error.
    validation, test : float
        Fractions of the recordings; at least one each where there are three or more, and one for
        validation where there are two.
    seed : int
        Of the random division.
    named : mapping, optional
        Recording name to subset, instead of everything above.
    """

    by_name: bool = False
    validation: float = 0.15
    test: float = 0.2
    seed: int = 0
    named: Mapping[str, str] | None = None

    def assign(self, names: Sequence[str]) -> dict[str, str]:
        """Subset of every recording.

        Raises
        ------
        DataError
            If a recording has no subset, or two recordings have the same name.
        """
        if len(set(names)) != len(names):
            doubled = sorted({name for name in names if names.count(name) > 1})
            raise DataError(
                f"several recordings are named {', '.join(doubled)}",
                remedy="rename a folder: recordings are told apart by their names",
            )
        if self.named is not None:
            chosen = {name: self.named.get(name, "") for name in names}
        elif self.by_name:
            chosen = {name: _NAMED.get(name.split("_")[0].lower(), "") for name in names}
        else:
            return self._random(names)
        lost = sorted(name for name, subset in chosen.items() if subset not in SUBSETS)
        if lost:
            raise DataError(
                f"no subset for {', '.join(lost)}",
                remedy="name recordings training_..., validation_... or test_..., or list each",
            )
        return chosen

    def _random(self, names: Sequence[str]) -> dict[str, str]:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise DataError(
                f"fractions {self.validation} and {self.test} leave nothing to train with",
                remedy="validation + test must be below 1",
            )
        order = np.random.default_rng(self.seed).permutation(sorted(names)).tolist()
        counts = [
            # One recording each, as soon as one is left to train with.
            0 if fraction == 0 or len(order) <= needed else max(1, round(fraction * len(order)))
            for needed, fraction in ((1, self.validation), (2, self.test))
        ]
        subsets = ["validation"] * counts[0] + ["test"] * counts[1]
        subsets += ["train"] * (len(order) - len(subsets))
        return dict(zip(order, subsets, strict=False))


def prepare(
    recordings: Sequence[Recording | Path],
    out: Path,
    *,
    split: Split | None = None,
    wiener: WienerSettings | None = None,
    otf: DetectionOtf | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Make the training pairs of recordings; pairs that are there already are kept.

    Parameters
    ----------
    recordings : sequence of Recording or Path
        In paired mode.
    out : Path
        Folder of the pairs.
    split : Split, optional
        Random by default, by recording.
    wiener : WienerSettings, optional
        Settings of the reconstruction.
    otf : DetectionOtf, optional
        Detection optics; from the profile of each recording if omitted.
    device : str
        Where to reconstruct.
    progress : callable, optional
        Called with (done, total) pairs.

    Returns
    -------
    folders : list of Path
        Every pair, in the order of recordings, channels and positions.

    Raises
    ------
    DataError
        If a recording was not made in paired mode, or the split cannot be made.
    ReconstructionError
        If a recording cannot be reconstructed; nothing is written for it.
    """
    opened = [r if not isinstance(r, str | Path) else Recording.open(r) for r in recordings]
    if not opened:
        raise DataError("there are no recordings to prepare", remedy="give their folders")
    subsets = (split or Split()).assign([recording.name for recording in opened])
    for recording in opened:
        _require_paired(recording)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    settings = wiener or WienerSettings()
    jobs = [
        (recording, channel, position)
        for recording in opened
        for channel in range(len(recording.profile.channels))
        for position in range(max(1, len(recording.profile.positions)))
    ]
    table: dict[str, list[str]] = {subset: [] for subset in SUBSETS}
    folders = []
    for done, (recording, channel, position) in enumerate(jobs):
        if progress:
            progress(done, len(jobs))
        folder = out / pair_name(recording, channel, position)
        optics = otf or _profile_otf(recording, channel)
        _prepare_one(recording, channel, position, folder, settings, optics, device)
        table[subsets[recording.name]].append(folder.name)
        folders.append(folder)
    write_json(out / "split.json", table)
    if progress:
        progress(len(jobs), len(jobs))
    return folders


def pair_name(recording: Recording, channel: int, position: int) -> str:
    """Folder name of a pair."""
    several = len(recording.profile.positions) > 1
    tail = f"_p{position}" if several else ""
    return f"{recording.name}_{recording.profile.channels[channel].name}{tail}"


# ------------------------------------------------------------------------------------- inside


def _require_paired(recording: Recording) -> None:
    if recording.mode != "paired" or recording.profile.illumination is None:
        raise DataError(
            f"a recording in mode {recording.mode!r} gives no pairs",
            where=str(recording.path),
            remedy="record with 'tisr acquire --mode paired'",
        )
    if recording.time_points < 1:
        raise DataError(
            "the recording holds no complete time point",
            where=str(recording.path),
            remedy="go on with 'tisr acquire --resume', or leave the recording out",
        )


def _profile_otf(recording: Recording, channel: int) -> DetectionOtf:
    optics = recording.profile.optics
    return incoherent_otf(
        optics.numerical_aperture, recording.profile.channels[channel].emission_nm
    )


def _prepare_one(
    recording: Recording,
    channel: int,
    position: int,
    folder: Path,
    settings: WienerSettings,
    otf: DetectionOtf,
    device: str,
) -> None:
    from tisr_scope.simulation.truth import is_simulated, truth_stack

    simulated = is_simulated(recording)
    made_from = {
        "format": FORMAT,
        "time_points": recording.time_points,
        "wiener": asdict(settings),
        "otf": _plain(asdict(otf)),
        "simulated": simulated,
    }
    about = read_about(folder)
    if about is not None and about.get("made_from") == made_from:
        return
    frames = np.stack(
        [recording.frames(t, channel, position) for t in range(recording.time_points)]
    )  # (time, orientation, phase, level, y, x)
    levels = frames.shape[3]
    images = [widefield(recording.electrons(frames[:, :, :, level])) for level in range(levels)]
    highest = recording.electrons(frames[:, :, :, -1])
    profile = recording.profile
    pixel, interval = profile.optics.pixel_size_um, recording.interval_s(channel, position)
    result = reconstruct_stack(
        highest,
        otf,
        pixel,
        nominal=recording_nominal(profile, channel),
        settings=settings,
        saturation=saturation_electrons(profile),
        device=device,
        where=f"{recording.path}, channel {profile.channels[channel].name}",
    )
    target, parameters = result.image, result.parameters
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pair.json").unlink(missing_ok=True)
    for number, image in enumerate(images):
        write_series(
            folder / f"widefield_level_{number + 1}.ome.tif",
            image,
            pixel,
            interval,
            f"{folder.name} wide field level {number + 1}",
        )
    fine = pixel * image.shape[-1] / target.shape[-1]
    write_series(folder / "target.ome.tif", target, fine, interval, f"{folder.name} SIM")
    if simulated:
        truth = truth_stack(recording, channel=channel, position=position, upscale=2)
        write_series(folder / "truth.ome.tif", truth, fine, interval, f"{folder.name} truth")
    write_json(
        folder / "pair.json",
        {
            "recording": recording.name,
            "channel": profile.channels[channel].name,
            "position": position,
            "levels": levels,
            "raw_frames": frames.shape[1] * frames.shape[2],
            "levels_mw": list(profile.channels[channel].levels_mw),
            "pixel_size_um": pixel,
            "interval_s": interval,
            "intensity_unit": "photo-electrons per camera pixel and raw frame",
            "sim_parameters": parameters.to_dict(),
            "made_from": made_from,
            "provenance": provenance(),
        },
    )


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that settings compare equal after reading."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain
