"""Super-resolution of finished recordings and image stacks, every frame of them.

The frames are served exactly as live: the same window, the same Monte Carlo masks for the same
frame, the same store.  The first and last frames have no window of their own; they come from
the first and the last whole one, and count as uncalibrated.  Frames that are broken are left out.

One frame is read at a time, and a run that was stopped goes on with the same command: what is in
the folder already is not computed again, and the rest comes out as it would have.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float

from tisr_scope.bundles.bundle import Bundle, load_bundle
from tisr_scope.confidence.input_domain import first_objection
from tisr_scope.errors import BundleError, DataError, RecordingError
from tisr_scope.inference.input_health import InputHealth
from tisr_scope.inference.predictor import Model
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.inference.result_store import ResultStore, open_results
from tisr_scope.inference.sources import ImageStack, Source, StackOptions, recorded_channels
from tisr_scope.inference.time_lapse import Given, super_resolve
from tisr_scope.networks.config import WINDOW, Shown
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.recording import Recording
from tisr_scope.types import Prediction, calibration_label

MOST_PIXELS_FOR_SCALE = 2**25
"""Stacks with more pixels give their intensity scale from evenly spaced frames (128 MiB)."""
SUMMARY = "summary.json"


@dataclass(frozen=True)
class OfflineSummary:
    """Figures of one channel that was super-resolved."""

    folder: str
    model: str
    source: str
    frames: int
    """That have a result; those left out have none."""
    scale_electrons: float
    background_electrons: float | None
    """Mean of what was taken off the middle frame and given back; None where nothing is."""
    mean_confidence: float
    calibrated: bool
    calibration: str
    """Say "calibrated", or why it is not."""
    pixel_size_um: float
    """Super-resolved pixel."""
    assumed: list[str] = field(default_factory=list)
    """What neither the source nor the user has said."""
    input_health: dict[str, Any] = field(default_factory=dict)
    """Frames left out and other findings, see :mod:`~tisr_scope.inference.input_health`."""
    finished: bool = True
    """False for a run that was asked to stop; the same command goes on with it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def usable_sample(
    source: Source, health: InputHealth
) -> tuple[list[Float[np.ndarray, "y x"]], str]:
    """Good frames spread over a stack, for its intensity scale, and how they were chosen."""
    total = len(source)
    if total < WINDOW:
        raise DataError(
            f"{total} time points are fewer than the {WINDOW} of a window",
            where=source.name,
            remedy="give a longer time-lapse; a single image can be shown as a still one with "
            f"--repeat {WINDOW}",
        )
    most = max(WINDOW, MOST_PIXELS_FOR_SCALE // source.frame(0).size)
    chosen = np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(int))
    frames = [source.frame(int(t)) for t in chosen]
    told = "every frame" if len(chosen) == total else f"{len(chosen)} evenly spaced frames"
    return health.prime(frames) or frames, told


def predictions(
    model: Model,
    source: Source,
    scale: float,
    health: InputHealth | None = None,
    *,
    done: Collection[int] = (),
    calibrated_until: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[Prediction]:
    """Every frame of a source that can be used, in the order of time.

    Parameters
    ----------
    model : Model
    source : Source
    scale : float
        Electrons that become 1.
    health : InputHealth, optional
        Judges the frames; a new one by default.
    done : collection of int
        Time points that are not wanted again.
    calibrated_until : int, optional
        Time point from which the recording is outside the domain of the calibration.
    progress : callable, optional
        Called with the frames done and their total.
    cancel : threading.Event, optional
        Ends the series when it is set.
    """
    judge = health or model.health(offset_known=source.offset_known, still=source.still)
    calibrated = not model.objections(scale)
    rule, total = model.bundle.normalisation, len(source)
    until = total if calibrated_until is None else calibrated_until

    def frames() -> Iterator[Given]:
        for t in range(total):
            image = judge.judge(t, source.frame(t)).image
            if image is not None:
                carried = rule.carried(image, scale, model.upscale)
                yield Given(t, rule.normalise_input(image, scale), carried)

    found = super_resolve(model.window, frames(), model.shown, done=done)
    for count, (samples, own) in enumerate(found, len(done) + 1):
        yield from model.predict([samples], [calibrated and own and samples.time_index < until])
        if progress is not None:
            progress(count, total)
        if cancel is not None and cancel.is_set():
            return


def infer(
    bundle: Bundle | str | Path,
    source: str | Path,
    out: str | Path,
    *,
    channel: str | None = None,
    device: str = "cpu",
    passes: int = 6,
    seed: int = 0,
    level: int = 0,
    shown: Shown = "centre",
    scale: float | None = None,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
    **stack: Unpack[StackOptions],
) -> list[OfflineSummary]:
    """Super-resolve every frame of a recording or an image stack.

    Parameters
    ----------
    bundle : Bundle, str or path
        Bayesian model.
    source : path
        Folder of a recording, or an image file that
        :func:`~tisr_scope.formats.reader.open_stack` takes.
    out : path
        Each channel goes to a folder of its own in here: see ``result_store``.  A run that was
        stopped or killed goes on.
    channel : str, optional
        Only this channel: its name, or its number in an image file.
    device, passes, seed, shown
        How the network is run.
    level : int
        Laser level of a paired recording, from 0 (lowest).
    scale : float, optional
        Electrons that become 1, for parts of one movie; by default from the frames.
    resume : bool
        Finished results are left as they are, instead of refused.
    progress : callable, optional
        Called with (frames done, frames in all channels).
    cancel : threading.Event, optional
        Ends the run after the present frame; what is done is kept.
    **stack
        Of an image file, see :class:`ImageStack`; a recording knows its own.

    Returns
    -------
    list of OfflineSummary
        One for each channel and position, also written as ``summary.json`` in its folder.

    Raises
    ------
    TisrScopeError
        If the model, the source or the output folder cannot be used.
    """
    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    path = Path(source)
    sources: list[Source]
    if path.is_dir():
        sources = recorded_channels(Recording.open(path), channel, level)
    else:
        sources = [ImageStack(path, channel=channel, **stack)]
    total = sum(len(one) for one in sources)
    summaries: list[OfflineSummary] = []
    before = 0

    def report(frames: int, _: int) -> None:
        if progress is not None:
            progress(before + frames, total)

    for one in sources:
        folder = Path(out) / one.name
        if (folder / SUMMARY).is_file():
            if not resume:
                raise RecordingError(
                    "this folder already holds finished super-resolved frames",
                    where=str(folder),
                    remedy="choose another output folder; --resume leaves finished ones alone",
                )
            summaries.append(_finished(folder))
        else:
            model = Model(
                loaded,
                input_mode=one.input_mode,
                optics=one.optics,
                device=device,
                passes=passes,
                seed=seed,
                level=one.level,
                shown=shown,
            )
            with _memory(model, one):
                summaries.append(_infer_one(model, one, path, folder, scale, report, cancel))
        before += len(one)
        if not summaries[-1].finished:
            break
    return summaries


def _finished(folder: Path) -> OfflineSummary:
    content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    names = OfflineSummary.__dataclass_fields__
    return OfflineSummary(**{key: value for key, value in content.items() if key in names})


@contextmanager
def _memory(model: Model, source: Source) -> Iterator[None]:
    """Too little memory, in words."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
        height, width = source.frame(0).shape
        raise BundleError(
            f"frames of {height} x {width} pixels need more memory than there is on {model.device}",
            where=source.name,
            remedy="use fewer --passes or another --device",
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a device or of the machine has run out."""
    words = ("not enough memory", "out of memory", "can't allocate memory", "bad_alloc")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        word in str(error) for word in words
    )


