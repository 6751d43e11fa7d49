"""Evaluation of a network whose answer is known: it is the enlarged wide field."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio
from synthetic_pairs import RULE, bilinear_network, stack, write_pairs

from tisr_scope.bundles.bundle import save_bundle
from tisr_scope.bundles.bundle_description import BundleOptics
from tisr_scope.errors import DataError
from tisr_scope.evaluation.evaluate import SIM, WIDEFIELD, enlarge, evaluate
from tisr_scope.evaluation.judging import SUCCESSIVE
from tisr_scope.evaluation.results import Evaluation
from tisr_scope.formats.ome_tiff import write_series
from tisr_scope.metrics.statistics import mean_with_limits, paired_difference
from tisr_scope.normalise import Normalisation

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
    assert len(rows) == sum(len(r.metrics) for r in evaluation.stacks)
    content = json.loads((folder / "evaluation.json").read_text())
    mean = content["methods"]["bayesian"]["ECE, fixed"]["mean"]
    column = [
        float(r["value"]) for r in rows if (r["method"], r["metric"]) == ("bayesian", "ECE, fixed")
    ]
    assert len(column) == 3
    assert mean == pytest.approx(np.mean(column))
    assert content["uncalibrated"]["bayesian"] == ["the model holds no calibration"]
    for name in ("evaluation.png", "correlation.png", "montage.png", "reliability.png"):
        assert (folder / name).stat().st_size > 10_000


def test_a_network_that_enlarges_is_as_steady_and_as_sharp(evaluation: Evaluation) -> None:
    for metric in (
        SUCCESSIVE,
        "change over that of SIM",
        "change over that of truth",
        "resolution, FRC to truth (um)",
    ):
        difference = evaluation.difference("plain", WIDEFIELD, metric)
        assert difference is not None and difference.mean == pytest.approx(0, abs=1e-4)
    matrix = evaluation.correlation("plain")
    assert matrix.shape == (3, 3)
    np.testing.assert_allclose(np.diag(matrix), 1)
    changes = evaluation.per_recording("plain", "change over that of truth")
    np.testing.assert_allclose(list(changes.values()), 1, atol=1e-3)  # it is the truth
    # Noise of its own in every frame: the correlation falls by signal / (signal + noise).
    flicker = evaluation.per_recording(SIM, "change over that of truth")
    for seed, found in zip(SEEDS, flicker.values(), strict=True):
        wide, truth, _ = stack(seed, NOISE)
        frames = (truth[3:6] / wide.max()).reshape(3, -1)
        total = frames.var(axis=1) + 2 * NOISE**2  # of a Laplace distribution
        loss = np.sqrt(frames.var(axis=1) / total)
        clean = np.corrcoef(frames)
        noisy = clean * np.outer(loss, loss)
        expected = (2 - noisy[0, 1] - noisy[1, 2]) / (2 - clean[0, 1] - clean[1, 2])
        assert found == pytest.approx(expected, rel=0.1)


def test_resolution_by_the_target_needs_its_noise_to_be_another(evaluation: Evaluation) -> None:
    """These pairs have one level: the target is made of the very frames the network saw."""
    assert "resolution, FRC to SIM (um)" not in evaluation.metrics
    assert "resolution, FRC to truth (um)" in evaluation.metrics


def test_cases_that_cannot_be_evaluated_are_refused(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", {"train": [], "validation": [], "test": [1]}, NOISE)
    plain = save_bundle(tmp_path / "plain", bilinear_network(SCALE), normalisation=RULE).path
    with pytest.raises(DataError, match="no laser level 3"):
        evaluate([plain], pairs, tmp_path / "out", level=3)
    with pytest.raises(DataError, match="no test stack of channel 640"):
        evaluate([plain], pairs, tmp_path / "out", channel="640")
    with pytest.raises(DataError, match="no pairs for train"):
        evaluate([plain], pairs, tmp_path / "out", subset="train")
    with pytest.raises(DataError, match="no model"):
        evaluate([], pairs, tmp_path / "out")
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate([plain], tmp_path / "plain", tmp_path / "out")
    save_bundle(tmp_path / "a" / "same", bilinear_network(SCALE), normalisation=RULE)
    save_bundle(tmp_path / "b" / "same", bilinear_network(SCALE), normalisation=RULE)
    with pytest.raises(DataError, match="called same"):
        evaluate([tmp_path / "a" / "same", tmp_path / "b" / "same"], pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", {"train": [], "validation": [], "test": [1]}, NOISE)
    folders = {}
    for name, upscale, rule, optics in (
        ("two", 2, RULE, None),
        ("three", 3, RULE, None),
        ("percentile", 2, Normalisation(), None),
        ("coarse", 2, RULE, BundleOptics(numerical_aperture=1.49, pixel_size_um=0.1)),
    ):
        network = bilinear_network(SCALE, upscale=upscale)
        bundle = save_bundle(tmp_path / name, network, normalisation=rule, optics=optics)
        folders[name] = bundle.path
    out = tmp_path / "out"
    with pytest.raises(DataError, match="two enlarges x2, three x3"):
        evaluate([folders["two"], folders["three"]], pairs, out)
    with pytest.raises(DataError, match="target is x2, the models enlarge x3"):
        evaluate([folders["three"]], pairs, out)
    with pytest.raises(DataError, match="different normalisation"):
        evaluate([folders["two"], folders["percentile"]], pairs, out)
    with pytest.raises(DataError, match="coarse does not belong to these optics: camera pixel"):
        evaluate([folders["coarse"]], pairs, out)
    mixed = evaluate([folders["percentile"], folders["coarse"]], pairs, out, mixed=True, passes=2)
    assert {"percentile", "coarse"} < set(mixed.methods)


def test_stacks_without_a_reference_are_judged_by_themselves(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).random((8, 40, 44)).astype(np.float32)
    wide = np.maximum(gaussian_filter(wide, (0.5, 1.2, 1.2)), 0)
    (tmp_path / "stacks").mkdir()
    write_series(tmp_path / "stacks" / "cell.ome.tif", wide, 0.0626, 1.0, "488")
    model = save_bundle(tmp_path / "plain", bilinear_network(SCALE), normalisation=RULE).path
    found = evaluate([model], tmp_path / "stacks", tmp_path / "out", passes=2)
    assert SUCCESSIVE in found.metrics
    assert not [m for m in found.metrics if m.startswith(("PSNR", "SSIM", "change"))]
    expected = np.corrcoef(enlarge(wide[3:4], 2).ravel(), enlarge(wide[4:5], 2).ravel())[0, 1]
    mean = found.mean("plain", SUCCESSIVE)
    assert mean is not None and mean.mean == pytest.approx(expected, abs=1e-4)


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
