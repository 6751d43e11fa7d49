"""Parameters and operations of every architecture, without computing any of it.

    python -m benchmarks.network_sizes            # the table of docs/networks.md
    python -m benchmarks.network_sizes --json     # the same as one JSON object
    python -m benchmarks.network_sizes --check    # fails where the table in the docs is another

Operations are those of convolutions, matrix products and attention in one window of 7 x 64 x 64
pixels, a multiplication and an addition counting as two.  Fourier transforms, sampling along the
flow, attention over a neighbourhood and activations are not among them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from tisr_scope.networks.architecture_table import build, size
from tisr_scope.networks.presets import PRESETS, Architecture, preset

WINDOW = (1, 7, 1, 64, 64)
PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
_TABLE = re.compile(r"<!-- operations: .*? -->\n(.*?)\n<!-- end of operations -->", re.DOTALL)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    counted: int = sdpa_flop_count(query, key, value)
    return counted


# The counter of PyTorch knows the attention of GPUs only.
COUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def operations(architecture: Architecture) -> int:
    """Floating-point operations of one window, counted on tensors without values."""
    network = build(architecture).eval()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    counter = FlopCounterMode(display=False, custom_mapping=COUNTED)
    with torch.inference_mode(), fake, counter:
        network(torch.zeros(WINDOW))
    total: int = counter.get_total_flops()
    return total


def measured() -> dict[str, dict[str, float]]:
    """Parameters and GFLOP by name, at an enlargement of 2 and for a mean alone."""
    found: dict[str, dict[str, float]] = {}
    for name in PRESETS:
        made = preset(name, bayesian=False)
        found[name] = {"parameters": size(made), "gflop": round(operations(made) / 1e9, 1)}
    return found


def markdown(found: dict[str, dict[str, float]]) -> str:
    """The table of the docs."""
    rows = [f"| `{n}` | {r['parameters']:,} | {r['gflop']:,.1f} |" for n, r in found.items()]
    return "\n".join(("| `--preset` | parameters | GFLOP |", "| --- | --- | --- |", *rows))


def main() -> int:
    """Print the table, or compare it with the one in the docs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument("--check", action="store_true", help=f"compare with {PAGE.name}")
    asked = parser.parse_args()
    found = measured()
    if asked.check:
        shown = _TABLE.search(PAGE.read_text(encoding="utf-8"))
        same = shown is not None and shown[1].strip() == markdown(found)
        print(f"{PAGE.name}: the table is {'' if same else 'not '}the generated one")
        return 0 if same else 1
    print(json.dumps(found, indent=1) if asked.json else markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
