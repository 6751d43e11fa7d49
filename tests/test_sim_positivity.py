"""Images without negative light: the right minimum, closer to the sample, equally bright."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sim_truth import EMISSION_UM, NA, PIXEL_UM, Stack, make_stack, psnr

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import estimate_parameters
from tisr_scope.sim.reconstruction.positivity import non_negative
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings, reconstruct
from tisr_scope.sim.reconstruction.rolling import RollingReconstruction

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack(n=128, ratio=0.92, seed=2)


def test_the_minimum_is_that_of_a_general_solver() -> None:
    rows, width, w = 12, 10, 0.3
    rng = np.random.default_rng(1)
    f = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(width)[None, :])
    passed = np.exp(-30 * f**2)
    sample = np.maximum(rng.normal(0, 1, (rows, width)), 0)
    measured = np.fft.rfft2(sample) * passed + 0.3 * np.fft.rfft2(rng.normal(0, 1, (rows, width)))

    def cost(flat: np.ndarray) -> tuple[float, np.ndarray]:
        s = flat.reshape(rows, width)
        force = np.fft.irfft2(np.fft.rfft2(s) * (passed + w * w), s=s.shape)
        back = np.fft.irfft2(measured, s=s.shape)
        return float((s * force / 2 - s * back).sum()), (force - back).ravel()

    bounds = [(0, None)] * (rows * width)
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000}
    start = np.zeros(rows * width)
    best = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    centred = [torch.from_numpy(np.fft.fftshift(a, axes=0)) for a in (measured, passed)]
    found = non_negative(centred[0][None], centred[1], torch.ones(rows, 6), w, width, 400)[0]
    assert (best.x == 0).mean() > 0.2
    np.testing.assert_allclose(found, best.x.reshape(rows, width), atol=1e-5)


@pytest.mark.parametrize(("photons", "gain_db"), [(500, 2.0), (100, 1.5), (20, 1.0)])
def test_closer_to_the_sample_and_as_bright(stack: Stack, photons: float, gain_db: float) -> None:
    frames, truth = stack.frames(photons), stack.truth(photons)
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    linear, positive = (
        reconstruct(frames, parameters, OTF, WienerSettings(positivity=n))[0] for n in (0, 10)
    )
    assert psnr(positive, truth) > psnr(linear, truth) + gain_db
    # What is left are the lobes of the apodisation, which the noiseless sample has as well.
    below, lobes, noise = (-image.clip(max=0).sum() for image in (positive, truth, linear))
    assert below < 1.1 * lobes < 0.8 * noise
    assert positive.mean() == pytest.approx(frames.mean(), rel=0.04)


def test_nothing_changes_where_nothing_is_negative(stack: Stack) -> None:
    frames = stack.frames(500)
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    raised = frames + 1500.0
    linear, positive = (
        reconstruct(raised, parameters, OTF, WienerSettings(parameter=0.1, positivity=n))[0]
        for n in (0, 100)
    )
    assert linear.min() > 0
    error = np.abs(positive - linear)[16:-16, 16:-16]
    assert error.max() < 0.02 * (linear.max() - linear.min())


def test_rolling_image_is_the_same(stack: Stack) -> None:
    frames = stack.frames(200)[..., :64, :64].astype(np.float32)
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    settings = WienerSettings(parameter=0.05, positivity=5)
    live = RollingReconstruction(parameters, OTF, np.zeros_like(frames), settings)
    for o in range(3):
        for p in range(3):
            live.add(frames[o, p], o, p)
    whole = reconstruct(frames, parameters, OTF, settings)[0]
    np.testing.assert_allclose(live.image(), whole, atol=1e-3 * whole.max())


def test_a_negative_number_of_rounds_is_refused() -> None:
    with pytest.raises(ReconstructionError, match="positivity=-1"):
        WienerSettings(positivity=-1)
