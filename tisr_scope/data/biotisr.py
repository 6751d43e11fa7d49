"""Published MRC layouts: raw SIM stacks in, with or without a regular header.

Microscope software of the Priism family writes MRC files without the map identifier and machine
stamp of the 2014 format; ``mrcfile`` reads them in its permissive mode.  In BioTISR, phases,
orientations and time points are folded into the z axis with the phase fastest, and one region is
a folder ``BioTISR_<structure>/Cell_NNN`` with ``RawSIMData_level_01.mrc`` ... and ``SIM_gt.mrc``.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError


def read_mrc(path: Path) -> tuple[Num[np.ndarray, "*axes"], float]:
    """Data of an MRC file and its pixel size.

    Returns
    -------
    data : array
        As stored, native byte order, not scaled.
    pixel : float
        Cell length over samples along x; micrometres in microscope files, 0 if not stated.

    Raises
    ------
    DataError
        If the file is missing, truncated or not MRC.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), remedy="check the path")
    try:
        with warnings.catch_warnings():
            # The permissive mode warns of each departure from the 2014 format; they are expected.
            warnings.simplefilter("ignore", RuntimeWarning)
            with mrcfile.open(path, permissive=True) as file:
                data = file.data
                header = file.header
                cell, columns = float(header.cella.x), int(header.mx) or int(header.nx)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"not a readable MRC file: {error}",
            where=str(path),
            remedy="copy the file again, or export it as MRC or TIFF",
        ) from error
    if data is None or data.size == 0:
        raise DataError(
            "the MRC file is truncated or of a mode that cannot be read",
            where=str(path),
            remedy="copy the file again, or export it as 16-bit MRC",
        )
    data = np.array(data, dtype=data.dtype.newbyteorder("="))
    columns = columns if columns > 0 else data.shape[-1]
    # Priism headers keep the pixel size itself where the 2014 format keeps the cell length.
    pixel = cell if cell < 1 else cell / columns
    return data, pixel


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
        Raw SIM stacks, lowest light first, without gaps.
    target : Path or None
        Published SIM reconstruction.
    """

    folder: Path
    structure: str
    levels: tuple[Path, ...]
    target: Path | None


def biotisr_cells(root: Path) -> list[BioTisrCell]:
    """Regions below a folder ``BioTISR_<structure>`` or below the folder that holds several.

    Raises
    ------
    DataError
        If there is none, or the light levels of a region have a gap.
    """
    root = Path(root)
    cells = []
    for folder in sorted(root.rglob("Cell_*")):
        numbered = {
            int(match.group(1)): file
            for file in folder.glob("RawSIMData_level_*.mrc")
            if (match := re.fullmatch(r"RawSIMData_level_(\d+)\.mrc", file.name))
        }
        if not numbered:
            continue
        if sorted(numbered) != list(range(1, len(numbered) + 1)):
            raise DataError(
                f"light levels {sorted(numbered)} have a gap",
                where=str(folder),
                remedy="download the missing RawSIMData_level_NN.mrc",
            )
        target = folder / "SIM_gt.mrc"
        cells.append(
            BioTisrCell(
                folder,
                folder.parent.name.removeprefix("BioTISR_"),
                tuple(numbered[n] for n in sorted(numbered)),
                target if target.is_file() else None,
            )
        )
    if not cells:
        raise DataError(
            "no folder Cell_NNN with RawSIMData_level_NN.mrc",
            where=str(root),
            remedy="give the folder BioTISR_<structure> as it is in the published archive",
        )
    return cells
