"""Calibration from a bundle and pairs to a calibrated bundle with its report.

k is chosen on validation recordings with the M-pass mixture that is used later; the reported
errors come from test recordings, which decide nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from tisr_scope.confidence.calibration import Calibration, IntervalCalibration, Use
from tisr_scope.confidence.correction import KSearch, search_k
from tisr_scope.confidence.examples import Examples, make_all
from tisr_scope.confidence.fine_tuning import FineTuning, Interval, Judgement, fine_tune, judge
from tisr_scope.confidence.recalibration import RecalibrationMap, fit_recalibration
from tisr_scope.confidence.reliability import Reliability
from tisr_scope.confidence.reliability_figure import reliability_figure
from tisr_scope.data.normalise import Normalisation
from tisr_scope.data.pairs import load_pair, pair_folders
from tisr_scope.errors import CalibrationError, DataError
from tisr_scope.networks.bundle import CARD, load_bundle, save_bundle, write_calibration
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.profiles.schema import Frozen
from tisr_scope.provenance import provenance, write_json
from tisr_scope.types import PairedStack

TARGET_ECE = 0.03
TARGET_FACTOR = 3.0
"""The recalibration map is added where the fine-tuning alone stays behind both of these."""

PostHoc = Literal["auto", "always", "never"]
Progress = Callable[[int, int], None]
Subset = Literal["train", "validation", "test"]
Stage = Literal["before", "fine-tuned", "recalibrated"]


SUBSETS: tuple[Subset, ...] = ("train", "validation", "test")
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
    train_frames: int = 12
    """Most centre frames of a training recording."""
    judged_frames: int = 8
    """Most centre frames of a validation or test recording."""
    patch_px: int = 128
    seed: int = 0


@dataclass(frozen=True)
class CalibrationResult:
    """Outcome of a calibration in memory.

    Attributes
    ----------
    network : DpaTisr
        With the calibrated weights.
    search : KSearch
    k : float
        Suppression factor of these weights.
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
    k: float
    maps: tuple[RecalibrationMap | None, ...]
    validation: dict[Stage, Judgement]
    test: dict[Stage, Judgement] | None
    input_scale: tuple[float, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CalibrationReport:
    """What :func:`calibrate` did, and where it put it."""

    bundle: Path
    calibration: Calibration
    result: CalibrationResult
    figure: Path

    @property
    def ece_before(self) -> float:
        """ECE of the first interval before, on test recordings where there are any."""
        return self._errors()[0]

    @property
    def ece_after(self) -> float:
        """ECE of the first interval as the bundle is used now."""
        return self._errors()[2]

    def _errors(self) -> tuple[float, float, float]:
        first = self.calibration.intervals[0]
        return first.ece_test or first.ece_validation


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

    def examples(pairs: Sequence[PairedStack], most: int, offset: int) -> list[Examples]:
        return make_all(
            network,
            pairs,
            normalisation,
            level,
            most=most,
            patch_px=patch,
            seed=chosen.seed + offset,
            cache=not chosen.fine_tuning.whole_network,
        )

    training = examples(train, chosen.train_frames, 1000)
    validating = examples(validation, chosen.judged_frames, 2000)
    testing = examples(test, chosen.judged_frames, 3000)
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
        return _ece(tried[k][1])

    search = search_k(trial, before.reliability[0].relative_ece, chosen.delta, chosen.max_steps)
    if search.k not in tried:
        trial(search.k)
    k = min(tried, key=lambda candidate: _ece(tried[candidate][1]))
    notes = [f"k search: {search.source}, {search.reason}"]
    if k != search.k:
        notes.append(
            f"the trial k = {k:.3g} had a smaller validation error than k = {search.k:.3g} of the "
            f"{search.source}, and was kept"
        )
    tuned, after = tried[k]
    maps = _recalibration(before, after, chosen.post_hoc, len(chosen.intervals))
    if any(maps):
        notes.append("a monotone recalibration map fitted on validation recordings is applied")
    result_validation: dict[Stage, Judgement] = {
        "before": before,
        "fine-tuned": after,
        "recalibrated": judged(tuned, validating, maps),
    }
    tick()
    result_test: dict[Stage, Judgement] | None = None
    if testing:
        result_test = {
            "before": judged(network, testing),
            "fine-tuned": judged(tuned, testing),
            "recalibrated": judged(tuned, testing, maps),
        }
    else:
        notes.append("no test recordings: the errors are those of the validation recordings")
    tick()
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


def calibrate(
    bundle: str | Path,
    pairs: Path,
    out: Path,
    *,
    level: int,
    channel: str | None = None,
    settings: CalibrationSettings | None = None,
    input_mode: Literal["pattern_mean", "single"] = "pattern_mean",
    device: str = "cpu",
    progress: Progress | None = None,
) -> CalibrationReport:
    """Calibrate a model bundle with pairs and write a new one.

    Parameters
    ----------
    bundle : str or Path
        Name or folder of a Bayesian bundle.
    pairs : Path
        Folder written by ``tisr prepare``, with its split by recording.
    out : Path
        Folder of the calibrated bundle; must not exist yet or be empty.
    level : int
        Laser level of the input, from 0 (lowest).
    channel : str, optional
        Needed where the pairs hold several.
    settings : CalibrationSettings, optional
    input_mode : {"pattern_mean", "single"}
        What the wide-field frames of the pairs are.
    device : str
        Torch device.
    progress : callable, optional
        Called with the number of finished stages and their largest number.

    Raises
    ------
    CalibrationError
        If the pairs cannot serve, or ``out`` is taken.
    """
    if out.exists() and any(out.iterdir()):
        raise CalibrationError(
            "the folder for the calibrated bundle is not empty",
            where=str(out),
            remedy="choose a new folder",
        )
    chosen = settings or CalibrationSettings()
    source = load_bundle(bundle)
    parts = load_subsets(pairs, channel)
    result = calibrate_network(
        source.network(torch.device(device)),
        parts["train"],
        parts["validation"],
        parts["test"],
        normalisation=source.normalisation,
        level=level,
        settings=chosen,
        progress=progress,
    )
    written = save_bundle(
        out,
        result.network.cpu(),
        normalisation=source.normalisation,
        optics=source.optics,
        training={**source.training, "calibrated_from": source.weights_hash},
        licence=source.licence,
        card=_card(source.path / CARD, result, chosen),
    )
    calibration = Calibration(
        use=Use(
            weights=written.weights_hash,
            normalisation=source.normalisation,
            emitted="centre",
            passes=chosen.passes,
            input_mode=input_mode,
            level=level,
            input_scale=result.input_scale,
        ),
        original_weights=source.weights_hash,
        intervals=_entries(result, chosen.intervals),
        k=result.k,
        k_source="parabola" if result.k == result.search.k else "best tried",
        trials=tuple((t.k, t.ece) for t in result.search.trials),
        fine_tuning=chosen.fine_tuning,
        psnr_validation=_psnr(result.validation),
        psnr_test=None if result.test is None else _psnr(result.test),
        recordings={subset: tuple(p.name for p in part) for subset, part in parts.items()},
        seed=chosen.seed,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=result.notes,
    )
    write_calibration(out, calibration.model_dump(mode="json"))
    figure = write_report(out, result, chosen)
    return CalibrationReport(out, calibration, result, figure)


def load_subsets(pairs: Path, channel: str | None = None) -> dict[Subset, list[PairedStack]]:
    """All pairs of one channel by subset; only ``test`` may be empty.

    Raises
    ------
    CalibrationError
        If there are several channels and none was chosen, or none of that name.
    DataError
        If the pairs cannot be read, or there is nothing to train or validate on.
    """
    found: dict[Subset, list[PairedStack]] = {"test": []}
    for subset in SUBSETS:
        try:
            folders = pair_folders(pairs, subset)
        except DataError:
            if subset != "test":
                raise
            continue
        found[subset] = [load_pair(folder) for folder in folders]
    names = sorted({pair.channel for part in found.values() for pair in part})
    if (channel is None and len(names) > 1) or (channel is not None and channel not in names):
        raise CalibrationError(
            f"a model serves one channel, and these pairs hold {', '.join(names)}",
            where=str(pairs),
            remedy=f"choose one channel: {' or '.join(names)}",
        )
    return {
        subset: [pair for pair in part if channel in (None, pair.channel)]
        for subset, part in found.items()
    }


def write_report(folder: Path, result: CalibrationResult, settings: CalibrationSettings) -> Path:
    """Write reliability diagrams (PNG), tables (CSV) and all numbers (JSON) of a calibration."""
    stages = result.test or result.validation
    subset = "test" if result.test is not None else "validation"
    headings: dict[Stage, str] = {"before": "before", "fine-tuned": "after fine-tuning"}
    if any(result.maps):
        headings["recalibrated"] = "with recalibration map"
    diagrams: dict[str, Reliability] = {}
    rows: list[dict[str, str | float]] = []
    for place, interval in enumerate(settings.intervals):
        for stage, heading in headings.items():
            counts = stages[stage].reliability[place].coarser()
            if place == 0:
                diagrams[heading] = counts
            rows += [
                {"interval": interval.name, "stage": stage, "recordings": subset, **row}
                for row in counts.table()
            ]
    figure = folder / "reliability.png"
    reliability_figure(
        diagrams, title=f"{subset} recordings, {settings.intervals[0].name} interval"
    ).savefig(figure)
    with (folder / "reliability.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    content = {
        **provenance(settings.model_dump(mode="json")),
        "k": result.k,
        "k_search": {
            "k": result.search.k,
            "source": result.search.source,
            "reason": result.search.reason,
            "trials": [{"k": t.k, "ece_validation": t.ece} for t in result.search.trials],
        },
        "notes": list(result.notes),
        "validation": _summary(result.validation, settings),
        "test": None if result.test is None else _summary(result.test, settings),
    }
    write_json(folder / "reliability.json", content)
    return figure


def _summary(stages: dict[Stage, Judgement], settings: CalibrationSettings) -> dict[str, object]:
    return {
        stage: {
            "psnr_db": dict(zip(judgement.recordings, judgement.psnr, strict=True)),
            "intervals": {
                interval.name: {
                    **judgement.reliability[place].coarser().summary(),
                    "ece_of_recordings": dict(
                        zip(judgement.recordings, judgement.ece[place], strict=True)
                    ),
                }
                for place, interval in enumerate(settings.intervals)
            },
        }
        for stage, judgement in stages.items()
    }


def _card(original: Path, result: CalibrationResult, settings: CalibrationSettings) -> str:
    """Card of the bundle with the figures of its calibration."""
    text = original.read_text(encoding="utf-8").rstrip() if original.is_file() else ""
    stages, subset = (
        (result.test, "test") if result.test is not None else (result.validation, "validation")
    )
    lines = [
        "## Calibration",
        "",
        f"Expected calibration error on {subset} recordings, {settings.passes} passes, "
        f"k = {result.k:.3f}:",
        "",
        "| credible interval | before | fine-tuned | as used |",
        "|---|---|---|---|",
    ]
    for place, interval in enumerate(settings.intervals):
        figures = " | ".join(f"{_ece(stages[stage], place):.4f}" for stage in STAGES)
        lines.append(f"| {interval.name} | {figures} |")
    before, after = _psnr(stages)
    lines += ["", f"PSNR {before:.2f} dB before, {after:.2f} dB after.", ""]
    lines += [f"- {note}" for note in result.notes]
    return "\n".join([text, "", *lines, ""])


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


def _ece(judgement: Judgement, place: int = 0) -> float:
    return judgement.reliability[place].coarser().ece


def _psnr(stages: dict[Stage, Judgement]) -> tuple[float, float]:
    return stages["before"].mean_psnr, stages["fine-tuned"].mean_psnr


def _recalibration(
    before: Judgement, after: Judgement, policy: PostHoc, intervals: int
) -> tuple[RecalibrationMap | None, ...]:
    """Maps for all intervals, where the policy asks for them."""
    enough = _ece(after) <= min(TARGET_ECE, _ece(before) / TARGET_FACTOR)
    if policy == "never" or (policy == "auto" and enough):
        return (None,) * intervals
    return tuple(fit_recalibration(counts) for counts in after.reliability)


def _entries(
    result: CalibrationResult, intervals: Sequence[Interval]
) -> tuple[IntervalCalibration, ...]:
    def errors(stages: dict[Stage, Judgement], place: int) -> tuple[float, float, float]:
        return (
            _ece(stages["before"], place),
            _ece(stages["fine-tuned"], place),
            _ece(stages["recalibrated"], place),
        )

    return tuple(
        IntervalCalibration(
            interval=interval,
            ece_validation=errors(result.validation, place),
            ece_test=None if result.test is None else errors(result.test, place),
            recalibration=result.maps[place],
        )
        for place, interval in enumerate(intervals)
    )
