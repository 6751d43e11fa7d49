"""A run before its first step: optimiser, averaged weights, random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tisr_scope.errors import TrainingError
from tisr_scope.networks.baselines.vrt import Vrt
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.training.checkpoint import State
from tisr_scope.training.settings import TrainingSettings

FLOW_NETWORK = "spynet."
FREE = {"steps", "max_minutes", "recompute", "compile", "patience"}
"""Settings that may change between a run and its continuation."""


def new_state(
    network: nn.Module, settings: TrainingSettings, architecture: dict[str, Any]
) -> tuple[State, list[nn.Parameter]]:
    """Optimiser and averages of a fresh network, and the weights of its optical flow."""
    flow = [p for name, p in network.named_parameters() if name.startswith(FLOW_NETWORK)]
    flow_ids = {id(p) for p in flow}
    rest = [p for p in network.parameters() if id(p) not in flow_ids]
    groups: list[dict[str, Any]] = [{"params": rest, "factor": 1.0}]
    if flow:
        groups.append({"params": flow, "factor": settings.flow_rate_factor})
        for parameter in flow:
            parameter.requires_grad_(settings.flow_rate_factor > 0)
    elif settings.flow_rate_factor != 1 or settings.flow_frozen_steps:
        raise TrainingError(
            "the network has no optical flow to train at another rate",
            remedy="leave flow_rate_factor at 1 and flow_frozen_steps at 0",
        )

    def follow(average: Tensor, weights: Tensor, count: Tensor | int) -> Tensor:
        # A short memory at first: the random start must not linger in the average.
        decay = min(settings.ema_decay, (1 + int(count)) / (10 + int(count)))
        return average.lerp(weights, 1 - decay)

    state = State(
        network=network,
        averaged=AveragedModel(network, avg_fn=follow),
        optimiser=torch.optim.Adam(groups, lr=settings.learning_rate, betas=settings.betas),
        identity={
            "architecture": architecture,
            "settings": settings.model_dump(mode="json", exclude=FREE),
        },
    )
    return state, flow


def shared_network(network: nn.Module, settings: TrainingSettings, fabric: Fabric) -> nn.Module:
    """The network as it is called in training; its parameters are those of ``network``."""
    if isinstance(network, DpaTisr | Vrt):
        network.recompute = settings.recompute
    model = network
    if settings.compile:
        model = cast(nn.Module, torch.compile(network))
    return cast(nn.Module, fabric.setup_module(model))


def seed_patch(seed: int, step: int, patch: int) -> None:
    """Dropout masks follow from the seed, the step and the patch, wherever it is computed."""
    mixed = np.random.SeedSequence((seed, step, patch)).generate_state(1, np.uint64)
    torch.manual_seed(int(mixed[0]) >> 1)


@contextmanager
def random_apart(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers alone."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
