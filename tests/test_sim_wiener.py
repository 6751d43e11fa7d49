"""The quick reconstruction against a plain one, nonlinear images, and the rolling one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sim_truth import CUTOFF, EMISSION_UM, NA, PIXEL_UM, Stack, make_stack, psnr

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import SimParameters
from tisr_scope.sim.reconstruction import rolling
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings, reconstruct
from tisr_scope.sim.reconstruction.rolling import RollingReconstruction
from tisr_scope.sim.reconstruction.wiener import WienerPlan

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)
SETTINGS = WienerSettings(parameter=0.05)


def known(stack: Stack, *depths: float, times: int = 1) -> SimParameters:
    """Parameters as the stack was made with."""
    orientations, phases = stack.mean.shape[:2]
    n = np.arange(1, len(depths) + 1)
    nothing = np.zeros((times, orientations, len(depths)))
    return SimParameters(
        carrier=stack.carrier,
        phase_rad=nothing + stack.phase[:, None] * n,
        steps_rad=np.tile(2 * np.pi * np.arange(phases) / phases, (orientations, 1)),
        modulation=nothing + np.array(depths),
        gain=np.ones((times, orientations)),
        quality=np.full(orientations, np.nan),
        carrier_se=np.zeros((orientations, 2)),
        phase_se_rad=nothing,
        modulation_se=nothing,
        usable=np.ones(orientations, bool),
        pixel_size_um=PIXEL_UM,
    )


def plain(frames: np.ndarray, parameters: SimParameters, w: float, upscale: int) -> np.ndarray:
    """Generalised Wiener filter as in the textbook: every band enlarged and moved in real space.

    Wide margins in which the bands fade to 0, double precision, NumPy.
    """
    orientations, phases, height, width = frames.shape
    margin = 64
    size = np.array([height, width]) + 2 * margin
    grids = [(np.arange(n) - (n - 1) / 2) * PIXEL_UM for n in size]
    f = [np.fft.fftfreq(n, PIXEL_UM) for n in size]
    large = size * upscale
    fine = [(np.arange(n) - (n - 1) / 2) * PIXEL_UM / upscale for n in large]
    g = [np.fft.fftfreq(n, PIXEL_UM / upscale) for n in large]
    ramp = np.zeros(margin)
    ramp[-12:] = np.sin((np.arange(12) + 0.5) / 12 * np.pi / 2) ** 2
    fade_y, fade_x = (np.r_[ramp, np.ones(n), ramp[::-1]] for n in (height, width))

    def transfer(fy: np.ndarray, fx: np.ndarray) -> np.ndarray:
        s = np.clip(np.hypot(fy[:, None], fx[None, :]) / CUTOFF, 0, 1)
        return 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))

    def wave(k: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
        return np.exp(2j * np.pi * (k[1] * axes[0][:, None] + k[0] * axes[1][None, :]))

    def enlarge(band: np.ndarray) -> np.ndarray:
        # Where each fine pixel lies, in samples of the camera.
        spectrum = np.fft.fft2(band) * transfer(*f)
        lines = []
        for n, m, freq in zip(size, large, f, strict=True):
            where = ((np.arange(m) + 0.5) / upscale - 0.5) * PIXEL_UM
            lines.append(np.exp(2j * np.pi * where[:, None] * freq[None, :]) / n)
        return lines[0] @ spectrum @ lines[1].T

    total = np.zeros(large)
    image = np.zeros(large)
    for o in range(orientations):
        steps = parameters.steps_rad[o]
        for n in range(parameters.orders + 1):
            # Even steps: the bands are a discrete Fourier transform of the frames.
            band = np.tensordot(np.exp(-1j * n * steps) / phases, frames[o], 1)
            k = n * parameters.carrier[o]
            still = np.pad(band * wave(-k, [a[margin:-margin] for a in grids]), margin, "edge")
            moving = still * fade_y[:, None] * fade_x[None, :] * wave(k, grids)
            depth = 1.0 if n == 0 else parameters.modulation[0, o, n - 1] / 2
            phase = 0.0 if n == 0 else parameters.phase_rad[0, o, n - 1]
            moved = depth * np.exp(-1j * phase) * enlarge(moving) * wave(-k, fine)
            image += moved.real * (1 if n == 0 else 2)
            for sign in (1,) if n == 0 else (1, -1):
                total += (depth * transfer(g[0] + sign * k[1], g[1] + sign * k[0])) ** 2
    edge = CUTOFF + parameters.orders * parameters.frequency.max()
    radius = np.hypot(g[0][:, None], g[1][None, :])
    soft = np.cos(np.pi / 2 * np.clip(radius / edge, 0, 1))
    keep = (total[0, 0] + w * w) / total[0, 0]
    result = np.fft.ifft2(np.fft.fft2(image) * soft * keep / (total + w * w)).real
    inner = slice(margin * upscale, -margin * upscale)
    return result[inner, inner]


@pytest.fixture(scope="module")
def linear() -> Stack:
    return make_stack(n=64, ratio=0.975, seed=5)


@pytest.fixture(scope="module")
def nonlinear() -> Stack:
    return make_stack(
        n=96, ratio=0.92, modulation=1.333, harmonics=(0.333,), seed=3, orientations=5, phases=5
    )


def test_linear_equals_the_plain_filter(linear: Stack) -> None:
    frames = linear.frames(500)[..., :60, :]  # neither square nor a power of two
    parameters = known(linear, 0.8)
    quick = reconstruct(frames, parameters, OTF, SETTINGS)[0]
    slow = plain(frames, parameters, 0.05, 2)
    error = np.abs(quick - slow) / slow.max()
    assert quick.shape == (120, 128)
    assert error.max() < 0.02  # at the very border, where the margins differ
    assert error[16:-16, 16:-16].max() < 1e-3


def test_nonlinear_equals_the_plain_filter(nonlinear: Stack) -> None:
    frames = nonlinear.frames(500)
    parameters = known(nonlinear, 1.333, 0.333)
    quick = reconstruct(frames, parameters, OTF, SETTINGS)[0]
    slow = plain(frames, parameters, 0.05, 3)
    assert quick.shape == (288, 288)
    assert (np.abs(quick - slow) / slow.max())[24:-24, 24:-24].max() < 1e-3


def test_second_harmonic_brings_the_image_closer_to_the_sample(nonlinear: Stack) -> None:
    frames = nonlinear.frames(500)
    truth = nonlinear.truth(500)
    both = reconstruct(frames, known(nonlinear, 1.333, 0.333), OTF)[0]
    first = reconstruct(frames, known(nonlinear, 1.333), OTF, upscale=3)[0]
    assert psnr(both, truth, 24) > psnr(first, truth, 24) + 1.0
    assert both.mean() == pytest.approx(frames.mean(), rel=0.02)


def test_unusable_orientation_gives_wide_field_only(linear: Stack) -> None:
    frames = linear.frames(500)
    parameters = known(linear, 0.8)
    usable = np.array([True, False, True])
    image = reconstruct(frames, replace(parameters, usable=usable), OTF, SETTINGS)[0]
    power = np.abs(np.fft.fft2(image * np.hanning(128)[:, None] * np.hanning(128)))
    f = np.fft.fftfreq(128, PIXEL_UM / 2)
    for (kx, ky), good in zip(linear.carrier * 1.6, usable, strict=True):
        row, column = np.abs(f - ky).argmin(), np.abs(f - kx).argmin()
        near = power[np.ix_((row + np.arange(-3, 4)) % 128, (column + np.arange(-3, 4)) % 128)]
        # Beyond the optics there is something only where the side band was used.
        assert (near.mean() > 1e-4 * power.max()) == good
    nothing = reconstruct(frames, replace(parameters, usable=np.zeros(3, bool)), OTF, SETTINGS)[0]
    assert nothing.mean() == pytest.approx(frames.mean(), rel=0.02)


def test_phases_of_every_time_point_are_its_own(linear: Stack) -> None:
    """Frames whose patterns moved by one step are the same frames in another order."""
    frames = linear.frames(500)
    parameters = known(linear, 0.8, times=2)
    phases = parameters.phase_rad.copy()
    phases[1] += 2 * np.pi / 3
    both = np.stack([frames, np.roll(frames, -1, axis=1)])
    images = reconstruct(both, replace(parameters, phase_rad=phases), OTF, SETTINGS)
    np.testing.assert_allclose(images[0], images[1], atol=1e-3 * images[0].max())


def test_upscale_and_steps_that_cannot_work_are_refused(linear: Stack) -> None:
    frames, parameters = linear.frames(100), known(linear, 0.8)
    with pytest.raises(ReconstructionError, match="no enlargement"):
        reconstruct(frames, parameters, OTF, upscale=0)
    alike = replace(parameters, steps_rad=np.tile([0.0, 0.01, 0.02], (3, 1)))
    with pytest.raises(ReconstructionError, match="too much alike"):
        reconstruct(frames, alike, OTF)


def test_rolling_image_is_that_of_the_newest_frame_of_every_pattern(
    linear: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "RENEWAL", 7)
    parameters = known(linear, 0.8)
    sets = [linear.frames(200, seed).astype(np.float32) for seed in range(3)]
    live = RollingReconstruction(parameters, OTF, sets[0], SETTINGS)
    held = sets[0].copy()
    for frames in sets[1:]:
        for o in range(3):
            for p in range(3):
                live.add(frames[o, p], o, p)
                held[o, p] = frames[o, p]
                if (o + p) % 2 == 0:
                    whole = reconstruct(held, parameters, OTF, SETTINGS)[0]
                    np.testing.assert_allclose(live.image(), whole, atol=2e-4 * whole.max())
    with pytest.raises(ReconstructionError, match="no pattern"):
        live.add(sets[0][0, 0], 3, 0)
    with pytest.raises(ReconstructionError, match="among frames"):
        live.add(sets[0][0, 0][:32], 0, 0)


def test_rounding_of_many_changes_stays_small(linear: Stack) -> None:
    parameters = known(linear, 0.8)
    frames = linear.frames(200).astype(np.float32)
    live = RollingReconstruction(parameters, OTF, frames, SETTINGS)
    rng = np.random.default_rng(0)
    for i in range(rolling.RENEWAL - 1):
        live.add(frames[i % 3, i // 3 % 3] * rng.uniform(0, 5), i % 3, i // 3 % 3)
    for i in range(9):
        live.add(frames[i % 3, i // 3], i % 3, i // 3)
    whole = reconstruct(frames, parameters, OTF, SETTINGS)[0]
    np.testing.assert_allclose(live.image(), whole, atol=1e-3 * whole.max())


def test_rolling_goes_on_with_renewed_parameters(linear: Stack) -> None:
    wrong = known(linear, 0.8)
    frames = linear.frames(200).astype(np.float32)
    live = RollingReconstruction(
        replace(wrong, phase_rad=wrong.phase_rad + 1.0), OTF, frames, SETTINGS
    )
    right = reconstruct(frames, wrong, OTF, SETTINGS)[0]
    assert np.abs(live.image() - right).max() > 0.05 * right.max()
    live.renew(wrong)
    np.testing.assert_allclose(live.image(), right, atol=1e-4 * right.max())
    with pytest.raises(ReconstructionError, match="do not fit"):
        live.renew(known(linear, 0.8, times=2))


def test_parts_of_a_stack_add_up(linear: Stack) -> None:
    """What rolling rests on: the spectrum is linear in the frames."""
    frames = torch.from_numpy(linear.frames(200).astype(np.float32))[None]
    plan = WienerPlan(known(linear, 0.8), OTF, SETTINGS, 0.05, (64, 64))
    total = plan.empty()
    for o in range(3):
        for p in range(3):
            plan.change(total, frames[0, o, p], o, p)
    whole = plan.spectrum(frames)
    assert float((total - whole).abs().max() / whole.abs().max()) < 1e-5
