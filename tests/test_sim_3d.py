"""Focal series of three-beam SIM: optics in closed form, parameters and volumes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sim_truth_3d as truth
import tifffile
import torch
from sim_truth_3d import PIXEL_UM, SECTION_UM, Series, make_series
from typer.testing import CliRunner

from tisr_scope.cli import app
from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.optics.volume_psf import with_measured_psf
from tisr_scope.sim.parameters.volume_parameters import (
    VolumeParameters,
    estimate_volume,
    measured_optics,
)
from tisr_scope.sim.reconstruction import volume_wiener
from tisr_scope.sim.reconstruction.volume_wiener import plan_volume, reconstruct_volume
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings

OPTICS = VolumeOptics(
    truth.NA,
    1e3 * truth.EMISSION_UM,
    truth.INDEX,
    truth.EXCITATION_NA,
    1e3 * truth.EXCITATION_UM,
)


@pytest.fixture(scope="module")
def series() -> Series:
    return make_series(64, 16, seed=1)


@pytest.fixture(scope="module")
def frames(series: Series) -> np.ndarray:
    return series.frames(500, 0)


@pytest.fixture(scope="module")
def found(frames: np.ndarray) -> VolumeParameters:
    return estimate_volume(frames, OPTICS, PIXEL_UM, SECTION_UM)


def transfer(kr: float, kz: float, order: int = 0) -> float:
    place = (torch.tensor([value], dtype=torch.float64) for value in (kr, kz))
    return float(OPTICS.transfer(*place, order))


def known(series: Series) -> VolumeParameters:
    """Parameters as the series was made with."""
    orientations, phases = series.mean.shape[:2]
    nothing = np.zeros((orientations, 2))
    return VolumeParameters(
        carrier=series.carrier,
        carrier_se=nothing,
        phase_rad=series.phase[:, None] * [1, 2],
        phase_se_rad=nothing,
        modulation=nothing + series.modulation,
        modulation_se=nothing,
        steps_rad=2 * np.pi * np.arange(phases) / phases,
        gain=np.ones(orientations),
        quality=np.full(orientations, np.nan),
        pixel_size_um=PIXEL_UM,
        section_um=SECTION_UM,
    )


def test_cut_offs_have_their_closed_forms() -> None:
    n, na, wave = truth.INDEX, truth.NA, truth.EMISSION_UM
    axial = (n - math.sqrt(n * n - na * na)) / wave
    assert OPTICS.axial_cutoff == pytest.approx(axial)
    assert transfer(2 * na / wave * 1.001, 0) == 0
    assert transfer(2 * na / wave * 0.97, 0) > 0
    # The axial extent is widest where the pupil's rim faces its centre: half of the lateral one.
    assert transfer(na / wave, 0.97 * axial) > 0
    assert transfer(na / wave, 1.001 * axial) == 0
    assert OPTICS.extended_cutoff == pytest.approx(truth.extended_cutoffs()[0])
    assert OPTICS.extended_axial_cutoff == pytest.approx(truth.extended_cutoffs()[1])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_missing_cone_and_edge_follow_the_sphere(share: float) -> None:
    """At lateral frequency l the largest kz is that between q and q - l, q at the rim."""
    rim, sphere = truth.NA / truth.EMISSION_UM, truth.INDEX / truth.EMISSION_UM

    def edge(lateral: float) -> float:
        return math.sqrt(sphere**2 - (lateral - rim) ** 2) - math.sqrt(sphere**2 - rim**2)

    # To the samples of the table.
    row, step = OPTICS.cutoff / 96, OPTICS.axial_cutoff / 64
    lateral = share * 2 * rim
    near = [edge(lateral - row), edge(lateral + row)]
    assert transfer(lateral, max(near) + 1.5 * step) < 1e-5
    assert transfer(lateral, min(near) - 1.5 * step) > 1e-4


def test_sum_over_kz_is_the_transfer_in_focus() -> None:
    kz = torch.linspace(-OPTICS.axial_cutoff, OPTICS.axial_cutoff, 2001, dtype=torch.float64)
    shares = np.array([0.1, 0.25, 0.5, 0.75])
    sums = np.array(
        [float(OPTICS.transfer(torch.full_like(kz, s * OPTICS.cutoff), kz).sum()) for s in shares]
    )
    plane = 2 / np.pi * (np.arccos(shares) - shares * np.sqrt(1 - shares**2))
    np.testing.assert_allclose(sums / sums[0], plane / plane[0], rtol=0.02)


def test_order_1_is_two_shifted_halves() -> None:
    shift = OPTICS.axial_carrier
    n, na, wave = truth.INDEX, truth.EXCITATION_NA, truth.EXCITATION_UM
    assert shift == pytest.approx(n / wave * (1 - math.cos(math.asin(na / n))))
    for kr, kz in ((1.0, 0.2), (2.5, 1.6), (3.0, 3.0)):
        halves = (transfer(kr, kz + shift) + transfer(kr, kz - shift)) / 2
        assert transfer(kr, kz, 1) == pytest.approx(halves)
    # It fills the cone that the wide field misses.
    assert transfer(0.5, shift) == 0
    assert transfer(0.5, shift, 1) > 0.1


def test_parameters_of_both_orders(series: Series, found: VolumeParameters) -> None:
    assert series.carrier_error_px(found.carrier).max() < 0.03
    errors = np.stack([series.phase_error_deg(found.phase_rad[:, n], n + 1) for n in (0, 1)])
    assert abs(errors[0]).max() < 1.5
    assert abs(errors[1]).max() < 4
    depth = found.modulation - series.modulation
    assert abs(depth[:, 0]).max() < 0.02
    assert abs(depth[:, 1]).max() < 0.04
    assert (abs(np.radians(errors.T)) < 5 * found.phase_se_rad).all()


def test_details_reach_nine_tenths_of_the_limit(
    series: Series, frames: np.ndarray, found: VolumeParameters
) -> None:
    volume = reconstruct_volume(frames, found, OPTICS)[0]
    assert volume.shape == (16, 128, 128)
    assert volume.mean() == pytest.approx(frames.mean(), rel=0.05)
    sample = series.truth()
    wide = frames.mean(axis=(0, 1)).repeat(2, axis=-2).repeat(2, axis=-1)
    limits = truth.extended_cutoffs()
    curves, plain = truth.correlations(volume, sample), truth.correlations(wide, sample)
    for name, limit in zip(("lateral", "axial"), limits, strict=True):
        assert truth.resolution(curves[name]) > 0.9 * limit
        assert truth.resolution(plain[name]) < 0.75 * limit


def plain(frames: np.ndarray, parameters: VolumeParameters, w: float) -> np.ndarray:
    """Textbook filter in NumPy and double precision, on a wider grid that fades at its ends."""
    _, phases, sections, height, width = frames.shape
    border, more = 12, 8
    ramp = np.sin((np.arange(border) + 0.5) / border * np.pi / 2) ** 2
    fade = np.sin((np.arange(more) + 1) / (more + 1) * np.pi / 2) ** 2
    size = np.array([sections + more, height + 2 * border, width + 2 * border])
    fz, fy, fx = (
        np.fft.fftfreq(n, d) for n, d in zip(size, (SECTION_UM, PIXEL_UM, PIXEL_UM), strict=True)
    )
    gy, gx = (np.fft.fftfreq(2 * n, PIXEL_UM / 2) for n in size[1:])
    yy, xx = ((np.arange(2 * n) - (2 * n - 1) / 2) * PIXEL_UM / 2 for n in size[1:])
    optics = replace(OPTICS, depth_um=sections * SECTION_UM)

    def seen(order: int, ky: np.ndarray, kx: np.ndarray) -> np.ndarray:
        radius = torch.from_numpy(np.hypot(ky[:, None], kx))
        return optics.transfer(radius, torch.from_numpy(fz)[:, None, None], order).numpy()

    finer = []
    for n, f in zip(size[1:], (fy, fx), strict=True):
        place = ((np.arange(2 * n) + 0.5) / 2 - 0.5) * PIXEL_UM
        finer.append(np.exp(2j * np.pi * place[:, None] * f) / n)
    total, weight = np.zeros((size[0], 2 * size[1], 2 * size[2])), 0.0
    for o, (kx, ky) in enumerate(parameters.carrier):
        for n in range(3):
            turn = np.exp(-1j * n * parameters.steps_rad) / phases
            band = np.tensordot(turn, frames[o] - frames.mean(), 1)
            wide = np.pad(band, ((0, 0), (border, border), (border, border)), "edge")
            for axis in (1, 2):
                line = np.ones(size[axis])
                line[:border], line[-border:] = ramp, ramp[::-1]
                wide = wide * np.expand_dims(line, tuple({0, 1, 2} - {axis}))
            bridge = wide[-1] * (1 - fade[:, None, None]) + wide[0] * fade[:, None, None]
            spectrum = np.fft.fftn(np.concatenate([wide, bridge])) * seen(n, fy, fx)
            large = finer[0] @ np.fft.ifft(spectrum, axis=0) @ finer[1].T
            depth = 1.0 if n == 0 else parameters.modulation[o, n - 1] / 2
            phase = 0.0 if n == 0 else parameters.phase_rad[o, n - 1]
            moved = large * np.exp(-2j * np.pi * n * (ky * yy[:, None] + kx * xx) - 1j * phase)
            total += (1 if n == 0 else 2) * depth * moved.real
            for sign in (1,) if n == 0 else (1, -1):
                weight += (depth * seen(n, gy + sign * n * ky, gx + sign * n * kx)) ** 2
    across, along = truth.extended_cutoffs()
    rho = np.sqrt((gy[:, None] ** 2 + gx**2) / across**2 + (fz[:, None, None] / along) ** 2)
    gain = np.cos(np.pi / 2 * rho.clip(max=1)) / (weight + w * w)
    image = np.fft.ifftn(np.fft.fftn(total) * gain / (3 * gain[0, 0, 0])).real
    inner = slice(2 * border, -2 * border)
    return image[:sections, inner, inner] + frames.mean()


def test_equals_a_plain_filter_in_double_precision(series: Series, frames: np.ndarray) -> None:
    parameters = known(series)
    volume = reconstruct_volume(frames, parameters, OPTICS, WienerSettings(0.1))[0]
    expected = plain(frames, parameters, 0.1)
    assert abs(volume - expected).max() < 2e-4 * abs(expected).max()


def point_series(series: Series, place: tuple[int, int, int]) -> np.ndarray:
    """A point at a section, row and column, as three beams and the lens show it."""
    sections, height, width = series.mean.shape[2:]
    z, y, x = place
    spread = truth.point_spread((8 * sections, 256, 256))[::2, ::4, ::4]
    away = np.arange(sections) - z
    spread = np.roll(spread[away], (y, x), (1, 2)) / spread[0].max()
    yy, xx = ((np.arange(n) - (n - 1) / 2) * PIXEL_UM for n in (height, width))
    axial = np.cos(2 * np.pi * OPTICS.axial_carrier * away * SECTION_UM)[:, None, None]
    frames = np.empty(series.mean.shape)
    for o, (kx, ky) in enumerate(series.carrier):
        turn = 2 * np.pi * (kx * xx[x] + ky * yy[y]) + series.phase[o]
        for p in range(frames.shape[1]):
            a = turn + 2 * np.pi * p / frames.shape[1]
            light = 1 + series.modulation[0] * np.cos(a) * axial
            frames[o, p] = (light + series.modulation[1] * np.cos(2 * a)) * spread
    return 1e3 * frames


def test_a_point_stays_where_it_is(series: Series) -> None:
    z, y, x = 7, 30, 34
    frames = point_series(series, (z, y, x))
    volume = reconstruct_volume(frames, known(series), OPTICS, WienerSettings(0.1))[0]
    # Camera pixel i holds the fine pixels 2 i and 2 i + 1, so the peak lies between these.
    around = volume[z - 3 : z + 4, 2 * y - 3 : 2 * y + 5, 2 * x - 3 : 2 * x + 5].clip(min=0)
    assert volume.max() == around.max()
    for axis, centre in enumerate((3, 3.5, 3.5)):
        others = tuple({0, 1, 2} - {axis})
        place = around.sum(axis=others) @ np.arange(around.shape[axis]) / around.sum()
        assert place == pytest.approx(centre, abs=0.06)
    wide = frames.mean(axis=(0, 1))
    middle = volume[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean(axis=(1, 2))
    line = wide[:, y, x]
    assert (middle > middle.max() / 2).sum() < (line > line.max() / 2).sum()


def test_nothing_wraps_from_the_last_section_to_the_first(series: Series) -> None:
    """A point in the last section is no brighter in the first ones than its blur there."""
    last = series.mean.shape[2] - 1
    frames = point_series(series, (last, 32, 32))
    volume = reconstruct_volume(frames, known(series), OPTICS, WienerSettings(0.1))[0]
    assert volume[last].max() == volume.max()
    assert abs(volume[: last // 2]).max() < 0.05 * volume.max()


def test_measured_bead_gives_the_closed_form() -> None:
    """Of a bead from waves, a sample and a half off the middle, on a noisy background."""
    spread = truth.point_spread((128, 256, 256))[::2, ::4, ::4]
    spread = np.roll(spread / spread.max(), (30, 31, 34), (0, 1, 2))
    noisy = 1000 * spread + 100 + np.random.default_rng(0).normal(0, 1, spread.shape)
    optics = with_measured_psf(OPTICS, noisy, PIXEL_UM, SECTION_UM)
    kr = torch.linspace(0.5, 4.8, 30, dtype=torch.float64)[:, None]
    kz = torch.linspace(0, 1.7, 30, dtype=torch.float64)
    ideal = replace(OPTICS, depth_um=64 * SECTION_UM).transfer(kr, kz).flatten().numpy()
    seen = optics.transfer(kr, kz).flatten().numpy()
    scale = (ideal @ seen) / (seen @ seen)
    assert np.corrcoef(ideal, seen)[0, 1] > 0.99
    assert abs(scale * seen - ideal).max() < 0.12
    with pytest.raises(ReconstructionError, match="do not hold"):
        with_measured_psf(OPTICS, noisy[26:34], PIXEL_UM, SECTION_UM)
    with pytest.raises(ReconstructionError, match="no focal series of a bead"):
        with_measured_psf(OPTICS, np.ones((64, 32, 32)), PIXEL_UM, SECTION_UM)


def test_every_step_runs_where_it_is_asked_to(
    series: Series, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PyTorch's device without data, where a tensor left elsewhere is an error."""

    def separated(planes: torch.Tensor, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        # The real one reads how well the bands can be told apart.
        band = planes.mean(dim=1)
        return band, torch.complex(band, band)[:, None].expand(-1, 2, -1, -1)

    plan = plan_volume(torch.from_numpy(frames), known(series), OPTICS, WienerSettings(0.1), "meta")
    monkeypatch.setattr(volume_wiener, "separate_bands", separated)
    volume = plan.volume(torch.from_numpy(frames))
    assert (volume.device.type, tuple(volume.shape)) == ("meta", (16, 128, 128))


def test_a_flat_volume_stays_flat(series: Series) -> None:
    flat = np.full(series.mean.shape, 50.0)
    volume = reconstruct_volume(flat, known(series), OPTICS, WienerSettings(0.1))[0]
    np.testing.assert_allclose(volume, 50, rtol=1e-3)


def refused(frames: np.ndarray, message: str, **changes: float) -> None:
    section = changes.get("section", SECTION_UM)
    with pytest.raises(ReconstructionError, match=message):
        estimate_volume(frames, OPTICS, PIXEL_UM, section)


def test_bad_series_are_refused_by_name(frames: np.ndarray) -> None:
    refused(frames[:, :3], "3 phases cannot separate")
    refused(frames[:, :, :4], "no focal series")
    refused(frames, "too far apart", section=0.3)
    bad = frames.copy()
    bad[1, 2, 3, 4, 5] = np.nan
    refused(bad, "NaN")
    bad = frames.copy()
    bad[1, 2, 3] = 0
    refused(bad, "no light")
    refused(frames.clip(max=np.percentile(frames, 99)), "saturated")
    refused(np.random.default_rng(0).poisson(300.0, frames.shape), "no stripes|holds no structure")


def test_missing_orders_are_refused_by_name(series: Series, frames: np.ndarray) -> None:
    steps = np.exp(-2j * np.pi * np.arange(5) / 5)
    first = 2 * np.tensordot(steps, series.mean, (0, 1)) / 5
    without = series.mean - (np.conj(steps)[None, :, None, None, None] * first[:, None]).real
    rng = np.random.default_rng(0)
    refused(rng.poisson(500 * without.clip(min=0)) + rng.normal(0, 1.6, without.shape), "order 1")
    wide = series.mean.mean(axis=1, keepdims=True).repeat(5, axis=1)
    refused(rng.poisson(500 * wide) + rng.normal(0, 1.6, wide.shape), "no stripes|ambiguous")


def test_frames_of_another_shape_and_positivity_are_refused(
    series: Series, frames: np.ndarray
) -> None:
    with pytest.raises(ReconstructionError, match="do not fit"):
        reconstruct_volume(frames[:2], known(series), OPTICS)
    with pytest.raises(ReconstructionError, match="positivity"):
        reconstruct_volume(frames, known(series), OPTICS, WienerSettings(positivity=5))
    with pytest.raises(ReconstructionError, match="are no optics"):
        replace(OPTICS, numerical_aperture=1.6)


def test_aperture_of_the_beams_is_measured(frames: np.ndarray) -> None:
    guessed = measured_optics(frames, replace(OPTICS, excitation_na=1.4), PIXEL_UM)
    assert guessed.excitation_na == pytest.approx(truth.EXCITATION_NA, rel=0.02)


def test_command_reads_any_order_and_writes_micrometres(frames: np.ndarray, tmp_path: Path) -> None:
    raw = tmp_path / "raw.tif"
    counts = np.rint(frames + 100).clip(0, 65535).astype(np.uint16)
    both = np.stack([counts, counts[..., ::-1, :]])  # time
    tifffile.imwrite(raw, both.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 64, 64))
    told = ["--sections", "16", "--z-step-um", "0.125", "--pixel-size-um", "0.08"]
    optics = ["--numerical-aperture", "1.4", "--excitation-na", "1.3"]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["reconstruct", str(raw), str(out), *told, *optics])
    assert done.exit_code == 0, done.output
    with tifffile.TiffFile(out / "raw_sim.ome.tif") as file:
        assert file.series[0].axes == "TZYX"
        assert file.series[0].shape == (2, 16, 128, 128)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert pixels["PhysicalSizeZ"] == pytest.approx(0.125)
    assert pixels["PhysicalSizeX"] == pytest.approx(0.04)
    assert pixels["PhysicalSizeZUnit"] == "µm"
    content = json.loads((out / "raw_parameters.json").read_text())
    assert np.array(content["sim_parameters"]["modulation"]).shape == (3, 2)
    assert (out / "raw_figure.png").stat().st_size > 20_000
    wrong = CliRunner().invoke(
        app, ["reconstruct", str(raw), str(tmp_path / "no"), *told, "--axes", "TOPZYX"]
    )
    assert wrong.exit_code != 0
