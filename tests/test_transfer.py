"""A trained model learns a new specimen from few recordings, and says how much that was worth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_training import CONFIG, PATCHES, cell, no_pictures, settings
from typer.testing import CliRunner

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.cli import app
from tisr_scope.errors import TrainingError
from tisr_scope.formats.ome_tiff import write_series
from tisr_scope.metrics.fidelity import fitted, psnr
from tisr_scope.normalise import Normalisation
from tisr_scope.training.train import train
from tisr_scope.types import PairedStack

__all__ = ["no_pictures"]  # a fixture that every test here uses
PLAIN = CONFIG.model_copy(update={"bayesian": False, "dropout_in": ()})
LEARN = settings(
    steps=60,
    learning_rate=1e-2,
    log_every=20,
    validate_every=20,
    checkpoint_every=60,
    patches=PATCHES.model_copy(update={"frames": 2}),
)


def filaments(name: str, seed: int) -> PairedStack:
    """Crossing lines through the same optics as the points of ``cell``."""
    rng = np.random.default_rng(seed)
    size, yx = 40, np.indices((80, 80))
    fine = np.zeros((5, 80, 80))
    for angle, offset in zip(rng.uniform(0, np.pi, 8), rng.uniform(20, 60, 8), strict=True):
        away = (yx[0] - offset) * np.cos(angle) - (yx[1] - offset) * np.sin(angle)
        fine += np.exp(-(away**2) / 2)
    target = gaussian_filter(fine, (0, 1.2, 1.2))
    wide = gaussian_filter(fine, (0, 4, 4)).reshape(5, size, 2, size, 2).mean((2, 4))
    wide = rng.poisson(200 * wide / wide.max()).astype(np.float32)
    return replace(cell(name, seed), widefield=wide[None], target=target.astype(np.float32))


def write_pairs(
    folder: Path, make: Callable[[str, int], PairedStack], **changes: dict[str, Any]
) -> Path:
    """Pairs of a structure; ``changes`` are to what the pair of that name says of itself."""
    split = {"train": ["one", "two"], "validation": ["held_back"], "test": []}
    for k, name in enumerate(split["train"] + split["validation"]):
        stack, pair = make(name, k), folder / name
        pair.mkdir(parents=True)
        write_series(pair / "widefield_level_1.ome.tif", stack.widefield[0], 0.0626, 1.0, "wf")
        write_series(pair / "target.ome.tif", stack.target, 0.0313, 1.0, "sim")
        about = {
            "recording": name,
            "channel": "488",
            "levels": 1,
            "pixel_size_um": 0.0626,
            "interval_s": 1.0,
            "made_from": {
                "otf": {"numerical_aperture": 1.49, "emission_nm": 525.0},
                "wiener": {"parameter": 0.1},
            },
        }
        (pair / "pair.json").write_text(json.dumps(about | changes.get(name, {})))
    (folder / "split.json").write_text(json.dumps(split))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of points, with an intensity rule of its own."""
    folder = tmp_path_factory.mktemp("source")
    chosen = LEARN.model_copy(update={"normalisation": Normalisation(percentile=99.5)})
    bundle = train(write_pairs(folder / "pairs", cell), PLAIN, chosen, folder / "run").bundle
    assert bundle is not None
    return bundle


