"""Raw stacks of other software, their axes named by the user or by the file."""

from __future__ import annotations

import struct
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tisr_scope.errors import DataError
from tisr_scope.formats.deltavision import read_deltavision
from tisr_scope.formats.raw_stack import read_raw_stack
from tisr_scope.formats.stack_axes import fold, parse_axes, unfold

SIZES = {"T": 2, "C": 3, "Z": 4, "O": 5, "P": 6}


def labelled(axes: str) -> np.ndarray:
    """Frames of 8 x 9 pixels whose value tells their place: digits in the order T C Z O P."""
    shape = [SIZES[axis] for axis in axes]
    index = dict(zip(axes, np.indices(shape), strict=True))
    value = sum(index[a] * 10**n for n, a in enumerate("POZCT") if a in index)
    return np.broadcast_to(value[..., None, None], (*shape, 8, 9)).astype(np.uint16)


@pytest.mark.parametrize("axes", ["".join(p) for p in permutations("TCZOP")][::7])
def test_every_order_is_unfolded(axes: str) -> None:
    data = labelled(axes)
    for folded in (data, data.reshape(-1, 8, 9), data.reshape(data.shape[0], -1, 8, 9)):
        np.testing.assert_array_equal(unfold(folded, axes + "YX", SIZES), labelled("TCZOP"))
    # And back, frame by frame.
    np.testing.assert_array_equal(fold(labelled("TCZOP"), axes + "YX"), data.reshape(-1, 8, 9))


def test_axes_that_are_absent_have_length_one() -> None:
    data = labelled("POT")
    unfolded = unfold(data, "P O T Y X", {"P": 6, "O": 5})
    assert unfolded.shape == (2, 1, 1, 5, 6, 8, 9)
    np.testing.assert_array_equal(unfolded[:, 0, 0], labelled("TOP"))


def test_axes_as_people_write_them() -> None:
    assert parse_axes("TOPYX") == parse_axes("t o p y x") == parse_axes("T (O P) Y X") == "TOP"
    for wrong in ("TOPXY", "TOP", "YX", "QOPYX", ""):
        with pytest.raises(DataError, match="no order of axes"):
            parse_axes(wrong)
    with pytest.raises(DataError, match="twice"):
        parse_axes("TOOYX")


def test_an_axis_without_a_name_is_not_folded_away() -> None:
    with pytest.raises(DataError, match="sections have no place in the axes 'TCOPYX'"):
        fold(labelled("TCZOP"), "TCOPYX")


def test_sizes_that_do_not_fit_are_named() -> None:
    data = np.zeros((250, 8, 9), np.uint16)
    with pytest.raises(DataError, match="250 frames are no multiple of 3 orientations x 3 phases"):
        unfold(data, "TOPYX", {"O": 3, "P": 3})
    with pytest.raises(DataError, match="cannot both follow"):
        unfold(data, "TZOPYX", {"O": 5, "P": 5})
    with pytest.raises(DataError, match="250 frames are not"):
        unfold(data, "TOPYX", {"T": 9, "O": 5, "P": 5})
    with pytest.raises(DataError, match="no Z"):
        unfold(data, "TOPYX", {"O": 5, "P": 5, "Z": 2})


def test_imagej_stack(tmp_path: Path) -> None:
    data = labelled("TOP")
    tifffile.imwrite(
        tmp_path / "a.tif",
        data.reshape(2, 30, 8, 9),
        imagej=True,
        resolution=(1 / 0.0626, 1 / 0.0626),
        metadata={"unit": "um", "axes": "TZYX", "finterval": 0.25},
    )
    stack = read_raw_stack(tmp_path / "a.tif", orientations=5, phases=6)
    np.testing.assert_array_equal(stack.frames[:, 0, 0], data)
    assert isinstance(stack.frames, np.memmap)
    assert stack.pixel_um == pytest.approx(0.0626, rel=1e-5)
    assert stack.interval_s == pytest.approx(0.25)


def test_compressed_pages_of_a_plain_tiff(tmp_path: Path) -> None:
    data = labelled("TPO")
    tifffile.imwrite(
        tmp_path / "a.tif", data.reshape(-1, 8, 9), compression="zlib", photometric="minisblack"
    )
    stack = read_raw_stack(tmp_path / "a.tif", "T P O Y X", orientations=5, phases=6)
    np.testing.assert_array_equal(stack.frames[:, 0, 0], labelled("TOP"))
    assert stack.pixel_um is None


