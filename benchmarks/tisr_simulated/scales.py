"""How large the comparison is: ``tiny`` for two processor cores, ``full`` for a graphics card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.patches import PatchSettings
from tisr_scope.training.settings import TrainingSettings

FRAMES = 7
"""Consecutive frames of a training patch and of a test sequence."""

NORMALISATION = Normalisation(target_blur_sigma_px=0.0)
"""The truth has no artefacts that a blur would have to mitigate."""


@dataclass(frozen=True)
class Scale:
    """Networks, data and training that all models of one comparison share."""

    name: str
    network: dict[str, Any]
    """Settings of the network in place of those of :func:`~tisr_scope.networks.config.compared`."""
    ancestor: dict[str, Any]
    """The same for BasicVSR++, on top of ``network``."""
    vrt: dict[str, Any]
    """Settings of :class:`~tisr_scope.networks.baselines.vrt.VrtConfig`."""
    train_sequences: int
    """For each motion."""
    test_sequences: int
    """For each condition."""
    size_px: int
    patch_px: int
    batch: int
    steps: int
    learning_rate: float
    flow_steps: int
    """Of the pre-training of the flow network on known motion."""

    def training(self, seed: int, steps: int) -> TrainingSettings:
        """The training that every model gets, whatever it is."""
        return TrainingSettings(
            steps=steps,
            batch=self.batch,
            patches=PatchSettings(frames=FRAMES, size_px=self.patch_px),
            normalisation=NORMALISATION,
            seed=seed,
            learning_rate=self.learning_rate,
            warmup_steps=min(100, steps // 5),
            clip_norm=0.2,
            final_rate_fraction=0.01,
            ema_decay=0.99,
            l1_warmup_steps=0,
            log_every=20,
            validate_every=max(25, steps // 4),
            validation_patches=8,
            checkpoint_every=max(25, steps // 4),
        )


_TINY: dict[str, Any] = {
    "channels": 16,
    "output_channels": 8,
    "extraction_blocks": 1,
    "propagation_blocks": 1,
    "reconstruction_blocks": 1,
    "branches": 2,
    "flow": "light",
    "flow_channels": 16,
    "flow_levels": 3,
    "attention_size": 5,
    "deformable_groups": 8,
    "deformable_kernel": 1,
    "phase_encoding": "cross",
    "phase_zero_start": True,
}

_SMALL: dict[str, Any] = _TINY | {
    "channels": 32,
    "output_channels": 16,
    "extraction_blocks": 2,
    "reconstruction_blocks": 2,
    "flow_levels": 4,
    "attention_size": 7,
    "deformable_kernel": 3,
}

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="tiny",
            network=_TINY,
            ancestor={"branches": 4, "extraction_blocks": 1, "propagation_blocks": 2},
            vrt={
                "channels": 16,
                "output_channels": 8,
                "scales": 2,
                "blocks": 2,
                "refinement_blocks": 1,
                "heads": 2,
                "window": 4,
                "deformable_groups": 8,
                "flow": "light",
                "flow_levels": 3,
            },
            train_sequences=16,
            test_sequences=10,
            size_px=64,
            patch_px=32,
            batch=1,
            steps=750,
            learning_rate=1.5e-3,
            flow_steps=300,
        ),
        Scale(
            name="small",
            network=_SMALL,
            ancestor={"branches": 4, "extraction_blocks": 2, "propagation_blocks": 3},
            vrt={
                "channels": 32,
                "output_channels": 16,
                "blocks": 2,
                "deformable_groups": 8,
                "flow": "light",
            },
            train_sequences=60,
            test_sequences=20,
            size_px=96,
            patch_px=48,
            batch=3,
            steps=6000,
            learning_rate=2e-3,
            flow_steps=1000,
        ),
        Scale(
            name="full",
            network={},
            ancestor={"extraction_blocks": 5, "propagation_blocks": 7, "reconstruction_blocks": 5},
            vrt={},
            train_sequences=200,
            test_sequences=50,
            size_px=128,
            patch_px=64,
            batch=3,
            steps=60_000,
            learning_rate=1e-4,
            flow_steps=2000,
        ),
    )
}

ScaleName = Literal["tiny", "small", "full"]
