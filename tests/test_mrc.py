"""MRC headers of both dialects, against two published packages and hand-made bytes."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import mrc
import mrcfile
import numpy as np
import pytest

from tisr_scope.errors import DataError
from tisr_scope.formats.mrc import open_mrc, read_mrc, write_mrc
from tisr_scope.formats.mrc_header import header_bytes, read_header

MODES = {0: "u1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}


def frames(kind: str, shape: tuple[int, int, int] = (6, 10, 14)) -> np.ndarray:
    rng = np.random.default_rng(5)
    if kind == "c8":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    if kind.startswith("f"):
        return rng.normal(size=shape).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, endpoint=True).astype(kind)


def bare_header(order: str, sizes: tuple[int, int, int], mode: int) -> bytearray:
    """Columns, rows, sections, mode: what both dialects have in common."""
    head = bytearray(1024)
    struct.pack_into(f"{order}4i", head, 0, *sizes, mode)
    return head


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("order", ["<", ">"])
def test_priism_modes_in_both_byte_orders(tmp_path: Path, mode: int, order: str) -> None:
    data = frames(MODES[mode])
    head = bare_header(order, (14, 10, 6), mode)
    struct.pack_into(f"{order}3i", head, 28, 1, 1, 1)
    struct.pack_into(f"{order}3f", head, 40, 0.08, 0.08, 0.125)
    struct.pack_into(f"{order}h", head, 96, -16224)
    path = tmp_path / "a.mrc"
    path.write_bytes(bytes(head) + data.astype(np.dtype(MODES[mode]).newbyteorder(order)).tobytes())
    read, pixel = read_mrc(path)
    np.testing.assert_array_equal(read, data)
    assert read.dtype == np.dtype(MODES[mode])
    assert pixel == pytest.approx(0.08)
    assert read_header(path).section_um == pytest.approx(0.125)
    assert read_header(path).mode == mode


@pytest.mark.parametrize("kind", ["i1", "i2", "u2", "f4", "f2", "c8"])
def test_reads_what_mrcfile_writes(tmp_path: Path, kind: str) -> None:
    data = frames(kind)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(data)
        file.voxel_size = 626.0  # Angstrom, as electron microscopy counts
    read, header = open_mrc(tmp_path / "a.mrc")
    np.testing.assert_array_equal(read, data)
    assert header.dialect == "regular"
    assert header.pixel_um == pytest.approx(0.0626)


@pytest.mark.parametrize("kind", ["i1", "i2", "u2", "f4", "f2", "c8"])
def test_mrcfile_reads_what_is_written(tmp_path: Path, kind: str) -> None:
    data = frames(kind)
    path = tmp_path / "a.mrc"
    write_mrc(path, iter(data[:, None]), data.shape, kind, 0.0626, dialect="regular", label="hello")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kind == "c8" or mrcfile.validate(path)  # it takes means of complex pixels as real
        with mrcfile.open(path) as file:
            np.testing.assert_array_equal(file.data, data)
            assert file.voxel_size.x == pytest.approx(626.0)
            assert file.get_labels() == ["hello"]


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "f4", "c8"])
def test_the_deltavision_package_reads_what_is_written(tmp_path: Path, kind: str) -> None:
    data = frames(kind)
    path = tmp_path / "a.mrc"
    write_mrc(
        path, [data[:2], data[2:]], data.shape, kind, 0.0626, time_points=3, wavelength_nm=525.4
    )
    with mrc.DVFile(path) as file:
        assert dict(file.sizes) == {"C": 1, "T": 3, "Z": 2, "Y": 10, "X": 14}
        np.testing.assert_array_equal(file.asarray(squeeze=False).reshape(data.shape), data)
        assert np.float32(file.voxel_size.x) == np.float32(0.0626)
        assert file.hdr.wave1 == 525
        if kind != "c8":
            assert file.hdr.max == pytest.approx(float(data.max()))
            assert file.hdr.mean == pytest.approx(data.mean(dtype=float), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "f4"])
def test_mrcfile_reads_the_published_dialect_in_permissive_mode(tmp_path: Path, kind: str) -> None:
    """As everybody reads the published files: no map identifier, no machine stamp."""
    data = frames(kind)
    path = tmp_path / "a.mrc"
    write_mrc(path, [data], data.shape, kind, 0.0626, time_points=3, wavelength_nm=525)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as file:
            read = np.array(file.data)
    np.testing.assert_array_equal(read.view(kind) if kind == "u1" else read, data)


def test_extended_header_is_skipped(tmp_path: Path) -> None:
    data = frames("u2")
    head = bare_header("<", (14, 10, 6), 6)
    struct.pack_into("<i", head, 92, 512)
    path = tmp_path / "a.mrc"
    path.write_bytes(bytes(head) + b"\xff" * 512 + data.tobytes())
    np.testing.assert_array_equal(read_mrc(path)[0], data)


@pytest.mark.parametrize(("flags", "signed"), [(0, False), (1, True)])
def test_imod_says_whether_its_bytes_are_signed(tmp_path: Path, flags: int, signed: bool) -> None:
    data = frames("u1")
    head = bare_header("<", (14, 10, 6), 0)
    head[208:216] = b"MAP DD\0\0"
    struct.pack_into("<2i", head, 152, 1146047817, flags)
    (tmp_path / "a.mrc").write_bytes(bytes(head) + data.tobytes())
    read, _ = read_mrc(tmp_path / "a.mrc")
    np.testing.assert_array_equal(read, data.view("i1") if signed else data)


def test_pixels_stay_on_disk(tmp_path: Path) -> None:
    """A sparse file larger than this machine's memory opens at once."""
    path = tmp_path / "big.mrc"
    head = bare_header("<", (2048, 2048, 9 * 2000), 6)
    path.write_bytes(bytes(head))
    with path.open("r+b") as file:
        file.truncate(1024 + 2048 * 2048 * 9 * 2000 * 2)
    data, header = open_mrc(path)
    assert header.shape == (18000, 2048, 2048)
    assert data[-1].max() == 0


