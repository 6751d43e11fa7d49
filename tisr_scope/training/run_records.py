"""What a run leaves to look at: a table, TensorBoard where it is installed, pictures."""

from __future__ import annotations

import csv
import io
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tisr_scope.pairs.patches import PatchSampler
from tisr_scope.training.checkpoint import State, write_atomic
from tisr_scope.training.training_figures import draw_losses, draw_samples
from tisr_scope.training.validation import ValidationSet

COLUMNS = (
    "step",
    "minutes",
    "learning_rate",
    "gradient_norm",
    "loss",
    "validation_loss",
    "validation_psnr_db",
    "bilinear_psnr_db",
)
TENSORBOARD = "tensorboard"
ROWS = 4
PICTURES_EVERY_S = 30


class Records:
    """Files of a run that a person reads; written again from the history at every checkpoint.

    Parameters
    ----------
    out : Path
        Gets ``history.csv``, ``losses.png``, ``samples.png`` and, where TensorBoard is installed,
        its files under ``tensorboard``.
    validation : PatchSampler
    checks : ValidationSet
        Its first patches are shown.
    """

    def __init__(self, out: Path, validation: PatchSampler, checks: ValidationSet) -> None:
        self.out = out
        self.checks = checks
        self.pixel_size_um = validation.pixel_size_um
        self.labels = [f"{d.recording}\nlevel {d.level + 1}" for d in validation.draws(0)]
        self.board: Any = None
        self.drawn = time.monotonic()

    def open_board(self, step: int) -> None:
        """Start TensorBoard's files at a step; later entries of an interrupted run are hidden."""
        if find_spec("tensorboard") is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(self.out / TENSORBOARD), purge_step=step)

    def log(self, row: dict[str, float | int]) -> None:
        """Hand one row of the history to TensorBoard."""
        if self.board is None:
            return
        try:
            for name in set(row) & set(COLUMNS[2:]):
                self.board.add_scalar(name, row[name], row["step"])
        except OSError as error:
            # The table holds the same numbers; only a checkpoint is worth ending a run for.
            self.board = None
            warnings.warn(f"TensorBoard's files cannot be written: {error}", stacklevel=2)

    def write(self, state: State) -> None:
        """Table of the run so far; pictures now and then, for they take longer than a step."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(state.history)
        write_atomic(self.out / "history.csv", text.getvalue().encode())
        if time.monotonic() - self.drawn > PICTURES_EVERY_S:
            self.draw(state, state.averaged)

    def draw(self, state: State, network: nn.Module) -> None:
        """Draw the curves, and what a network makes of the first validation patches."""
        self.drawn = time.monotonic()
        baseline = self.checks.bilinear_psnr_db
        draw_losses(state.history, self.out / "losses.png", bilinear_psnr_db=baseline)
        inputs, targets = self.checks.inputs[0][:ROWS], self.checks.targets[0][:ROWS]
        middle = inputs.shape[1] // 2
        was_training = network.training
        network.eval()
        with torch.inference_mode():
            output = network(inputs)[:, middle, 0]
        network.train(was_training)
        draw_samples(
            inputs[:, middle, 0].cpu().numpy(),
            output.float().cpu().numpy(),
            targets[:, middle, 0].cpu().numpy(),
            self.out / "samples.png",
            pixel_size_um=self.pixel_size_um,
            labels=self.labels[:ROWS],
        )

    def close(self) -> None:
        """Close TensorBoard's files."""
        if self.board is not None:
            self.board.close()
