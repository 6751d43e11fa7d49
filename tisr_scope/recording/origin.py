"""Where a recording or pair comes from, when another program recorded it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RANKS = "laser powers are ranks, not milliwatts"
"""Said in the description of a profile whose levels have no known power."""


def imported_from(folder: Path) -> dict[str, Any] | None:
    """Where an imported recording or pair comes from; None for one of this package."""
    for name, keys in (("provenance.json", ("settings", "imported")), ("pair.json", ("imported",))):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            for key in keys:
                content = content[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return dict(content)
    return None
