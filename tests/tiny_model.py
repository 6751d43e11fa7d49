"""A network of the smallest size, untrained, for tests that need a model but no picture."""

from __future__ import annotations

from pathlib import Path

import torch

from tisr_scope.bundles.bundle import Bundle, save_bundle
from tisr_scope.bundles.bundle_description import BundleOptics
from tisr_scope.networks.config import small
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.normalise import Normalisation


def tiny_bundle(
    folder: Path,
    *,
    bayesian: bool = True,
    pixel_size_um: float = 0.0626,
    normalisation: Normalisation | None = None,
) -> Bundle:
    """Write the bundle; the same weights every time."""
    config = small(bayesian=bayesian).model_copy(
        update={
            "channels": 4,
            "output_channels": 4,
            "extraction_blocks": 1,
            "reconstruction_blocks": 1,
            "flow_channels": 4,
            "flow_levels": 2,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = DpaTisr(config)
    optics = BundleOptics(numerical_aperture=1.49, pixel_size_um=pixel_size_um)
    return save_bundle(
        folder, network, normalisation=normalisation or Normalisation(), optics=optics
    )
