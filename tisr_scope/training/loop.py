"""The visible training loop: draw patches, predict, compare, step; validate, save, go on."""

from __future__ import annotations

import csv
import io
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tisr_scope.data.patches import Batch, PatchSampler
from tisr_scope.errors import TrainingError
from tisr_scope.training.checkpoint import (
    State,
    load_checkpoint,
    save_checkpoint,
    save_weights,
    write_atomic,
)
from tisr_scope.training.figures import draw_losses, draw_samples
from tisr_scope.training.interrupt import interruptible
from tisr_scope.training.losses import objective
from tisr_scope.training.settings import TrainingSettings
from tisr_scope.training.validation import ValidationSet, validate, validation_set

Ending = Literal["steps", "time", "cancelled"]
Progress = Callable[[int, int], None]

FLOW_NETWORK = "spynet."
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


def fit(
    network: nn.Module,
    training: PatchSampler,
    validation: PatchSampler,
    settings: TrainingSettings,
    out: Path,
    *,
    architecture: dict[str, Any],
    resume: bool = False,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    device: torch.device | str = "cpu",
) -> TrainingSummary:
    """Train a network in place; it ends with the best averaged weights.

    Writes ``checkpoints/last.pt`` and ``best.pt``, ``history.csv``, ``settings.yaml``,
    ``losses.png`` and ``samples.png`` under ``out``.  Ctrl-C or ``cancel`` ends the run cleanly
    after the present step.

    Parameters
    ----------
    network : Module
        Maps (batch, time, 1, y, x) to (batch, time, 1 or 2, f*y, f*x).
    training, validation : PatchSampler
    settings : TrainingSettings
    out : Path
    architecture : dict of plain types
        Kept in the checkpoint; a resumed run must have the same.
    resume : bool
        Continue from ``last.pt`` where there is one; without it such a folder is refused.
    progress : callable, optional
        Gets (done, total): steps, or seconds where the run has no number of steps.
    cancel : threading.Event, optional
    device : torch device

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite, a file cannot be written, the folder holds a run
        already, or the checkpoint belongs to another run.
    """
    folder = out / "checkpoints"
    last = folder / "last.pt"
    if last.exists() and not resume:
        raise TrainingError(
            "the folder already holds a training run",
            where=str(out),
            remedy="resume it, or choose another folder",
        )
    _no_leak(training, validation)
    _make(folder)
    network.to(device).train()
    state = _start(network, settings, architecture)
    if last.exists():
        load_checkpoint(last, state)
    write_atomic(out / "settings.yaml", yaml.safe_dump(settings.model_dump(mode="json")).encode())
    checks = validation_set(validation, settings.validation_patches, device)

    began = time.perf_counter() - 60 * state.minutes
    with interruptible(cancel) as stopped:
        while (ended := _ending(state, settings, stopped)) is None:
            batch = training.batch(state.step)
            loss, norm = _step(state, batch, settings, device)
            state.minutes = (time.perf_counter() - began) / 60
            state.losses.append(loss)
            last_step = _ending(state, settings) is not None
            if state.step % settings.log_every == 0 or last_step:
                _log(state, settings, norm)
            if state.step % settings.validate_every == 0 or last_step:
                _validate(state, checks)
            if state.step % settings.checkpoint_every == 0:
                _save(state, checks, out)
            if progress is not None:
                progress(*_progress(state, settings))
        _save(state, checks, out)
        if ended != "cancelled":
            _finish(state, validation, checks, out)
    return TrainingSummary(
        ended=ended,
        steps=state.step,
        minutes=state.minutes,
        best_step=state.best_step,
        validation_loss=state.best_loss,
        validation_psnr_db=state.best_psnr_db,
        bilinear_psnr_db=checks.bilinear_psnr_db,
        checkpoint=last,
    )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"the folder cannot be made: {error.strerror}",
            where=str(folder),
            remedy="choose a folder that you may write to",
        ) from error


