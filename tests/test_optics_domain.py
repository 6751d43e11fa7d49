"""Other optics than those of the calibration: no way of using a model calls that calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from synthetic_pairs import PIXEL_UM, RULE, bilinear_network, write_pairs

from tisr_scope.bundles.bundle import load_bundle, save_bundle
from tisr_scope.bundles.bundle_description import BundleOptics
from tisr_scope.bundles.optics_domain import KnownOptics, optics_differ, optics_unknown
from tisr_scope.confidence.calibrate import calibrate
from tisr_scope.confidence.fine_tuning import FineTuning
from tisr_scope.confidence.iterative_fine_tuning import CalibrationSettings
from tisr_scope.errors import CalibrationError, ProfileError
from tisr_scope.evaluation.evaluate import evaluate
from tisr_scope.inference.image_facts import ImageFacts
from tisr_scope.inference.offline import infer
from tisr_scope.inference.predictor import load_models
from tisr_scope.live.run_live import LiveOptions, run_live
from tisr_scope.profiles.library import load_profile
from tisr_scope.profiles.schema import Profile
from tisr_scope.running_order.run_plan import RunPlan

SHIPPED = "microtubules_small"
KNOWN = KnownOptics(numerical_aperture=1.49, emission_nm=525, pixel_size_um=0.0626)


def profile_with(emission_nm: float = 525, na: float = 1.49, pixel_um: float = 0.0626) -> Profile:
    profile = load_profile("simulated_microtubules")
    channels = tuple(c.model_copy(update={"emission_nm": emission_nm}) for c in profile.channels)
    optics = profile.optics.model_copy(update={"numerical_aperture": na, "pixel_size_um": pixel_um})
    return profile.model_copy(update={"channels": channels, "optics": optics})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"emission_nm": 700}, "emission 700 nm, calibrated at 525 nm"),
        ({"numerical_aperture": 1.2}, "NA 1.2, calibrated at 1.49"),
        ({"pixel_size_um": 0.065}, "camera pixel 0.065 µm, calibrated at 0.0626 µm"),
    ],
)
def test_differences_are_told_in_words(change: dict[str, float], reason: str) -> None:
    assert optics_differ(KNOWN.model_copy(update=change), KNOWN, "calibrated at") == [reason]


def test_two_percent_is_the_limit_whichever_comes_first() -> None:
    for factor, differs in ((1.019, False), (1.022, True)):
        other = KNOWN.model_copy(update={"emission_nm": 525 * factor})
        assert bool(optics_differ(other, KNOWN, "")) is differs
        assert bool(optics_differ(KNOWN, other, "")) is differs


def test_what_is_not_known_is_named() -> None:
    blank = KNOWN.model_copy(update={"emission_nm": None})
    assert optics_differ(blank, KNOWN, "") == [] == optics_differ(KNOWN, blank, "")
    (here,) = optics_unknown(blank, KNOWN, "calibrated at")
    assert here == "emission of the images unknown, calibrated at 525 nm"
    assert "that of the model unknown" in optics_unknown(KNOWN, blank, "calibrated at")[0]


def facts(profile: Profile) -> ImageFacts:
    return ImageFacts.of_plan(RunPlan(profile, "timelapse"))


def test_live_models_know_their_channel() -> None:
    scale = 18.0
    model = load_models(facts(profile_with()), SHIPPED, device="cpu", passes=6, seed=0)["488"]
    assert model.objections(scale) == []
    profile = profile_with(700, 1.2)
    other = load_models(facts(profile), SHIPPED, device="cpu", passes=6, seed=0)["488"]
    assert other.objections(scale) == [
        "emission 700 nm, calibrated at 525 nm",
        "NA 1.2, calibrated at 1.49",
    ]


def test_two_channels_with_one_model_are_judged_apart() -> None:
    profile = profile_with()
    red = profile.channels[0].model_copy(update={"name": "red", "emission_nm": 610.0})
    profile = profile.model_copy(update={"channels": (*profile.channels, red)})
    models = load_models(facts(profile), SHIPPED, device="cpu", passes=6, seed=0)
    assert models["488"].objections(18.0) == []
    assert models["red"].objections(18.0) == ["emission 610 nm, calibrated at 525 nm"]


def test_it_is_said_before_any_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def no_light(self: object) -> None:
        raise ProfileError("stopped before the light")

    monkeypatch.setattr("tisr_scope.live.run_live.LiveSession.start", no_light)
    for profile in (profile_with(700), profile_with()):
        with pytest.raises(ProfileError, match="before the light"):
            run_live(profile, tmp_path / "run", SHIPPED, options=LiveOptions(), notice=said.append)
    (line,) = said
    assert "uncalibrated: emission 700 nm, calibrated at 525 nm" in line


def test_a_stack_must_say_its_optics(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).poisson(9, (9, 40, 40)).astype(np.float32)
    tifffile.imwrite(tmp_path / "cell.tif", frames)
    bundle = load_bundle(SHIPPED)

    def label(folder: str, **optics: float) -> str:
        (summary,) = infer(
            bundle, tmp_path / "cell.tif", tmp_path / folder, pixel_size_um=0.0626, **optics
        )
        return summary.calibration

    unsaid = label("unsaid")
    assert "emission of the images unknown" in unsaid and "NA of the images unknown" in unsaid
    said = label("said", numerical_aperture=1.49, emission_nm=525)
    assert "emission" not in said and "NA" not in said
    assert "NA 1.2, calibrated at 1.49" in label("other", numerical_aperture=1.2, emission_nm=525)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "pairs"
    split = {"train": [1, 4, 5], "validation": [2, 6, 7], "test": [3, 8, 9]}
    write_pairs(folder, split, 0.05)
    for about in folder.glob("*/pair.json"):
        content = json.loads(about.read_text())
        otf = {"numerical_aperture": 1.49, "emission_nm": 525}
        about.write_text(json.dumps(content | {"made_from": {"otf": otf}}))
    return folder


def save(folder: Path, emission_nm: float) -> Path:
    optics = BundleOptics(numerical_aperture=1.49, pixel_size_um=PIXEL_UM, emission_nm=emission_nm)
    return save_bundle(folder, bilinear_network(0.02), normalisation=RULE, optics=optics).path


def test_calibration_refuses_pairs_of_other_optics(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="emission 525 nm, the model's is 640 nm"):
        calibrate(save(tmp_path / "red", 640), pairs, tmp_path / "out", level=0)
    assert not (tmp_path / "out").exists()


def test_evaluation_with_leave_for_other_optics_is_uncalibrated(
    pairs: Path, tmp_path: Path
) -> None:
    tuning = FineTuning(steps=2, learning_rate=1e-3, passes=1)
    settings = CalibrationSettings(passes=2, max_steps=3, fine_tuning=tuning)
    calibrate(save(tmp_path / "model", 525), pairs, tmp_path / "same", level=0, settings=settings)
    evaluation = evaluate([tmp_path / "same"], pairs, tmp_path / "at_home", passes=2)
    assert [s.uncalibrated for s in evaluation.stacks if s.method == "same"] == [()] * 3
    for about in pairs.glob("*/pair.json"):
        about.write_text(about.read_text().replace("525", "600"))
    evaluation = evaluate([tmp_path / "same"], pairs, tmp_path / "abroad", passes=2, mixed=True)
    for other in (s for s in evaluation.stacks if s.method == "same"):
        assert other.uncalibrated[0] == "emission 600 nm, calibrated at 525 nm"