def test_ome_tiff_that_names_angle_and_phase(tmp_path: Path) -> None:
    data = labelled("TPO")
    metadata = {
        "axes": "TPAYX",
        "PhysicalSizeX": 62.6,
        "PhysicalSizeXUnit": "nm",
        "TimeIncrement": 500.0,
        "TimeIncrementUnit": "ms",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", data, photometric="minisblack", metadata=metadata)
    stack = read_raw_stack(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(stack.frames[:, 0, 0], labelled("TOP"))
    assert stack.pixel_um == pytest.approx(0.0626)
    assert stack.interval_s == pytest.approx(0.5)


def test_files_that_are_no_stack(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no raw stack"):
        read_raw_stack(tmp_path / "a.mrc")
    (tmp_path / "a.tif").write_bytes(b"II*\0broken")
    with pytest.raises(DataError, match="not a readable TIFF"):
        read_raw_stack(tmp_path / "a.tif")
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(np.zeros((9, 8, 8), np.uint16), photometric="minisblack")
        file.write(np.zeros((9, 16, 16), np.uint16), photometric="minisblack")
    with pytest.raises(DataError, match="2 series"):
        read_raw_stack(tmp_path / "b.tif")


@pytest.mark.parametrize("kind", ["tif", "mrc", "dv"])
def test_truncated_files_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    data = labelled("TOP").reshape(-1, 8, 9)
    if kind == "tif":
        tifffile.imwrite(path, data, photometric="minisblack")
    else:
        write_dv(path, data, 2, (2, 1))
    whole = path.read_bytes()
    for lost in (50, 6000):
        path.write_bytes(whole[:-lost])
        with pytest.raises(DataError, match="not a readable") as told:
            read_raw_stack(path, orientations=5, phases=6)
        assert told.value.where == str(path)


SEQUENCES = {0: "CTZ", 1: "TZC", 2: "TCZ"}


def write_dv(
    path: Path, data: np.ndarray, sequence: int, counts: tuple[int, int], extended: bool = False
) -> None:
    """DeltaVision file by its documented byte offsets; frames in file order, (section, y, x)."""
    sections, rows, columns = data.shape
    head = bytearray(1024)
    struct.pack_into("<4i", head, 0, columns, rows, sections, 6)
    struct.pack_into("<3i", head, 28, 1, 1, 1)
    struct.pack_into("<3f", head, 40, 0.08, 0.08, 0.125)
    struct.pack_into("<h", head, 96, -16224)
    struct.pack_into("<2h", head, 180, counts[0], sequence)
    struct.pack_into("<h", head, 196, counts[1])
    struct.pack_into("<5h", head, 198, 528, 608, 683, 0, 0)
    blocks = b""
    if extended:
        struct.pack_into("<i", head, 92, sections * 4 * (8 + 32))
        struct.pack_into("<2h", head, 128, 8, 32)
        for n in range(sections):
            floats = [0.0] * 32
            floats[1], floats[8] = 10.0 + 0.5 * n, 0.005
            blocks += struct.pack("<8i32f", *[0] * 8, *floats)
    path.write_bytes(bytes(head) + blocks + data.astype("<u2").tobytes())


@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_deltavision_axes_come_from_the_header(tmp_path: Path, sequence: int) -> None:
    """OMX folds phase, then z, then orientation into the z axis of the file."""
    order = SEQUENCES[sequence].replace("Z", "OZP")
    data = labelled(order).reshape(-1, 8, 9)
    write_dv(tmp_path / "a.dv", data, sequence, (SIZES["T"], SIZES["C"]))
    stack = read_raw_stack(tmp_path / "a.dv", orientations=5, phases=6)
    np.testing.assert_array_equal(stack.frames, labelled("TCZOP"))
    assert stack.wavelengths_nm == (528, 608, 683)
    assert (stack.pixel_um, stack.section_um) == pytest.approx((0.08, 0.125))


def test_deltavision_axes_may_be_overruled(tmp_path: Path) -> None:
    write_dv(tmp_path / "a.r3d", labelled("TZOP").reshape(-1, 8, 9), 0, (2, 1))
    stack = read_raw_stack(tmp_path / "a.r3d", "TZOPYX", orientations=5, phases=6, sections=4)
    np.testing.assert_array_equal(stack.frames[:, 0], labelled("TZOP"))


def test_deltavision_times(tmp_path: Path) -> None:
    write_dv(tmp_path / "a.dv", labelled("TOP").reshape(-1, 8, 9), 2, (2, 1), extended=True)
    stack = read_deltavision(tmp_path / "a.dv")
    assert stack.interval_s == pytest.approx(0.5 * 30)
    assert stack.exposure_ms == pytest.approx(5.0)
    np.testing.assert_array_equal(stack.frames.reshape(2, 5, 6, 8, 9), labelled("TOP"))


def test_stopped_or_foreign_deltavision_files(tmp_path: Path) -> None:
    write_dv(tmp_path / "a.dv", labelled("TOP").reshape(-1, 8, 9)[:-1], 0, (2, 1))
    with pytest.raises(DataError, match="59 sections"):
        read_deltavision(tmp_path / "a.dv")
    content = bytearray((tmp_path / "a.dv").read_bytes())
    content[96:98] = b"\0\0"
    (tmp_path / "a.dv").write_bytes(content)
    with pytest.raises(DataError, match="not a readable DeltaVision"):
        read_deltavision(tmp_path / "a.dv")
