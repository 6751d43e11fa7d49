"""The files of a model bundle: their content, reading them with suspicion, writing them safely."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from tisr_scope.bundles.bundle_description import GET_ANOTHER
from tisr_scope.errors import BundleError


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
