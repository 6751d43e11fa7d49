"""The whole chain in under two minutes, without hardware.

A time-lapse of the simulated microscope is recorded in real time, super-resolved while it is
recorded, and compared with what the simulated sample really looked like.

::

    FOLDER/recording/                          raw frames, journal, live_summary.json
    FOLDER/recording/super_resolution/488/     super-resolved frames and confidence
    FOLDER/summary.png, summary.json           against the truth
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.bundles.bundle_description import find_bundle
from tisr_scope.confidence.credible_interval import half_width
from tisr_scope.confidence.expected_calibration_error import Reliability, inside_interval
from tisr_scope.demo.demo_figure import DemoImages, summary_figure
from tisr_scope.errors import DataError, RecordingError
from tisr_scope.evaluation.evaluate import enlarge
from tisr_scope.inference.result_store import StoredResults, open_results
from tisr_scope.live.run_live import RESULTS, LiveOptions, LiveSession, LiveSummary, run_live
from tisr_scope.metrics.fidelity import fitted, normalised_reference, psnr
from tisr_scope.preview.app import missing_display
from tisr_scope.preview.window_process import in_own_process
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting, Profile
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.journal import JournalEntry
from tisr_scope.recording.recording import Recording
from tisr_scope.simulated_microscope.camera import SensorProperties
from tisr_scope.simulated_microscope.truth import truth_stack

PROFILE = "simulated_microtubules"
SEED = 4001
"""A sample that no shipped model was trained, calibrated or tested on."""
MOST_COMPARED = 24
"""Frames compared with the truth; rendering it takes time."""


@dataclass(frozen=True)
class DemoSummary:
    """Figures of a demo, as saved in ``summary.json``."""

    folder: str
    model: str
    seed: int
    live: LiveSummary
    compared_frames: int
    psnr_widefield_db: float
    """Enlarged camera image against the truth, after a linear fit (Paper: eq. 19-20)."""
    psnr_super_resolution_db: float
    ece: float
    """Expected calibration error against the truth (Paper: eq. 33)."""
    mean_confidence: float
    part_inside: float
    """Part of the pixels whose truth lies in the credible interval."""
    picture: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class _ChosenTimePoints:
    """A recording reduced to some time points, renumbered from 0."""

    path: Path
    profile: Profile
    mode: str
    settings: Sequence[DeviceSetting]
    journal: Sequence[JournalEntry]
    time_points: int


@dataclass(frozen=True)
class Comparison:
    """Live results against the truth; images are on the model's normalised scale."""

    times_s: Float[np.ndarray, " frames"]
    psnr_widefield: Float[np.ndarray, " frames"]
    psnr_sr: Float[np.ndarray, " frames"]
    reliability: Reliability
    images: DemoImages


