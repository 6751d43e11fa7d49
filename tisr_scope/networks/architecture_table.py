"""The family of networks as one table: what each is made of, and how large it is.

The sizes the paper lists are beside ours.  Two come out to the digit.  A third does if the flow
network, of which neighbourhood attention has no use, is counted with it.  Those of the sliding
window do not follow from the text, which leaves open how wide the window is and what the
convolution of its alignment block reads; ours has three neighbours on either side, as seven
frames allow, and is smaller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

import torch
from torch import nn

from tisr_scope.networks.architectures import LISTED
from tisr_scope.networks.baselines.vrt import Vrt, VrtConfig
from tisr_scope.networks.dpa_tisr import DpaTisr, parameter_count
from tisr_scope.networks.presets import PRESETS, Architecture, preset

PAPER_MILLIONS: Mapping[str, float] = {
    "sliding_optical_flow": 5.58,
    "sliding_neighbourhood_attention": 5.59,
    "sliding_deformable": 7.97,
    "recurrent_optical_flow": 3.95,
    "recurrent_neighbourhood_attention": 3.71,
    "recurrent_deformable": 5.40,
}
"""Sizes the paper lists, in millions (Methods, after eq. 14)."""
COLUMNS = (
    "`--preset`",
    "propagation",
    "alignment",
    "channels",
    "parameters, mean alone",
    "with a scale",
    "the paper's list",
)
_PARTS = {"phase": "phase", "amplitude": "amplitude", "both": "phase and amplitude"}
_ENCODINGS = {"angle": "", "phasor": " as cos, sin", "cross": " as cross power"}


def build(architecture: Architecture) -> nn.Module:
    """Network of an architecture, untrained."""
    if isinstance(architecture, VrtConfig):
        return Vrt(architecture)
    return DpaTisr(architecture)


@cache
def size(architecture: Architecture) -> int:
    """Number of parameters; no memory is taken for them."""
    with torch.device("meta"):
        return parameter_count(build(architecture))


def _propagation(made: Architecture) -> str:
    if isinstance(made, VrtConfig):
        return "clips of two frames"
    if not made.temporal:
        return "none"
    if made.propagation == "sliding_window":
        return f"window of {2 * made.window_radius + 1} frames"
    return f"recurrent, {made.branches} branches"


def _alignment(made: Architecture) -> str:
    if isinstance(made, VrtConfig):
        return "mutual attention, parallel warping"
    if not made.temporal:
        return "none"
    if made.alignment != "dpa":
        return made.alignment.replace("_", " ")
    read = "" if made.phase_part == "amplitude" else _ENCODINGS[made.phase_encoding]
    return f"{_PARTS[made.phase_part]}{read}, then deformable"


def rows() -> list[tuple[str, ...]]:
    """One row for each name of ``tisr train --preset``, at an enlargement of 2."""
    table: list[tuple[str, ...]] = []
    for name in PRESETS:
        made = preset(name, bayesian=False)
        listed = PAPER_MILLIONS.get(name)
        table.append(
            (
                f"`{name}`",
                _propagation(made),
                _alignment(made),
                str(made.channels),
                f"{size(made):,}",
                f"{size(preset(name)):,}",
                f"{listed:.2f} million" if listed else "",
            )
        )
    return table


if __name__ == "__main__":
    LISTED.write_text(
        json.dumps({"columns": COLUMNS, "rows": rows()}, indent=1) + "\n", encoding="utf-8"
    )
