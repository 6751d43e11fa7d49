"""Shared by all tests: a quiet Qt, few threads, and where real data may be."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("MPLBACKEND", "Agg")
# The window remembers its place and theme; tests must not find what a person chose, nor change it.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="tisr_settings_")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    # Shells start background jobs with these ignored, and children would inherit that.
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGQUIT", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    if not torch.cuda.is_available():
        # Before anyone imports Triton: its kernels then run on the CPU.
        os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """For what a function itself says about arrays that do not fit: no check comes before it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, ROOT.parent / "shared" / default))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real microscope data; the test is skipped where it is absent."""
    folder = _folder("TISR_REAL_DATA", "data")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set TISR_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def released_fixtures() -> Path:
    """Folder of outputs of the published network; the test is skipped where it is absent."""
    folder = _folder("TISR_FIXTURES", "fixtures")
    if not folder.is_dir():
        pytest.skip(f"no released fixtures in {folder}; set TISR_FIXTURES")
    return folder
