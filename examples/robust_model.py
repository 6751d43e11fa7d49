"""Train ``cells_small`` again: endless simulated cells, from the weights of ``microtubules_small``.

python examples/robust_model.py FOLDER --minutes 85      # one core; goes on where it stopped
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tisr_scope.bundles.bundle import load_bundle, save_bundle
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.normalise import Background, Normalisation
from tisr_scope.pairs.patches import PatchSettings
from tisr_scope.pairs.simulated_patches import SimulatedPatches
from tisr_scope.training.loop import fit
from tisr_scope.training.settings import TrainingSettings

RULE = Normalisation(
    percentile=99.5, background=Background(), smooth_sigma_px=1.0, ceiling=4.0, target_gain=3.0
)
TRAINING_SEED, VALIDATION_SEED, VALIDATION_RECORDINGS = 200_000, 20_000, 45


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=85)
    parser.add_argument("--start", default="microtubules_small")
    arguments = parser.parse_args()
    settings = TrainingSettings(
        max_minutes=arguments.minutes,
        batch=3,
        learning_rate=1.3e-3,
        l1_warmup_steps=0,
        square_weight=10.0,
        ema_decay=0.997,
        validate_every=150,
        validation_patches=VALIDATION_RECORDINGS,
        checkpoint_every=75,
        normalisation=RULE,
        seed=1,
    )
    training = SimulatedPatches(
        RULE, settings.patches, batch=settings.batch, first_seed=TRAINING_SEED
    )
    plain: PatchSettings = settings.patches.without_augmentation()
    validation = SimulatedPatches(
        RULE,
        plain,
        batch=settings.batch,
        first_seed=VALIDATION_SEED,
        recordings=VALIDATION_RECORDINGS,
    )
    source = load_bundle(arguments.start)
    network = DpaTisr(source.config)
    network.load_state_dict(source.weights)
    summary = fit(
        network,
        training,  # type: ignore[arg-type]
        validation,  # type: ignore[arg-type]
        settings,
        arguments.folder,
        architecture=source.config.model_dump(mode="json"),
        resume=True,
        judge_start=True,
    )
    print(summary)
    save_bundle(
        arguments.folder / "cells_small",
        network.eval(),
        normalisation=RULE,
        optics=source.optics,
        training={"specimen": "simulated cells", "steps": summary.steps},
    )


if __name__ == "__main__":
    main()
