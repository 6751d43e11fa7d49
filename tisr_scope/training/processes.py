"""One process or many: who takes part in a run, and what they agree on.

A run is one process, unless ``torchrun`` or SLURM started several or several are asked for; then
each has a copy of the network and the gradients are averaged (distributed data parallel).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from tisr_scope.errors import TisrScopeError, TrainingError

Result = TypeVar("Result")
Precision = Literal["fp32", "bf16"]
WAIT = timedelta(hours=6)
"""The others wait while the first process prepares data."""


@dataclass(frozen=True)
class Processes:
    """How many processes there are on each computer, and how many computers."""

    local: int
    nodes: int = 1

    @property
    def world(self) -> int:
        """All of them."""
        return self.local * self.nodes


def started_processes() -> Processes | None:
    """What ``torchrun`` or ``srun`` started; None for a process on its own.

    Raises
    ------
    TrainingError
        If SLURM runs different numbers of tasks on its computers.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return Processes(local, int(environment["WORLD_SIZE"]) // local)
    tasks = int(environment.get("SLURM_NTASKS", "1"))
    if tasks == 1 or "SLURM_STEP_ID" not in environment:
        return None
    nodes = int(environment.get("SLURM_NNODES", "1"))
    each = environment.get("SLURM_NTASKS_PER_NODE")
    if each is None or int(each) * nodes != tasks:
        raise TrainingError(
            f"SLURM runs {tasks} tasks on {nodes} nodes, {each or 'an unknown number'} on each",
            remedy="state --ntasks-per-node, one for each GPU, instead of --ntasks",
        )
    return Processes(int(each), nodes)


def open_fabric(
    device: torch.device | str = "cpu",
    *,
    processes: int | None = None,
    precision: Precision = "fp32",
) -> Fabric:
    """Choose device, precision and processes; ``launch()`` then starts or joins them.

    Parameters
    ----------
    device : torch device
        ``cuda`` takes one GPU for each process; ``cuda:1`` is a single process on that one.
    processes : int, optional
        Processes on this computer, where neither torchrun nor SLURM started any.
    precision : {"fp32", "bf16"}

    Raises
    ------
    TrainingError
        If there is no such device, or fewer than there are processes.
    """
    device = _device(device)
    started = started_processes()
    if started is not None and processes not in (None, started.local):
        raise TrainingError(
            f"{started.local} processes were started on this computer, {processes} are asked for",
            remedy="leave the number of processes to torchrun or SLURM",
        )
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    if started is None and processes is None and tasks > 1:
        raise TrainingError(
            f"SLURM keeps {tasks} tasks ready, but started this process only",
            remedy="start it with srun, or say --processes 1",
        )
    chosen = started or Processes(processes or 1)
    _check_device(device, chosen)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    options: dict[str, Any] = {
        "accelerator": device.type,
        "precision": "bf16-mixed" if precision == "bf16" else "32-true",
    }
    if started is None:
        # An allocation of SLURM around this process is no reason to wait for others.
        options["plugins"] = [LightningEnvironment()]
    if chosen.world == 1:
        options["devices"] = 1 if device.index is None else [device.index]
        return Fabric(**options)
    options["devices"] = chosen.local if device.type == "cpu" else list(range(chosen.local))
    return Fabric(**options, num_nodes=chosen.nodes, strategy=DDPStrategy(timeout=WAIT))


@contextmanager
def launched(
    device: torch.device | str = "cpu",
    *,
    processes: int | None = None,
    precision: Precision = "fp32",
) -> Iterator[Fabric]:
    """Start or join the processes of a run, and take leave of them; see :func:`open_fabric`."""
    fabric = open_fabric(device, processes=processes, precision=precision)
    fabric.launch()
    try:
        yield fabric
    finally:
        # Threads that still talk to the others must not outlive the interpreter.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def agree(fabric: Fabric, stop: bool, minutes: float) -> tuple[bool, float]:
    """All stop if one was told to; the clock of the first process counts."""
    if fabric.world_size == 1:
        return stop, minutes
    row = torch.tensor([float(stop), minutes], dtype=torch.float64, device=fabric.device)
    rows = gather(fabric, row).view(-1, 2)
    return bool(rows[:, 0].any()), float(rows[0, 1])


def gather(fabric: Fabric, values: Tensor) -> Tensor:
    """The values of every process, one after the other."""
    if fabric.world_size == 1:
        return values
    place = fabric.global_rank * len(values)
    padded = values.new_zeros(fabric.world_size * len(values))
    padded[place : place + len(values)] = values
    every = fabric.all_reduce(padded, reduce_op="sum")
    assert isinstance(every, Tensor)
    return every


@contextmanager
def average_gradients(fabric: Fabric, model: Any, *, now: bool) -> Iterator[None]:
    """Average gradients over processes in this backward pass, or leave it to a later one."""
    if fabric.world_size == 1:
        yield
        return
    with fabric.no_backward_sync(model, enabled=not now):
        yield


def first_process(fabric: Fabric, work: Callable[[], Result]) -> Result:
    """Let one process do something and tell all; if it cannot, all of them end with its error."""
    result: Result | None = None
    problem: TisrScopeError | None = None
    if fabric.is_global_zero:
        try:
            result = work()
        except TisrScopeError as error:
            problem = error
    result, problem = fabric.broadcast((result, problem))
    if problem is not None:
        raise problem
    return cast(Result, result)


def _device(name: torch.device | str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TrainingError(
            f"there is no kind of device called {name}", remedy="choose cpu, cuda, cuda:1 or mps"
        ) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise TrainingError(
            f"training on {device.type} is not supported", remedy="choose cpu, cuda or mps"
        )
    return device


def _check_device(device: torch.device, processes: Processes) -> None:
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise TrainingError(
            "there is no CUDA device that torch can use",
            where=str(device),
            remedy="install a driver and a CUDA build of torch, or train with --device cpu",
        )
    count = torch.cuda.device_count()
    if device.index is not None and (processes.world > 1 or device.index >= count):
        raise TrainingError(
            f"device {device} cannot be used by {processes.world} processes on {count} GPUs",
            where=str(device),
            remedy="give --device cuda: each process takes a GPU of its own",
        )
    if processes.local > count:
        raise TrainingError(
            f"{processes.local} processes on this computer see {count} GPUs",
            where=str(device),
            remedy="start one process for each GPU; under SLURM let every task see all GPUs of "
            "its node (--gres=gpu:4, not --gpus-per-task)",
        )
