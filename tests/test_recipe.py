"""Recipes: precedence, defaults, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tisr_scope.errors import TrainingError
from tisr_scope.training.recipe import DEFAULT_STEPS, load_recipe, load_settings, recipe_names


def test_the_command_line_comes_before_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps: 10\nbatch: 5\nseed: 3\n")
    settings = load_settings(recipe, steps=20)
    assert (settings.steps, settings.batch, settings.seed) == (20, 5, 3)


def test_a_run_always_has_an_end() -> None:
    assert load_settings().steps == DEFAULT_STEPS
    assert load_settings(max_minutes=1).steps is None


@pytest.mark.parametrize("text", ["stepz: 10", "batch: 0", "[1, 2]", "a: [", "learning_rate: fast"])
def test_refused_with_file_and_reason(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(TrainingError, match=r"recipe\.yaml"):
        load_settings(recipe)
    with pytest.raises(TrainingError):
        load_settings(tmp_path / "missing.yaml")


def test_shipped_recipes_are_what_the_paper_and_the_release_say() -> None:
    assert recipe_names() == ["fine_tune", "paper", "released"]
    for name, betas, angle in (("paper", (0.9, 0.999), 180), ("released", (0.5, 0.999), 15)):
        preset, settings = load_recipe(name)
        assert preset == name
        assert (settings.batch, settings.learning_rate, settings.betas) == (3, 5e-5, betas)
        assert (settings.patches.size_px, settings.patches.frames) == (128, 7)
        assert settings.patches.rotation_deg == angle
        # Halved every 1,000 of 3,000 epochs.
        rates = [settings.rate(step, 0) for step in (0, 13_332, 13_333, 39_999)]
        assert rates == [5e-5, 5e-5, 2.5e-5, 6.25e-6]
        assert settings.normalisation.reference == "maximum"
        assert settings.normalisation.target_blur_sigma_px == 0.4


def test_choices_come_before_a_shipped_recipe_and_its_preset() -> None:
    preset, settings = load_recipe("paper", batch=8, precision="bf16", recompute=None)
    assert (preset, settings.batch, settings.precision) == ("paper", 8, "bf16")
    assert settings.recompute is False
    with pytest.raises(TrainingError, match="no such recipe") as caught:
        load_recipe("papers")
    assert "paper, released" in str(caught.value.remedy)
