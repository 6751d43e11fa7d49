"""What an import notes about itself, so that it can be told apart, continued and exported again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Num

from tisr_scope.exchange.import_plan import ImportPlan
from tisr_scope.exchange.import_settings import ImportSettings

REFERENCE = "reference"
HEADER_SUFFIX = ".header"


def camera_of(plan: ImportPlan, settings: ImportSettings) -> tuple[float, float]:
    """Camera offset and electrons per count: options, then the profile, then the published ones."""
    camera = plan.profile.microscope.camera if plan.profile else None
    offset = camera.offset_adu if camera else 100.0
    gain = camera.electrons_per_adu if camera else 0.46
    return (
        offset if settings.offset_adu is None else settings.offset_adu,
        gain if settings.electrons_per_adu is None else settings.electrons_per_adu,
    )


def stored_blocks(plan: ImportPlan) -> Iterator[Num[np.ndarray, "orientation phase y x"]]:
    """Raw frames of every level and plane, one time point after the other."""
    for level in range(plan.levels):
        for plane in plan.planes:
            yield from plan.level(level, plane)


def source_record(plan: ImportPlan, settings: ImportSettings) -> dict[str, Any]:
    """Files and settings as plain JSON types: equal for an import that would come out equal."""
    files = [*(plan.cell.levels or plan.cell.widefield), plan.cell.target]
    told = asdict(settings)
    told["profile"] = plan.profile.model_dump(mode="json") if plan.profile else None
    record = {
        "structure": plan.cell.structure,
        "cell": plan.cell.folder.name,
        "part": plan.cell.part,
        "files": [{"name": f.name, "bytes": f.stat().st_size} for f in files if f is not None],
        "settings": told,
    }
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain
