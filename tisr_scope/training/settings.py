"""What decides a training run, and the learning rate at each of its steps."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tisr_scope.errors import TrainingError
from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.patches import PatchSettings
from tisr_scope.profiles.schema import Frozen

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


class TrainingSettings(Frozen):
    """One training run; a run ends at ``steps`` or ``max_minutes``, whichever comes first.

    The settings say nothing of processes: a batch is shared by however many there are, and the
    same settings give the same weights, but for rounding, on one processor or on many.
    """

    steps: Count | None = None
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    batch: Count = 3
    """Patches of a step, over all processes together."""
    micro_batch: Count | None = None
    """Patches that go through the network at once, for less memory; all of a process otherwise."""
    patches: PatchSettings = PatchSettings()
    normalisation: Normalisation = Normalisation()
    seed: Annotated[int, Field(ge=0)] = 0

    learning_rate: Rate = 2e-3
    schedule: Literal["cosine", "halving", "constant"] = "cosine"
    """Cosine decay over the run, or halving every ``halve_every_steps`` as in the paper."""
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    """Steps over which the learning rate rises linearly."""
    final_rate_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Learning rate at the end of the cosine, as a fraction of the highest."""
    halve_every_steps: Count = 10_000
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.99,
    )
    flow_rate_factor: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Learning rate of the optical flow network over that of the rest."""
    flow_frozen_steps: Annotated[int, Field(ge=0)] = 0
    """Steps at the start in which the optical flow network keeps its weights."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Longest gradient; longer ones are shortened to it."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Memory of the averaged weights, which are the ones validated and shipped; 0 is none."""
    l1_warmup_steps: Annotated[int, Field(ge=0)] = 200
    """Steps with L1 before the Laplace likelihood of a Bayesian network."""
    square_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the mean square error beside it: keeps the light of what is not certain."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the products; weights, averages and losses are always in single precision."""
    recompute: bool = False
    """Compute activations twice: a third of the memory, a fifth more time."""
    compile: bool = False
    """Compile the network with torch.compile: slow to start, faster steps."""

    patience: Count | None = None
    """Validations in a row without a better loss after which the run ends."""
    log_every: Count = 20
    validate_every: Count = 250
    validation_patches: Count = 12
    checkpoint_every: Count = 250

    @model_validator(mode="after")
    def _ends(self) -> TrainingSettings:
        if self.steps is None and self.max_minutes is None:
            raise ValueError("a run needs an end: give steps, max_minutes or both")
        if self.micro_batch is not None and self.batch % self.micro_batch:
            raise ValueError(f"a batch of {self.batch} is no multiple of {self.micro_batch}")
        return self

    def share(self, processes: int) -> int:
        """Patches of a step for each process.

        Raises
        ------
        TrainingError
            If the batch cannot be shared evenly.
        """
        at_once = self.micro_batch or 1
        if self.batch % (processes * at_once):
            raise TrainingError(
                f"a batch of {self.batch} patches cannot be shared evenly by {processes} processes"
                + (f", {at_once} at once" if at_once > 1 else ""),
                remedy=f"choose a batch that is a multiple of {processes * at_once}",
            )
        return self.batch // processes

    def fraction(self, step: int, minutes: float) -> float:
        """Part of the run that is done, 0 to 1: by steps where given, else by time."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.max_minutes is not None
        return min(1.0, minutes / self.max_minutes)

    def rate(self, step: int, minutes: float) -> float:
        """Learning rate of a step, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "halving":
            return float(self.learning_rate * rise * 0.5 ** (step // self.halve_every_steps))
        if self.schedule == "constant":
            return self.learning_rate * rise
        fall = (1 + math.cos(math.pi * self.fraction(step, minutes))) / 2
        low = self.final_rate_fraction
        return self.learning_rate * rise * (low + (1 - low) * fall)
