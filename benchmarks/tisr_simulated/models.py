"""The networks that are compared, each made from one template at a chosen scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from benchmarks.tisr_simulated.scales import Scale
from tisr_scope.networks.baselines.vrt import Vrt, VrtConfig
from tisr_scope.networks.config import Alignment, Propagation, compared
from tisr_scope.networks.dpa_tisr import DpaTisr, DpaTisrConfig, single_frame

SINGLE, DPA = "single image", "recurrent, DPA"
"""What every other model is paired with."""

_PROPAGATION: dict[str, Propagation] = {"sliding": "sliding_window", "recurrent": "recurrent"}
_ALIGNMENT: dict[str, Alignment] = {
    "optical flow": "optical_flow",
    "attention": "neighbourhood_attention",
    "deformable": "deformable",
}

SIX = tuple(
    f"{propagation}, {alignment}" for propagation in _PROPAGATION for alignment in _ALIGNMENT
)
"""The six combinations (Paper: Fig. 1)."""

Maker = Callable[[Scale], nn.Module]


def _config(scale: Scale, propagation: str, alignment: Alignment, **other: Any) -> DpaTisrConfig:
    template = compared(_PROPAGATION[propagation], alignment)
    return DpaTisrConfig.model_validate(template.model_dump() | scale.network | other)


def _template(propagation: str, alignment: Alignment, **other: Any) -> Maker:
    return lambda scale: DpaTisr(_config(scale, propagation, alignment, **other))


def _alone(compensate: bool) -> Maker:
    return lambda scale: DpaTisr(
        single_frame(_config(scale, "recurrent", "dpa"), compensate=compensate)
    )


MODELS: dict[str, Maker] = {
    SINGLE: _alone(True),
    DPA: _template("recurrent", "dpa"),
    **{
        f"{propagation}, {alignment}": _template(propagation, kind)
        for propagation in _PROPAGATION
        for alignment, kind in _ALIGNMENT.items()
    },
    "single image, fewer parameters": _alone(False),
    "recurrent, amplitude": _template("recurrent", "dpa", phase_part="amplitude"),
    "recurrent, phase and amplitude": _template("recurrent", "dpa", phase_part="both"),
    "BasicVSR++": lambda scale: DpaTisr(
        _config(scale, "recurrent", "deformable", extraction_skip=False, **scale.ancestor)
    ),
    "VRT": lambda scale: Vrt(VrtConfig(**scale.vrt)),
}
"""By name, in the order they are trained: the most telling ones first."""