def _start(network: nn.Module, settings: TrainingSettings, architecture: dict[str, Any]) -> State:
    flow = [p for name, p in network.named_parameters() if name.startswith(FLOW_NETWORK)]
    flow_ids = {id(p) for p in flow}
    rest = [p for p in network.parameters() if id(p) not in flow_ids]
    groups: list[dict[str, Any]] = [{"params": rest, "factor": 1.0}]
    if flow:
        groups.append({"params": flow, "factor": settings.flow_rate_factor})
    elif settings.flow_rate_factor != 1:
        raise TrainingError(
            "the network has no optical flow to train at another rate",
            remedy="leave flow_rate_factor at 1",
        )

    def follow(average: Tensor, weights: Tensor, count: Tensor | int) -> Tensor:
        # A short memory at first: the random start must not linger in the average.
        decay = min(settings.ema_decay, (1 + int(count)) / (10 + int(count)))
        return average.lerp(weights, 1 - decay)

    ends = {"steps", "max_minutes"}
    return State(
        network=network,
        averaged=AveragedModel(network, avg_fn=follow),
        optimiser=torch.optim.Adam(groups, lr=settings.learning_rate, betas=settings.betas),
        identity={
            "architecture": architecture,
            "settings": settings.model_dump(mode="json", exclude=ends),
        },
    )


def _step(
    state: State, batch: Batch, settings: TrainingSettings, device: torch.device | str
) -> tuple[float, float]:
    """One optimiser step; gives the loss and the length of the gradient."""
    rate = settings.rate(state.step, state.minutes)
    for group in state.optimiser.param_groups:
        group["lr"] = rate * group["factor"]
    inputs = torch.from_numpy(batch.inputs).to(device)
    targets = torch.from_numpy(batch.targets).to(device)
    output = state.network(inputs)
    value = objective(output, targets, mean_only=state.step < settings.l1_warmup_steps)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(value)
    longest = math.inf if settings.clip_norm is None else settings.clip_norm
    norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), longest))
    # The history holds the loss of the paper, whatever is optimised, so that it is one curve.
    loss = float(objective(output.detach(), targets))
    if not math.isfinite(loss) or not math.isfinite(norm):
        origin = "\n         ".join(str(draw) for draw in batch.draws)
        raise TrainingError(
            f"loss {loss:g} with gradient {norm:g} at step {state.step}; "
            "the last checkpoint is from before",
            where=origin,
            remedy="look at these patches, then resume with a lower learning rate or clip_norm",
        )
    state.optimiser.step()
    state.averaged.update_parameters(state.network)
    state.step += 1
    return loss, norm


def _ending(
    state: State, settings: TrainingSettings, stopped: Callable[[], bool] = lambda: False
) -> Ending | None:
    if settings.steps is not None and state.step >= settings.steps:
        return "steps"
    if settings.max_minutes is not None and state.minutes >= settings.max_minutes:
        return "time"
    return "cancelled" if stopped() else None


def _log(state: State, settings: TrainingSettings, norm: float) -> None:
    row = {
        "step": state.step,
        "minutes": state.minutes,
        "learning_rate": settings.rate(state.step - 1, state.minutes),
        "gradient_norm": norm,
        "loss": sum(state.losses) / len(state.losses),
    }
    state.history.append(row)
    state.losses = []


def _validate(state: State, checks: ValidationSet) -> None:
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
    if score.loss < state.best_loss:
        state.keep_best(score.loss, score.psnr_db)


def _save(state: State, checks: ValidationSet, out: Path) -> None:
    save_checkpoint(out / "checkpoints" / "last.pt", state)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(state.history)
    write_atomic(out / "history.csv", text.getvalue().encode())
    draw_losses(state.history, out / "losses.png", bilinear_psnr_db=checks.bilinear_psnr_db)


def _finish(state: State, validation: PatchSampler, checks: ValidationSet, out: Path) -> None:
    """Give the network its best averaged weights and show what it does."""
    state.network.load_state_dict(state.best)
    state.network.eval()
    save_weights(out / "checkpoints" / "best.pt", state)
    with torch.inference_mode():
        output = state.network(checks.inputs[0])[:, :, 0]
    rows, middle = min(len(output), 4), output.shape[1] // 2
    draws = validation.batch(0).draws[:rows]
    draw_samples(
        checks.inputs[0][:rows, middle, 0].cpu().numpy(),
        output[:rows, middle].cpu().numpy(),
        checks.targets[0][:rows, middle, 0].cpu().numpy(),
        out / "samples.png",
        pixel_size_um=validation.pixel_size_um,
        labels=[f"{draw.recording}\nlevel {draw.level + 1}" for draw in draws],
    )


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
