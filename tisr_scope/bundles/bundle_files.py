"""The files of a model bundle: their content, reading them with suspicion, writing them safely."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from tisr_scope.errors import BundleError
from tisr_scope.networks.config import DpaTisrConfig
from tisr_scope.normalise import Normalisation
from tisr_scope.profiles.schema import Frozen

WEIGHTS, DESCRIPTION, CALIBRATION, CARD, CHECK = (
    "model.safetensors",
    "model.yaml",
    "calibration.json",
    "README.md",
    "check.npz",
)
GET_ANOTHER = "copy the bundle again from where it came, or train it again with 'tisr train'"


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


def read_weights(path: Path, expected: str) -> dict[str, Tensor]:
    """Tensors of ``model.safetensors``, if it is the very file of that SHA-256 and finite."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"the weights cannot be read: {error}", where=str(path), remedy=GET_ANOTHER
        ) from error
    found = hashlib.sha256(raw).hexdigest()
    if found != expected:
        raise BundleError(
            f"the weights are not those the description names "
            f"(SHA-256 {found[:12]}..., expected {expected[:12]}...)",
            where=str(path),
            remedy=GET_ANOTHER,
        )
    try:
        weights: dict[str, Tensor] = load_tensors(raw)
    except SafetensorError as error:
        raise BundleError(
            f"the weights are damaged: {error}", where=str(path), remedy=GET_ANOTHER
        ) from error
    check_finite(weights, str(path))
    return weights


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


def check_finite(weights: dict[str, Tensor], where: str) -> None:
    """Refuse weights that are NaN or infinite."""
    bad = [k for k, v in weights.items() if not torch.isfinite(v).all()]
    if bad:
        raise BundleError(
            f"weights are NaN or infinite in {len(bad)} tensors, the first is {bad[0]}",
            where=where,
            remedy="the training diverged: train again from an earlier checkpoint "
            "with a lower rate",
        )


def write(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def replace(new: Path, target: Path, old: Path) -> None:
    """Rename ``new`` to ``target``; put what was there back if that fails."""
    existed = target.exists()
    if existed:
        target.replace(old)
    try:
        new.replace(target)
    except OSError:
        if existed:
            old.replace(target)
        raise
    if existed:
        shutil.rmtree(old, ignore_errors=True)
