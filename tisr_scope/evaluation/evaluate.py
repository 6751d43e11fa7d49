"""Models against each other, against enlarged wide field, and against the truth.

Every frame with a whole window around it is predicted exactly as live inference does it.  The
references are the simulator's noiseless sample (where there is one) and the SIM reconstruction of
the highest laser level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import interpolate

from tisr_scope.bundles.bundle import Bundle, load_bundle
from tisr_scope.bundles.optics_domain import KnownOptics, optics_differ
from tisr_scope.confidence.calibration import (
    Calibration,
    Use,
    apply_calibration,
    bundle_calibration,
)
from tisr_scope.confidence.credible_interval import half_width
from tisr_scope.confidence.expected_calibration_error import Reliability, inside_interval
from tisr_scope.confidence.fine_tuning import FINE_BINS
from tisr_scope.confidence.input_domain import first_objection
from tisr_scope.errors import DataError
from tisr_scope.evaluation.cases import Case, Subset, find_cases
from tisr_scope.evaluation.evaluation_figures import MontageRow
from tisr_scope.evaluation.judging import SIM_TARGET, TRUTH, judge
from tisr_scope.evaluation.results import INTERVALS, Evaluation, StackResult, write_evaluation
from tisr_scope.inference.sliding_window import SlidingWindow
from tisr_scope.metrics.fidelity import fitted, normalised_reference
from tisr_scope.networks.config import WINDOW
from tisr_scope.networks.dpa_tisr import DpaTisr

WIDEFIELD, SIM = "wide field", "SIM"
"""Baselines: bilinearly enlarged wide field of the same level; SIM of the highest level."""

Progress = Callable[[int, int], None]


@dataclass
class _Frames:
    """What a method gives for the centre frames of a stack."""

    results: list[Float[np.ndarray, "y x"]] = field(default_factory=list)
    counts: list[Reliability] = field(
        default_factory=lambda: [Reliability.empty(FINE_BINS) for _ in INTERVALS]
    )
    confidence: Float[np.ndarray, "y x"] | None = None
    uncalibrated: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Model:
    """A bundle ready to predict."""

    name: str
    bundle: Bundle
    network: DpaTisr
    calibration: Calibration | None


def evaluate(
    models: Sequence[str | Path],
    source: Path,
    out: Path,
    *,
    subset: Subset = "test",
    level: int = 0,
    passes: int = 6,
    channel: str | None = None,
    mixed: bool = False,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate bundles and baselines on pairs, recordings or stacks.

    Writes ``evaluation.json``, ``evaluation.csv`` (one row for each stack, method and metric),
    ``evaluation.png`` (box plots), ``correlation.png``, ``montage.png`` and, where a model has a
    confidence and there is a target, ``reliability.png``.

    Parameters
    ----------
    models : sequence of str or Path
        Names or folders of bundles.
    source : Path
        Folder written by ``tisr prepare``, a recording, a folder of recordings or stacks, or a
        stack.
    out : Path
        Folder of the results.
    subset : {"train", "validation", "test"}
        Pairs to use; only ``test`` decided nothing before.
    level : int
        Laser level of the input, from 0 (lowest).
    passes : int
        Monte Carlo passes of Bayesian models.
    channel : str, optional
        Only stacks of this channel.
    mixed : bool
        Accept models of different normalisation, or of other optics than the stacks.
    device : str
    seed : int
        Of the dropout masks.
    progress : callable, optional
        Called with (done, total) stacks times models.

    Raises
    ------
    DataError
        If there is no model or stack, the subset is empty, a stack has no such level or is
        shorter than a window, models differ in enlargement or normalisation, or they do not
        belong to the optics or the enlargement of a stack.
    BundleError
        If a model cannot be read.
    """
    loaded = [_load(model, torch.device(device)) for model in models]
    upscale = _alike(loaded, mixed)
    cases = find_cases(Path(source), subset=subset, level=level, channel=channel, upscale=upscale)
    results: list[StackResult] = []
    montage: list[MontageRow] = []
    pixel_um, total, done = 0.0, len(cases) * len(loaded), 0
    for load in cases:
        case = load()
        _check(case, loaded, upscale, mixed, subset)
        chosen = slice(WINDOW // 2, len(case.widefield) - WINDOW // 2)
        references = {}
        if case.target is not None:
            references[SIM_TARGET] = normalised_reference(case.target[chosen])
        if case.truth is not None:
            references[TRUTH] = normalised_reference(case.truth[chosen], blur_sigma_px=0)
        enlarged = enlarge(case.widefield[chosen], upscale)
        fine_um = case.pixel_size_um / upscale
        recorded = (case.widefield[chosen], case.pixel_size_um)
        results.append(_measure(WIDEFIELD, case, enlarged, references, fine_um, recorded=recorded))
        if case.target is not None and case.truth is not None:
            only = {TRUTH: references[TRUTH]}
            results.append(_measure(SIM, case, case.target[chosen], only, fine_um))
        first = not montage
        for model in loaded:
            frames = _predict(model, case, level, passes, seed)
            predicted = np.stack(frames.results)
            results.append(_measure(model.name, case, predicted, references, fine_um, frames))
            if first:
                pixel_um = fine_um
                montage.append(_montage_row(model, predicted, frames, enlarged, references))
            done += 1
            if progress is not None:
                progress(done, total)
    evaluation = Evaluation(tuple(results), out)
    settings = {
        "models": {m.name: m.bundle.weights_hash for m in loaded},
        "source": str(source),
        "subset": subset,
        "level": level,
        "passes": passes,
        "seed": seed,
        "window": WINDOW,
    }
    write_evaluation(evaluation, settings, montage, pixel_um)
    return evaluation


def enlarge(frames: Float[np.ndarray, "time y x"], upscale: int) -> Float[np.ndarray, "time fy fx"]:
    """Bilinear enlargement on the centre-aligned grid, the baseline of every comparison."""
    image = torch.from_numpy(np.ascontiguousarray(frames))[:, None]
    fine = interpolate(image, scale_factor=upscale, mode="bilinear", align_corners=False)
    return np.asarray(fine[:, 0].numpy())


def _load(model: str | Path, device: torch.device) -> _Model:
    bundle = load_bundle(model)
    return _Model(bundle.name, bundle, bundle.network(device), bundle_calibration(bundle))


def _alike(models: Sequence[_Model], mixed: bool) -> int:
    """Enlargement of all models, which must be comparable."""
    if not models:
        raise DataError("there is no model to evaluate", remedy="name one or more bundles")
    names = [m.name for m in models]
    doubled = sorted({n for n in [*names, WIDEFIELD, SIM] if [*names, WIDEFIELD, SIM].count(n) > 1})
    if doubled:
        raise DataError(
            f"two models are called {', '.join(doubled)}",
            remedy="copy one of the bundles to a folder of another name",
        )
    first = models[0]
    for other in models[1:]:
        if other.bundle.config.upscale != first.bundle.config.upscale:
            raise DataError(
                f"models of different enlargement have no common reference: {first.name} enlarges "
                f"x{first.bundle.config.upscale}, {other.name} x{other.bundle.config.upscale}",
                where=str(other.bundle.path),
                remedy="evaluate them apart, each on pairs of its own enlargement",
            )
        if not mixed and other.bundle.normalisation != first.bundle.normalisation:
            raise DataError(
                f"models of different normalisation: {first.name} has "
                f"{first.bundle.normalisation}, {other.name} {other.bundle.normalisation}",
                where=str(other.bundle.path),
                remedy="evaluate them apart, or accept the difference with --allow-mixed: every "
                "model then gets its input by its own rule",
            )
    return int(first.bundle.config.upscale)


def trained_on(bundle: Bundle) -> frozenset[str]:
    """Names of the recordings that a model learned from."""
    return frozenset((bundle.training.get("recordings") or {}).get("train") or ())


def _check(case: Case, models: Sequence[_Model], upscale: int, mixed: bool, subset: Subset) -> None:
    if len(case.widefield) < WINDOW:
        raise DataError(
            f"{len(case.widefield)} time points are less than a window of {WINDOW}",
            where=str(case.where),
            remedy=f"record at least {WINDOW} time points",
        )
    if case.upscale not in (None, upscale):
        raise DataError(
            f"the target is x{case.upscale}, the models enlarge x{upscale}",
            where=str(case.where),
            remedy=f"choose models of upscale {case.upscale}, or prepare other targets",
        )
    for model in models:
        if subset == "test" and case.recording in trained_on(model.bundle):
            raise DataError(
                f"{model.name} was trained with this recording, which can tell nothing of it",
                where=str(case.where),
                remedy="evaluate other recordings; --subset train shows those it learned from",
            )
        if mixed or model.bundle.optics is None:
            continue
        different = optics_differ(case, model.bundle.optics, "trained at")
        if different:
            raise DataError(
                f"{model.name} does not belong to these optics: {'; '.join(different)}",
                where=str(case.where),
                remedy="choose a model trained for these optics, or accept the difference "
                "with --allow-mixed",
            )


def _predict(model: _Model, case: Case, level: int, passes: int, seed: int) -> _Frames:
    """Every centre frame, with the reliability of its confidence against the SIM target."""
    rule, bayesian = model.bundle.normalisation, model.network.config.bayesian
    scale = rule.scale(case.widefield, case.stack)
    frames = rule.normalise_input(case.widefield, scale)
    target = None
    if case.pair is not None:
        target = rule.target_of(case.pair)
    found = _Frames()
    calibration = model.calibration if bayesian else None
    if bayesian:
        use = Use(
            weights=model.bundle.weights_hash,
            normalisation=rule,
            passes=passes,
            window=WINDOW,
            input_mode=case.input_mode,
            level=level,
            input_scale=(scale, scale),
            optics=KnownOptics.of(case),
        )
        reasons = (
            ["the model holds no calibration"] if not calibration else calibration.matches(use)
        )
        if calibration is not None and calibration.domain is not None:
            stack, known = case.widefield, KnownOptics.of(case)
            outside = first_objection(calibration.domain, stack.__getitem__, len(stack), known)
            reasons = [*reasons, *(outside[1] if outside else ())]
        if case.recording in trained_on(model.bundle):
            reasons = [*reasons, "the model was trained with this recording"]
        found.uncalibrated = tuple(reasons)
        calibration = None if reasons else calibration
    window = SlidingWindow(
        model.network, passes=passes if bayesian else 1, shown="centre", seed=seed
    )
    carried = rule.carried(case.widefield, scale, model.bundle.config.upscale)
    for t, frame in enumerate(frames):
        for sample in window.push(frame, carried=None if carried is None else carried[t]):
            means, scales = sample.means, sample.scales
            centre = means.mean(dim=0)
            found.results.append(np.asarray(centre.cpu().numpy()))
            if not bayesian or target is None:
                continue
            truth = torch.from_numpy(target[sample.time_index]).to(centre.device)
            for place, interval in enumerate(INTERVALS):
                stated = apply_calibration(
                    means, scales, calibration, epsilon=interval.epsilon, gamma=interval.gamma
                )
                half = half_width(centre, interval.epsilon, interval.gamma)
                inside = inside_interval(truth, centre, half)
                found.counts[place] = found.counts[place] + Reliability.of(
                    stated, inside, FINE_BINS
                )
                if place == 0 and sample.time_index <= (len(frames) - 1) // 2:
                    found.confidence = np.asarray(stated.cpu().numpy())
    return found


def _measure(
    method: str,
    case: Case,
    result: Float[np.ndarray, "time y x"],
    references: dict[str, Float[np.ndarray, "time y x"]],
    pixel_um: float,
    frames: _Frames | None = None,
    recorded: tuple[Float[np.ndarray, "time camera_y camera_x"], float] | None = None,
) -> StackResult:
    """All metrics of a stack."""
    judged = judge(
        result, references, pixel_um, independent=not case.shared_light, recorded=recorded
    )
    metrics = dict(judged.metrics)
    counts: tuple[Reliability, ...] = ()
    if frames is not None and frames.counts[0].total:
        counts = tuple(frames.counts)
        for interval, part in zip(INTERVALS, counts, strict=True):
            metrics[f"ECE, {interval.name}"] = part.coarser().ece
    return StackResult(
        method=method,
        recording=case.recording,
        stack=case.stack,
        channel=case.channel,
        frame_metrics=judged.per_frame,
        metrics=metrics,
        correlation=judged.correlation,
        reliability=counts,
        uncalibrated=frames.uncalibrated if frames is not None else (),
    )


def _montage_row(
    model: _Model,
    predicted: Float[np.ndarray, "time y x"],
    frames: _Frames,
    enlarged: Float[np.ndarray, "time y x"],
    references: dict[str, Float[np.ndarray, "time y x"]],
) -> MontageRow:
    middle = (len(predicted) - 1) // 2
    target, truth = references.get(SIM_TARGET), references.get(TRUTH)
    reference = target if target is not None else truth
    return MontageRow(
        label=model.name,
        widefield=enlarged[middle],
        result=(predicted if reference is None else fitted(predicted, reference))[middle],
        truth=None if truth is None else truth[middle],
        target=None if target is None else target[middle],
        confidence=frames.confidence,
        calibrated=not frames.uncalibrated,
    )