def run_demo(
    out: str | Path,
    *,
    display: bool | None = None,
    time_points: int = 90,
    model: str | Path | None = None,
    seed: int = SEED,
    close_when_done: bool = False,
    options: LiveOptions | None = None,
    cancel: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DemoSummary:
    """Record, super-resolve and judge a simulated time-lapse.

    Parameters
    ----------
    out : path
        New folder.
    display : bool, optional
        Open the live window; by default where there is a display.
    time_points : int
        Of the time-lapse, nine camera frames each, at 20 frames/s.
    model : str or path, optional
        Bundle; by default the profile's.
    seed : int
        Another seed is another sample.
    close_when_done : bool
        Close the window at the end instead of leaving it to look at.
    options : LiveOptions, optional
        How the network is run.
    cancel, progress
        As for :func:`tisr_scope.live.run_live.run_live`.

    Raises
    ------
    DisplayError
        If a window is asked for and there is no display.
    RecordingError
        If the folder is not empty.
    TisrScopeError
        If the model is missing or the run fails.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecordingError(
            "the folder is not empty",
            where=str(folder),
            remedy="name a new folder for the demo",
        )
    show: Callable[[LiveSession], None] | None = None
    if display or (display is None and missing_display() is None):
        show = in_own_process(autostart=True, close_when_done=close_when_done)
    profile = load_profile(PROFILE)
    chosen = find_bundle(model or profile.model or PROFILE)
    live = run_live(
        profile,
        folder / "recording",
        chosen,
        options=options,
        display=show,
        profile_path=find_profile(PROFILE),
        settings=(
            DeviceSetting(device="World", property="Realtime", value=1),
            DeviceSetting(device="World", property="Seed", value=seed),
        ),
        time_points=time_points,
        cancel=cancel,
        progress=progress,
    )
    return judge(folder, chosen, live, seed)


def judge(folder: Path, model: Path, live: LiveSummary, seed: int) -> DemoSummary:
    """Compare a finished live run with the truth; writes summary.png and summary.json.

    Raises
    ------
    DataError
        If there is no super-resolved frame to judge.
    """
    recording = Recording.open(live.folder)
    results = open_results(Path(live.folder) / RESULTS / recording.channels[0])
    comparison = compare(recording, results, model)
    counts = comparison.reliability
    picture = folder / "summary.png"
    summary = DemoSummary(
        folder=str(folder),
        model=str(results.description["model"]),
        seed=seed,
        live=live,
        compared_frames=len(comparison.times_s),
        psnr_widefield_db=float(comparison.psnr_widefield.mean()),
        psnr_super_resolution_db=float(comparison.psnr_sr.mean()),
        ece=counts.ece,
        mean_confidence=counts.mean_confidence,
        part_inside=counts.mean_accuracy,
        picture=str(picture),
    )
    figure = summary_figure(
        comparison.images,
        counts,
        comparison.times_s,
        comparison.psnr_widefield,
        comparison.psnr_sr,
        facts(summary),
        calibrated=live.calibrated,
    )
    figure.savefig(picture)
    write_json(folder / "summary.json", summary.as_dict() | {"provenance": provenance()})
    return summary


def facts(summary: DemoSummary) -> list[tuple[str, str]]:
    """Figures for the picture: name and value."""
    live = summary.live
    gain = summary.psnr_super_resolution_db - summary.psnr_widefield_db
    return [
        ("camera", f"{live.camera_rate:.1f} frames/s"),
        ("recorded", f"{live.exposures_recorded} of {live.exposures_expected} frames"),
        ("missing on disk", f"{live.missing_on_disk}"),
        ("super-resolved live", f"{live.predicted} ({live.sr_rate:.1f}/s)"),
        ("passed over live", f"{live.skipped} time points"),
        ("median delay", f"{live.lag_s_median:.2f} s"),
        ("light dose", f"{live.dose_mj:.1f} mJ"),
        ("PSNR gain", f"{gain:+.1f} dB"),
        ("calibration error", f"{summary.ece:.3f}"),
    ]


def compare(recording: Recording, results: StoredResults, model: Path) -> Comparison:
    """Live results of the first channel against the truth of the simulated sample."""
    if len(results) == 0:
        raise DataError(
            "no frame was super-resolved, so there is nothing to compare",
            where=str(results.folder),
            remedy="record more time points (--time-points), at least 20",
        )
    count = min(len(results), MOST_COMPARED)
    picks = np.unique(np.linspace(0, len(results) - 1, count).round().astype(int)).tolist()
    times = [results.time_indices[k] for k in picks]
    upscale = int(results.description["upscale"])
    truth = truth_stack(choose(recording, times), upscale=upscale)
    sr = np.stack([results.intensity(k) for k in picks])
    stated = np.stack([results.confidence(k) for k in picks])
    recorded = np.stack([recording.widefield(t) for t in times])
    widefield = enlarge(recorded, upscale)
    reference = normalised_reference(truth, blur_sigma_px=0)
    rule = load_bundle(model).normalisation
    electrons = truth * SensorProperties().quantum_efficiency
    target = rule.normalise_target(electrons, rule.target_scale(electrons, recorded, "truth"))
    centre = torch.from_numpy(sr)
    inside = inside_interval(torch.from_numpy(target), centre, half_width(centre))
    show = len(picks) // 2
    shown_wf, shown_sr = fitted(widefield, reference), fitted(sr, reference)
    return Comparison(
        times_s=recording.times_s()[times],
        psnr_widefield=np.array([psnr(a, b) for a, b in zip(shown_wf, reference, strict=True)]),
        psnr_sr=np.array([psnr(a, b) for a, b in zip(shown_sr, reference, strict=True)]),
        reliability=Reliability.of(torch.from_numpy(stated), inside),
        images=DemoImages(
            widefield=shown_wf[show],
            sr=shown_sr[show],
            truth=reference[show],
            confidence=stated[show],
            pixel_size_um=recording.pixel_size_um / upscale,
        ),
    )


def choose(recording: Recording, times: Sequence[int]) -> _ChosenTimePoints:
    """Some time points of a recording, as the truth renderer wants them."""
    number = {t: place for place, t in enumerate(times)}
    return _ChosenTimePoints(
        path=recording.path,
        profile=recording.profile,
        mode=recording.mode,
        settings=recording.settings,
        journal=[replace(e, t=number[e.t]) for e in recording.journal if e.t in number],
        time_points=len(times),
    )
