"""Finding regions to import: published folders, single stacks, folders of stacks."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

from tisr_scope.errors import DataError
from tisr_scope.formats.biotisr import BioTisrCell, biotisr_cells
from tisr_scope.formats.reader import SUFFIXES, natural


def find_regions(
    source: Path, *, structure: str | None = None, cells: Sequence[int] = ()
) -> list[BioTisrCell]:
    """Regions in a published folder, or raw stacks: one file, or each file of a folder.

    Parameters
    ----------
    source : Path
        File or folder.
    structure : str, optional
        Only structures of this name; ``*`` and ``?`` stand for anything, case does not matter.
    cells : sequence of int, optional
        Only these numbers.

    Raises
    ------
    DataError
        If nothing is found, or two regions have one name.
    """
    source = Path(source)
    if source.is_file():
        return [_single(source)]
    if not source.is_dir():
        raise DataError("there is no such file or folder", where=str(source))
    plain = sorted(
        (f for f in source.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file()),
        key=lambda f: natural(f.name),
    )
    published = re.match(r"(RawSIMData|WF_level|SIM_gt)", plain[0].name) if plain else True
    found = biotisr_cells(source) if published else [_single(file) for file in plain]
    kept = [
        cell
        for cell in found
        if (structure is None or fnmatch.fnmatch(cell.structure.lower(), structure.lower()))
        and (not cells or (re.search(r"\d+$", cell.folder.name) and cell.number in cells))
    ]
    if not kept:
        names = sorted({cell.structure for cell in found})
        raise DataError(
            f"none of the {len(found)} regions is chosen",
            where=str(source),
            remedy=f"there are {', '.join(names)}; look with --list",
        )
    names = [cell.name for cell in kept]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(
            f"several regions are named {', '.join(doubled)}",
            where=str(source),
            remedy="import their folders one by one into different folders",
        )
    return kept


# ------------------------------------------------------------------------------------- inside


def _single(file: Path) -> BioTisrCell:
    """A raw stack of its own."""
    return BioTisrCell(file.parent / file.name.split(".")[0], "", (file,), None)
