"""Everything a training run is, at one step, and how it survives on disk.

A file is replaced in one move, so that a full disk or a lost process leaves the old one whole.
Its SHA-256 is in it, as the comment that every zip archive may have: a disk that turned one bit
would else go on with a weight of any size, and PyTorch reads such a file without a word.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tisr_scope.disk import no_space_left
from tisr_scope.errors import TrainingError

VERSION = 2
_DIGITS = 64
LAST, PREVIOUS = "last.pt", "previous.pt"
RUNNING = (
    "step",
    "minutes",
    "losses",
    "history",
    "best_loss",
    "best_psnr_db",
    "best_step",
    "worse_validations",
    "best",
)
"""Parts of the state that are plain values."""


def write_atomic(path: Path, content: bytes | memoryview, *, previous: Path | None = None) -> None:
    """Write a file in one move: a reader sees the old content or the new one.

    Parameters
    ----------
    path : Path
    content : bytes
    previous : Path, optional
        Where the old file is kept.

    Raises
    ------
    TrainingError
        If the disk is full or the file cannot be written; the old file is left as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        full = no_space_left(error)
        raise TrainingError(
            "the disk is full" if full else f"the file cannot be written: {error.strerror}",
            where=str(path),
            remedy="free some space and go on with resume; the last checkpoint is intact"
            if full
            else "check the folder and its permissions, then go on with resume",
        ) from error


@dataclass
class State:
    """A run at one step; ``best`` are the averaged weights with the lowest validation loss."""

    network: nn.Module
    averaged: AveragedModel
    optimiser: torch.optim.Optimizer
    identity: dict[str, Any]
    """Architecture and settings, as plain types, which a resumed run must share."""
    step: int = 0
    minutes: float = 0.0
    losses: list[float] = field(default_factory=list)
    """Losses since the last row of the history."""
    history: list[dict[str, float | int]] = field(default_factory=list)
    best_loss: float = float("inf")
    best_psnr_db: float = float("nan")
    best_step: int = 0
    worse_validations: int = 0
    """Validations since the best one."""
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def judge(self, validation_loss: float, psnr_db: float) -> None:
        """Remember the averaged weights of this step, under the names of the network, if best."""
        if not validation_loss < self.best_loss:
            self.worse_validations += 1
            return
        self.worse_validations = 0
        self.best_loss, self.best_psnr_db, self.best_step = validation_loss, psnr_db, self.step
        self.best = {
            name.removeprefix("module."): value.detach().cpu().clone()
            for name, value in self.averaged.state_dict().items()
            if name.startswith("module.")
        }


def latest(folder: Path) -> Path | None:
    """The checkpoint to go on from, None where there is none."""
    found = (folder / name for name in (LAST, PREVIOUS))
    return next((path for path in found if path.exists()), None)


def save_checkpoint(folder: Path, state: State) -> None:
    """Write ``last.pt``, tensors and plain types only; the one before becomes ``previous.pt``.

    Raises
    ------
    TrainingError
        If it cannot be written.
    """
    content = {
        "version": VERSION,
        "network": state.network.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "identity": state.identity,
        **{name: getattr(state, name) for name in RUNNING},
    }
    _write(folder / LAST, content, previous=folder / PREVIOUS)


def save_weights(path: Path, state: State) -> None:
    """Write the weights of the network alone.

    Raises
    ------
    TrainingError
        If they cannot be written.
    """
    _write(path, {"network": state.network.state_dict(), "step": state.best_step})


def _write(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    # The archive ends with the length of its comment, which is empty so far.
    body = buffer.getvalue()[:-2]
    digest = hashlib.sha256(body).hexdigest().encode()
    write_atomic(path, body + _DIGITS.to_bytes(2, "little") + digest, previous=previous)


def _checked(path: Path) -> io.BytesIO:
    """Content of a checkpoint, if it is what was written."""
    raw = path.read_bytes()
    end = len(raw) - _DIGITS
    if raw[end - 2 : end] != _DIGITS.to_bytes(2, "little"):
        raise ValueError("it has no checksum: it is cut off, or of an older version")
    if hashlib.sha256(raw[: end - 2]).hexdigest().encode() != raw[end:]:
        raise ValueError("its checksum (SHA-256) does not fit: a part of the file has changed")
    return io.BytesIO(raw)


def load_checkpoint(path: Path, state: State) -> None:
    """Continue ``state`` from a checkpoint.

    Random numbers are no part of it: those of a step follow from the seed and the step.

    Raises
    ------
    TrainingError
        If the file is damaged, or is of a run with another architecture or other settings.
    """
    try:
        content: dict[str, Any] = torch.load(_checked(path), map_location="cpu", weights_only=True)
        if content["version"] != VERSION:
            raise TrainingError(
                f"the checkpoint has version {content['version']}, this program writes {VERSION}",
                where=str(path),
                remedy="train again in a new folder",
            )
        _same_run(content["identity"], state.identity, path)
        state.network.load_state_dict(content["network"])
        state.averaged.load_state_dict(content["averaged"])
        state.optimiser.load_state_dict(content["optimiser"])
        for name in RUNNING:
            setattr(state, name, copy.copy(content[name]))
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        UnpicklingError,
    ) as error:
        older = path.name == LAST and (path.parent / PREVIOUS).exists()
        raise TrainingError(
            f"the checkpoint cannot be read: {error}",
            where=str(path),
            remedy=f"move this file away: --resume then goes on from {PREVIOUS} beside it"
            if older
            else "train again in a new folder",
        ) from error


def _same_run(saved: Mapping[str, Any], present: Mapping[str, Any], path: Path) -> None:
    different = [
        f"{part}.{key}"
        for part in sorted(saved.keys() | present.keys())
        for key in sorted(saved.get(part, {}).keys() | present.get(part, {}).keys())
        if saved.get(part, {}).get(key) != present.get(part, {}).get(key)
    ]
    if different:
        raise TrainingError(
            f"the checkpoint belongs to a run with another {', '.join(different)}",
            where=str(path),
            remedy="resume with the settings of that run, or train in a new folder",
        )
