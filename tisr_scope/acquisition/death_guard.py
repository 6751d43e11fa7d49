"""Starting the process that turns the light off should this one die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tisr_scope.acquisition import after_death
from tisr_scope.acquisition.microscope import Microscope

_DIES_WITH_US = "tisr_scope.simulated_microscope"
"""Devices whose light is in the memory of this process."""


@contextmanager
def death_guard(microscope: Microscope) -> Iterator[None]:
    """Have the light turned off within seconds if this process is killed in the block.

    Neither a power cut nor a stopped computer can be helped this way: for those the laser needs
    a hardware gate or an interlock.
    """
    core, light = microscope.core, microscope.light
    labels = {*(device for device, _ in light.guard.dark), *light.shutters}
    text = microscope.config_text
    if not text or all(core.getDeviceLibrary(d).startswith(_DIES_WITH_US) for d in labels):
        yield
        return
    told = {
        "config": text,
        "off": [[*key, value] for key, value in light.guard.dark.items()],
        "shutters": light.shutters,
        "path": [entry or str(Path.cwd()) for entry in sys.path],
        "controller": os.getpid(),
    }
    guard = subprocess.Popen(
        [sys.executable, str(Path(after_death.__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # the closing of a terminal must not reach it
    )
    assert guard.stdin is not None
    try:
        with suppress(OSError):
            guard.stdin.write(json.dumps(told) + "\n")
            guard.stdin.flush()
        yield
    finally:
        with suppress(OSError):
            guard.stdin.write("done\n")
            guard.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            guard.wait(2.0)
