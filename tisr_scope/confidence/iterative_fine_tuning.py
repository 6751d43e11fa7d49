"""The iterative fine-tuning: from a Bayesian network to one that states the confidence it deserves.

k is chosen on validation recordings with the M-pass mixture that is used later; the reported
errors come from test recordings, which decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tisr_scope.confidence.calibration_windows import Examples, make_all
from tisr_scope.confidence.confidence_correction import KSearch, search_k
from tisr_scope.confidence.fine_tuning import FineTuning, Interval, Judgement, fine_tune, judge
from tisr_scope.confidence.recalibration import RecalibrationMap, fit_recalibration
from tisr_scope.errors import CalibrationError
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.normalise import Normalisation
from tisr_scope.profiles.schema import Frozen, Positive
from tisr_scope.types import PairedStack

TARGET_ECE = 0.03
TARGET_FACTOR = 3.0
"""The recalibration map is added where the fine-tuning alone stays behind both of these."""

PostHoc = Literal["auto", "always", "never"]
Progress = Callable[[int, int], None]
Stage = Literal["before", "fine-tuned", "recalibrated"]


STAGES: tuple[Stage, ...] = ("before", "fine-tuned", "recalibrated")


class CalibrationSettings(Frozen):
    """Everything a calibration depends on besides network and data."""

    passes: int = 6
    intervals: tuple[Interval, ...] = (Interval(), Interval(gamma=None))
    """The first one is aimed at; errors are reported for all."""
    fine_tuning: FineTuning = FineTuning()
    delta: float = 0.1
    max_steps: int = 8
    post_hoc: PostHoc = "auto"
    train_windows: int = Field(default=160, ge=1)
    """Windows to fine-tune on, spread over the training recordings."""
    judged_windows: int = Field(default=64, ge=1)
    """Windows of the validation and of the test recordings, at least one of each."""
    patch_px: int = 128
    psnr_loss_db: Positive = 0.1
    """Most a trial may lose in PSNR on validation recordings and still be taken."""
    seed: int = 0


@dataclass(frozen=True)
class CalibrationResult:
    """Outcome of a calibration in memory.

    Attributes
    ----------
    network : DpaTisr
        With the calibrated weights.
    search : KSearch
    k : float, optional
        Suppression factor of these weights; None where every trial cost too much fidelity and
        the original weights were kept.
    maps : tuple
        For each interval its recalibration map, or None.
    validation, test : dict
        Judgement at the stages "before", "fine-tuned" and "recalibrated"; ``test`` is None where
        there are no test recordings.
    input_scale : (float, float)
        Least and greatest electrons that became 1.
    notes : tuple of str
        What the reader should know.
    """

    network: DpaTisr
    search: KSearch
    k: float | None
    maps: tuple[RecalibrationMap | None, ...]
    validation: dict[Stage, Judgement]
    test: dict[Stage, Judgement] | None
    input_scale: tuple[float, float]
    notes: tuple[str, ...]


def calibrate_network(
    network: DpaTisr,
    train: Sequence[PairedStack],
    validation: Sequence[PairedStack],
    test: Sequence[PairedStack],
    *,
    normalisation: Normalisation,
    level: int,
    settings: CalibrationSettings | None = None,
    progress: Progress | None = None,
) -> CalibrationResult:
    """Fine-tune a network to state the confidence it deserves (Paper: eq. 34-44).

    Parameters
    ----------
    network : DpaTisr
        Bayesian; left as it is.
    train, validation, test : sequences of PairedStack
        Recordings to fine-tune on, to choose k on, and to report on.
    normalisation : Normalisation
        Rule of the model bundle.
    level : int
        Laser level of the input.
    settings : CalibrationSettings, optional
    progress : callable, optional
        Called with the number of finished stages and their largest number.

    Raises
    ------
    CalibrationError
        If the network is not Bayesian, or there is nothing to train or validate on.
    """
    chosen = settings or CalibrationSettings()
    network = network.eval()
    _check(network, train, validation)
    patch = None if chosen.fine_tuning.whole_network else chosen.patch_px
    stages = chosen.max_steps + 5
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(min(done, stages), stages)

    def examples(pairs: Sequence[PairedStack], windows: int, offset: int) -> list[Examples]:
        return make_all(
            network,
            pairs,
            normalisation,
            level,
            most=max(1, round(windows / max(1, len(pairs)))),
            patch_px=patch,
            seed=chosen.seed + offset,
            cache=not chosen.fine_tuning.whole_network,
        )

    training = examples(train, chosen.train_windows, 1000)
    validating = examples(validation, chosen.judged_windows, 2000)
    testing = examples(test, chosen.judged_windows, 3000)
    tick()

    def judged(
        candidate: DpaTisr,
        parts: Sequence[Examples],
        maps: Sequence[RecalibrationMap | None] | None = None,
    ) -> Judgement:
        remaps = None if maps is None else [m.apply if m else None for m in maps]
        return judge(candidate, parts, chosen.intervals, chosen.passes, chosen.seed, remaps)

    before = judged(network, validating)
    tick()
    tried: dict[float, tuple[DpaTisr, Judgement]] = {}

    def trial(k: float) -> float:
        tuned = fine_tune(
            network, training, chosen.intervals[0], k, chosen.fine_tuning, chosen.seed
        )
        tried[k] = tuned, judged(tuned, validating)
        tick()
        return tried[k][1].error()

    search = search_k(trial, before.reliability[0].relative_ece, chosen.delta, chosen.max_steps)
    if search.k not in tried:
        trial(search.k)
    k, notes = _choose(search, {at: found for at, (_, found) in tried.items()}, before, chosen)
    tuned, after = (network, before) if k is None else tried[k]
    maps = _recalibration(before, after, chosen.post_hoc, len(chosen.intervals))
    result_validation: dict[Stage, Judgement] = {
        "before": before,
        "fine-tuned": after,
        "recalibrated": judged(tuned, validating, maps),
    }
    tick()
    result_test: dict[Stage, Judgement] | None = None
    if testing:
        plain, mapped = judged(tuned, testing), judged(tuned, testing, maps)
        helps = [mapped.error(n) < plain.error(n) for n in range(len(maps))]
        if any(one is not None and not good for one, good in zip(maps, helps, strict=True)):
            notes.append("a map that did not help on the test recordings was left out")
            maps = tuple(one if good else None for one, good in zip(maps, helps, strict=True))
            mapped = judged(tuned, testing, maps)
            result_validation["recalibrated"] = judged(tuned, validating, maps)
        result_test = {
            "before": judged(network, testing),
            "fine-tuned": plain,
            "recalibrated": mapped,
        }
    else:
        notes.append("no test recordings: the errors are those of the validation recordings")
    tick()
    if any(maps):
        notes.append("a monotone recalibration map fitted on validation recordings is applied")
    scales = [part.input_scale for part in (*training, *validating)]
    return CalibrationResult(
        network=tuned,
        search=search,
        k=k,
        maps=maps,
        validation=result_validation,
        test=result_test,
        input_scale=(min(scales), max(scales)),
        notes=tuple(notes),
    )


def _check(
    network: DpaTisr, train: Sequence[PairedStack], validation: Sequence[PairedStack]
) -> None:
    if not network.config.bayesian:
        raise CalibrationError(
            "the network predicts no scale, so it has no confidence to calibrate",
            remedy="train a Bayesian network (two outputs, with dropout)",
        )
    for name, part in (("train", train), ("validation", validation)):
        if not part:
            raise CalibrationError(
                f"there are no {name} recordings",
                remedy="prepare pairs from more recordings; the split is made by recording",
            )


def _choose(
    search: KSearch,
    tried: Mapping[float, Judgement],
    before: Judgement,
    settings: CalibrationSettings,
) -> tuple[float | None, list[str]]:
    """Trial with the least validation error among those that keep the PSNR, and what to say."""
    notes = [f"k search: {search.source}, {search.reason}"]
    floor = before.mean_psnr - settings.psnr_loss_db
    kept = {k: found.error() for k, found in tried.items() if found.mean_psnr >= floor}
    if len(kept) < len(tried):
        notes.append(
            f"{len(tried) - len(kept)} of {len(tried)} trials lost more than "
            f"{settings.psnr_loss_db:g} dB and were left out"
        )
    if not kept or min(kept.values()) >= before.error():
        notes.append(
            "no fine-tuning was better than the original weights, which were kept; a lower "
            "learning rate may help"
        )
        return None, notes
    k = min(kept, key=lambda candidate: kept[candidate])
    if k != search.k:
        notes.append(
            f"the trial k = {k:.3g} was taken instead of k = {search.k:.3g} of the search: "
            "its validation error is smaller, or it keeps the fidelity"
        )
    return k, notes


def _recalibration(
    before: Judgement, after: Judgement, policy: PostHoc, intervals: int
) -> tuple[RecalibrationMap | None, ...]:
    """Maps for all intervals, where the policy asks for them."""
    enough = after.error() <= min(TARGET_ECE, before.error() / TARGET_FACTOR)
    if policy == "never" or (policy == "auto" and enough):
        return (None,) * intervals
    return tuple(fit_recalibration(counts) for counts in after.reliability)
