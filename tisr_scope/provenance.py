"""What made a result: command, versions, machine, settings.  Saved beside every result."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tisr_scope.disk import writing

_PACKAGES = (
    "tisr-scope",
    "numpy",
    "torch",
    "pymmcore-plus",
    "pymmcore",
    "useq-schema",
    "ome-writers",
    "zarr",
    "tifffile",
    "scipy",
)


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that decide a result; "absent" where missing."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def provenance(settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Record of the present process as plain JSON types.

    Parameters
    ----------
    settings : mapping, optional
        Settings and seeds of the step, JSON types only.
    """
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "versions": package_versions(),
        "settings": dict(settings or {}),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with writing(path, "results") as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
