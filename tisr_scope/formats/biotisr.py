"""Published layouts of raw SIM data: BioTISR (Zenodo 13843670, 13994464) and BioSR (figshare).

One region is a folder ``Cell_NNN``; the folder above it names the structure::

    BioTISR_<structure>/Cell_NNN/
        RawSIMData_level_01.mrc ...   raw frames at rising light; phase fastest, then orientation,
                                      then time, all folded into z
        SIM_gt.mrc                    SIM image of the highest level, x2 (x3: nonlinear SIM)

BioSR adds ``RawSIMData_gt.mrc``, the raw frames of the target, as a level above the others, and
may have further targets ``SIM_gt_a.mrc``.  Its ER regions keep ``RawSIMData/``, ``RawGTSIMData/``
and ``GTSIM/`` with a target of its own for every level, so each level is a region here.  Folders of
pairs, as :mod:`tisr_scope.exchange.export` writes them, hold ``WF_level_NN.mrc`` and no raw frames.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.formats.mrc import read_mrc

__all__ = ["BioTisrCell", "biotisr_cells", "fold_raw", "read_mrc"]


def fold_raw(
    stack: Num[np.ndarray, "frame y x"], orientations: int, phases: int, where: str = "stack"
) -> Num[np.ndarray, "time orientation phase y x"]:
    """Split the folded axis of a raw SIM stack, phase fastest, then orientation, then time.

    Raises
    ------
    DataError
        If the number of frames is no multiple of orientations x phases.
    """
    per_point = orientations * phases
    if stack.ndim != 3 or per_point < 1 or stack.shape[0] == 0 or stack.shape[0] % per_point:
        raise DataError(
            f"{stack.shape[0] if stack.ndim == 3 else stack.shape} frames are no multiple of "
            f"{orientations} orientations x {phases} phases",
            where=where,
            remedy="state the right numbers of orientations and phases, or complete the stack",
        )
    return stack.reshape(-1, orientations, phases, *stack.shape[1:])


@dataclass(frozen=True)
class BioTisrCell:
    """One region of the published data set.

    Attributes
    ----------
    folder : Path
        ``.../BioTISR_<structure>/Cell_NNN``.
    structure : str
        Name of the specimen from the folder's parent.
    levels : tuple of Path
        Raw SIM stacks, lowest light first, without gaps; the raw frames of the target last.
    target : Path or None
        Published SIM reconstruction.
    widefield : tuple of Path
        Wide-field series where there are no raw stacks, lowest light first.
    more_targets : tuple of Path
        ``SIM_gt_a.mrc`` and the like.
    part : str
        ``"level_NN"`` where each level is a region of its own, else empty.
    """

    folder: Path
    structure: str
    levels: tuple[Path, ...]
    target: Path | None
    widefield: tuple[Path, ...] = ()
    more_targets: tuple[Path, ...] = ()
    part: str = ""

    @property
    def name(self) -> str:
        """Structure, cell and part: a name for a recording or pair."""
        raw = "_".join(part for part in (self.structure, self.folder.name, self.part) if part)
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", raw)

    @property
    def number(self) -> int:
        """The NNN of ``Cell_NNN``."""
        return int(self.folder.name.rpartition("_")[2])


def biotisr_cells(root: Path) -> list[BioTisrCell]:
    """Regions below a folder of one structure, or below the folder that holds several.

    They come by structure and then by number, so that Cell_2 stands before Cell_10.

    Raises
    ------
    DataError
        If there is none, or the light levels of a region have a gap.
    """
    root = Path(root)
    candidates = [root, *root.rglob("Cell_*")]
    folders = [f for f in candidates if re.fullmatch(r"Cell_\d+", f.name) and f.is_dir()]
    cells = [cell for folder in folders for cell in _cells_of(folder)]
    if not cells:
        raise DataError(
            "no folder Cell_NNN with RawSIMData_level_NN.mrc",
            where=str(root),
            remedy="give the folder BioTISR_<structure> as it is in the published archive",
        )
    return sorted(
        cells, key=lambda cell: (cell.structure, cell.number, str(cell.folder), cell.part)
    )


# ------------------------------------------------------------------------------------- inside


def _cells_of(folder: Path) -> list[BioTisrCell]:
    structure = folder.absolute().parent.name.removeprefix("BioTISR_")
    raw = _numbered(folder, "RawSIMData_level")
    widefield = {} if raw else _numbered(folder, "WF_level")
    if raw or widefield:
        raw_target, target = folder / "RawSIMData_gt.mrc", folder / "SIM_gt.mrc"
        levels = list(raw.values()) + ([raw_target] if raw and raw_target.is_file() else [])
        return [
            BioTisrCell(
                folder,
                structure,
                tuple(levels),
                target if target.is_file() else None,
                tuple(widefield.values()),
                tuple(sorted(folder.glob("SIM_gt_*.mrc"))),
            )
        ]
    raw = _numbered(folder / "RawSIMData", "RawSIMData_level")
    tops = _numbered(folder / "RawGTSIMData", "RawGTSIMData_level")
    targets = _numbered(folder / "GTSIM", "GTSIM_level")
    return [
        BioTisrCell(
            folder,
            structure,
            (file, tops[number]) if number in tops else (file,),
            targets.get(number),
            part=f"level_{number:02d}",
        )
        for number, file in raw.items()
    ]


def _numbered(folder: Path, stem: str) -> dict[int, Path]:
    """Files ``<stem>_NN.mrc`` by number, which must run from 1 without a gap."""
    found = {
        int(match.group(1)): file
        for file in folder.glob(f"{stem}_*.mrc")
        if (match := re.fullmatch(rf"{stem}_(\d+)\.mrc", file.name))
    }
    if sorted(found) != list(range(1, len(found) + 1)):
        raise DataError(
            f"light levels {sorted(found)} have a gap",
            where=str(folder),
            remedy=f"download the missing {stem}_NN.mrc",
        )
    return {number: found[number] for number in sorted(found)}
