"""Modules that a configuration chooses among, and the state they start from."""

from __future__ import annotations

import math

import torch
from torch import nn

from tisr_scope.networks.alignment import DeformableAlignment, FlowAlignment
from tisr_scope.networks.baselines.attention import NeighbourhoodAttention
from tisr_scope.networks.config import DpaTisrConfig, FlowKind
from tisr_scope.networks.optical_flow import LightFlow, SPyNet


def chosen_flow(kind: FlowKind, channels: int, levels: int) -> SPyNet | LightFlow:
    """Flow network; size and levels are those of the light one."""
    return SPyNet() if kind == "spynet" else LightFlow(channels, levels)


def chosen_alignment(config: DpaTisrConfig, neighbours: int) -> nn.Module:
    """Alignment of a block for one or for two neighbours."""
    if config.alignment == "optical_flow":
        return FlowAlignment(config.channels, neighbours)
    if config.alignment == "neighbourhood_attention":
        return NeighbourhoodAttention(config.channels, neighbours, config.attention_size)
    return DeformableAlignment(
        config.channels,
        config.deformable_groups * neighbours // 2,
        config.deformable_kernel,
        config.offset_layers,
        config.offset_reach_px,
        neighbours,
    )


def start_at_bilinear(last: nn.Conv2d, scale: float) -> None:
    """Make the last convolution add little to the enlarged frame and predict one Laplace scale."""
    assert last.bias is not None
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.zero_()
        last.bias[1:] = math.log(scale / (1 - scale))
