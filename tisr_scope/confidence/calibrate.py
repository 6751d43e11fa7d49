"""Calibration from a bundle and pairs to a calibrated bundle with its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from tisr_scope.bundles.bundle import Bundle, load_bundle, save_bundle, write_calibration
from tisr_scope.bundles.bundle_description import CARD
from tisr_scope.bundles.optics_domain import KnownOptics, optics_differ
from tisr_scope.confidence.calibration import Calibration, IntervalCalibration, Use
from tisr_scope.confidence.calibration_report import card_text, write_report
from tisr_scope.confidence.fine_tuning import Interval, Judgement
from tisr_scope.confidence.input_domain import InputDomain, measure_blocks
from tisr_scope.confidence.iterative_fine_tuning import (
    CalibrationResult,
    CalibrationSettings,
    Stage,
    calibrate_network,
)
from tisr_scope.errors import CalibrationError, DataError
from tisr_scope.pairs.pair_folder import load_pair, pair_folders
from tisr_scope.types import PairedStack

Subset = Literal["train", "validation", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "validation", "test")


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
    progress: Callable[[int, int], None] | None = None,
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
    pairs_of = [pair for part in parts.values() for pair in part]
    optics = _optics(source, pairs_of)
    _refuse_trained(source, parts)
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
        card=card_text(source.path / CARD, result, chosen),
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
            optics=optics,
        ),
        original_weights=source.weights_hash,
        intervals=_entries(result, chosen.intervals),
        k=result.k,
        k_source=_source(result),
        trials=tuple((t.k, t.ece) for t in result.search.trials),
        fine_tuning=chosen.fine_tuning,
        psnr_validation=_psnr(result.validation),
        psnr_test=None if result.test is None else _psnr(result.test),
        domain=pairs_domain(pairs_of, level, optics),
        recordings={subset: tuple(p.name for p in part) for subset, part in parts.items()},
        seed=chosen.seed,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=result.notes,
    )
    write_calibration(out, calibration.model_dump(mode="json"))
    figure = write_report(out, result, chosen)
    return CalibrationReport(out, calibration, result, figure)


def pairs_domain(
    pairs: Sequence[PairedStack], level: int, optics: KnownOptics
) -> InputDomain | None:
    """Light, background, noise and sharpness of the recordings of pairs; None of a single one."""
    blocks: dict[str, list[dict[str, float]]] = {}
    for pair in pairs:
        stack = pair.widefield[level]
        found = measure_blocks(stack.__getitem__, len(stack), optics)
        blocks.setdefault(pair.name, []).extend(measures for _, measures in found)
    return InputDomain.of(blocks) if sum(map(bool, blocks.values())) > 1 else None


def _refuse_trained(source: Bundle, parts: Mapping[Subset, Sequence[PairedStack]]) -> None:
    """No recording may judge a model that learned from it."""
    learned = source.training.get("recordings") or {}
    for subset, seen in (("validation", ("train",)), ("test", ("train", "validation"))):
        known = {name for part in seen for name in learned.get(part) or ()}
        for pair in parts[subset]:  # type: ignore[index]
            if pair.name in known:
                raise CalibrationError(
                    f"the model was trained with this recording, it cannot be one of the {subset} "
                    "recordings of its calibration",
                    where=pair.name,
                    remedy="split as in the training, or calibrate with other recordings",
                )


def _optics(source: Bundle, pairs: Sequence[PairedStack]) -> KnownOptics:
    """Optics of the model, which every pair must share; those of the pairs where it has none."""
    known = KnownOptics.of(source.optics or pairs[0])
    for pair in pairs:
        different = optics_differ(pair, known, "the model's is")
        if different:
            raise CalibrationError(
                f"the pairs have other optics: {'; '.join(different)}",
                where=pair.name,
                remedy="calibrate with recordings of the optics the model was trained for",
            )
    return known


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


def _source(
    result: CalibrationResult,
) -> Literal["parabola", "best tried", "original weights"]:
    if result.k is None:
        return "original weights"
    return result.search.source if result.k == result.search.k else "best tried"


def _psnr(stages: dict[Stage, Judgement]) -> tuple[float, float]:
    return stages["before"].mean_psnr, stages["fine-tuned"].mean_psnr


def _entries(
    result: CalibrationResult, intervals: Sequence[Interval]
) -> tuple[IntervalCalibration, ...]:
    def errors(stages: dict[Stage, Judgement], place: int) -> tuple[float, float, float]:
        return (
            stages["before"].error(place),
            stages["fine-tuned"].error(place),
            stages["recalibrated"].error(place),
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
