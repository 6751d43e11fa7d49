"""A network put together from an architecture and tensors that must fit it exactly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tisr_scope.errors import BundleError
from tisr_scope.networks.config import DpaTisrConfig
from tisr_scope.networks.dpa_tisr import DpaTisr


def assembled(
    config: DpaTisrConfig, weights: Mapping[str, Tensor], where: str, remedy: str
) -> DpaTisr:
    """Network of these weights.

    Raises
    ------
    BundleError
        If tensors are missing, unknown or of another shape; it names the first of each kind.
    """
    with torch.device("meta"):
        network = DpaTisr(config)
    wanted = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    found = {k: tuple(v.shape) for k, v in weights.items()}
    if wanted != found:
        missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        wrong = sorted(k for k in wanted.keys() & found.keys() if wanted[k] != found[k])
        parts = [
            f"{len(names)} {kind} ({', '.join(names[:3])})"
            for kind, names in (("missing", missing), ("unknown", extra), ("of wrong shape", wrong))
            if names
        ]
        raise BundleError(
            f"the weights do not fit the architecture: {'; '.join(parts)}",
            where=where,
            remedy=remedy,
        )
    network.load_state_dict({k: v.clone() for k, v in weights.items()}, assign=True)
    return network.requires_grad_(True)
