"""Quality reports against what the simulated stacks were made of: noise, sample, halves, faults."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import tifffile
from sim_truth import (
    CUTOFF,
    EMISSION_UM,
    MARGIN,
    NA,
    OVER,
    PIXEL_UM,
    Stack,
    _camera,
    filaments,
    make_stack,
)
from typer.testing import CliRunner

from tisr_scope.cli import app
from tisr_scope.formats.raw_stack import PatternLayout
from tisr_scope.metrics.ring_correlation import ring_correlation
from tisr_scope.sim.optics.camera_noise import CameraNoise, measure_noise
from tisr_scope.sim.optics.otf import DetectionOtf, incoherent_otf
from tisr_scope.sim.parameters.estimate import SimParameters, estimate_parameters
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.raw_plan import RawSettings
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings, reconstruct
from tisr_scope.sim.reconstruction.reconstruct_files import Making, reconstruct_raw_file
from tisr_scope.sim.report.binomial_split import split_correlation, split_exposure
from tisr_scope.sim.report.findings import findings, report, verdict
from tisr_scope.sim.report.fringe_contrast import modulation_to_noise
from tisr_scope.sim.report.quality import SimQuality, measure_quality
from tisr_scope.sim.report.reprojection import Residual, reproject, reprojection_residual

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)
READ_VARIANCE = 1.6**2


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack(n=160, ratio=0.92, seed=1)


@pytest.fixture(scope="module")
def frames(stack: Stack) -> np.ndarray:
    return stack.frames(200, 5).astype(np.float32)


@pytest.fixture(scope="module")
def found(frames: np.ndarray) -> SimParameters:
    return estimate_parameters(frames, OTF, PIXEL_UM)


def true_parameters(stack: Stack, depths: tuple[float, ...]) -> SimParameters:
    orientations, phases = stack.mean.shape[:2]
    shape = (1, orientations, len(depths))
    order = np.arange(1, len(depths) + 1)
    zero = np.zeros(shape)
    return SimParameters(
        carrier=stack.carrier,
        phase_rad=stack.phase[None, :, None] * order,
        steps_rad=np.tile(2 * np.pi * np.arange(phases) / phases, (orientations, 1)),
        modulation=np.broadcast_to(np.array(depths), shape).copy(),
        gain=np.ones((1, orientations)),
        quality=np.full(orientations, np.nan),
        carrier_se=np.zeros((orientations, 2)),
        phase_se_rad=zero,
        modulation_se=zero,
        usable=np.ones(orientations, bool),
        pixel_size_um=PIXEL_UM,
    )


@pytest.mark.parametrize("photons", [20, 300])
def test_noise_is_that_of_the_camera(stack: Stack, photons: float) -> None:
    noise = measure_noise(stack.frames(photons, 3), OTF, PIXEL_UM)
    np.testing.assert_allclose(noise.slope, 1, atol=0.08)
    np.testing.assert_allclose(noise.floor, READ_VARIANCE, atol=0.7)
    scaled = measure_noise(2.5 * stack.frames(photons, 3) + 40, OTF, PIXEL_UM)
    np.testing.assert_allclose(scaled.slope, 2.5 * noise.slope, rtol=0.02)
    total = noise.variance(stack.frames(photons, 4)).mean()
    assert total == pytest.approx(photons * stack.mean.mean() + READ_VARIANCE, rel=0.015)


@pytest.mark.parametrize(
    ("kind", "depths"),
    [
        ({"ratio": 1.02}, (0.8,)),
        ({"ratio": 0.92, "phases": 5, "orientations": 2, "harmonics": (0.333,)}, (1.333, 0.333)),
    ],
)
def test_reprojected_sample_gives_the_simulated_frames(
    kind: dict[str, object], depths: tuple[float, ...]
) -> None:
    """The sample at the fine grid's own bandwidth, through the package's forward model."""
    stack = make_stack(n=96, seed=2, modulation=depths[0], **kind)
    upscale = 1 + len(depths)
    sharp = np.ones((stack.sample.shape[0],) * 2)
    if upscale == 2:
        fine = upscale**2 * _camera(stack.sample, sharp, upscale)
    else:  # 3 does not divide 4: the sample on the 4 x grid is as good
        upscale = 4
        fine = upscale**2 * stack.sample[(slice(MARGIN * OVER, -MARGIN * OVER),) * 2]
    got = reproject(fine, true_parameters(stack, depths), OTF, (96, 96))
    inner = (..., slice(20, -20), slice(20, -20))
    error = (got - stack.mean)[inner]
    assert np.sqrt(np.mean(error**2)) < 0.01 * stack.mean[inner].std()


@pytest.mark.parametrize(("photons", "ratio"), [(20, 0.975), (200, 1.02), (1000, 0.92)])
def test_right_parameters_leave_noise_alone(photons: float, ratio: float) -> None:
    stack = make_stack(n=160, ratio=ratio, seed=3)
    frames = stack.frames(photons, 1).astype(np.float32)
    noise = measure_noise(frames, OTF, PIXEL_UM)
    left = reprojection_residual(frames, true_parameters(stack, (0.8,)), OTF, noise)
    assert left.score == pytest.approx(1, abs=0.012)
    np.testing.assert_allclose(left.frame_score, 1, atol=0.06)
    assert left.unexplained.max() < (0.08 if photons < 100 else 0.015)


def too_steep() -> DetectionOtf:
    import torch

    frequency = np.linspace(0, CUTOFF, 200)
    values = OTF.radial(torch.as_tensor(frequency)).numpy() ** 1.5
    return DetectionOtf(NA, 1e3 * EMISSION_UM, frequency[1], tuple(values))


def shifted_phase(found: SimParameters) -> SimParameters:
    phase = found.phase_rad.copy()
    phase[:, 1] += np.radians(20)
    return replace(found, phase_rad=phase)


def shifted_step(found: SimParameters) -> SimParameters:
    steps = found.steps_rad.copy()
    steps[1, 1] += np.radians(25)
    return replace(found, steps_rad=steps)


def quality_of(
    frames: np.ndarray, parameters: SimParameters, otf: DetectionOtf = OTF
) -> SimQuality:
    image = reconstruct(frames, parameters, otf)
    return measure_quality(frames[None], image, parameters, otf)


@pytest.fixture(scope="module")
def good(frames: np.ndarray, found: SimParameters) -> SimQuality:
    return quality_of(frames, found)


def residual(quality: SimQuality) -> Residual:
    return quality.residual


def test_a_good_image_has_nothing_against_it(good: SimQuality) -> None:
    assert findings(good) == ()
    assert verdict(()) == "Nothing found against this image"
    assert residual(good).score == pytest.approx(1, abs=0.02)
    sim, wide = good.sim_resolution.um, good.widefield_resolution.um
    assert sim is not None and wide is not None
    assert 1 / (1.92 * CUTOFF) < sim < 0.6 * wide
    assert good.scaled_error.rsp > 0.99


@pytest.mark.parametrize("factor", [0.75, 1.22])
def test_wrong_modulation_is_seen(
    frames: np.ndarray, found: SimParameters, good: SimQuality, factor: float
) -> None:
    wrong = quality_of(frames, replace(found, modulation=factor * found.modulation))
    assert residual(wrong).score > residual(good).score + 0.05
    assert {one.kind for one in findings(wrong)} == {"residual"}


@pytest.mark.parametrize("change", [shifted_phase, shifted_step])
def test_wrong_phases_are_seen_where_they_are(
    frames: np.ndarray, found: SimParameters, good: SimQuality, change: object
) -> None:
    wrong = quality_of(frames, change(found))  # type: ignore[operator]
    assert residual(wrong).score > residual(good).score + 0.04
    assert residual(wrong).frame_score.mean(axis=1).argmax() == 1
    (one,) = findings(wrong)
    assert one.kind == "residual"
    assert "most in orientation 1" in one.text
    assert "as where the sample moves" not in one.text


def test_wrong_transfer_function_is_seen(
    frames: np.ndarray, found: SimParameters, good: SimQuality
) -> None:
    for otf in (too_steep(), incoherent_otf(1.3, 1e3 * EMISSION_UM)):
        wrong = quality_of(frames, found, otf)
        assert residual(wrong).score > residual(good).score + 0.2
        (one,) = (one for one in findings(wrong) if one.kind == "residual")
        assert one.serious
        assert verdict((one,)) == "Do not trust the fine details yet"


def test_drift_between_orientations_is_named(stack: Stack, good: SimQuality) -> None:
    sample = filaments(160, np.random.default_rng(1))
    moved = [np.roll(sample, 2 * o, 1) for o in range(3)]  # 31 nm from one to the next
    stacks = [make_stack(n=160, ratio=0.92, seed=1, sample=one) for one in moved]
    mean = np.stack([one.mean[o] for o, one in enumerate(stacks)])
    frames = replace(stacks[0], mean=mean).frames(200, 5).astype(np.float32)
    wrong = quality_of(frames, estimate_parameters(frames, OTF, PIXEL_UM))
    assert residual(wrong).score > residual(good).score + 0.1
    texts = {one.kind: one.text for one in findings(wrong)}
    assert "sample moved by 0.06" in texts["acquisition"]
    assert "as where the sample moves" in texts["residual"]


def test_map_shows_where_the_sample_changed(stack: Stack, found: SimParameters) -> None:
    frames = stack.frames(200, 5).astype(np.float32)
    other = make_stack(n=160, ratio=0.92, seed=8).frames(200, 5)
    frames[2, :, 100:130, 40:70] = other[2, :, 100:130, 40:70]
    left = quality_of(frames, found).residual.map
    y, x = np.unravel_index(int(left.argmax()), left.shape)
    assert 95 < y + 12 < 135 and 35 < x + 12 < 75
    assert left.max() > 2 * np.median(left)


def test_haze_and_uneven_light_are_told_from_wrong_stripes(stack: Stack) -> None:
    y = np.linspace(-1, 1, 160)
    haze = 150 * np.exp(-(y[:, None] ** 2 + y[None, :] ** 2) / 0.5)
    moving = np.stack([np.roll(haze, 20 * o, 1) for o in range(3)])[:, None]
    hazy = np.random.default_rng(0).poisson(200 * stack.mean + moving).astype(np.float32)
    hazy[2] *= 0.7
    quality = quality_of(hazy, estimate_parameters(hazy, OTF, PIXEL_UM))
    found = findings(quality)
    assert {"haze", "unequal_brightness"} <= {one.kind for one in found}
    assert not any(one.serious for one in found)
    assert "bleaching" not in {one.kind for one in found}
    assert quality.residual.slow_score > 10 * quality.residual.score


def test_bleaching_is_measured_and_named(stack: Stack) -> None:
    loss = np.exp(np.log(1 - 0.3) * np.arange(9) / 8).reshape(3, 3, 1, 1)
    bleached = np.random.default_rng(0).poisson(300 * stack.mean * loss).astype(np.float32)
    quality = quality_of(bleached, estimate_parameters(bleached, OTF, PIXEL_UM))
    assert quality.bleaching == pytest.approx(0.3, abs=4 * quality.bleaching_se + 0.02)
    assert "bleaching" in {one.kind for one in findings(quality)}


def test_weak_orientation_and_saturation_are_serious(
    stack: Stack, frames: np.ndarray, found: SimParameters
) -> None:
    weak = replace(found, usable=np.array([True, False, True]))
    image = reconstruct(frames, weak, OTF)
    limit = float(np.sort(frames.ravel())[-40])
    quality = measure_quality(frames[None], image, weak, OTF, saturation=limit)
    named = {one.kind: one for one in findings(quality)}
    assert named["weak_orientation"].serious
    assert named["saturation"].serious
    # Its stripes are in the frames, and an image without them cannot explain these.
    assert quality.residual.frame_score[1].mean() > quality.residual.frame_score[0].mean()
    dim = replace(found, modulation=found.modulation * np.array([1, 0.4, 1])[:, None])
    kinds = {one.kind for one in findings(quality_of(frames, dim))}
    assert {"weak_modulation", "unequal_modulation"} <= kinds
    deep = replace(found, modulation=np.ones_like(found.modulation))
    assert "modulation_at_limit" in {one.kind for one in findings(quality_of(frames, deep))}


def test_halves_add_up_and_have_independent_noise(stack: Stack) -> None:
    frames = stack.frames(30, 2).astype(np.float32)
    noise = CameraNoise(np.full(3, READ_VARIANCE), np.ones(3))
    one, other = split_exposure(frames, noise)
    np.testing.assert_allclose(one + other, frames, atol=1e-3)
    rest = [half - 15 * stack.mean for half in (one, other)]
    assert np.corrcoef(rest[0].ravel(), rest[1].ravel())[0, 1] == pytest.approx(0, abs=0.01)
    variance = (30 * stack.mean.mean() + READ_VARIANCE) / 2
    assert rest[0].var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("photons", [30, 300])
def test_halves_of_one_exposure_correlate_like_two_exposures(stack: Stack, photons: float) -> None:
    frames = stack.frames(photons, 2).astype(np.float32)
    moment = true_parameters(stack, (0.8,))
    settings = WienerSettings(parameter=0.1)
    wide, sim = split_correlation(
        frames, moment, OTF, measure_noise(frames, OTF, PIXEL_UM), settings
    )
    two = [
        reconstruct(stack.frames(photons / 2, seed, 1.6 / 2**0.5), moment, OTF, settings)[0]
        for seed in (7, 8)
    ]
    cut = slice(16, -16)
    expected = ring_correlation(two[0][cut, cut], two[1][cut, cut], PIXEL_UM / 2)
    expected = expected.up_to(sim.frequency[-1])
    np.testing.assert_allclose(sim.smoothed(), expected.smoothed(), atol=0.12)
    assert np.abs(sim.correlation - expected.correlation).mean() < 0.04
    assert sim.resolution().um == pytest.approx(expected.resolution().um, rel=0.05)
    assert wide.frequency[-1] <= CUTOFF < sim.frequency[-1]


def test_modulation_to_noise_is_that_of_the_stack(stack: Stack) -> None:
    photons = 80
    frames = stack.frames(photons, 3)
    moment = true_parameters(stack, (0.8,))
    noise = CameraNoise(np.full(3, READ_VARIANCE), np.ones(3))
    got = modulation_to_noise(frames, moment, OTF, noise)[:, 0]
    f = np.fft.fftfreq(160, PIXEL_UM)
    passed = np.hypot(f[:, None], f[None, :]) < CUTOFF
    wide = stack.mean.mean(axis=(0, 1))
    inner = (..., slice(8, -8), slice(8, -8))
    bright = wide[inner] >= np.percentile(wide[inner], 90)
    wave = np.exp(-2j * np.pi * np.arange(3) / 3) / 3
    # The noiseless band over noise that is drawn, not calculated.
    grains = np.stack([stack.frames(photons, seed) for seed in range(20)]) - photons * stack.mean
    noisy = np.fft.ifft2(np.fft.fft2(np.einsum("p,sopyx->soyx", wave, grains)) * passed)
    band = np.einsum("p,opyx->oyx", wave, photons * stack.mean)
    signal = (np.abs(band)[inner][:, bright] ** 2).mean(axis=-1)
    expected = np.sqrt(signal / (np.abs(noisy[inner][..., bright]) ** 2).mean(axis=(0, -1)))
    np.testing.assert_allclose(got, expected, rtol=0.04)
    even = np.repeat(frames.mean(axis=1, keepdims=True), 3, axis=1)
    even += np.random.default_rng(1).normal(0, 3, even.shape)
    flat = CameraNoise(np.full(3, 9.0), np.zeros(3))
    assert modulation_to_noise(even, moment, OTF, flat).max() < 0.3


def test_report_of_a_nonlinear_stack_as_files(tmp_path: Path) -> None:
    stack = make_stack(
        n=96, ratio=0.92, seed=3, orientations=2, phases=5, modulation=1.333, harmonics=(0.333,)
    )
    raw = tmp_path / "raw.tif"
    counts = np.rint(stack.frames(800) / 0.5 + 100).astype(np.uint16)
    tifffile.imwrite(raw, counts.reshape(-1, 96, 96))
    reconstruct_raw_file(
        raw,
        tmp_path / "out",
        RawSettings(PatternLayout(2, 5)),
        Making(Estimation(orders=2, background=100.0), report=True),
    )
    content = json.loads((tmp_path / "out" / "raw_report.json").read_text())
    assert content["residual"]["score"] == pytest.approx(1, abs=0.06)
    np.testing.assert_allclose(content["noise"]["variance_per_light"], 2, rtol=0.12)
    assert np.shape(content["modulation_to_noise"]) == (2, 2)
    assert content["split_exposure"]["sim"]["resolution_um"] < 0.1
    assert content["sim_parameters"]["modulation_se"]
    picture = matplotlib.image.imread(tmp_path / "out" / "raw_report.png")
    assert min(picture.shape[:2]) > 900


def test_command_line_says_what_was_found(tmp_path: Path, stack: Stack) -> None:
    frames = stack.frames(300, 2)
    frames[1] *= 0.6
    raw = tmp_path / "raw.tif"
    tifffile.imwrite(raw, np.rint(frames + 100).astype(np.uint16).reshape(-1, 160, 160))
    result = CliRunner().invoke(app, ["reconstruct", str(raw), str(tmp_path / "out"), "--report"])
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    assert "Usable, with remarks" in printed
    assert "Orientations differ in brightness by" in printed
    assert "report in" in printed
    assert (tmp_path / "out" / "raw_report.png").is_file()


def test_report_holds_verdict_and_reasons(good: SimQuality) -> None:
    content = report(good)
    assert content["warnings"] == [] == content["findings"]
    assert json.loads(json.dumps(content))["time_point"] == 0
