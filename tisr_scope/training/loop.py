"""The visible training loop: draw patches, predict, compare, step; validate, save, go on."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor, nn

from tisr_scope.errors import TrainingError
from tisr_scope.pairs.patches import PatchSampler
from tisr_scope.training.checkpoint import (
    LAST,
    State,
    latest,
    load_checkpoint,
    save_checkpoint,
    save_weights,
    write_atomic,
)
from tisr_scope.training.initial_state import new_state, random_apart, seed_patch, shared_network
from tisr_scope.training.interrupt import interruptible
from tisr_scope.training.losses import objective
from tisr_scope.training.prefetch import Ahead, ahead
from tisr_scope.training.processes import (
    agree,
    average_gradients,
    first_process,
    gather,
    open_fabric,
)
from tisr_scope.training.run_records import Records
from tisr_scope.training.settings import TrainingSettings
from tisr_scope.training.validation import ValidationSet, validate, validation_set

Ending = Literal["steps", "time", "no improvement", "cancelled"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingSummary:
    """How a run ended, and how good its best averaged weights are on the validation patches."""

    ended: Ending
    steps: int
    minutes: float
    best_step: int
    validation_loss: float
    validation_psnr_db: float
    bilinear_psnr_db: float
    checkpoint: Path
    bundle: Path | None = None
    """Written where the run came to its end; a cancelled run can be resumed."""


@dataclass(frozen=True)
class _Run:
    """What stays the same over all steps."""

    fabric: Fabric
    settings: TrainingSettings
    patches: Ahead
    model: nn.Module
    """The network as the processes share it; gradients of all are averaged."""
    flow: list[nn.Parameter] = field(default_factory=list)


def fit(
    network: nn.Module,
    training: PatchSampler,
    validation: PatchSampler,
    settings: TrainingSettings,
    out: Path,
    *,
    architecture: dict[str, Any],
    resume: bool = False,
    judge_start: bool = False,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    device: torch.device | str = "cpu",
    fabric: Fabric | None = None,
) -> TrainingSummary:
    """Train a network in place; it ends with the best averaged weights.

    Writes ``checkpoints/last.pt``, ``previous.pt`` and ``best.pt``, ``history.csv``,
    ``settings.yaml``, ``losses.png`` and ``samples.png`` under ``out``.  Ctrl-C, SIGTERM or
    ``cancel`` ends the run cleanly after the present step.

    Parameters
    ----------
    network : Module
        Maps (batch, time, 1, y, x) to (batch, time, 1 or 2, f*y, f*x).
    training, validation : PatchSampler
        The batch of ``training`` is that of all processes together.
    settings : TrainingSettings
    out : Path
    architecture : dict of plain types
        Kept in the checkpoint; a resumed run must have the same.
    resume : bool
        Continue from the last checkpoint where there is one; without it such a folder is refused.
    judge_start : bool
        Validate before the first step too: a network that is good already must not get worse.
    progress : callable, optional
        Gets (done, total): steps, or seconds where the run has no number of steps.
    cancel : threading.Event, optional
    device : torch device
        Of a single process; ``fabric`` has its own.
    fabric : Fabric, optional
        Launched processes, see :func:`~tisr_scope.training.processes.open_fabric`.

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite, a file cannot be written, the folder holds a run
        already, the checkpoint belongs to another run, or the batch cannot be shared.
    """
    if fabric is None:
        fabric = open_fabric(device, processes=1, precision=settings.precision)
    folder = out / "checkpoints"
    found = latest(folder)
    if found is not None and not resume:
        raise TrainingError(
            "the folder already holds a training run",
            where=str(out),
            remedy="resume it, or choose another folder",
        )
    _no_leak(training, validation)
    settings.share(fabric.world_size)
    _make(folder)
    network.to(fabric.device).train()
    state, flow = new_state(network, settings, architecture)
    if found is not None:
        load_checkpoint(found, state)
    fabric.barrier()  # no process may write a checkpoint that another still looks for
    content = yaml.safe_dump(settings.model_dump(mode="json")).encode()
    first_process(fabric, lambda: write_atomic(out / "settings.yaml", content))
    checks = validation_set(validation, settings.validation_patches, fabric.device)
    records = Records(out, validation, checks)
    began = time.perf_counter() - 60 * state.minutes
    with (
        interruptible(cancel) as stopped,
        random_apart(fabric.device),
        ahead(training, fabric.global_rank, fabric.world_size) as patches,
    ):
        run = _Run(fabric, settings, patches, shared_network(network, settings, fabric), flow)
        if fabric.is_global_zero:
            records.open_board(state.step)
        if judge_start and state.step == 0:
            _validate(state, checks, records)
        stop, saved = agree(fabric, stopped(), state.minutes)[0], -1
        while (ended := _ending(state, settings, stop)) is None:
            loss, norm = _step(run, state)
            state.losses.append(loss)
            if progress is not None:
                progress(*_progress(state, settings))
            stop, state.minutes = agree(fabric, stopped(), (time.perf_counter() - began) / 60)
            last_step = _ending(state, settings) is not None
            if state.step % settings.log_every == 0 or last_step:
                _log(state, settings, norm, records)
            if state.step % settings.validate_every == 0 or last_step:
                _validate(state, checks, records)
            if state.step % settings.checkpoint_every == 0:
                _save(fabric, state, folder, records)
                saved = state.step
        if saved != state.step:
            _save(fabric, state, folder, records)
        if ended == "cancelled":
            first_process(fabric, lambda: records.draw(state, state.averaged))
        else:
            _finish(fabric, state, folder, records)
        records.close()
    return TrainingSummary(
        ended=ended,
        steps=state.step,
        minutes=state.minutes,
        best_step=state.best_step,
        validation_loss=state.best_loss,
        validation_psnr_db=state.best_psnr_db,
        bilinear_psnr_db=checks.bilinear_psnr_db,
        checkpoint=folder / LAST,
    )


def _step(run: _Run, state: State) -> tuple[float, float]:
    """One optimiser step of all processes; gives the loss and the length of the gradient."""
    settings, fabric = run.settings, run.fabric
    rate = settings.rate(state.step, state.minutes)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * group["factor"]
    batch = run.patches.batch(state.step)
    share = len(batch.inputs)
    at_once = settings.micro_batch or share
    state.optimiser.zero_grad(set_to_none=True)
    losses: list[Tensor] = []
    for first in range(0, share, at_once):
        part = slice(first, first + at_once)
        inputs = torch.from_numpy(batch.inputs[part]).to(fabric.device)
        targets = torch.from_numpy(batch.targets[part]).to(fabric.device)
        seed_patch(settings.seed, state.step, fabric.global_rank * share + first)
        with average_gradients(fabric, run.model, now=first + at_once >= share):
            output = run.model(inputs)
            value = objective(
                output,
                targets,
                mean_only=state.step < settings.l1_warmup_steps,
                square_weight=settings.square_weight,
            )
            fabric.backward(value * (at_once / share))
        # The history holds the loss of the paper, whatever is optimised, so that it is one curve.
        pairs = zip(output.detach(), targets, strict=True)
        losses += [objective(o[None], t[None]) for o, t in pairs]
    if state.step < settings.flow_frozen_steps:
        for parameter in run.flow:
            parameter.grad = None
    longest = math.inf if settings.clip_norm is None else settings.clip_norm
    norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), longest))
    every = gather(fabric, torch.stack(losses)).tolist()
    _require_finite(run, state.step, every, norm)
    state.optimiser.step()
    state.averaged.update_parameters(state.network)
    state.step += 1
    return sum(every) / len(every), norm


def _require_finite(run: _Run, step: int, losses: list[float], norm: float) -> None:
    """Name the patches with a loss that is no number; all of them if only the gradient is none."""
    if math.isfinite(norm) and all(map(math.isfinite, losses)):
        return
    draws = run.patches.sampler.draws(step)
    guilty = [d for d, loss in zip(draws, losses, strict=True) if not math.isfinite(loss)]
    worst = next((loss for loss in losses if not math.isfinite(loss)), losses[0])
    raise TrainingError(
        f"loss {worst:g} with gradient {norm:g} at step {step}; the last checkpoint is from before",
        where="\n         ".join(str(draw) for draw in guilty or draws),
        remedy="look at these patches (time points and positions count from 0), then resume with a "
        "lower learning rate or clip_norm",
    )


def _ending(state: State, settings: TrainingSettings, stop: bool = False) -> Ending | None:
    if settings.steps is not None and state.step >= settings.steps:
        return "steps"
    if settings.max_minutes is not None and state.minutes >= settings.max_minutes:
        return "time"
    if settings.patience is not None and state.worse_validations >= settings.patience:
        return "no improvement"
    return "cancelled" if stop else None


def _log(state: State, settings: TrainingSettings, norm: float, records: Records) -> None:
    row: dict[str, float | int] = {
        "step": state.step,
        "minutes": state.minutes,
        "learning_rate": settings.rate(state.step - 1, state.minutes),
        "gradient_norm": norm,
        "loss": sum(state.losses) / len(state.losses),
    }
    state.history.append(row)
    state.losses = []
    records.log(row)


def _validate(state: State, checks: ValidationSet, records: Records) -> None:
    """Judge the averaged weights; every process does, so that all agree on the best."""
    score = validate(state.averaged, checks)
    if not math.isfinite(score.loss):
        raise TrainingError(
            f"the validation loss is {score.loss:g} at step {state.step}",
            remedy="resume from the last checkpoint with a lower learning rate",
        )
    row = {
        "validation_loss": score.loss,
        "validation_psnr_db": score.psnr_db,
        "bilinear_psnr_db": checks.bilinear_psnr_db,
    }
    if state.history and state.history[-1]["step"] == state.step:
        state.history[-1].update(row)
    else:
        state.history.append({"step": state.step, "minutes": state.minutes, **row})
    records.log({"step": state.step, **row})
    state.judge(score.loss, score.psnr_db)


def _save(fabric: Fabric, state: State, folder: Path, records: Records) -> None:
    def write() -> None:
        save_checkpoint(folder, state)
        records.write(state)

    first_process(fabric, write)


def _finish(fabric: Fabric, state: State, folder: Path, records: Records) -> None:
    """Give the network its best averaged weights and show what it does."""
    state.network.load_state_dict(state.best)
    state.network.eval()

    def write() -> None:
        save_weights(folder / "best.pt", state)
        records.draw(state, state.network)

    first_process(fabric, write)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"the folder cannot be made: {error.strerror}",
            where=str(folder),
            remedy="choose a folder that you may write to",
        ) from error


def _progress(state: State, settings: TrainingSettings) -> tuple[int, int]:
    if settings.steps is not None:
        return state.step, settings.steps
    assert settings.max_minutes is not None
    return int(60 * state.minutes), math.ceil(60 * settings.max_minutes)


def _no_leak(training: PatchSampler, validation: PatchSampler) -> None:
    shared = set(training.recordings) & set(validation.recordings)
    if shared:
        raise TrainingError(
            f"validation recordings are also trained on: {', '.join(sorted(shared))}",
            remedy="split by recording: prepare the pairs again",
        )
