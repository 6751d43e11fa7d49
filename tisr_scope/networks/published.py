"""Checkpoints of the authors' released implementation, read without running any of their code.

All but the dropout can be read off the tensors; it has no parameters and must be said.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from tisr_scope.errors import BundleError
from tisr_scope.networks.assembled import assembled
from tisr_scope.networks.bundle_files import check_finite
from tisr_scope.networks.config import DpaTisrConfig, DropoutPlace
from tisr_scope.networks.dpa_tisr import DpaTisr

EVERYWHERE: tuple[DropoutPlace, ...] = ("extraction", "propagation", "reconstruction")


def load_published(
    path: str | Path,
    *,
    dropout_rate: float = 0.5,
    dropout_in: tuple[DropoutPlace, ...] = EVERYWHERE,
) -> DpaTisr:
    """Network of a released checkpoint (a pickled state dict, bare or inside a dictionary).

    Parameters
    ----------
    path : path
        A ``.pth`` or ``.pt`` file; only tensors are unpickled (``weights_only``).
    dropout_rate : float
        As it was trained; the released code says 0.5.
    dropout_in : tuple of {"extraction", "propagation", "reconstruction"}
        Stages with dropout; the released code has it in all three.

    Returns
    -------
    DpaTisr
        In evaluation mode.

    Raises
    ------
    BundleError
        If the file cannot be read, holds more than tensors, or is of another network.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise BundleError(
            f"the checkpoint cannot be read: {_first_line(error)}",
            where=str(path),
            remedy="download it again; a checkpoint may hold tensors and plain values only",
        ) from error
    state = _state_dict(content, str(path))
    check_finite(state, str(path))
    another = "give a checkpoint of the two-dimensional DPA-TISR"
    try:
        config = published_config(state, dropout_rate, dropout_in)
    except (KeyError, ValidationError, IndexError, ZeroDivisionError) as error:
        raise BundleError(
            f"the tensors are not those of the released network: {_first_line(error)}",
            where=str(path),
            remedy=another,
        ) from error
    return assembled(config, state, str(path), another).eval()


def published_config(
    state: Mapping[str, Tensor],
    dropout_rate: float = 0.5,
    dropout_in: tuple[DropoutPlace, ...] = EVERYWHERE,
) -> DpaTisrConfig:
    """Architecture that the names and shapes of a released state dict tell.

    Raises
    ------
    KeyError
        If a tensor of the released network is missing.
    """

    def blocks(stage: str) -> int:
        pattern = re.compile(rf"{re.escape(stage)}\.main\.2\.\d+\.conv1\.weight")
        return sum(pattern.fullmatch(name) is not None for name in state)

    fine = state["conv_hr.weight"].shape[1]
    branches = sum(
        re.fullmatch(r"backbone\.\w+\.main\.0\.weight", name) is not None for name in state
    )
    return DpaTisrConfig.model_validate(
        {
            "channels": state["feat_extract.main.0.weight"].shape[0],
            "output_channels": fine,
            "upscale": math.isqrt(state["upsamplemodule.upsample_conv.weight"].shape[0] // fine),
            "bayesian": state["conv_last.weight"].shape[0] == 2,
            "extraction_blocks": blocks("feat_extract"),
            "propagation_blocks": blocks("backbone.backward_1"),
            "reconstruction_blocks": blocks("reconstruction"),
            "branches": branches,
            "deformable_groups": state["deform_align.backward_1.conv_offset.6.weight"].shape[0]
            // 27,
            "dropout_rate": dropout_rate,
            "dropout_in": dropout_in,
        }
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _state_dict(content: object, where: str) -> dict[str, Tensor]:
    """Tensors by name, out of the dictionaries and prefixes that training tools add."""
    for key in ("state_dict", "params", "model", "net"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise BundleError(
            "the checkpoint holds no state dict",
            where=where,
            remedy="give the file that holds the weights of the network",
        )
    return {str(name).removeprefix("module."): value for name, value in content.items()}
