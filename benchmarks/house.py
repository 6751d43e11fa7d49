"""The structure of the package in numbers: arrows against the flow, cycles, lines, import times.

    python -m benchmarks.house

prints JSON.  The order of the packages is that of the layers contract in ``pyproject.toml``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "tisr_scope"


def layers() -> dict[str, int]:
    """Height of each package, the top one highest."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    (flow,) = (contract for contract in contracts if contract["type"] == "layers")
    rows = [[name.strip() for name in row.split("|")] for row in flow["layers"]]
    return {name: len(rows) - n for n, row in enumerate(rows) for name in row}


def arrows() -> dict[str, set[str]]:
    """Which packages (or modules at the top level) each of them imports."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: dict[str, set[str]] = defaultdict(set)
    for module in graph.modules:
        for target in graph.find_modules_directly_imported_by(module):
            a, b = (".".join(name.split(".")[:2]) for name in (module, target))
            if a != b and PACKAGE not in (a, b):
                found[a].add(b)
    return dict(found)


def cycles(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Pairs of packages that reach each other."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in graph.get(waiting.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return seen

    reached = {name: reach(name) for name in graph}
    return sorted(
        (a, b) for a in graph for b in graph if a < b and b in reached[a] and a in reached[b]
    )


def seconds(*command: str) -> float:
    """Shortest of three runs of a command."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return round(min(times), 3)


def main() -> None:
    height, graph = layers(), arrows()
    up = sorted(
        f"{a} -> {b}"
        for a, targets in graph.items()
        for b in targets
        if a in height and b in height and height[b] >= height[a]
    )
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    names = defaultdict(list)
    for path in files:
        if path.name != "__init__.py":
            names[path.name].append(str(path.relative_to(ROOT)))
    print(
        json.dumps(
            {
                "packages": len(graph),
                "arrows_up": up,
                "cycles": cycles(graph),
                "outside_the_layers": sorted(set(graph) - set(height) - {f"{PACKAGE}.__main__"}),
                "files": len(files),
                "lines": sum(counts.values()),
                "over_400_lines": sorted(
                    str(p.relative_to(ROOT)) for p, n in counts.items() if n > 400
                ),
                "names_used_twice": {n: p for n, p in names.items() if len(p) > 1},
                "import_s": round(seconds("-c", "import tisr_scope") - seconds("-c", ""), 3),
                "help_s": seconds("-m", "tisr_scope", "--help"),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
