"""Raw stacks of other software, their axes named by the user or by the file."""

from __future__ import annotations

import struct
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tisr_scope.errors import DataError
from tisr_scope.formats.raw_stack import PatternLayout, RawStack, read_raw_stack
from tisr_scope.formats.reader import open_stack, time_series
from tisr_scope.formats.stack_axes import fold, parse_axes, unfold

SIZES = {"T": 2, "C": 3, "Z": 4, "O": 5, "P": 6}


def read(path: Path, axes: str | None = None, **layout: int) -> RawStack:
    return read_raw_stack(path, PatternLayout(5, 6, axes, **layout))


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
    stack = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(stack.frames[:, 0, 0], data)
    assert isinstance(stack.frames, np.memmap)
    assert stack.stack.pixel_size_um.value == pytest.approx((0.0626, 0.0626), rel=1e-5)
    assert stack.stack.interval_s.value == pytest.approx(0.25)


def test_compressed_pages_of_a_plain_tiff(tmp_path: Path) -> None:
    data = labelled("TPO")
    tifffile.imwrite(
        tmp_path / "a.tif", data.reshape(-1, 8, 9), compression="zlib", photometric="minisblack"
    )
    stack = read(tmp_path / "a.tif", "T P O Y X")
    np.testing.assert_array_equal(stack.frames[:, 0, 0], labelled("TOP"))
    assert stack.stack.pixel_size_um is None


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
    assert stack.stack.pixel_size_um.value == pytest.approx((0.0626, 0.0626))
    assert stack.stack.interval_s.value == pytest.approx(0.5)
    assert stack.source == "file"


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
            read(path)
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
    """OMX folds phase, then z, then orientation into the z axis; no header says so."""
    named = SEQUENCES[sequence].replace("Z", "OZP")
    data = labelled(named).reshape(-1, 8, 9)
    write_dv(tmp_path / "a.dv", data, sequence, (SIZES["T"], SIZES["C"]))
    with pytest.raises(DataError, match="120 sections, and not which of them are the 5") as told:
        read(tmp_path / "a.dv")
    assert "--axes TOZPYX" in told.value.remedy
    # Channels of the header are kept apart whatever is said of the rest.
    without = named.replace("C", "") + "YX"
    stack = read(tmp_path / "a.dv", without, sections=4)
    np.testing.assert_array_equal(stack.frames, labelled("TCZOP"))
    assert stack.stack.emission_nm.value == (528, 608, 683)
    assert stack.stack.section_um.value == pytest.approx(0.125)


def test_deltavision_axes_may_be_overruled(tmp_path: Path) -> None:
    write_dv(tmp_path / "a.r3d", labelled("TZOP").reshape(-1, 8, 9), 0, (2, 1))
    stack = read(tmp_path / "a.r3d", "TZOPYX", sections=4)
    np.testing.assert_array_equal(stack.frames[:, 0], labelled("TZOP"))
    assert stack.source == "user"


def test_deltavision_times(tmp_path: Path) -> None:
    write_dv(tmp_path / "a.dv", labelled("TOP").reshape(-1, 8, 9), 2, (2, 1), extended=True)
    stack = open_stack(tmp_path / "a.dv")
    assert stack.interval_s.value == pytest.approx(0.5 * 30)
    assert stack.exposure_ms.value == pytest.approx(5.0)
    np.testing.assert_array_equal(read(tmp_path / "a.dv").frames[:, 0, 0], labelled("TOP"))


def test_stopped_or_foreign_deltavision_files(tmp_path: Path) -> None:
    write_dv(tmp_path / "a.dv", labelled("TOP").reshape(-1, 8, 9)[:-1], 0, (2, 1))
    with pytest.raises(DataError, match="59 sections"):
        open_stack(tmp_path / "a.dv")
    content = bytearray((tmp_path / "a.dv").read_bytes())
    content[96:98] = b"\0\0"
    (tmp_path / "a.dv").write_bytes(content)
    with pytest.raises(DataError, match="not a readable DeltaVision"):
        open_stack(tmp_path / "a.dv")


# ---------------------------------------------------------- what names an axis, and what does not


def imagej(path: Path, data: np.ndarray, axes: str) -> Path:
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": axes})
    return path


def test_sections_are_never_time(tmp_path: Path) -> None:
    """Nine sections are the patterns of one image; eighteen may be two planes."""
    frames = np.arange(18 * 64, dtype=np.uint16).reshape(18, 8, 8)
    one = read_raw_stack(imagej(tmp_path / "9.tif", frames[:9], "ZYX"))
    np.testing.assert_array_equal(one.frames.reshape(9, 8, 8), frames[:9])
    assert (one.axes, one.source) == ("OPYX", "assumed")
    with pytest.raises(DataError, match="18 sections, and not which"):
        read_raw_stack(imagej(tmp_path / "18.tif", frames, "ZYX"))
    times = read_raw_stack(imagej(tmp_path / "t.tif", frames, "TYX"))
    assert times.frames.shape == (2, 1, 1, 3, 3, 8, 8)
    planes = read_raw_stack(imagej(tmp_path / "z.tif", frames.reshape(9, 2, 8, 8), "TZYX"))
    np.testing.assert_array_equal(
        planes.frames[0, 0, 1].reshape(9, 8, 8), frames.reshape(9, 2, 8, 8)[:, 1]
    )


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
def test_channels_are_never_time(tmp_path: Path, axes: str) -> None:
    frames = np.arange(18 * 64, dtype=np.uint16).reshape(9, 2, 8, 8)
    file = frames if axes == "ZCYX" else frames.swapaxes(0, 1)
    tifffile.imwrite(tmp_path / "a.ome.tif", file, metadata={"axes": axes}, ome=True)
    stack = read_raw_stack(tmp_path / "a.ome.tif")
    assert stack.frames.shape == (1, 2, 1, 3, 3, 8, 8)
    np.testing.assert_array_equal(stack.frames[0, 1, 0].reshape(9, 8, 8), frames[:, 1])
    # Also where the user names the rest.
    named = read_raw_stack(tmp_path / "a.ome.tif", PatternLayout(axes="TPOYX"))
    np.testing.assert_array_equal(named.frames, stack.frames.swapaxes(3, 4))
    with pytest.raises(DataError, match="2 channels") as told:
        open_stack(tmp_path / "a.ome.tif").one_channel(None)
    assert "--channel 1 to --channel 2" in told.value.remedy
    one, index = open_stack(tmp_path / "a.ome.tif").one_channel(2)
    np.testing.assert_array_equal(one.data, frames[:, 1])
    assert index == 1


