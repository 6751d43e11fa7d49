"""The table from the paper to the code, held against the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tisr_scope"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (ROOT / "docs/concepts.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| concept")
]
PLACES = sorted({place for row in ROWS for place in re.findall(r"`([^`]+::\w+)`", row[2])})


def numbers(text: str) -> set[int]:
    """Equations that a text cites: "eq. 25-27", "eq. 23, 29"."""
    found: set[int] = set()
    for cited in re.findall(r"eq\. ([\d, -]+)", text):
        for part in re.findall(r"(\d+)(?:-(\d+))?", cited):
            first, last = int(part[0]), int(part[1] or part[0])
            found |= set(range(first, last + 1))
    return found


@pytest.mark.parametrize("place", PLACES)
def test_every_named_place_exists(place: str) -> None:
    path, name = place.split("::")
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    defined = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert name in defined, f"docs/concepts.md names {place}"


def test_every_equation_cited_in_code_has_a_row() -> None:
    listed = {n for row in ROWS for n in numbers(row[1])}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = Path(path).read_text(encoding="utf-8")
        cited = {n for said in re.findall(r"Paper: ([^)\"]*)", text) for n in numbers(said)}
        assert cited <= listed, f"{path.relative_to(ROOT)} cites {sorted(cited - listed)}"


def test_the_equations_of_the_methods_are_covered() -> None:
    listed = {n for row in ROWS for n in numbers(row[1])}
    assert set(range(3, 46)) <= listed
