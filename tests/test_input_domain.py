"""Recordings outside a calibration are told apart from those inside, with the reason in words."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_pairs import PIXEL_UM, RULE, bilinear_network, write_pairs

from tisr_scope.bundles.bundle import BundleOptics, load_bundle, save_bundle
from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.confidence.calibrate import calibrate
from tisr_scope.confidence.calibration import load_calibration
from tisr_scope.confidence.fine_tuning import FineTuning
from tisr_scope.confidence.input_domain import (
    InputDomain,
    block_starts,
    first_objection,
    measure_blocks,
)
from tisr_scope.confidence.input_measures import BLOCK, MEASURES, measure_input
from tisr_scope.confidence.iterative_fine_tuning import CalibrationSettings
from tisr_scope.errors import CalibrationError, DataError
from tisr_scope.evaluation.evaluate import evaluate
from tisr_scope.inference.predictor import Model
from tisr_scope.simulated_microscope.randomisation import Conditions
from tisr_scope.simulated_microscope.recordings import simulate_cell

OPTICS = KnownOptics(numerical_aperture=1.49, emission_nm=525, pixel_size_um=0.0626)
CALIBRATED = 40


def usual(seed: int) -> Conditions:
    """One microscope and one specimen, as they differ from day to day."""
    random = np.random.default_rng(seed)
    return Conditions(
        peak_electrons=float(20 * random.uniform(0.93, 1.07)),
        density=float(random.uniform(0.8, 1.25)),
        haze=float(random.uniform(0.03, 0.1)),
    )


@cache
def recording(seed: int, **changes: Any) -> np.ndarray:
    cell = simulate_cell(replace(usual(seed), **changes), seed, frame_shape=(96, 96))
    return cell.widefield


@pytest.fixture(scope="module")
def domain() -> InputDomain:
    blocks = {}
    for seed in range(CALIBRATED):
        frames = recording(seed)
        found = measure_blocks(frames.__getitem__, len(frames), OPTICS)
        blocks[str(seed)] = [measures for _, measures in found]
    return InputDomain.of(blocks)


def objections(domain: InputDomain, frames: np.ndarray) -> list[str]:
    found = first_objection(domain, frames.__getitem__, len(frames), OPTICS)
    return [] if found is None else found[1]


def test_recordings_of_the_same_kind_are_inside(domain: InputDomain) -> None:
    told = [objections(domain, recording(seed)) for seed in range(500, 524)]
    assert sum(map(bool, told)) <= 1, told


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"haze": 1.0}, "background over signal"),
        ({"focus_um": 0.3}, "detail at"),
        ({"cutoff_factor": 0.8}, "detail at"),
        ({"specimen": "ccps"}, ""),
        ({"specimen": "mitochondria"}, "detail at"),
        ({"offset_error": 0.4}, "noise"),
        ({"offset_error": -0.3}, "background over signal"),
        ({"peak_electrons": 5.0}, "electrons"),
        ({"peak_electrons": 100.0}, "electrons"),
        ({"hot_pixels": 0.002, "hot_peak": 3.0}, "single pixels stand out"),
        ({"exposures": 1}, "variance of the noise"),
        ({"still": 1}, "differs from frame to frame"),
    ],
)
def test_recordings_of_another_kind_are_outside(
    domain: InputDomain, changes: dict[str, Any], said: str
) -> None:
    told = [objections(domain, recording(seed, **changes)) for seed in (600, 601, 602)]
    assert all(told), told
    assert any(said in reason for reasons in told for reason in reasons), told


def test_measures_are_those_of_the_light() -> None:
    """Closed forms: shot noise of a mean of frames, background over signal, repeated frames."""
    random = np.random.default_rng(0)
    spot = np.zeros((96, 96))
    spot[20:76:14, 20:76:14] = 1
    from scipy.ndimage import gaussian_filter

    light = 40 * gaussian_filter(spot, 2) / gaussian_filter(spot, 2).max() + 20
    frames = random.poisson(np.broadcast_to(light, (9, BLOCK, 96, 96))).mean(axis=0)
    found = measure_input(frames.astype(np.float32), OPTICS)
    assert found is not None
    shown = {name: MEASURES[name].shown(value) for name, value in found.items()}
    assert shown["noise"] == pytest.approx(1 / 9, rel=0.05)
    assert shown["signal"] == pytest.approx(40 * 4 / 5, rel=0.2)  # blurred by 1 px
    assert shown["background"] == pytest.approx(20 / shown["signal"], rel=0.1)
    assert shown["repeats"] == pytest.approx(1, abs=0.06)
    assert shown["pattern_noise"] == pytest.approx(1, abs=0.15)
    still = measure_input(np.repeat(frames[:1], BLOCK, axis=0).astype(np.float32), OPTICS)
    assert still is not None
    assert MEASURES["repeats"].shown(still["repeats"]) < 0.02
    assert MEASURES["pattern_noise"].shown(still["pattern_noise"]) == pytest.approx(BLOCK, rel=0.1)


def test_nothing_is_measured_without_optics_or_light() -> None:
    frames = recording(0)
    assert measure_input(frames, OPTICS.model_copy(update={"emission_nm": None})) is None
    assert measure_input(np.zeros_like(frames), OPTICS) is None


def test_it_is_found_within_twenty_time_points(domain: InputDomain) -> None:
    """A focus that is lost, or a dye that bleaches, during a time-lapse."""
    good = np.concatenate([recording(seed) for seed in (700, 700, 700)])
    assert block_starts(60)[:3] == [0, 14, 28]
    for spoilt in (recording(700, focus_um=0.4), recording(700) * 0.3):
        frames = np.concatenate([good, *[spoilt] * 4])
        found = first_objection(domain, frames.__getitem__, len(frames), OPTICS)
        assert found is not None and 14 <= found[0] <= 21 + 20 - BLOCK
        assert all(reason.startswith("from time point") for reason in found[1])
    assert first_objection(domain, good.__getitem__, len(good), OPTICS) is None


def test_few_recordings_show_no_domain() -> None:
    blocks = {
        str(seed): [m for _, m in measure_blocks(recording(seed).__getitem__, 7, OPTICS)]
        for seed in range(7)
    }
    (reason,) = InputDomain.of(blocks).objections(blocks["0"][0])
    assert "made of 7 recordings, at least 8" in reason
    with pytest.raises(CalibrationError, match="1 recordings show no range"):
        InputDomain.of({"0": blocks["0"]})


def test_it_is_kept_as_json(domain: InputDomain) -> None:
    again = InputDomain.model_validate_json(domain.model_dump_json())
    outside = measure_input(recording(600, haze=1.0), OPTICS)
    assert outside is not None and again.objections(outside) == domain.objections(outside) != []


# ------------------------------------------------------------- from calibration to a new recording


def save(folder: Path, trained: tuple[str, ...] = ()) -> Path:
    optics = BundleOptics(numerical_aperture=1.49, pixel_size_um=PIXEL_UM, emission_nm=525)
    return save_bundle(
        folder,
        bilinear_network(0.02),
        normalisation=RULE,
        optics=optics,
        training={"recordings": {"train": list(trained)}},
    ).path


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("domain")
    split = {"train": [1, 2, 3], "validation": [4, 5, 6], "test": [7, 8, 9]}
    pairs = write_pairs(folder / "pairs", split, 0.05)
    settings = CalibrationSettings(
        passes=2, max_steps=3, fine_tuning=FineTuning(steps=2, learning_rate=1e-3, passes=1)
    )
    calibrate(save(folder / "model"), pairs, folder / "calibrated", level=0, settings=settings)
    return folder


def test_a_calibration_knows_its_recordings(calibrated: Path) -> None:
    kept = load_calibration(calibrated / "calibrated")
    assert kept.domain is not None and kept.domain.recordings == 9
    older = kept.model_copy(update={"domain": None})
    assert any("does not say for which light" in reason for reason in older.matches(kept.use))
    untested = kept.model_copy(update={"psnr_test": None})
    assert any("kept apart" in reason for reason in untested.matches(kept.use))


def test_live_frames_outside_the_domain_are_doubted(calibrated: Path) -> None:
    bundle = load_bundle(calibrated / "calibrated")
    model = Model(bundle, input_mode="pattern_mean", optics=OPTICS, passes=2, level=0)
    stack = np.concatenate(
        [np.asarray(p) for p in (_widefield(calibrated, name) for name in (1, 2, 3))]
    )
    at_home = model.open()
    at_home.set_scale(stack[:8])
    assert at_home.label == "calibrated"
    assert all(p.calibrated for p in at_home.advance(list(stack[:7])))
    abroad = model.open()
    abroad.set_scale(stack[:8])
    noisy = stack + np.random.default_rng(0).normal(0, 30, stack.shape).astype(np.float32)
    results = [p for n in range(0, 21, 7) for p in abroad.advance(list(noisy[n : n + 7]))]
    assert not results[-1].calibrated
    assert abroad.label.startswith("uncalibrated: ") and "noise" in abroad.label


def _widefield(folder: Path, seed: int) -> np.ndarray:
    import tifffile

    return np.asarray(
        tifffile.imread(folder / "pairs" / f"recording{seed}_488" / "widefield_level_1.ome.tif")
    )


def test_training_recordings_cannot_judge(calibrated: Path, tmp_path: Path) -> None:
    pairs = calibrated / "pairs"
    for name, subset in (("recording5", "validation"), ("recording8", "test")):
        with pytest.raises(CalibrationError, match=f"one of the {subset}") as caught:
            calibrate(save(tmp_path / name, (name,)), pairs, tmp_path / "out", level=0)
        assert name in str(caught.value)
    model = save(tmp_path / "learned", ("recording8",))
    with pytest.raises(DataError, match="trained with this recording"):
        evaluate([model], pairs, tmp_path / "evaluation", passes=2)


def test_evaluation_says_which_recordings_are_outside(calibrated: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs"
    write_pairs(pairs, {"train": [], "validation": [], "test": [21]}, 0.05)
    about = next(pairs.glob("*/pair.json"))
    otf = {"numerical_aperture": 1.49, "emission_nm": 525}
    about.write_text(json.dumps(json.loads(about.read_text()) | {"made_from": {"otf": otf}}))
    model = calibrated / "calibrated"
    (inside,) = (
        s
        for s in evaluate([model], pairs, tmp_path / "a", passes=2).stacks
        if s.method == "calibrated"
    )
    assert inside.uncalibrated == ()
    file = next(pairs.glob("*/widefield_level_1.ome.tif"))
    import tifffile

    spoilt = tifffile.imread(file)
    spoilt[:, 4, 4] += 4000
    tifffile.imwrite(file, spoilt)
    (outside,) = (
        s
        for s in evaluate([model], pairs, tmp_path / "b", passes=2).stacks
        if s.method == "calibrated"
    )
    assert outside.uncalibrated
