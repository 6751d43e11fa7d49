"""What one of two processes does in test_training_processes; run as a script, never imported."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric
from test_training import CONFIG, TEMPORAL, run, settings

from tisr_scope.errors import TrainingError
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.training import run_records as records
from tisr_scope.training.processes import launched

WHOLE = {"steps": 4, "batch": 4, "learning_rate": 1e-4, "checkpoint_every": 100}
PARTS = WHOLE | {"micro_batch": 1}
PLAIN = TEMPORAL.model_copy(update={"dropout_in": ()})


class Broken(torch.nn.Module):
    """A network that gives no numbers in one of the processes, at its third step."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.network, self.broken, self.calls = DpaTisr(CONFIG), broken, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        out: torch.Tensor = self.network(x)
        return out * torch.nan if self.broken and self.calls == 3 else out


def main(out: Path) -> None:
    """Train; tell what this process saw."""
    torch.set_num_threads(1)
    records.draw_losses = records.draw_samples = lambda *_, **__: None
    with launched("cpu") as fabric:
        told = train_all(out, fabric)
        (out / f"told_{fabric.global_rank}.json").write_text(json.dumps(told))


def train_all(out: Path, fabric: Fabric) -> dict[str, object]:
    second = fabric.global_rank == 1
    told: dict[str, object] = {}
    run(out / "whole", settings(**WHOLE), config=PLAIN, fabric=fabric)
    run(out / "parts", settings(**PARTS), config=TEMPORAL, fabric=fabric)
    try:
        run(out / "broken", settings(batch=4), network=Broken(second), fabric=fabric)
    except TrainingError as error:
        told["broken"] = [error.what, error.where]
    fabric.barrier()

    def end_second(done: int, total: int) -> None:
        if second and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = run(out / "stopped", settings(batch=4), progress=end_second, fabric=fabric)
    return told | {"stopped": [stopped.ended, stopped.steps]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
