"""Quality reports of focal series against what these were made of."""

from __future__ import annotations

import json
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
from tisr_scope.sim.optics.camera_noise import measure_noise
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.parameters.volume_parameters import VolumeParameters
from tisr_scope.sim.reconstruction.volume_wiener import plan_volume, reconstruct_volume
from tisr_scope.sim.report.volume_binomial_split import split_volume_correlation, volume_correlation
from tisr_scope.sim.report.volume_findings import volume_findings
from tisr_scope.sim.report.volume_quality import (
    VolumeQuality,
    light_lost,
    measure_volume_quality,
    saturated_share,
    volume_modulation_to_noise,
)
from tisr_scope.sim.report.volume_reprojection import band_residual

OPTICS = VolumeOptics(
    truth.NA,
    1e3 * truth.EMISSION_UM,
    truth.INDEX,
    truth.EXCITATION_NA,
    1e3 * truth.EXCITATION_UM,
)
OTF = incoherent_otf(truth.NA, 1e3 * truth.EMISSION_UM)
READ_NOISE = 1.6


@pytest.fixture(scope="module")
def series() -> Series:
    return make_series(64, 16, seed=1)


@pytest.fixture(scope="module")
def known(series: Series) -> VolumeParameters:
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


@pytest.fixture(scope="module")
def quality(series: Series, known: VolumeParameters) -> VolumeQuality:
    return measured(series.frames(500, 0), known)


def measured(frames: np.ndarray, parameters: VolumeParameters) -> VolumeQuality:
    volume = reconstruct_volume(frames, parameters, OPTICS)[0]
    return measure_volume_quality(frames, volume, parameters, OPTICS)


def kinds(quality: VolumeQuality) -> set[str]:
    return {one.kind for one in volume_findings(quality)}


def test_split_resolution_is_that_of_two_exposures(
    series: Series, known: VolumeParameters, quality: VolumeQuality
) -> None:
    """So dim that noise prevails before the limits in both directions, which is remarked on."""
    photons, near = 2.0, (0.1 * OPTICS.cutoff, 0.5 * OPTICS.cutoff)
    reach = tuple(0.95 * limit for limit in truth.extended_cutoffs())
    whole = series.frames(photons, 3).astype(np.float32)
    plan = plan_volume(torch.from_numpy(whole), known, OPTICS)

    def volume(frames: np.ndarray) -> np.ndarray:
        return plan.volume(torch.from_numpy(frames)).numpy()

    noise = measure_noise(whole.reshape(3, -1, 64, 64), OTF, PIXEL_UM)
    split, drawn = [], []
    for seed in range(3):
        wide, found = split_volume_correlation(
            whole, noise, OPTICS, volume, PIXEL_UM, SECTION_UM, seed
        )
        split.append([one.um for one in found.resolution])
        first, second = (
            volume(series.frames(photons / 2, s, READ_NOISE / np.sqrt(2)).astype(np.float32))
            for s in (10 + seed, 20 + seed)
        )
        pair = volume_correlation(first, second, PIXEL_UM / 2, SECTION_UM, near, reach, 2)
        drawn.append([one.um for one in pair.resolution])
    np.testing.assert_allclose(np.mean(split, 0), np.mean(drawn, 0), rtol=0.1)
    ratio = volume_modulation_to_noise(whole, known, OPTICS, noise)
    dim = replace(
        quality, modulation_to_noise=ratio, widefield_correlation=wide, sim_correlation=found
    )
    assert kinds(dim) == {"noisy_stripes", "little_gain"}


def test_a_good_series_has_nothing_against_it(series: Series, quality: VolumeQuality) -> None:
    assert kinds(quality) == set()
    across, along = truth.extended_cutoffs()
    assert quality.limits_um["sim"] == pytest.approx((1 / across, 1 / along))
    # Noise of the sum is shot noise of the known light and read noise.
    assert quality.noise.slope == pytest.approx([1, 1, 1], rel=0.1)


