"""Published MRC layout, written here with other code than it is read with."""

from __future__ import annotations

import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tisr_scope.errors import DataError
from tisr_scope.formats.biotisr import biotisr_cells, fold_raw, read_mrc


def write_priism(path: Path, data: np.ndarray, pixel: float) -> None:
    """Bare header of microscope software: sizes, mode 6, pixel size, nothing of MRC2014."""
    sections, rows, columns = data.shape
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, columns, rows, sections, 6)
    struct.pack_into("<3i", header, 28, 1, 1, 1)
    struct.pack_into("<3f", header, 40, pixel, pixel, 0.16)
    struct.pack_into("<3i", header, 64, 1, 2, 3)
    path.write_bytes(bytes(header) + data.astype("<u2").tobytes())


def test_priism_header(tmp_path: Path) -> None:
    data = np.arange(4 * 6 * 5, dtype=np.uint16).reshape(4, 6, 5)
    write_priism(tmp_path / "raw.mrc", data, 0.0626)
    read, pixel = read_mrc(tmp_path / "raw.mrc")
    np.testing.assert_array_equal(read, data)
    assert pixel == pytest.approx(0.0626)


def test_regular_header(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(data)
        file.voxel_size = 0.5
    read, pixel = read_mrc(tmp_path / "a.mrc")
    np.testing.assert_array_equal(read, data)
    assert pixel == pytest.approx(0.5)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_mrc(tmp_path / "none.mrc")
    (tmp_path / "short.mrc").write_bytes(b"not an image")
    with pytest.raises(DataError):
        read_mrc(tmp_path / "short.mrc")
    data = np.zeros((9, 32, 32), np.uint16)
    write_priism(tmp_path / "cut.mrc", data, 0.06)
    whole = (tmp_path / "cut.mrc").read_bytes()
    (tmp_path / "cut.mrc").write_bytes(whole[:5000])
    with pytest.raises(DataError):
        read_mrc(tmp_path / "cut.mrc")


def test_phase_runs_fastest_then_orientation_then_time() -> None:
    stack = np.arange(18)[:, None, None] * np.ones((1, 4, 4))
    folded = fold_raw(stack, 3, 3)
    assert folded.shape == (2, 3, 3, 4, 4)
    assert folded[0, 0, 1, 0, 0] == 1
    assert folded[0, 1, 0, 0, 0] == 3
    assert folded[1, 0, 0, 0, 0] == 9
    with pytest.raises(DataError, match="no multiple"):
        fold_raw(stack, 5, 5)


def test_cells_with_levels_in_order_and_without_gaps(tmp_path: Path) -> None:
    frames = np.zeros((9, 8, 8), np.uint16)
    cell = tmp_path / "BioTISR_Lysosome" / "Cell_002"
    cell.mkdir(parents=True)
    for name in ("RawSIMData_level_02.mrc", "RawSIMData_level_01.mrc", "SIM_gt.mrc"):
        write_priism(cell / name, frames, 0.0626)
    (found,) = biotisr_cells(tmp_path)
    assert found.structure == "Lysosome"
    assert [p.name[-6:-4] for p in found.levels] == ["01", "02"]
    assert found.target == cell / "SIM_gt.mrc"
    (cell / "RawSIMData_level_01.mrc").unlink()
    with pytest.raises(DataError, match="gap"):
        biotisr_cells(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        biotisr_cells(tmp_path / "BioTISR_Lysosome" / "elsewhere")
