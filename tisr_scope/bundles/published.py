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

from tisr_scope.bundles.bundle_files import check_finite
from tisr_scope.errors import BundleError, UnsafeCheckpoint
from tisr_scope.networks.assembled import assembled
from tisr_scope.networks.config import DpaTisrConfig, DropoutPlace
from tisr_scope.networks.dpa_tisr import DpaTisr

_PICKLE = b"\x80"
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
    UnsafeCheckpoint
        If it asks for anything but tensors and plain values; what it asks for is not run.
    BundleError
        If the file cannot be read or is of another network.
    """
    content = _tensors_only(Path(path))
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


def _tensors_only(path: Path) -> object:
    """Content of a checkpoint, if it holds tensors and plain values alone."""
    again = "download it again, and compare its size with the one at its source"
    try:
        with path.open("rb") as stream:
            start = stream.read(1)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own message recommends to read the file with its code.
        asked = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
        if asked or start == _PICKLE:
            raise UnsafeCheckpoint(
                "reading the checkpoint would run code"
                + (f": it asks for {asked[1]}" if asked else ", for all that can be told"),
                where=str(path),
                remedy="ask its authors for a state dict of tensors alone, or for safetensors; "
                "nothing of the file was run",
            ) from error
        raise BundleError(
            "the file is no checkpoint of PyTorch", where=str(path), remedy=again
        ) from error
    except Exception as error:  # damaged bytes fail in any way
        raise BundleError(
            f"the checkpoint cannot be read, it may be cut off: {_first_line(error)}",
            where=str(path),
            remedy=again,
        ) from error


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