def test_mosaics_are_taken_apart(tmp_path: Path) -> None:
    data = labelled("TOP")
    mosaic = data.transpose(0, 1, 3, 2, 4).reshape(2, 5 * 8, 6 * 9)
    tifffile.imwrite(tmp_path / "a.tif", mosaic, photometric="minisblack")
    stack = read(tmp_path / "a.tif", "TOYPX")
    np.testing.assert_array_equal(stack.frames[:, 0, 0], data)
    tifffile.imwrite(tmp_path / "one.tif", mosaic[0], photometric="minisblack")
    with pytest.raises(DataError, match="one frame is no SIM stack") as told:
        read(tmp_path / "one.tif")
    assert "OYPX" in told.value.remedy
    np.testing.assert_array_equal(read(tmp_path / "one.tif", "OYPX").frames[0, 0, 0], data[0])
    with pytest.raises(DataError, match="does not divide into 7 x 6 tiles"):
        read_raw_stack(tmp_path / "one.tif", PatternLayout(7, 6, "OYPX"))


def test_a_folder_of_single_frames(tmp_path: Path) -> None:
    data = labelled("OP").reshape(-1, 8, 9)
    for n, frame in enumerate(data):
        tifffile.imwrite(tmp_path / f"frame_{n}.tif", frame)
    np.testing.assert_array_equal(read(tmp_path).frames[0, 0, 0], labelled("OP"))
    tifffile.imwrite(tmp_path / "frame_7.tif", data[:2], photometric="minisblack")
    with pytest.raises(DataError, match=r"frame_7.tif holds 2 frames"):
        read(tmp_path)


def test_an_appended_wide_field_is_left_out_when_told(tmp_path: Path) -> None:
    data = labelled("TOP").reshape(2, 30, 8, 9)
    with_wide = np.concatenate([data, np.full((2, 1, 8, 9), 7, np.uint16)], axis=1)
    tifffile.imwrite(tmp_path / "a.tif", with_wide.reshape(-1, 8, 9), photometric="minisblack")
    with pytest.raises(DataError, match="62 frames are no multiple") as told:
        read(tmp_path / "a.tif")
    assert "--extra-frames 1" in told.value.remedy
    stack = read(tmp_path / "a.tif", extra_frames=1)
    np.testing.assert_array_equal(stack.frames[:, 0, 0], labelled("TOP"))


def test_what_ome_says_of_the_optics(tmp_path: Path) -> None:
    about = {
        "axes": "CTYX",
        "PhysicalSizeX": 0.08,
        "PhysicalSizeY": 0.09,
        "Channel": {
            "Name": ["green", "red"],
            "EmissionWavelength": [525, 610],
            "ExcitationWavelength": [488, 561],
        },
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 9, 8, 8), np.uint16), metadata=about)
    stack = open_stack(tmp_path / "a.ome.tif")
    assert stack.pixel_size_um.value == (0.09, 0.08)
    assert stack.emission_of(1).value == 610
    assert stack.excitation_of(0).value == 488
    assert stack.channels == ("green", "red")


def test_resolution_tags_are_a_pixel_only_where_they_can_be_one(tmp_path: Path) -> None:
    frames = np.zeros((9, 8, 8), np.uint16)
    for name, resolution, unit, pixel in (
        ("print", (72, 72), "INCH", None),
        ("sample", (1e4 / 0.065, 1e4 / 0.065), "CENTIMETER", 0.065),
    ):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(
            path, frames, photometric="minisblack", resolution=resolution, resolutionunit=unit
        )
        told = open_stack(path).pixel_size_um
        assert (told and told.value[1]) == (pixel and pytest.approx(pixel, rel=1e-4))


def test_colour_pictures_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match="colour images"):
        open_stack(tmp_path / "a.tif")


def test_a_time_lapse_is_time(tmp_path: Path) -> None:
    frames = np.arange(12 * 64, dtype=np.uint16).reshape(12, 8, 8)
    told, source = time_series(open_stack(imagej(tmp_path / "t.tif", frames, "TYX")))
    np.testing.assert_array_equal(told, frames)
    assert source == "file"
    planes = open_stack(imagej(tmp_path / "z.tif", frames, "ZYX"))
    with pytest.raises(DataError, match="12 sections"):
        time_series(planes)
    assert time_series(planes, "TYX")[1] == "user"
    tifffile.imwrite(tmp_path / "q.tif", frames, photometric="minisblack")
    assert time_series(open_stack(tmp_path / "q.tif"))[1] == "assumed"
