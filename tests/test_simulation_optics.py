"""Rendering against sums over the analytic point-spread function."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import j1

from tisr_scope.running_order.patterns import (
    Pattern,
    centred_coordinates,
    even_slm_image,
    grating,
    slm_image,
)
from tisr_scope.simulated_microscope.detection import IncoherentOtf, Renderer, cutoff
from tisr_scope.simulated_microscope.light import PatternLight

PIXEL_UM = 0.0626
CUTOFF = cutoff(1.49, 525.0)


otf = IncoherentOtf(CUTOFF)


def airy(radius_um: np.ndarray) -> np.ndarray:
    """Incoherent point-spread function of a circular pupil, per square micrometre."""
    r = np.maximum(radius_um, 1e-9)
    return j1(np.pi * CUTOFF * r) ** 2 / (np.pi * r**2)


def emitters(count: int, half_um: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    x, y = random.uniform(-half_um, half_um, (2, count)).astype(np.float32)
    return x, y, random.uniform(0.5, 2, count).astype(np.float32)


def test_cutoff_and_otf_of_a_circular_pupil() -> None:
    assert pytest.approx(5.676, abs=1e-3) == CUTOFF
    values = otf(np.array([0.0, CUTOFF / 2, CUTOFF, 2 * CUTOFF]))
    np.testing.assert_allclose(
        values, [1, 2 / np.pi * (np.pi / 3 - np.sqrt(3) / 4), 0, 0], atol=1e-12
    )


@pytest.mark.parametrize("shape", [(48, 64), (65, 50)])
def test_image_is_the_sum_of_analytic_point_spread_functions(shape: tuple[int, int]) -> None:
    x, y, weight = emitters(40, 1.2)
    rows, columns = centred_coordinates(shape, PIXEL_UM)
    image = Renderer(shape, PIXEL_UM, otf).render(x, y, weight)
    exact = np.zeros(shape)
    for xi, yi, wi in zip(x, y, weight, strict=True):
        distance = np.hypot(rows[:, None] - yi, columns[None, :] - xi)
        exact += wi * airy(distance) * PIXEL_UM**2
    # the Airy tail beyond the margin is what differs
    assert np.abs(image - exact).max() < 1e-3 * exact.max()


def test_image_matches_the_exact_fourier_sum() -> None:
    x, y, weight = emitters(300, 2.3)
    renderer = Renderer((64, 64), PIXEL_UM, otf)
    image = renderer.render(x, y, weight)
    size, before = renderer.padded_shape[0], (renderer.padded_shape[0] - 64) // 2
    k = np.fft.fftfreq(size, PIXEL_UM)
    first = (-63 / 2 - before) * PIXEL_UM
    waves_x = np.exp(-2j * np.pi * np.outer(k, x.astype(float) - first))
    waves_y = np.exp(-2j * np.pi * np.outer(k, y.astype(float) - first))
    spectrum = (waves_y * weight) @ waves_x.T * otf(np.hypot(k[:, None], k[None, :]))
    exact = np.fft.ifft2(spectrum).real[before : before + 64, before : before + 64]
    assert np.abs(image - exact).max() < 3e-4 * exact.max()


def test_light_is_conserved_and_centred() -> None:
    zero = np.zeros(1, np.float32)
    for shape in ((96, 96), (97, 97)):
        image = Renderer(shape, PIXEL_UM, otf).render(zero, zero, zero + 1000)
        assert 985 < image.sum() < 1001  # a percent of the Airy tail lies outside
        np.testing.assert_allclose(image, image[::-1, ::-1], atol=5e-4 * image.max())


def test_finer_pixels_see_the_same_scene() -> None:
    """Splitting every pixel keeps positions: 2 x 2 blocks of means follow the coarse image."""
    x, y, weight = emitters(60, 1.5)
    coarse = Renderer((64, 64), PIXEL_UM, otf).render(x, y, weight)
    fine = Renderer((256, 256), PIXEL_UM / 4, otf).render(x, y, weight) * 16
    rows = np.arange(64) * 4 + 1
    at_centres = (fine[:, rows] + fine[:, rows + 1])[rows] + (fine[:, rows] + fine[:, rows + 1])[
        rows + 1
    ]
    assert np.abs(at_centres / 4 - coarse).max() < 0.02 * coarse.max()


def test_emitters_outside_do_not_come_back_on_the_other_side() -> None:
    renderer = Renderer((64, 64), PIXEL_UM, otf)
    outside = np.array([renderer.reach_um[1] - 0.01, 50.0, np.nan], np.float32)
    image = renderer.render(outside, np.zeros(3, np.float32), np.ones(3, np.float32))
    central = airy(np.zeros(1))[0] * PIXEL_UM**2
    assert np.abs(image[:, :32]).max() < 1e-3 * central


def test_even_density_gives_an_even_image() -> None:
    renderer = Renderer((64, 64), PIXEL_UM, otf)
    y, x = renderer.fine_coordinates()
    image = renderer.render_density(np.full((y.size, x.size), 3.0))
    np.testing.assert_allclose(image, 3.0, rtol=1e-5)


@pytest.mark.parametrize("angle", [1.480, 2.527, 3.574])
def test_light_in_the_sample_follows_the_slm(angle: float) -> None:
    pattern = Pattern(period_um=0.1807, angle_rad=angle, phase_rad=2.1)
    slm_pixel = PIXEL_UM / 4
    light = PatternLight(slm_image(pattern, (512, 512), slm_pixel), 0.8, slm_pixel)
    random = np.random.default_rng(1)
    x, y = random.uniform(-3.9, 3.9, (2, 20_000)).astype(np.float32)
    wave = np.exp(-1j * (2 * np.pi / 0.1807 * (x * np.cos(angle) + y * np.sin(angle)) + 2.1))
    sampled = light.at(x, y)
    design = np.stack((np.ones_like(x), wave.real, wave.imag), axis=1)
    mean, cosine, sine = np.linalg.lstsq(design, sampled, rcond=None)[0]
    assert mean == pytest.approx(1, abs=2e-3)
    assert cosine == pytest.approx(0.8, abs=2e-3)
    assert sine == pytest.approx(0, abs=2e-3)


def test_black_is_dark_and_half_grey_is_even() -> None:
    points = np.linspace(-1, 1, 50, dtype=np.float32)
    even = PatternLight(even_slm_image((256, 256)), 0.8, 0.01565)
    np.testing.assert_allclose(even.at(points, points), 256 / 255, rtol=1e-6)
    assert not even.dark
    black = PatternLight(np.zeros((256, 256), np.uint8), 0.8, 0.01565)
    assert black.dark
    assert black.at(points, points).max() == 0


def test_grating_convention_of_the_package() -> None:
    """The light at SLM pixel centres is the package's grating with reduced contrast."""
    pattern = Pattern(period_um=0.25, angle_rad=0.7, phase_rad=1.0)
    slm_pixel = PIXEL_UM / 4
    light = PatternLight(slm_image(pattern, (200, 240), slm_pixel), 0.6, slm_pixel)
    y, x = centred_coordinates((200, 240), slm_pixel)
    grid_x, grid_y = (a.astype(np.float32) for a in np.meshgrid(x, y))
    wanted = grating(pattern, (200, 240), slm_pixel, 0.6)
    inner = (slice(2, -2), slice(2, -2))
    # at grid points the correction for interpolation shows: a little over the nominal contrast
    np.testing.assert_allclose(light.at(grid_x, grid_y)[inner], wanted[inner], atol=0.02)