def test_damaged_files_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    data = frames("u2")
    write_mrc(path, [data], data.shape, "u2", 0.06)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=f"truncated: {len(whole) - 1} bytes, {len(whole)}"):
        read_header(path)
    path.write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(DataError, match="no sense"):
        read_header(path)
    path.write_bytes(bytes(bare_header("<", (4, 4, 4), 3)) + bytes(1000))
    with pytest.raises(DataError, match="pixel type 3"):
        read_header(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    data = frames("u2")
    write_mrc(path, [data], data.shape, "u2", 0.06)
    before = path.read_bytes()
    with pytest.raises(DataError, match="4 sections came for 6"):
        write_mrc(path, [data[:4]], data.shape, "u2", 0.06)
    with pytest.raises(DataError, match="do not fit"):
        write_mrc(path, [data.astype("f4")], data.shape, "u2", 0.06)
    with pytest.raises(DataError, match="no place"):
        write_mrc(path, [data], data.shape, "i4", 0.06)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mrc"]


def test_real_header(real_data: Path) -> None:
    header = read_header(real_data / "gi_sim_microtubules_raw.mrc")
    assert (header.dialect, header.shape, header.mode) == ("priism", (9, 256, 256), 6)
    assert header.pixel_um == pytest.approx(0.0626)
    assert header.wavelengths_nm == (525,)
    read, _ = open_mrc(real_data / "gi_sim_microtubules_raw.mrc")
    np.testing.assert_array_equal(read, mrc.imread(real_data / "gi_sim_microtubules_raw.mrc"))


def test_a_kept_header_must_belong_to_the_sections(tmp_path: Path) -> None:
    data = frames("u2")
    write_mrc(tmp_path / "a.mrc", [data], data.shape, "u2", 0.06, label="mine")
    head = header_bytes(tmp_path / "a.mrc")
    write_mrc(tmp_path / "b.mrc", [data], data.shape, "u2", 1.0, header=head)
    assert (tmp_path / "b.mrc").read_bytes() == (tmp_path / "a.mrc").read_bytes()
    with pytest.raises(DataError, match="other sections"):
        write_mrc(tmp_path / "c.mrc", [data[:2]], (2, 10, 14), "u2", 1.0, header=head)
    assert not (tmp_path / "c.mrc").exists()