def _infer_one(
    model: Model,
    source: Source,
    path: Path,
    folder: Path,
    scale: float | None,
    report: Callable[[int, int], None],
    cancel: threading.Event | None,
) -> OfflineSummary:
    health = model.health(offset_known=source.offset_known, still=source.still)
    sample, told = usable_sample(source, health)
    if scale is None:
        scale = model.bundle.normalisation.scale(np.stack(sample), source.name)
    else:
        told = "the user"
    height, width = sample[0].shape
    taken_off = model.bundle.normalisation.background_of(sample[len(sample) // 2])
    background = None if taken_off is None else float(taken_off.mean())
    measured = model.health(offset_known=source.offset_known, still=source.still)
    measured.prime(sample)
    del sample
    model.check_frames((height, width), source.name)
    objections = model.objections(scale)
    calibration, until = model.calibration, None
    if calibration is not None and calibration.domain is not None:

        def good(t: int) -> Float[np.ndarray, "y x"]:
            frame = source.frame(t)
            image = measured.judge(t, frame).image
            return np.full(frame.shape, np.nan, np.float32) if image is None else image

        outside = first_objection(calibration.domain, good, len(source), model.optics)
        if outside is not None:
            until, reasons = outside
            objections = [*objections, *reasons]
    label = calibration_label(objections)
    grid = Grid(
        shape=(height * model.upscale, width * model.upscale),
        pixel_size_um=source.pixel_size_um / model.upscale,
        interval_s=source.interval_s,
        start_s=source.start_s,
        upscale=model.upscale,
    )
    description = model.description() | {
        "channel": source.name,
        "source": str(path),
        "scale_electrons": scale,
        "scale_from": told,
        "background_electrons": background,
        "calibration": label,
        "assumed": source.assumed,
        "mode": "offline",
    }
    with ResultStore(folder, grid, description, resume=True) as store:
        done = frozenset(store.time_points)
        for prediction in predictions(
            model,
            source,
            scale,
            health,
            done=done,
            calibrated_until=until,
            progress=report,
            cancel=cancel,
        ):
            store.append(prediction, mean_confidence=float(prediction.confidence.mean()))
    finished = cancel is None or not cancel.is_set()
    lines = open_results(folder).journal
    if not lines:
        findings = "; ".join(str(f) for f in health.findings[:3])
        raise DataError(
            f"no frame of {len(source)} can be used: {findings}",
            where=str(path),
            remedy="look at the images; a still movie can be made of one image with --repeat",
        )
    summary = OfflineSummary(
        folder=str(folder),
        model=model.name,
        source=str(path),
        frames=len(lines),
        scale_electrons=scale,
        background_electrons=background,
        mean_confidence=float(np.mean([line["mean_confidence"] for line in lines])),
        calibrated=not objections,
        calibration=label,
        pixel_size_um=grid.pixel_size_um,
        assumed=source.assumed,
        input_health=health.summary(),
        finished=finished,
    )
    if finished:
        write_json(folder / SUMMARY, summary.as_dict() | {"provenance": provenance()})
    return summary