def test_a_new_structure_is_learnt_and_the_gain_is_told(source: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", filaments)
    summary = train(pairs, None, LEARN, tmp_path / "run", start=source)
    assert summary.bundle is not None
    before, after = load_bundle(source), load_bundle(summary.bundle)
    assert after.normalisation == before.normalisation == Normalisation(percentile=99.5)
    assert after.training["started_from"]["weights_sha256"] == before.weights_hash
    report = json.loads((tmp_path / "run" / "before_after.json").read_text())
    mean = report["mean"]
    assert mean["after"]["psnr_db"] > mean["before"]["psnr_db"] + 0.5
    assert mean["after"]["ssim"] > mean["before"]["ssim"]
    assert (tmp_path / "run" / "before_after.png").stat().st_size > 10_000
    # The report against a prediction made by hand: middle frames of the three windows.
    stack, rule = filaments("held_back", 2), before.normalisation
    wide = torch.from_numpy(
        rule.normalise_input(stack.widefield[0], rule.scale(stack.widefield[0]))
    )
    target = rule.normalise_target(stack.target, rule.scale(stack.target))[[1, 3, 4]]
    with torch.inference_mode():
        seen = [before.network()(wide[None, t : t + 2, None])[0, 1, 0].numpy() for t in (0, 2, 3)]
    shown = fitted(np.stack(seen), target)
    expected = np.mean([psnr(a, b) for a, b in zip(shown, target, strict=True)])
    assert mean["before"]["psnr_db"] == pytest.approx(expected, abs=1e-3)


def test_a_model_does_not_get_worse_by_fine_tuning(source: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", filaments)
    reckless = LEARN.model_copy(update={"learning_rate": 0.3, "steps": 20})
    summary = train(pairs, None, reckless, tmp_path / "run", start=source)
    assert summary.best_step == 0
    assert summary.bundle is not None
    weights, kept = load_bundle(source).weights, load_bundle(summary.bundle).weights
    assert all(torch.equal(weights[key], kept[key]) for key in weights)


def test_another_architecture_or_intensity_rule_is_refused(source: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", filaments)
    other = PLAIN.model_copy(update={"channels": 8})
    with pytest.raises(TrainingError, match="another channels"):
        train(pairs, other, LEARN, tmp_path / "run", start=source)
    rule = LEARN.model_copy(update={"normalisation": Normalisation(reference="maximum")})
    with pytest.raises(TrainingError, match="another normalisation"):
        train(pairs, None, rule, tmp_path / "run", start=source)
    assert not (tmp_path / "run").exists()


def test_another_enlargement_is_refused(source: Path, tmp_path: Path) -> None:
    def three(name: str, seed: int) -> PairedStack:
        stack = cell(name, seed)
        return replace(stack, target=np.repeat(np.repeat(stack.target, 2, 1), 2, 2)[:, :120, :120])

    pairs = write_pairs(tmp_path / "pairs", three)
    with pytest.raises(TrainingError, match="targets are x3, the network enlarges x2"):
        train(pairs, None, LEARN, tmp_path / "run", start=source)


OTF = {"numerical_aperture": 1.49, "emission_nm": 525.0}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pixel_size_um": 0.1}, "pixel size"),
        ({"made_from": {"otf": OTF | {"emission_nm": 680.0}}}, "emission"),
        ({"made_from": {"otf": OTF, "wiener": {"parameter": 0.5}}}, "settings of the recon"),
        ({"imported": {}}, "kind of target"),
        ({"intensity_unit": "counts"}, "intensity unit"),
    ],
)
def test_pairs_that_teach_different_things_are_not_mixed(
    change: dict[str, Any], what: str, tmp_path: Path
) -> None:
    pairs = write_pairs(tmp_path / "pairs", cell, two=change)
    with pytest.raises(TrainingError, match=f"differ in their {what}") as caught:
        train(pairs, PLAIN, settings(steps=1), tmp_path / "run")
    assert caught.value.where == "two" and "--allow-mixed" in str(caught.value.remedy)
    assert train(pairs, PLAIN, settings(steps=1), tmp_path / "run", mixed=True).steps == 1


def test_other_optics_than_the_model_was_trained_with_are_refused(
    source: Path, tmp_path: Path
) -> None:
    coarse = {name: {"pixel_size_um": 0.08} for name in ("one", "two", "held_back")}
    pairs = write_pairs(tmp_path / "pairs", filaments, **coarse)
    short = LEARN.model_copy(update={"steps": 1})
    with pytest.raises(TrainingError, match=r"camera pixel 0\.08 µm, .* trained at 0\.06"):
        train(pairs, None, short, tmp_path / "run", start=source)
    assert train(pairs, None, short, tmp_path / "run", start=source, mixed=True).steps == 1


def test_a_run_from_another_model_is_not_resumed(source: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", filaments)
    short = LEARN.model_copy(update={"steps": 1})
    train(pairs, PLAIN, short, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"architecture\.started_from"):
        train(pairs, None, short, tmp_path / "run", start=source, resume=True)


def test_the_command_line_fine_tunes_with_a_frozen_flow(source: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", filaments)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "steps: 2\nbatch: 1\nvalidation_patches: 1\npatches: {frames: 2, size_px: 32}"
    )
    command = ["train", str(pairs), str(tmp_path / "run"), "--recipe", str(recipe)]
    done = CliRunner().invoke(app, [*command, "--from", str(source)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "before_after.json").is_file()
    # This model has no flow network that could be frozen.
    refused = CliRunner().invoke(
        app, [*command, "--from", str(source), "--resume", "--freeze-flow"]
    )
    assert isinstance(refused.exception, TrainingError)
    assert "no optical flow" in str(refused.exception)


def test_the_enlargement_follows_the_pairs(tmp_path: Path) -> None:
    def three(name: str, seed: int) -> PairedStack:
        stack = cell(name, seed)
        return replace(stack, target=np.kron(stack.widefield[0], np.ones((1, 3, 3), np.float32)))

    pairs = write_pairs(tmp_path / "pairs", three)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "steps: 1\nbatch: 1\nvalidation_patches: 1\npatches: {frames: 2, size_px: 32}"
    )
    command = ["train", str(pairs), str(tmp_path / "run"), "--recipe", str(recipe), "--plain"]
    done = CliRunner().invoke(app, [*command, "--preset", "small_single_frame"])
    assert done.exit_code == 0, done.output
    config = load_bundle(tmp_path / "run" / "bundle").config
    assert (config.upscale, config.bayesian, config.temporal) == (3, False, False)
    wrong = CliRunner().invoke(app, [*command, "--preset", "smal"])
    assert wrong.exit_code == 2 and "small_single_frame" in wrong.output