def test_stripes_over_noise_follow_from_the_noiseless_series(
    series: Series, quality: VolumeQuality
) -> None:
    inner = (slice(None), slice(8, -8), slice(8, -8))
    wide = 500 * series.mean.mean(axis=(0, 1))[inner]
    bright = wide >= np.percentile(wide, 90)
    f = np.fft.fftfreq(64, PIXEL_UM)
    share = (np.hypot(f[:, None], f) < OTF.cutoff).mean()
    for o, frames in enumerate(500 * series.mean):
        for n in (1, 2):
            turn = np.exp(-2j * np.pi * n * np.arange(5) / 5) / 5
            band = np.tensordot(turn, frames, 1)[inner][bright]
            light = frames.mean(axis=0)[inner][bright].mean()
            noise = share * (light + READ_NOISE**2) / 5
            expected = np.sqrt((abs(band) ** 2).mean() / noise)
            assert quality.modulation_to_noise[o, n - 1] == pytest.approx(expected, rel=0.1)


def test_wrong_order_2_is_named(
    series: Series, known: VolumeParameters, quality: VolumeQuality
) -> None:
    depth = known.modulation.copy()
    depth[1, 1] *= 0.5
    wrong = replace(known, modulation=depth)
    residual = band_residual(series.frames(500, 0).astype(np.float32), wrong, OPTICS, quality.noise)
    (told,) = volume_findings(replace(quality, residual=residual))
    assert told.kind == "residual"
    assert told.serious
    assert "order 2 of orientation 1" in told.text
    weak = replace(quality, parameters=replace(known, modulation=known.modulation * [1, 0.3]))
    (told,) = volume_findings(weak)
    assert told.kind == "weak_order"
    assert told.text.startswith("Order 2")


@pytest.mark.parametrize("axes", ["TOZPYX", "TOPZYX"])
def test_light_lost_is_found_in_either_order(series: Series, axes: str) -> None:
    steady = series.mean.mean(axis=(-2, -1))
    taken = np.arange(240).reshape((3, 16, 5) if axes == "TOZPYX" else (3, 5, 16))
    number = taken.transpose(0, 2, 1) if axes == "TOZPYX" else taken
    fading = steady * np.exp(-0.004 * number)
    kept = [1 - light_lost(light, axes)[0] for light in (fading, steady)]
    assert kept[0] / kept[1] == pytest.approx(np.exp(-0.004 * 239), rel=0.02)


def test_bleaching_and_saturation_are_named(quality: VolumeQuality) -> None:
    assert kinds(replace(quality, bleaching=0.7, bleaching_se=0.04)) == {"bleaching"}
    assert kinds(replace(quality, bleaching=0.3, bleaching_se=0.1)) == set()
    counts = np.random.default_rng(0).poisson(100, (5, 64, 64))
    assert saturated_share(counts) == 0
    counts[3, :2, :10] = 4095
    assert saturated_share(counts) == pytest.approx(20 / 64**2)
    assert kinds(replace(quality, saturated=saturated_share(counts))) == {"saturation"}


def test_command_writes_page_and_numbers(series: Series, tmp_path: Path) -> None:
    raw = tmp_path / "raw.tif"
    frames = series.mean[:, :, 2:14] * np.array([1, 0.7, 1])[:, None, None, None, None]
    counts = 100 + np.random.default_rng(0).poisson(1000 * frames).astype(np.uint16)
    tifffile.imwrite(raw, counts.transpose(0, 2, 1, 3, 4).reshape(-1, 64, 64))
    told = ["--sections", "12", "--z-step-um", "0.125", "--pixel-size-um", "0.08"]
    optics = ["--numerical-aperture", "1.4", "--excitation-na", "1.3", "--background", "100"]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["reconstruct", str(raw), str(out), *told, *optics, "--report"])
    assert done.exit_code == 0, done.output
    content = json.loads((out / "raw_report.json").read_text())
    assert {"few_sections", "unequal_brightness"} <= {one["kind"] for one in content["findings"]}
    assert content["verdict"] in done.output
    assert content["split_exposure"]["sim"]["axial"]["limit_um"] == pytest.approx(0.304, abs=1e-3)
    assert np.array(content["residual"]["band_score"]).shape == (3, 3)
    assert (out / "raw_report.png").stat().st_size > 50_000
