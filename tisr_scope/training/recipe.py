"""Training settings from a YAML recipe and the few choices made on the command line."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from tisr_scope.errors import TrainingError
from tisr_scope.training.settings import TrainingSettings

DEFAULT_STEPS = 2000


def load_settings(
    recipe: Path | None = None,
    *,
    steps: int | None = None,
    max_minutes: float | None = None,
    seed: int | None = None,
) -> TrainingSettings:
    """Settings of a recipe; what is given besides it comes first.

    Without a recipe and without an end, a run takes ``DEFAULT_STEPS`` steps.

    Raises
    ------
    TrainingError
        If the recipe cannot be read or holds keys or values that mean nothing.
    """
    content: dict[str, object] = {}
    if recipe is not None:
        try:
            content = yaml.safe_load(recipe.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise TrainingError(
                f"the recipe cannot be read: {error}",
                where=str(recipe),
                remedy="give a YAML file of training settings",
            ) from error
        if not isinstance(content, dict):
            raise TrainingError(
                "a recipe is a mapping of settings to values",
                where=str(recipe),
                remedy="start from settings.yaml of an earlier run",
            )
    given = {"steps": steps, "max_minutes": max_minutes, "seed": seed}
    content |= {key: value for key, value in given.items() if value is not None}
    if content.get("steps") is None and content.get("max_minutes") is None:
        content["steps"] = DEFAULT_STEPS
    try:
        return TrainingSettings.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}"
            for item in error.errors()
        )
        raise TrainingError(
            f"the training settings cannot be used: {problems}",
            where=str(recipe) if recipe else "command line",
            remedy="mend these keys; settings.yaml of an earlier run shows all of them",
        ) from error
