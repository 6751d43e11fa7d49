"""Recordings as OME-TIFF hyperstacks, read back by readers that know nothing of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ome_types
import pytest
import tifffile
from bench import bench_profile, channel
from typer.testing import CliRunner

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.cli import app
from tisr_scope.recording.recording import Recording


def test_a_hyperstack_says_what_every_plane_is(tmp_path: Path) -> None:
    profile = bench_profile(
        tmp_path,
        channels=[channel("green", "LaserA"), channel("red", "LaserB", emission_nm=607)],
        positions=[{"x_um": 0, "y_um": 0}, {"x_um": 9, "y_um": 1}],
    )
    acquire(profile, tmp_path / "rec", "paired")
    recording = Recording.open(tmp_path / "rec")
    told = CliRunner().invoke(app, ["export", str(recording.path), str(tmp_path), "--hyperstack"])
    assert told.exit_code == 0, told.output
    for position in range(2):
        path = tmp_path / f"rec_p{position}_raw.ome.tif"
        pixels = ome_types.from_tiff(path).images[0].pixels
        assert (pixels.size_t, pixels.size_c, pixels.size_z) == (2, 6, 6)
        assert pixels.time_increment == pytest.approx(recording.interval_s(0, position))
        assert [c.name for c in pixels.channels][::3] == ["green 1 mW", "red 1 mW"]
        assert [c.emission_wavelength for c in pixels.channels][::3] == [525, 607]
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            assert series.axes == "TCZPYX"  # orientation on Z, phase declared
            assert series.shape == (2, 6, 2, 3, 16, 24)
            stored = series.asarray()
        times = {(p.the_t, p.the_c, p.the_z): p.delta_t for p in pixels.planes}
        for entry in recording.journal:
            if entry.position != position:
                continue
            c = entry.channel * 3 + entry.level
            frame = recording.frames(entry.t, entry.channel, position)[
                entry.orientation, entry.phase, entry.level
            ]
            assert np.array_equal(stored[entry.t, c, entry.orientation, entry.phase], frame)
            at = times[entry.t, c, entry.orientation * 3 + entry.phase]
            assert at == pytest.approx(entry.time_s, abs=1e-4)
