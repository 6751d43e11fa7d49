"""Illumination parameters against stacks made with other code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sim_truth import EMISSION_UM, NA, PIXEL_UM, Stack, make_stack

from tisr_scope.data.biotisr import fold_raw, read_mrc
from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics import DetectionOtf, incoherent_otf, measured_otf
from tisr_scope.sim.parameters import SimParameters, estimate_parameters, nominal_carriers

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


def test_parameters_survive_json(small: Stack) -> None:
    found = estimate_parameters(small.frames(100), OTF, PIXEL_UM)
    back = SimParameters.from_dict(found.to_dict())
    np.testing.assert_allclose(back.carrier, found.carrier, atol=1e-6)
    np.testing.assert_allclose(
        back.frequency * np.cos(back.angle_rad), found.carrier[:, 0], atol=1e-5
    )


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
    with pytest.raises(ReconstructionError, match="stand out where the profile does not"):
        estimate_parameters(small.frames(100), OTF, PIXEL_UM, nominal=0.85 * small.carrier)


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
