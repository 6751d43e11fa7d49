"""What a model bundle says of itself, read without the library that would run it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError
from safetensors import safe_open

from tisr_scope.errors import BundleError
from tisr_scope.networks.config import DpaTisrConfig
from tisr_scope.normalise import Normalisation
from tisr_scope.profiles.library import shipped_folder
from tisr_scope.profiles.schema import Frozen

WEIGHTS, DESCRIPTION, CALIBRATION, CARD, CHECK = (
    "model.safetensors",
    "model.yaml",
    "calibration.json",
    "README.md",
    "check.npz",
)
GET_ANOTHER = "copy the bundle again from where it came, or train it again with 'tisr train'"
# Constants of the flow network that lie among the weights but are not trained.
_CONSTANTS = {"spynet.mean", "spynet.std"}


class BundleOptics(Frozen):
    """Optics of the training data; a microscope that differs needs a model of its own."""

    numerical_aperture: float = Field(gt=0)
    pixel_size_um: float = Field(gt=0)
    excitation_nm: float | None = None
    emission_nm: float | None = None
    interval_s: float | None = None


class Description(Frozen):
    """Content of ``model.yaml``."""

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    architecture: DpaTisrConfig
    normalisation: Normalisation
    optics: BundleOptics | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    licence: str
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def problems(error: ValidationError) -> str:
    """Every key that is wrong, and why, in one line."""
    return "; ".join(
        f"{'.'.join(str(p) for p in item['loc']) or 'model'}: {item['msg']}"
        for item in error.errors()
    )


def read_description(path: Path) -> Description:
    """Content of ``model.yaml``; a :class:`BundleError` says what is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BundleError(
            f"the model description cannot be read: {error}", where=str(path), remedy=GET_ANOTHER
        ) from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != 1:
        raise BundleError(
            f"bundles of format {version!r} cannot be read, only those of format 1",
            where=str(path),
            remedy="use the version of tisr-scope that wrote it, or a newer one",
        )
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        raise BundleError(
            f"the model description cannot be used: {problems(error)}",
            where=str(path),
            remedy=GET_ANOTHER,
        ) from error


def read_calibration(path: Path) -> dict[str, Any] | None:
    """Raw content of ``calibration.json``, None where there is none."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"the calibration cannot be read: {error}",
            where=str(path),
            remedy="calibrate again with 'tisr calibrate', or delete the file",
        ) from error
    if not isinstance(content, dict):
        raise BundleError(
            "the calibration is not a JSON object",
            where=str(path),
            remedy="calibrate again with 'tisr calibrate', or delete the file",
        )
    return content


def bundle_names() -> list[str]:
    """Names of the shipped bundles."""
    return sorted(p.parent.name for p in shipped_folder("models").glob(f"*/{DESCRIPTION}"))


def find_bundle(name_or_path: str | Path) -> Path:
    """Folder of a bundle given by path or by the name of a shipped one.

    Raises
    ------
    BundleError
        If there is neither.
    """
    path = Path(name_or_path)
    if (path / DESCRIPTION).is_file():
        return path
    shipped = shipped_folder("models") / str(name_or_path)
    if len(path.parts) == 1 and (shipped / DESCRIPTION).is_file():
        return shipped
    if path.is_dir():
        raise BundleError(
            f"the folder is no model bundle: it has no {DESCRIPTION}",
            where=str(path),
            remedy=f"give the folder that holds {DESCRIPTION} and {WEIGHTS}",
        )
    shipped_names = ", ".join(bundle_names()) or "none are shipped"
    raise BundleError(
        f"there is no model bundle {str(name_or_path)!r}",
        remedy=f"give the folder of a bundle, or the name of a shipped one: {shipped_names}",
    )


def stored_parameters(weights: Path) -> int:
    """Number of trained values in a weights file, from its header alone."""
    with safe_open(weights, framework="numpy") as tensors:
        names = set(tensors.keys()) - _CONSTANTS
        shapes = [tensors.get_slice(name).get_shape() for name in names]
    return sum(math.prod(shape) for shape in shapes)
