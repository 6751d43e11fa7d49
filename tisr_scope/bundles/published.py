"""Checkpoints of the authors' released implementation, read without running any of their code.

All but the dropout can be read off the tensors; it has no parameters and must be said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from tisr_scope.bundles.foreign_checkpoint import (
    ForeignState,
    has_anchor,
    read_foreign,
    tensors_only,
)
from tisr_scope.errors import BundleError
from tisr_scope.networks.assembled import assembled
from tisr_scope.networks.config import DpaTisrConfig, DropoutPlace
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.networks.optical_flow import SPyNet

EVERYWHERE: tuple[DropoutPlace, ...] = ("extraction", "propagation", "reconstruction")


def load_published(
    path: str | Path,
    *,
    dropout_rate: float = 0.5,
    dropout_in: tuple[DropoutPlace, ...] = EVERYWHERE,
) -> DpaTisr:
    """Network of a released checkpoint, in evaluation mode; see :func:`read_published`."""
    return read_published(path, dropout_rate=dropout_rate, dropout_in=dropout_in)[0]


def read_published(
    path: str | Path,
    *,
    dropout_rate: float = 0.5,
    dropout_in: tuple[DropoutPlace, ...] = EVERYWHERE,
) -> tuple[DpaTisr, ForeignState]:
    """Network of a released checkpoint, and where its tensors were in the file.

    Parameters
    ----------
    path : path
        ``.pth``, ``.pt`` or ``.safetensors`` in any usual wrapper, see
        :func:`~tisr_scope.bundles.foreign_checkpoint.read_foreign`.
    dropout_rate : float
        As it was trained; the released code says 0.5.
    dropout_in : tuple of {"extraction", "propagation", "reconstruction"}
        Stages with dropout; the released code has it in all three.

    Raises
    ------
    UnsafeCheckpoint
        If it asks for anything but tensors and plain values; what it asks for is not run.
    BundleError
        If the file cannot be read or is of another network.
    """
    found = read_foreign(Path(path), "feat_extract.main.0.weight", "the released network")
    # Averages of parameters alone leave these two constants of the flow network out.
    state = {k: v.clone() for k, v in SPyNet().named_buffers("spynet")} | found.tensors
    another = "give a checkpoint of the two-dimensional DPA-TISR"
    try:
        config = published_config(state, dropout_rate, dropout_in)
    except (KeyError, ValidationError, IndexError, ZeroDivisionError) as error:
        raise BundleError(
            f"the tensors are not those of the released network: {str(error).splitlines()[0]}",
            where=str(path),
            remedy=another,
        ) from error
    return assembled(config, state, str(path), another).eval(), found


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


_FLOW_NAMES = ("basic_module.0.basic_module.0.conv.weight", "basic_module.0.basic_module.0.weight")
"""First tensor of a pretrained SPyNet, with and without a layer of its own for each convolution."""


def read_flow(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a pretrained optical flow network under the names of :class:`SPyNet`.

    Takes the SPyNet that BasicVSR and its kin start from, alone or inside one of them.  Some
    number its five convolutions 0 to 4, others with the activations between them, 0 to 8.

    Raises
    ------
    BundleError
        If the file cannot be read, or its tensors are those of another network.
    """
    source = Path(path)
    content = tensors_only(source)
    anchor = next((name for name in _FLOW_NAMES if has_anchor(content, name)), _FLOW_NAMES[0])
    named = re.compile(r"basic_module\.(\d+)\.basic_module\.(\d+)\.(?:conv\.)?(weight|bias)")
    spaced = 2 if anchor == _FLOW_NAMES[1] else 1
    state = dict(SPyNet().named_buffers())
    for name, value in read_foreign(source, anchor, "a pretrained SPyNet").tensors.items():
        if found := named.fullmatch(name):
            level, layer, kind = found.groups()
            name = f"basic_module.{level}.basic_module.{int(layer) // spaced}.conv.{kind}"
        elif name not in state:
            continue  # what else stands under the same prefix
        state[name] = value.reshape(1, 3, 1, 1) if name in ("mean", "std") else value
    wanted = {name: value.shape for name, value in SPyNet().state_dict().items()}
    if wanted != {name: value.shape for name, value in state.items()}:
        raise BundleError(
            "the tensors are not those of SPyNet with six levels of five convolutions",
            where=str(source),
            remedy="give the SPyNet that BasicVSR starts from, or leave the flow to be trained",
        )
    return state
