"""Recipes: precedence, defaults, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tisr_scope.errors import TrainingError
from tisr_scope.training.recipe import DEFAULT_STEPS, load_settings


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
