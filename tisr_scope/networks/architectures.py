"""The table of architectures as it is shipped, so that it is shown without building a network.

``python -m tisr_scope.networks.architecture_table`` writes it; a test holds the two together.
"""

from __future__ import annotations

import json
from pathlib import Path

LISTED = Path(__file__).with_name("architectures.json")


def listed() -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table."""
    content = json.loads(LISTED.read_text(encoding="utf-8"))
    return content["columns"], content["rows"]
