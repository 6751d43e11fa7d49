"""Training settings from a YAML recipe and the few choices made on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tisr_scope.errors import TrainingError
from tisr_scope.training.settings import TrainingSettings

DEFAULT_STEPS = 2000
FINE_TUNE = "fine_tune"
SHIPPED = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find_recipe(name_or_path: str | Path) -> Path:
    """File of a recipe given by path or by the name of a shipped one.

    Raises
    ------
    TrainingError
        If there is neither.
    """
    path = Path(name_or_path)
    shipped = SHIPPED / f"{name_or_path}.yaml"
    if len(path.parts) == 1 and not path.suffix and shipped.is_file():
        return shipped
    if path.is_file():
        return path
    raise TrainingError(
        "there is no such recipe",
        where=str(name_or_path),
        remedy=f"give a YAML file, or one of the shipped ones: {', '.join(recipe_names())}",
    )


def load_recipe(
    recipe: str | Path | None = None, **choices: object
) -> tuple[str | None, TrainingSettings]:
    """Preset, if the recipe names one, and settings; choices made besides it come first.

    Parameters
    ----------
    recipe : str or Path, optional
        See :func:`find_recipe`.  Without one and without an end, a run takes ``DEFAULT_STEPS``
        steps.
    **choices
        Training settings by name; None leaves a setting as it is.

    Raises
    ------
    TrainingError
        If the recipe cannot be read or holds keys or values that mean nothing.
    """
    path = None if recipe is None else find_recipe(recipe)
    content = {} if path is None else _read(path)
    preset = content.pop("preset", None)
    if preset is not None and not isinstance(preset, str):
        raise TrainingError(
            f"preset is the name of an architecture, not {preset!r}",
            where=str(path),
            remedy="write for instance 'preset: paper'",
        )
    content |= {key: value for key, value in choices.items() if value is not None}
    if content.get("steps") is None and content.get("max_minutes") is None:
        content["steps"] = DEFAULT_STEPS
    try:
        return preset, TrainingSettings.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}"
            for item in error.errors()
        )
        raise TrainingError(
            f"the training settings cannot be used: {problems}",
            where=str(path) if path else "command line",
            remedy="mend these keys; settings.yaml of an earlier run shows all of them",
        ) from error


def load_settings(recipe: str | Path | None = None, **choices: object) -> TrainingSettings:
    """Settings of :func:`load_recipe` alone."""
    return load_recipe(recipe, **choices)[1]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrainingError(
            f"the recipe cannot be read: {error}",
            where=str(path),
            remedy="give a YAML file of training settings",
        ) from error
    if not isinstance(content, dict):
        raise TrainingError(
            "a recipe is a mapping of settings to values",
            where=str(path),
            remedy="start from settings.yaml of an earlier run",
        )
    return content
