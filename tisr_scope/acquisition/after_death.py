"""A second process that turns the light off after the controller has died (``kill -9``, a crash).

Run as a script by :mod:`tisr_scope.acquisition.death_guard`; it imports nothing but the standard
library until it has to act.  Serial ports belong to one process at a time, so it opens the lights,
and only them, after the controller is gone.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
import threading
from typing import Any

LOOK_S = 0.05


def lights_only(config_text: str, labels: list[str]) -> str:
    """The part of a ``.cfg`` that loads some devices and what they hang on (hubs, ports).

    Python devices are loaded with all of their module, because they may join each other.
    """
    lines = [line.strip().removeprefix("#py ").strip() for line in config_text.splitlines()]
    commands = [line.split(",") for line in lines if line and not line.startswith("#")]
    loads = {c[1]: c for c in commands if c[0] in ("Device", "pyDevice") and len(c) == 4}
    needed = {label for label in labels if label in loads}
    size = -1
    while size != len(needed):
        size = len(needed)
        for command in commands:
            linked = command[0] in ("Parent", "Property") and command[1] in needed
            if linked and command[-1] in loads:
                needed.add(command[-1])
        modules = {loads[label][2] for label in needed if loads[label][0] == "pyDevice"}
        needed |= {k for k, c in loads.items() if c[0] == "pyDevice" and c[2] in modules}
    kept = []
    for command in commands:
        if command[:3] == ["Property", "Core", "Initialize"]:
            kept.append(command)
            if command[-1] == "1":
                break
        elif command[1] in needed and command[0] in ("Device", "pyDevice", "Parent", "Property"):
            kept.append(command)
    return "".join(",".join(command) + "\n" for command in kept)


def turn_off(told: dict[str, Any]) -> None:
    """Open the lights and turn them off; each is tried even if another fails."""
    sys.path[:] = told["path"]
    from contextlib import suppress

    from pymmcore_plus.experimental.unicore import UniMMCore

    labels = [device for device, _, _ in told["off"]] + told["shutters"]
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "lights.cfg")  # noqa: PTH118 - pathlib is slow to import
        with open(config, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(lights_only(told["config"], labels))
        core = UniMMCore()
        core.loadSystemConfiguration(config)
    for device, prop, value in told["off"]:
        with suppress(Exception):
            core.setProperty(device, prop, value)
    for label in told["shutters"]:
        with suppress(Exception):
            core.setShutterOpen(label, False)
    core.unloadAllDevices()


def main() -> None:
    """Wait for the word that all is well, or for the controller's death."""
    told = json.loads(sys.stdin.readline())
    said: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: said.put(sys.stdin.readline()), daemon=True).start()
    while True:
        try:
            last_word = said.get(timeout=LOOK_S)
        except queue.Empty:
            # A forked child of the controller may keep the pipe open.
            if os.name != "posix" or os.getppid() == told["controller"]:
                continue
            last_word = ""
        break
    if last_word.strip() != "done":
        turn_off(told)
    os._exit(0)


if __name__ == "__main__":
    main()
