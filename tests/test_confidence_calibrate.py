"""A whole calibration of a network whose overconfidence is known, from bundle to bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_pairs import PIXEL_UM, RULE, bilinear_network, stack, write_pairs

from tisr_scope.bundles.bundle import load_bundle, save_bundle
from tisr_scope.bundles.bundle_description import BundleOptics
from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.confidence.calibrate import CalibrationReport, calibrate, load_subsets
from tisr_scope.confidence.calibration import Use, apply_calibration, load_calibration
from tisr_scope.confidence.calibration_windows import (
    centre_features,
    centres,
    halo_px,
    make_examples,
)
from tisr_scope.confidence.credible_interval import confidence, half_width
from tisr_scope.confidence.fine_tuning import FineTuning, Interval, fine_tune
from tisr_scope.confidence.iterative_fine_tuning import CalibrationSettings, calibrate_network
from tisr_scope.errors import CalibrationError
from tisr_scope.networks.dpa_tisr import DpaTisr, small
from tisr_scope.types import PairedStack

NOISE, SCALE = 0.05, 0.02
FIXED = Interval(gamma=None)
QUICK = FineTuning(alpha=0.1, steps=60, learning_rate=0.03, passes=1)
SPLIT = {"train": [1, 2], "validation": [3], "test": [4, 5]}


def pair(seed: int) -> PairedStack:
    wide, _, target = stack(seed, NOISE)
    return PairedStack(f"recording{seed}", "488", wide[None], target, PIXEL_UM, 1.0)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> CalibrationReport:
    folder = tmp_path_factory.mktemp("calibration")
    pairs = write_pairs(folder / "pairs", SPLIT, NOISE)
    save_bundle(
        folder / "model",
        bilinear_network(SCALE),
        normalisation=RULE,
        card="# model",
        optics=BundleOptics(numerical_aperture=1.49, emission_nm=525, pixel_size_um=PIXEL_UM),
    )
    return calibrate(
        folder / "model",
        pairs,
        folder / "calibrated",
        level=0,
        settings=CalibrationSettings(
            intervals=(FIXED, Interval()), passes=2, fine_tuning=QUICK, max_steps=3
        ),
    )


def test_overconfidence_is_removed_on_untouched_recordings(report: CalibrationReport) -> None:
    """Before: 1 - exp(-0.04 / 0.02) is claimed, 1 - exp(-0.04 / 0.05) is true."""
    expected = np.exp(-0.04 / NOISE) - np.exp(-0.04 / SCALE)
    assert report.ece_before == pytest.approx(expected, abs=0.02)
    assert report.ece_after < 0.03
    assert report.ece_before / report.ece_after > 3
    before, after = report.calibration.psnr_test or (0, 1)
    assert abs(after - before) < 0.1


def test_fine_tuning_alone_finds_the_true_scale(report: CalibrationReport) -> None:
    network = load_bundle(report.bundle).network()
    with torch.inference_mode():
        scale = network(torch.rand(1, 1, 1, 24, 28))[0, 0, 1]
    assert float(scale.median()) == pytest.approx(NOISE, rel=0.25)


def test_search_started_towards_suppression(report: CalibrationReport) -> None:
    assert [k for k, _ in report.calibration.trials][:2] == pytest.approx([0.5, 0.4])
    assert len(report.calibration.trials) == 3


def test_calibration_is_read_back_and_knows_its_domain(report: CalibrationReport) -> None:
    calibration = load_calibration(report.bundle)
    assert calibration == report.calibration
    bundle = load_bundle(report.bundle)
    use = Use(
        weights=bundle.weights_hash,
        normalisation=RULE,
        passes=2,
        input_scale=(100, 100),
        optics=KnownOptics.of(bundle.optics),
    )
    assert calibration.matches(use) == []
    for change, reason in (
        ({"weights": "0"}, "weights"),
        ({"passes": 6}, "number of passes is 6"),
        ({"emitted": "newest"}, "frame of the window is newest"),
        ({"input_mode": "single"}, "wide-field input is single"),
        ({"normalisation": RULE.model_copy(update={"reference": "percentile"})}, "scale"),
        ({"level": 2}, "laser level is 2"),
        ({"window": 5}, "window is 5"),
        ({"optics": use.optics.model_copy(update={"emission_nm": 610})}, "emission 610 nm"),
        ({"optics": use.optics.model_copy(update={"emission_nm": None})}, "emission of the images"),
        ({"input_scale": (20.0, 25.0)}, "electrons"),
        ({"input_scale": (100.0, 400.0)}, "electrons"),
    ):
        reasons = calibration.matches(use.model_copy(update=change))
        assert len(reasons) == 1 and reason in reasons[0]
    assert calibration.original_weights != bundle.weights_hash
    with pytest.raises(CalibrationError, match="was not calibrated"):
        calibration.of(0.05, None)


def test_split_is_kept_apart_and_recorded(report: CalibrationReport) -> None:
    recorded = report.calibration.recordings
    assert recorded == {k: tuple(f"recording{i}" for i in v) for k, v in SPLIT.items()}
    assert "ECE" in (report.bundle / "reliability.json").read_text().upper()
    assert "Expected calibration error on test recordings" in (
        report.bundle / "README.md"
    ).read_text(encoding="utf-8")
    content = json.loads((report.bundle / "reliability.json").read_text())
    found = content["test"]["before"]["intervals"]["fixed"]["ece"]
    assert found == pytest.approx(report.ece_before)
    assert report.figure.stat().st_size > 10_000


def test_map_of_the_calibration_is_applied(report: CalibrationReport) -> None:
    means, scales = torch.rand(2, 8, 8), torch.rand(2, 8, 8) * 0.1 + 0.01
    plain = apply_calibration(means, scales, None)
    torch.testing.assert_close(plain, confidence(means, scales))
    entry = report.calibration.of()
    mapped = apply_calibration(means, scales, report.calibration)
    expected = plain if entry.recalibration is None else entry.recalibration.apply(plain)
    torch.testing.assert_close(mapped, expected)


def test_taken_folder_and_other_channels_are_refused(
    report: CalibrationReport, tmp_path: Path
) -> None:
    with pytest.raises(CalibrationError, match="not empty"):
        calibrate(report.bundle, tmp_path, report.bundle, level=0)
    pairs = write_pairs(tmp_path / "pairs", SPLIT, NOISE)
    with pytest.raises(CalibrationError, match="hold 488"):
        load_subsets(pairs, "560")


def test_fine_tuning_is_reproducible_and_leaves_the_original(tmp_path: Path) -> None:
    network = bilinear_network(SCALE)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    examples = [make_examples(network, pair(1), RULE, 0)]
    settings = FineTuning(steps=3, learning_rate=1e-3)
    first, second = (fine_tune(network, examples, FIXED, 0.5, settings, seed=4) for _ in "ab")
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name], rtol=0, atol=0)
        torch.testing.assert_close(network.state_dict()[name], before[name], rtol=0, atol=0)
    changed = [n for n, v in first.state_dict().items() if not torch.equal(v, before[n])]
    assert changed and all(
        n.startswith(("reconstruction", "upsamplemodule", "conv_")) for n in changed
    )


def test_k_decides_the_confidence() -> None:
    network = bilinear_network(0.05)
    examples = [make_examples(network, pair(1), RULE, 0)]
    stated = []
    for k in (-1.5, 1.5):
        settings = FineTuning(steps=30, learning_rate=0.01, nll_weight=0.1, alpha=0.9)
        tuned = fine_tune(network, examples, FIXED, k, settings)
        with torch.inference_mode():
            means, scales = examples[0].passes(tuned, 0, 1)
        stated.append(float(confidence(means, scales, half_width(means[0], 0.04, None)).mean()))
    assert stated[0] > stated[1] + 0.05


@pytest.mark.parametrize("temporal", [True, False])
def test_cached_features_give_the_output_of_the_network(temporal: bool) -> None:
    torch.manual_seed(2)
    config = small().model_copy(update={"temporal": temporal})
    network = DpaTisr(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    window = torch.rand(2, 7, 1, 32, 36)
    with torch.inference_mode():
        whole = network(window)[:, 3]
        cached = network.reconstruct(centre_features(network, window), window[:, 3])
    torch.testing.assert_close(cached, whole, rtol=1e-4, atol=1e-5)


def test_cut_patch_agrees_with_the_whole_frame_where_it_is_judged() -> None:
    torch.manual_seed(3)
    network = DpaTisr(small().model_copy(update={"temporal": False, "channels": 4})).eval()
    data = pair(7)
    whole = make_examples(network, data, RULE, 0, patch_px=None)
    cut = make_examples(network, data, RULE, 0, patch_px=22, seed=1)
    margin = 2 * halo_px(network)
    assert cut.margin == margin and whole.margin == 0
    with torch.inference_mode():
        full, part = (e.passes(network, 0, 1)[0][0] for e in (whole, cut))
    side = 2 * 22 - 2 * margin
    assert part.shape == (side, side)
    windows = full.unfold(0, side, 1).unfold(1, side, 1)
    assert float((windows - part).abs().amax(dim=(-1, -2)).min()) < 1e-5


def test_windows_are_whole_and_evenly_spread() -> None:
    assert centres(9, 7, None) == [3, 4, 5]
    assert centres(6, 7, None) == []
    assert centres(20, 7, 4) == [3, 7, 12, 16]
    assert centres(9, 7, 1) == [4]


def test_networks_without_a_scale_and_short_recordings_are_refused(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", SPLIT, NOISE)
    save_bundle(tmp_path / "plain", bilinear_network(SCALE, bayesian=False), normalisation=RULE)
    with pytest.raises(CalibrationError, match="predicts no scale"):
        calibrate(tmp_path / "plain", pairs, tmp_path / "out", level=0)
    network = bilinear_network(SCALE)
    with pytest.raises(CalibrationError, match="no laser level 4"):
        make_examples(network, pair(1), RULE, 4)
    data = pair(1)
    short = PairedStack("short", "488", data.widefield[:, :5], data.target[:5], PIXEL_UM, 1.0)
    with pytest.raises(CalibrationError, match="hold no window"):
        make_examples(network, short, RULE, 0)


def test_fine_tuning_that_costs_fidelity_is_not_taken() -> None:
    """A senseless learning rate ruins every trial: the weights stay, the map still helps."""
    network = bilinear_network(SCALE)
    result = calibrate_network(
        network,
        [pair(1)],
        [pair(2)],
        [pair(3)],
        normalisation=RULE,
        level=0,
        settings=CalibrationSettings(
            intervals=(FIXED,),
            passes=1,
            max_steps=3,
            fine_tuning=FineTuning(steps=5, learning_rate=3.0, passes=1),
        ),
    )
    assert result.k is None
    for name, value in result.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    assert any("were left out" in note for note in result.notes)
    assert result.maps[0] is not None and result.test is not None
    assert result.test["before"].error() > 0.25
    assert result.test["fine-tuned"].error() == result.test["before"].error()
    assert result.test["recalibrated"].error() < 0.03


def test_networks_with_dropout_before_the_reconstruction_keep_their_windows() -> None:
    torch.manual_seed(5)
    config = small().model_copy(
        update={"dropout_in": ("extraction", "reconstruction"), "temporal": False, "channels": 4}
    )
    network = DpaTisr(config).eval()
    examples = [make_examples(network, pair(1), RULE, 0, most=2)]
    assert examples[0].features is None and examples[0].frames.shape[1] == 7
    settings = FineTuning(steps=2, learning_rate=1e-3, whole_network=True)
    tuned = fine_tune(network, examples, FIXED, 0.5, settings)
    changed = {
        name.split(".")[0]
        for name, value in tuned.state_dict().items()
        if not torch.equal(value, network.state_dict()[name])
    }
    assert {"feat_extract", "backbone", "reconstruction", "conv_last"} <= changed
    cached = [make_examples(bilinear_network(SCALE), pair(1), RULE, 0)]
    with pytest.raises(CalibrationError, match="cached features"):
        fine_tune(bilinear_network(SCALE), cached, FIXED, 0.5, settings)
