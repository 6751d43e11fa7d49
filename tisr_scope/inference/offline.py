"""Super-resolution of finished recordings and image stacks, every frame of them.

The frames are served exactly as live: the same window, the same Monte Carlo masks for the same
frame, the same store.  The first and last three frames have no window of their own; they come from
the first and the last whole one, and count as uncalibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float

from tisr_scope.bundles.bundle import Bundle, load_bundle
from tisr_scope.confidence.calibration import calibration_label
from tisr_scope.confidence.input_domain import first_objection
from tisr_scope.errors import DataError
from tisr_scope.inference.predictor import Model
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.inference.result_store import ResultStore
from tisr_scope.inference.sliding_window import super_resolve
from tisr_scope.inference.sources import ImageStack, Source, recorded_channels
from tisr_scope.networks.config import WINDOW
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.recording import Recording
from tisr_scope.types import Prediction

MOST_PIXELS_FOR_SCALE = 2**28
"""Stacks with more pixels give their intensity scale from evenly spaced frames (1 GiB)."""


@dataclass(frozen=True)
class OfflineSummary:
    """Figures of one channel that was super-resolved."""

    folder: str
    model: str
    source: str
    frames: int
    scale_electrons: float
    background_electrons: float | None
    """Mean of what was taken off the middle frame and given back; None where nothing is."""
    mean_confidence: float
    calibrated: bool
    calibration: str
    """Say "calibrated", or why it is not."""
    pixel_size_um: float
    """Super-resolved pixel."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


class _Normalised(Sequence[Float[np.ndarray, "y x"]]):
    """Frames of a source on the network's scale, read when they are asked for."""

    def __init__(self, source: Source, bundle: Bundle, scale: float) -> None:
        self._source, self._bundle, self._scale = source, bundle, scale

    def __len__(self) -> int:
        return len(self._source)

    @overload
    def __getitem__(self, index: int) -> Float[np.ndarray, "y x"]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Float[np.ndarray, "y x"]]: ...

    def __getitem__(
        self, index: int | slice
    ) -> Float[np.ndarray, "y x"] | Sequence[Float[np.ndarray, "y x"]]:
        if isinstance(index, slice):
            return [self[t] for t in range(*index.indices(len(self)))]
        frame = self._source.frame(index)
        return self._bundle.normalisation.normalise_input(frame, self._scale)

    def carried(self, index: int) -> Float[np.ndarray, "fy fx"] | None:
        """Background of a frame, for its prediction."""
        rule, upscale = self._bundle.normalisation, self._bundle.config.upscale
        return rule.carried(self._source.frame(index), self._scale, upscale)


def stack_scale(bundle: Bundle, source: Source) -> tuple[float, str]:
    """Intensity scale of a whole stack, and what it was taken from."""
    total = len(source)
    if total == 0:
        raise DataError("there are no complete frames to super-resolve", where=source.name)
    most = max(WINDOW, MOST_PIXELS_FOR_SCALE // source.frame(0).size)
    chosen = np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(int))
    frames = np.stack([source.frame(int(t)) for t in chosen])
    told = "every frame" if len(chosen) == total else f"{len(chosen)} evenly spaced frames"
    return bundle.normalisation.scale(frames, source.name), told


def predictions(
    model: Model,
    source: Source,
    scale: float,
    progress: Callable[[int, int], None] | None = None,
    calibrated_until: int | None = None,
) -> Iterator[Prediction]:
    """Every frame of a source, in the order of time.

    The confidence is calibrated before time point ``calibrated_until`` (None: to the end), where
    nothing in the use of the model is objected to.
    """
    total, middle = len(source), WINDOW // 2
    calibrated = not model.objections(scale)
    until = total if calibrated_until is None else calibrated_until
    frames = _Normalised(source, model.bundle, scale)
    for samples in super_resolve(
        model.network,
        frames,
        passes=model.passes,
        seed=model.seed,
        carried=frames.carried,
        progress=progress,
    ):
        inner = middle <= samples.time_index < min(total - middle, until)
        yield model.predict(samples, calibrated and inner)


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
    pixel_size_um: float | None = None,
    interval_s: float | None = None,
    numerical_aperture: float | None = None,
    emission_nm: float | None = None,
    offset_adu: float = 0.0,
    electrons_per_adu: float = 1.0,
    average: int = 1,
    repeat: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[OfflineSummary]:
    """Super-resolve every frame of a recording or an image stack.

    Parameters
    ----------
    bundle : Bundle, str or path
        Bayesian model.
    source : path
        Folder of a recording, or a .tif, .ome.tif or .mrc file.
    out : path
        Each channel goes to a folder of its own in here: see ``result_store``.
    channel : str, optional
        Only this channel of a recording.
    device, passes, seed
        How the network is run.
    level : int
        Laser level of a paired recording, from 0 (lowest).
    pixel_size_um, interval_s, numerical_aperture, emission_nm, offset_adu, electrons_per_adu
        Of an image stack, see :class:`ImageStack`; a recording knows its own.
    average, repeat
        Of an image stack.
    progress : callable, optional
        Called with (frames done, frames in all channels).

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
        sources = [
            ImageStack(
                path,
                pixel_size_um=pixel_size_um,
                interval_s=interval_s,
                numerical_aperture=numerical_aperture,
                emission_nm=emission_nm,
                offset_adu=offset_adu,
                electrons_per_adu=electrons_per_adu,
                average=average,
                repeat=repeat,
            )
        ]
    total = sum(len(one) for one in sources)
    summaries: list[OfflineSummary] = []
    done = 0

    def report(frames: int, _: int) -> None:
        if progress is not None:
            progress(done + frames, total)

    for one in sources:
        model = Model(
            loaded,
            input_mode=one.input_mode,
            optics=one.optics,
            device=device,
            passes=passes,
            seed=seed,
            level=one.level,
        )
        summaries.append(_infer_one(model, one, path, Path(out) / one.name, report))
        done += len(one)
    return summaries


def _infer_one(
    model: Model, source: Source, path: Path, folder: Path, report: Callable[[int, int], None]
) -> OfflineSummary:
    scale, told = stack_scale(model.bundle, source)
    height, width = source.frame(0).shape
    model.check_frames((height, width), source.name)
    objections = model.objections(scale)
    calibration, until = model.calibration, None
    if calibration is not None and calibration.domain is not None:
        outside = first_objection(calibration.domain, source.frame, len(source), model.optics)
        if outside is not None:
            until, reasons = outside
            objections = [*objections, *reasons]
    label = calibration_label(objections)
    taken_off = model.bundle.normalisation.background_of(source.frame(len(source) // 2))
    background = None if taken_off is None else float(taken_off.mean())
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
        "mode": "offline",
    }
    total, confidences = 0, 0.0
    with ResultStore(folder, grid, description) as store:
        for prediction in predictions(model, source, scale, report, until):
            store.append(prediction)
            total += 1
            confidences += float(prediction.confidence.mean())
    summary = OfflineSummary(
        folder=str(folder),
        model=model.name,
        source=str(path),
        frames=total,
        scale_electrons=scale,
        background_electrons=background,
        mean_confidence=confidences / total,
        calibrated=not objections,
        calibration=label,
        pixel_size_um=grid.pixel_size_um,
    )
    write_json(folder / "summary.json", summary.as_dict() | {"provenance": provenance()})
    return summary
