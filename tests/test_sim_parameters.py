"""Illumination parameters against stacks made with other code."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from sim_truth import EMISSION_UM, NA, PIXEL_UM, Stack, make_stack

from tisr_scope.errors import ReconstructionError
from tisr_scope.formats.biotisr import fold_raw, read_mrc
from tisr_scope.sim.optics.otf import DetectionOtf, incoherent_otf, measured_otf
from tisr_scope.sim.parameters.bands import separate_bands
from tisr_scope.sim.parameters.estimate import (
    SimParameters,
    estimate_parameters,
    nominal_carriers,
    refresh_phases,
)

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("ratio", [0.92, 0.975, 1.02])
def test_accuracy_at_every_light_level(ratio: float) -> None:
    """1.02 is TIRF: the stripes are finer than anything the optics pass."""
    stacks = [make_stack(n=256, ratio=ratio, seed=seed) for seed in (0, 1)]
    for photons, carrier_px, phase_deg, depth in (
        (20, 0.05, 2.0, 0.03),
        (100, 0.03, 0.8, 0.01),
        (500, 0.03, 0.8, 0.01),
    ):
        found = [estimate_parameters(s.frames(photons, seed=7), OTF, PIXEL_UM) for s in stacks]
        both = list(zip(stacks, found, strict=True))
        assert max(s.carrier_error_px(f.carrier).max() for s, f in both) <= carrier_px
        assert (
            rms(np.array([s.phase_error_deg(f.phase_rad[0, :, 0]) for s, f in both])) <= phase_deg
        )
        assert rms(np.array([f.modulation[0] - 0.8 for f in found])) <= depth


@pytest.fixture(scope="module")
def small() -> Stack:
    return make_stack(n=96, ratio=0.975, seed=3)


def test_other_numbers_of_orientations_and_phases() -> None:
    stack = make_stack(n=96, ratio=0.9, seed=5, orientations=2, phases=5, modulation=0.6)
    found = estimate_parameters(stack.frames(300), OTF, PIXEL_UM)
    assert stack.carrier_error_px(found.carrier).max() < 0.1
    assert rms(stack.phase_error_deg(found.phase_rad[0, :, 0])) < 4
    assert rms(found.modulation[0] - 0.6) < 0.05


def test_one_carrier_for_all_times_and_a_phase_for_each(small: Stack) -> None:
    frames = np.stack([small.frames(100, seed) for seed in range(3)])
    found = estimate_parameters(frames, OTF, PIXEL_UM)
    again = estimate_parameters(frames[1], OTF, PIXEL_UM, carrier=found.carrier)
    assert found.carrier.shape == (3, 2)
    assert found.phase_rad.shape == found.modulation.shape == (3, 3, 1)
    np.testing.assert_array_equal(again.carrier, found.carrier)
    np.testing.assert_allclose(again.phase_rad[0], found.phase_rad[1], atol=0.02)


def test_gain_makes_orientations_equally_bright(small: Stack) -> None:
    uneven = small.frames(300) * np.array([1.3, 1.0, 0.8])[:, None, None, None]
    found = estimate_parameters(uneven, OTF, PIXEL_UM)
    brightness = uneven.mean(axis=(1, 2, 3)) * found.gain[0]
    np.testing.assert_allclose(brightness, brightness[0], rtol=1e-6)


def test_constant_background_leaves_the_modulation_alone(small: Stack) -> None:
    plain = estimate_parameters(small.frames(300), OTF, PIXEL_UM)
    raised = estimate_parameters(small.frames(300) + 500.0, OTF, PIXEL_UM)
    np.testing.assert_allclose(raised.modulation, plain.modulation, atol=0.01)


@pytest.mark.parametrize("given", [False, True])
def test_parameters_survive_json(small: Stack, given: bool) -> None:
    frames = small.frames(100)
    found = estimate_parameters(frames, OTF, PIXEL_UM, carrier=small.carrier if given else None)
    back = SimParameters.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    for field in fields(found):
        np.testing.assert_allclose(
            getattr(back, field.name), getattr(found, field.name), atol=1e-6, err_msg=field.name
        )
    assert back.orders == 1
    assert back.usable.dtype == bool
    np.testing.assert_allclose(
        back.frequency * np.cos(back.angle_rad), found.carrier[:, 0], atol=1e-5
    )


@pytest.mark.parametrize("ratio", [0.92, 1.02])
def test_without_noise_nothing_is_wrong(ratio: float) -> None:
    """Neither the edges of the field, nor the taper, nor the filters bias the estimates."""
    stack = make_stack(n=128, ratio=ratio, seed=4)
    found = estimate_parameters(1e5 * stack.mean, OTF, PIXEL_UM)
    assert stack.carrier_error_px(found.carrier).max() < 2e-3
    assert np.abs(stack.phase_error_deg(found.phase_rad[0, :, 0])).max() < 0.05
    assert np.abs(found.modulation - 0.8).max() < 1e-3


def test_field_that_is_not_square() -> None:
    stack = make_stack(n=160, ratio=0.975, seed=6)
    cut = 1e5 * stack.mean[..., 10:138, :]  # 12 more rows are missing below than above
    found = estimate_parameters(cut, OTF, PIXEL_UM)
    assert stack.carrier_error_px(found.carrier).max() < 5e-3
    moved = stack.phase - 2 * np.pi * 6 * PIXEL_UM * stack.carrier[:, 1]
    error = np.angle(np.exp(1j * (found.phase_rad[0, :, 0] - moved)))
    assert np.abs(error).max() < 0.005


def test_standard_errors_are_the_scatter_over_noise() -> None:
    stack = make_stack(n=128, ratio=0.975, seed=8)
    found = [estimate_parameters(stack.frames(60, seed), OTF, PIXEL_UM) for seed in range(24)]

    def ratio(values: np.ndarray, truth: np.ndarray, errors: np.ndarray) -> float:
        return rms(np.stack(values) - truth) / rms(np.stack(errors))

    carriers = ratio([f.carrier for f in found], stack.carrier, [f.carrier_se for f in found])
    phases = ratio(
        [np.radians(stack.phase_error_deg(f.phase_rad[0, :, 0])) for f in found],
        np.zeros(3),
        [f.phase_se_rad[0, :, 0] for f in found],
    )
    depths = ratio([f.modulation for f in found], 0.8, [f.modulation_se for f in found])
    for factor in (carriers, phases, depths):
        assert 1 / 1.5 < factor < 1.5
    dim = estimate_parameters(stack.frames(15, 0), OTF, PIXEL_UM)
    assert (dim.carrier_se > 1.5 * found[0].carrier_se).all()


@pytest.mark.parametrize("phases", [5, 6])
def test_two_harmonics(phases: int) -> None:
    """Nonlinear SIM; a prototype found the carrier within 0.015 samples at 500 photons."""
    stack = make_stack(
        n=192, ratio=0.975, seed=2, phases=phases, modulation=1.333, harmonics=(0.333,)
    )
    found = estimate_parameters(stack.frames(500, 1), OTF, PIXEL_UM, orders=2)
    assert found.modulation.shape == (1, 3, 2)
    assert stack.carrier_error_px(found.carrier).max() < 0.015
    assert rms(stack.phase_error_deg(found.phase_rad[0, :, 0])) < 0.3
    assert rms(stack.phase_error_deg(found.phase_rad[0, :, 1], order=2)) < 1.2
    np.testing.assert_allclose(found.modulation[0, :, 0], 1.333, atol=0.01)
    np.testing.assert_allclose(found.modulation[0, :, 1], 0.333, atol=0.01)


@pytest.mark.parametrize(
    ("ratio", "phases", "depths"),
    [(0.975, 3, (0.8,)), (1.02, 3, (0.8,)), (0.975, 5, (1.333, 0.333))],
)
def test_uneven_phase_steps_are_recovered(
    ratio: float, phases: int, depths: tuple[float, ...]
) -> None:
    errors = np.random.default_rng(5).normal(0, np.radians(8), (2, phases))
    errors -= errors[:, :1]
    options = {
        "n": 160,
        "ratio": ratio,
        "seed": 1,
        "orientations": 2,
        "phases": phases,
        "modulation": depths[0],
        "harmonics": depths[1:],
    }
    even = make_stack(**options)
    uneven = make_stack(**options, step_errors_rad=errors)
    orders = len(depths)
    plain = estimate_parameters(uneven.frames(800), OTF, PIXEL_UM, orders=orders)
    found = estimate_parameters(
        uneven.frames(800), OTF, PIXEL_UM, orders=orders, refine_phases=True
    )
    true = 2 * np.pi * np.arange(phases) / phases + errors
    before, after = (np.angle(np.exp(1j * (f.steps_rad - true)))[:, 1:] for f in (plain, found))
    assert np.degrees(rms(before)) > 4
    assert np.degrees(rms(after)) < 1.2
    assert rms(found.modulation[0, :, 0] - depths[0]) < 0.01
    assert (plain.step_error_rad < 1e-9).all()
    assert (found.step_error_rad > np.radians(2)).all()
    steady = estimate_parameters(even.frames(800), OTF, PIXEL_UM, orders=orders, refine_phases=True)
    assert (steady.step_error_rad < np.radians(1.2)).all()


def test_phases_alone_are_refreshed(small: Stack) -> None:
    known = estimate_parameters(small.frames(500), OTF, PIXEL_UM)
    later = np.roll(np.stack([small.frames(100, 1), small.frames(100, 2)]), -1, axis=2)
    found = refresh_phases(later, known, OTF)
    assert found.phase_rad.shape == (2, 3, 1)
    np.testing.assert_array_equal(found.carrier, known.carrier)
    np.testing.assert_array_equal(found.modulation[1], known.pooled_modulation)
    error = np.stack([small.phase_error_deg(p) for p in found.phase_rad[..., 0] - 2 * np.pi / 3])
    assert rms(error) < 3
    with pytest.raises(ReconstructionError, match="do not fit"):
        refresh_phases(later[:, :2], known, OTF)


def test_nominal_carriers_point_along_the_angles() -> None:
    carriers = nominal_carriers((0.0, np.pi / 2), 0.2)
    np.testing.assert_allclose(carriers, [[5, 0], [0, 5]], atol=1e-12)


def broken(kind: str, frames: np.ndarray) -> np.ndarray:
    frames = frames.copy()
    if kind == "nan":
        frames[1, 1, 5, 5] = np.nan
    elif kind == "dark":
        frames[2, 0] = 0
    elif kind == "saturated":
        frames[0, 0, :20] = 1e4
    elif kind == "shape":
        frames = frames[:, :2]
    elif kind == "even":
        frames = np.repeat(frames.mean(axis=1, keepdims=True), 3, axis=1)
        frames += np.random.default_rng(0).normal(0, 3, frames.shape)
    return frames


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "NaN"),
        ("dark", "no light in frame t=0 orientation=2 phase=0"),
        ("saturated", "saturated"),
        ("shape", "no SIM stack"),
        ("even", "stripes|modulation"),
    ],
)
@pytest.mark.parametrize("guided", [False, True])
def test_unusable_frames_are_refused(small: Stack, kind: str, message: str, guided: bool) -> None:
    frames = broken(kind, small.frames(200))
    with pytest.raises(ReconstructionError, match=message) as caught:
        estimate_parameters(
            frames,
            OTF,
            PIXEL_UM,
            nominal=small.carrier if guided else None,
            saturation_electrons=1e4,
            where="cell 7",
        )
    assert caught.value.where == "cell 7"
    assert caught.value.remedy


def test_wrong_nominal_carrier_is_refused(small: Stack) -> None:
    with pytest.raises(ReconstructionError, match=r"stand out .* where they are not expected"):
        estimate_parameters(small.frames(100), OTF, PIXEL_UM, nominal=0.85 * small.carrier)


def test_orientation_without_stripes_is_named_or_marked(small: Stack) -> None:
    frames = small.frames(200)
    even = small.mean[1].mean(axis=0, keepdims=True).repeat(3, axis=0)
    rng = np.random.default_rng(2)
    frames[1] = rng.poisson(200 * even) + rng.normal(0, 1.6, even.shape)
    with pytest.raises(ReconstructionError, match="orientation 1"):
        estimate_parameters(frames, OTF, PIXEL_UM)
    found = estimate_parameters(frames, OTF, PIXEL_UM, allow_weak=True)
    assert found.usable.tolist() == [True, False, True]
    assert small.carrier_error_px(found.carrier)[[0, 2]].max() < 0.05
    with pytest.raises(ReconstructionError, match="orientation 0"):
        estimate_parameters(
            rng.poisson(200 * even[None].repeat(3, axis=0)), OTF, PIXEL_UM, allow_weak=True
        )


def test_weak_modulation_is_named() -> None:
    stack = make_stack(n=96, ratio=0.9, seed=3, modulation=0.1)
    with pytest.raises(ReconstructionError, match=r"modulation depth 0\.1\d of orientation"):
        estimate_parameters(stack.frames(2000), OTF, PIXEL_UM, nominal=stack.carrier)


def test_two_carriers_at_once_are_ambiguous() -> None:
    one, other = (make_stack(n=96, ratio=r, seed=3, sample=None) for r in (0.9, 0.97))
    turned = other.mean[[1, 2, 0]]  # the same sample, other stripes
    with pytest.raises(ReconstructionError, match="ambiguous"):
        estimate_parameters(500 * (one.mean + turned), OTF, PIXEL_UM)


@pytest.mark.parametrize(
    ("phases", "message"), [(3, "3 phases cannot separate 2 orders"), (5, "harmonic 2")]
)
def test_orders_that_are_not_there(phases: int, message: str) -> None:
    stack = make_stack(n=96, ratio=0.9, seed=3, phases=phases)
    with pytest.raises(ReconstructionError, match=message) as caught:
        estimate_parameters(stack.frames(300), OTF, PIXEL_UM, orders=2, where="cell 7")
    assert caught.value.where == "cell 7"


def test_bands_of_steps_too_much_alike_are_refused() -> None:
    with pytest.raises(ReconstructionError, match="too much alike"):
        separate_bands(torch.rand(3, 8, 8), torch.tensor([0.0, 0.05, 0.1]))


def test_otf_is_the_autocorrelation_of_a_circular_pupil() -> None:
    n, radius = 512, 60
    axis = np.arange(n) - n // 2
    pupil = np.hypot(axis[:, None], axis[None, :]) <= radius
    spectrum = np.abs(np.fft.fft2(pupil)) ** 2
    autocorrelation = np.fft.ifft2(spectrum).real
    shifts = np.arange(0, 2 * radius, 10)
    expected = autocorrelation[0, shifts] / autocorrelation[0, 0]
    frequency = torch.tensor(shifts / (2 * radius) * OTF.cutoff)
    np.testing.assert_allclose(OTF.radial(frequency), expected, atol=0.01)


def test_integrating_pixel_lowers_the_otf_by_a_sinc() -> None:
    wide = incoherent_otf(NA, 1e3 * EMISSION_UM, integrating_pixel_um=PIXEL_UM)
    fx = torch.tensor([[0.0, 2.0, 4.0]], dtype=torch.float64)
    ratio = wide(torch.zeros_like(fx), fx) / OTF(torch.zeros_like(fx), fx)
    np.testing.assert_allclose(ratio, np.sinc(fx.numpy() * PIXEL_UM))


@pytest.mark.parametrize("measured", [False, True])
def test_real_microtubules(real_data: Path, measured: bool) -> None:
    """Carrier frequency and angles that the instrument was set to."""
    otf: DetectionOtf = OTF
    if measured:
        otf = measured_otf(real_data / "otf_2d_488.mrc", NA, 525.0)
    raw, pixel = read_mrc(real_data / "gi_sim_microtubules_raw.mrc")
    assert pixel == pytest.approx(0.0626, abs=1e-4)
    found = estimate_parameters(fold_raw(raw, 3, 3), otf, 0.0626)
    np.testing.assert_allclose(found.frequency, 5.53, atol=0.05)
    turned = np.array([1.480, 2.5272, 3.5744]) - found.angle_rad
    assert np.abs((turned + np.pi / 2) % np.pi - np.pi / 2).max() < 0.01
    assert (found.pooled_modulation > 0.5).all()
