"""Evaluation of a network whose answer is known: it is the enlarged wide field."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio
from synthetic_pairs import RULE, bilinear_network, stack, write_pairs

from tisr_scope.analysis.evaluate import SIM, WIDEFIELD, evaluate
from tisr_scope.analysis.evaluation import Evaluation
from tisr_scope.analysis.statistics import mean_with_limits, paired_difference
from tisr_scope.errors import DataError
from tisr_scope.networks.bundle import save_bundle

NOISE, SCALE = 0.05, 0.02
SEEDS = [5, 6, 7]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("evaluation")
    pairs = write_pairs(folder / "pairs", {"train": [], "validation": [], "test": SEEDS}, NOISE)
    for name, bayesian in (("bayesian", True), ("plain", False)):
        save_bundle(folder / name, bilinear_network(SCALE, bayesian=bayesian), normalisation=RULE)
    return evaluate(
        [folder / "bayesian", folder / "plain"], pairs, folder / "out", passes=3, level=0
    )


def test_a_network_that_enlarges_is_as_good_as_enlarging(evaluation: Evaluation) -> None:
    for metric in ("PSNR to SIM (dB)", "SSIM to SIM"):
        for model in ("bayesian", "plain"):
            difference = evaluation.difference(model, WIDEFIELD, metric)
            assert difference is not None and difference.recordings == 3
            assert difference.mean == pytest.approx(0, abs=1e-4)
            assert difference.half_width_95 == pytest.approx(0, abs=1e-4)
    found = evaluation.mean("bayesian", "PSNR to truth (dB)")
    assert found is not None and found.mean > 80  # the truth is the enlarged wide field


def test_psnr_of_sim_to_the_truth_is_that_of_the_fit(evaluation: Evaluation) -> None:
    expected = []
    for seed in SEEDS:
        _, truth, target = (part[..., :, :] for part in stack(seed, NOISE))
        truth, target = truth[3:6] / truth[3:6].max(), target[3:6]
        line = np.polyfit(target.ravel().astype(float), truth.ravel().astype(float), 1)
        fit = np.polyval(line, target.astype(float))
        expected.append(
            np.mean(
                [
                    peak_signal_noise_ratio(t.astype(float), f, data_range=1)
                    for t, f in zip(truth, fit, strict=True)
                ]
            )
        )
    found = evaluation.mean(SIM, "PSNR to truth (dB)")
    assert found is not None
    assert found.mean == pytest.approx(np.mean(expected), abs=0.01)
    spread = stats.t.ppf(0.975, 2) * np.std(expected, ddof=1) / np.sqrt(3)
    assert found.half_width_95 == pytest.approx(spread, abs=0.01)


def test_calibration_error_is_that_of_the_closed_form(evaluation: Evaluation) -> None:
    """One predicted scale gives one confidence, so the ECE is |confidence - accuracy|."""
    stated = 1 - np.exp(-0.04 / SCALE)
    hits = []
    for seed in SEEDS:
        wide, truth, target = stack(seed, NOISE)
        error = np.abs(truth / wide.max() - target / target.max())[3:6]
        hits.append(float((error <= 0.04).mean()))
    found = evaluation.per_recording("bayesian", "ECE, fixed")
    np.testing.assert_allclose(list(found.values()), [stated - hit for hit in hits], atol=1e-3)
    assert evaluation.reliability("plain") == ()
    assert evaluation.mean("plain", "ECE, fixed") is None


def test_files_hold_the_numbers(evaluation: Evaluation) -> None:
    folder: Path = evaluation.folder
    with (folder / "evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4
    content = json.loads((folder / "evaluation.json").read_text())
    mean = content["methods"]["bayesian"]["ECE, fixed"]["mean"]
    column = [float(r["ECE, fixed"]) for r in rows if r["method"] == "bayesian"]
    assert mean == pytest.approx(np.mean(column))
    assert content["uncalibrated"]["bayesian"] == ["the model holds no calibration"]
    for name in ("evaluation.png", "montage.png", "reliability.png"):
        assert (folder / name).stat().st_size > 10_000


def test_stacks_that_cannot_be_evaluated_are_refused(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", {"train": [], "validation": [], "test": [1]}, NOISE)
    with pytest.raises(DataError, match="no laser level 3"):
        evaluate([], pairs, tmp_path / "out", level=3)
    with pytest.raises(DataError, match="no test stack of channel 640"):
        evaluate([], pairs, tmp_path / "out", channel="640")
    save_bundle(tmp_path / "a" / "same", bilinear_network(SCALE), normalisation=RULE)
    save_bundle(tmp_path / "b" / "same", bilinear_network(SCALE), normalisation=RULE)
    with pytest.raises(DataError, match="called same"):
        evaluate([tmp_path / "a" / "same", tmp_path / "b" / "same"], pairs, tmp_path / "out")


def test_limits_are_those_of_student() -> None:
    values = np.array([1.0, 2.0, 4.0, 3.5])
    found = mean_with_limits(values)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert found.mean - found.half_width_95 == pytest.approx(low)
    assert found.mean + found.half_width_95 == pytest.approx(high)
    assert mean_with_limits(values[:1]).as_json()["half_width_95"] is None


def test_paired_differences_use_shared_recordings_only() -> None:
    found = paired_difference({"a": 3.0, "b": 5.0, "c": 9.0}, {"a": 2.0, "b": 3.0, "d": 0.0})
    assert found is not None
    assert (found.mean, found.recordings) == (1.5, 2)
    assert paired_difference({"a": 1.0}, {"b": 1.0}) is None
