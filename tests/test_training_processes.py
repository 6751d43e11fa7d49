"""Processes that share a batch learn what one process learns from the whole of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_training import TEMPORAL, run, settings
from two_processes import PARTS, PLAIN, WHOLE

from tisr_scope.errors import TrainingError
from tisr_scope.training.processes import Processes, open_fabric, started_processes

TESTS = Path(__file__).parent


def started_by_torchrun(rank: int, port: int, out: Path) -> subprocess.Popen[str]:
    """One of two processes with the environment torchrun gives it."""
    environment = os.environ | {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, TESTS / "two_processes.py", out],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left behind."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [started_by_torchrun(rank, port, out) for rank in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(printed)
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    content = torch.load(out / "checkpoints" / "last.pt", weights_only=True)
    found: dict[str, torch.Tensor] = content["network"]
    return found


def apart(a: Path, b: Path) -> float:
    one, two = weights(a), weights(b)
    return max(float((one[key] - two[key]).abs().max()) for key in one)


def test_two_processes_equal_one_with_twice_the_batch(shared: Path, tmp_path: Path) -> None:
    run(tmp_path, settings(**WHOLE), config=PLAIN)
    assert apart(tmp_path, shared / "whole") < 1e-5
    # Not because nothing was learnt.
    run(tmp_path / "other", settings(**WHOLE | {"seed": 1}), config=PLAIN)
    assert apart(tmp_path / "other", shared / "whole") > 1e-3


def test_dropout_is_the_same_wherever_a_patch_is_computed(shared: Path, tmp_path: Path) -> None:
    run(tmp_path, settings(**PARTS), config=TEMPORAL)
    assert apart(tmp_path, shared / "parts") < 1e-7


def test_all_processes_stop_at_a_loss_that_is_no_number(shared: Path) -> None:
    told = [json.loads((shared / f"told_{rank}.json").read_text())["broken"] for rank in range(2)]
    assert told[0] == told[1]
    assert "loss nan" in told[0][0] and "at step 2" in told[0][0]
    # Only the second half of the batch was computed in the process that broke.
    assert told[0][1].count("train, channel 488") == 2
    assert not (shared / "broken" / "checkpoints" / "last.pt").exists()


def test_a_signal_to_one_process_ends_all_of_them(shared: Path) -> None:
    told = [json.loads((shared / f"told_{rank}.json").read_text())["stopped"] for rank in range(2)]
    assert told == [["cancelled", 2], ["cancelled", 2]]
    assert weights(shared / "stopped")


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(TrainingError, match="cannot be shared evenly by 2 processes") as caught:
        settings(batch=3).share(2)
    assert "multiple of 2" in str(caught.value.remedy)
    assert settings(batch=6).share(2) == 3


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},
            Processes(local=4, nodes=2),
        ),
        (
            {
                "SLURM_NTASKS": "8",
                "SLURM_NTASKS_PER_NODE": "4",
                "SLURM_NNODES": "2",
                "SLURM_PROCID": "5",
                "SLURM_STEP_ID": "0",
            },
            Processes(local=4, nodes=2),
        ),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"}, None),
        # In a job script, but not started by srun.
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "0"}, None),
    ],
)
def test_what_started_the_processes_is_read_from_the_environment(
    environment: dict[str, str], expected: Processes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert started_processes() == expected


def test_tasks_of_slurm_that_are_not_laid_out_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    with pytest.raises(TrainingError, match="started this process only") as caught:
        open_fabric("cpu")
    assert "srun" in str(caught.value.remedy)
    assert open_fabric("cpu", processes=1).world_size == 1
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    with pytest.raises(TrainingError, match="SLURM runs 8 tasks") as caught:
        open_fabric("cpu")
    assert "--ntasks-per-node" in str(caught.value.remedy)


def test_devices_that_do_not_exist_are_refused() -> None:
    with pytest.raises(TrainingError, match="no kind of device"):
        open_fabric("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="no CUDA device"):
            open_fabric("cuda", processes=2)
