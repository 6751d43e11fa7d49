"""Is this machine ready?  Versions, devices, adapters, GPU, display, disk speed."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from tisr_scope.errors import TisrScopeError
from tisr_scope.provenance import package_versions

Verdict = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    verdict: Verdict
    text: str


def examine(folder: Path) -> list[Finding]:
    """Examine the machine; recordings would go to ``folder``."""
    return [
        _versions(),
        _adapters(),
        _compute(),
        _deformable(),
        _display(),
        _disk(folder),
    ]


def _versions() -> Finding:
    versions = package_versions()
    absent = [name for name, found in versions.items() if found == "absent"]
    text = ", ".join(f"{name} {found}" for name, found in versions.items())
    return Finding("versions", "problem" if absent else "ok", text)


def _adapters() -> Finding:
    from pymmcore_plus import find_micromanager

    try:
        path = find_micromanager()
    except Exception as error:
        return Finding("device adapters", "problem", f"the search failed: {error}")
    if path is None:
        return Finding(
            "device adapters",
            "problem",
            "no Micro-Manager adapters found; run 'mmcore install', or install mm-test-adapters",
        )
    return Finding("device adapters", "ok", path)


def _compute() -> Finding:
    import torch

    threads = torch.get_num_threads()
    if not torch.cuda.is_available():
        return Finding(
            "compute", "note", f"no CUDA GPU: networks run on the CPU with {threads} threads"
        )
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    free, total = torch.cuda.mem_get_info()
    return Finding(
        "compute", "ok", f"{', '.join(names)}: {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )


def _deformable() -> Finding:
    """Which implementation the alignment of the networks gets on this machine."""
    import torch

    from tisr_scope.networks.kernels.deformable import VARIABLE, backend

    topic = "deformable convolution"
    on_gpu = torch.cuda.is_available()
    try:
        chosen = backend("cuda" if on_gpu else "cpu")
    except TisrScopeError as error:
        return Finding(topic, "problem", str(error))
    asked = f", as {VARIABLE} asks" if VARIABLE in os.environ else ""
    if chosen == "triton":
        return Finding(topic, "ok", f"fused Triton kernels {version('triton')}{asked}")
    if on_gpu and not asked:
        return Finding(topic, "note", "plain PyTorch; 'pip install triton' makes it faster")
    return Finding(topic, "ok", f"plain PyTorch{asked}")


def _display() -> Finding:
    from importlib.util import find_spec

    if find_spec("qtpy") is None or find_spec("pyqtgraph") is None:
        return Finding(
            "window",
            "note",
            "the live window needs: pip install 'tisr-scope[gui]'; --headless works",
        )
    from tisr_scope.preview.app import SOUND_QT, missing_display, unsound_qt

    problem = unsound_qt()
    if problem is not None:
        return Finding("window", "problem", f"{problem}; pip install --upgrade {SOUND_QT}")
    problem = missing_display()
    if problem is not None:
        return Finding("window", "note", f"{problem}; use --headless")
    return Finding("window", "ok", "Qt and a display are there")


def _disk(folder: Path, megabytes: int = 256) -> Finding:
    """Write and fsync incompressible blocks the size of a 512 x 512 camera frame."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 2 * megabytes * 2**20:
        return Finding("disk", "problem", f"only {free / 2**20:.0f} MiB free in {folder}")
    frame = np.random.default_rng(0).integers(0, 2**16, 2**18, dtype=np.uint16).tobytes()
    target = folder / ".tisr_disk_test"
    start = time.perf_counter()
    try:
        with target.open("wb") as file:
            for _ in range(megabytes * 2**20 // len(frame)):
                file.write(frame)
            file.flush()
            os.fsync(file.fileno())
        seconds = time.perf_counter() - start
    finally:
        target.unlink(missing_ok=True)
    rate = megabytes / seconds
    frames = rate * 2**20 / len(frame)
    verdict: Verdict = "ok" if frames > 100 else "note"
    text = f"{rate:.0f} MiB/s ({frames:.0f} frames/s of 512 x 512), {free / 2**30:.0f} GiB free"
    return Finding("disk", verdict, text)
