"""Resolution, error and consistency metrics against closed forms and plain NumPy of their own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tisr_scope.errors import DataError
from tisr_scope.metrics.decorrelation import decorrelation_analysis
from tisr_scope.metrics.resolution_map import resolution_map
from tisr_scope.metrics.resolution_scaled_error import resolution_scaled_error
from tisr_scope.metrics.ring_correlation import (
    RingCorrelation,
    ring_correlation,
    single_image_ring_correlation,
)
from tisr_scope.metrics.temporal import (
    correlation_matrix,
    excess_change,
    lag_correlation,
    persistence_s,
)

PIXEL_UM = 0.05


def radius_of(n: int, pixel_um: float = PIXEL_UM) -> np.ndarray:
    f = np.fft.fftfreq(n, pixel_um)
    return np.hypot(f[:, None], f[None, :])


def shaped_noise(n: int, amplitude: np.ndarray, seed: int) -> np.ndarray:
    """Gaussian image whose spectrum has the given rms amplitude, 1 being white noise of sd 1."""
    white = np.random.default_rng(seed).normal(size=(n, n))
    return np.fft.ifft2(np.fft.fft2(white) * amplitude).real


def pair(n: int, amplitude: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images of one object, each with its own white noise of sd 1."""
    rng = np.random.default_rng(1000 + seed)
    signal = shaped_noise(n, amplitude, seed)
    return signal + rng.normal(size=(n, n)), signal + rng.normal(size=(n, n))


def falling(n: int, at_um: float = 0.2, level: float = 1 / 6) -> np.ndarray:
    """Amplitude whose signal-to-noise ratio falls through ``level`` (FRC 1/7) at a known period."""
    frequency = radius_of(n) * at_um
    return np.sqrt(level) * np.exp(4 * (1 - frequency))


# Fourier ring correlation


def test_ring_correlation_is_the_sum_over_rings() -> None:
    """Against a loop over rings, with no window and an uneven field."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 48, 60))
    b += 0.7 * a
    found = ring_correlation(a, b, PIXEL_UM, window="none")
    fa, fb = np.fft.fft2(a - a.mean()), np.fft.fft2(b - b.mean())
    fy, fx = (np.fft.fftfreq(n, PIXEL_UM) for n in a.shape)
    radius = np.hypot(fy[:, None], fx[None, :])
    width = 1 / (48 * PIXEL_UM)
    for ring, frequency in enumerate(found.frequency):
        assert frequency == pytest.approx((ring + 1) * width)
        inside = (radius >= frequency - width / 2) & (radius < frequency + width / 2)
        expected = (fa * fb.conj())[inside].sum().real / np.sqrt(
            (np.abs(fa[inside]) ** 2).sum() * (np.abs(fb[inside]) ** 2).sum()
        )
        assert found.correlation[ring] == pytest.approx(expected, abs=1e-9)
        assert found.samples[ring] == pytest.approx(inside.sum())


@pytest.mark.parametrize("window", ["none", "tukey", "hann"])
def test_known_signal_and_noise_give_the_known_curve(window: str) -> None:
    """The expected correlation of signal power S and noise power 1 in both is S / (S + 1)."""
    n = 256
    curves = [ring_correlation(*pair(n, falling(n), s), PIXEL_UM, window=window) for s in range(4)]
    mean = np.mean([c.correlation for c in curves], axis=0)
    power = np.exp(8 * (1 - curves[0].frequency * 0.2)) / 6
    error = np.abs(mean - power / (power + 1)) * np.sqrt(4 * curves[0].samples)
    assert error.max() < 4.5
    for curve in curves:
        found = curve.resolution("1/7")
        assert found.um == pytest.approx(0.2, abs=4 * found.standard_error_um)
        assert found.standard_error_um < 0.01


def test_standard_error_of_the_resolution_is_its_scatter() -> None:
    n = 192
    found = [ring_correlation(*pair(n, falling(n), s), PIXEL_UM).resolution() for s in range(24)]
    error = np.array([one.um for one in found]) - 0.2
    told = np.array([one.standard_error_um for one in found])
    assert 0.7 < np.sqrt(np.mean((error / told) ** 2)) < 1.4
    assert abs(error.mean()) < 0.5 * told.mean()


@pytest.mark.parametrize("window", ["none", "tukey", "hann"])
def test_noise_alone_correlates_as_little_as_stated(window: str) -> None:
    rng = np.random.default_rng(3)
    curves = [
        ring_correlation(*rng.normal(size=(2, 64, 64)), PIXEL_UM, window=window) for _ in range(150)
    ]
    scatter = np.std([c.correlation for c in curves], axis=0) * np.sqrt(curves[0].samples)
    np.testing.assert_allclose(scatter[3:].mean(), 1, atol=0.08)
    smooth = np.std([c.smoothed() for c in curves], axis=0) / curves[0].smoothed_error()
    np.testing.assert_allclose(smooth[3:-3].mean(), 1, atol=0.15)
    assert all(c.resolution().note.startswith("no agreement") for c in curves[:20])


def test_thresholds_are_those_of_the_literature() -> None:
    curve = RingCorrelation(np.arange(1.0, 4), np.zeros(3), np.array([20.0, 200.0, 1e9]))
    # van Heel and Schatz 2005, eq. 17, with the independent half of the ring
    n = np.array([10.0, 100.0, 5e8])
    half_bit = (0.2071 + 1.9102 / np.sqrt(n)) / (1.2071 + 0.9102 / np.sqrt(n))
    np.testing.assert_allclose(curve.threshold("half-bit"), half_bit, rtol=1e-3)
    np.testing.assert_allclose(curve.threshold("3-sigma"), 3 / np.sqrt(curve.samples))
    np.testing.assert_allclose(curve.threshold("1/7"), 1 / 7)
    assert curve.up_to(2.0).frequency.tolist() == [1, 2]


@pytest.mark.usefixtures("unchecked_shapes")
def test_equal_images_agree_to_the_edge_and_wrong_ones_are_refused() -> None:
    image = shaped_noise(64, falling(64), 0)
    found = ring_correlation(image, image, PIXEL_UM).resolution()
    assert found.um is None and found.note.startswith("not reached")
    with pytest.raises(DataError, match="no ring correlation"):
        ring_correlation(image, image[1:], PIXEL_UM)
    with pytest.raises(DataError, match="constant"):
        ring_correlation(image, np.ones_like(image), PIXEL_UM)
    with pytest.raises(DataError, match="NaN"):
        ring_correlation(image, np.full_like(image, np.nan), PIXEL_UM)


def test_one_image_gives_the_curve_of_two() -> None:
    """A chess board of one image, scaled to the full exposure, against two such images."""
    n = 384
    amplitude = falling(n, at_um=0.3)
    one = [single_image_ring_correlation(pair(n, amplitude, s)[0], PIXEL_UM) for s in range(3)]
    mean = np.mean([c.correlation for c in one], axis=0)
    power = np.exp(8 * (1 - one[0].frequency * 0.3)) / 6
    assert one[0].frequency[-1] == pytest.approx(5, abs=0.1)  # a quarter of the sampling
    np.testing.assert_allclose(mean[6:40], (power / (power + 1))[6:40], atol=0.1)
    assert one[0].resolution().um == pytest.approx(0.3, rel=0.06)
    parts = single_image_ring_correlation(pair(n, amplitude, 0)[0], PIXEL_UM, full_exposure=False)
    quarter = (power / 4) / (power / 4 + 1)
    np.testing.assert_allclose(parts.correlation[6:40], quarter[6:40], atol=0.15)


def test_map_knows_both_sides_and_the_background() -> None:
    n = 256
    fine, coarse = falling(n, at_um=0.15), falling(n, at_um=0.35)
    rng = np.random.default_rng(4)
    signal = shaped_noise(n, fine, 1)
    signal[:, n // 2 :] = shaped_noise(n, coarse, 2)[:, n // 2 :]
    signal[n - 80 :] = 0
    a, b = (signal + rng.normal(size=(n, n)) for _ in range(2))
    found = resolution_map(a, b, PIXEL_UM, block_px=64, threshold="1/7", background=0.35)
    left = found.resolution_um[:5][:, found.centre_x_px < 80]
    right = found.resolution_um[:5][:, found.centre_x_px > 176]
    assert np.nanmedian(left) == pytest.approx(0.15, rel=0.15)
    assert np.nanmedian(right) == pytest.approx(0.35, rel=0.2)
    assert np.isnan(found.resolution_um[-1]).all()
    assert found.centre_y_px[0] == 31.5
    with pytest.raises(DataError, match="do not fit"):
        resolution_map(a, b, PIXEL_UM, block_px=300)


# decorrelation analysis


def plain_decorrelation(image: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Correlation coefficient of the transform with its normalised one, cut at each radius."""
    spectrum = np.fft.fft2(image - image.mean())
    magnitude = np.abs(spectrum)
    unit = np.divide(spectrum, magnitude, out=np.zeros_like(spectrum), where=magnitude > 0)
    radius = radius_of(image.shape[0], 1.0) * 2
    inside = radius < 1
    curve = []
    for r in radii:
        cut = unit * (radius < r)
        numerator = (spectrum * cut.conj())[inside].sum().real
        power = (magnitude[inside] ** 2).sum() * (np.abs(cut[inside]) ** 2).sum()
        curve.append(numerator / np.sqrt(power) if power > 0 else 0.0)
    return np.array(curve)


def test_decorrelation_is_the_correlation_coefficient() -> None:
    image = pair(128, falling(128), 0)[0]
    edge = np.zeros((128, 128))
    edge[20:-20, 20:-20] = 1  # faded edges do nothing to an image that is flat there
    image = image * gaussian_filter(edge, 0.1) * (edge > 0)
    found = decorrelation_analysis(image, PIXEL_UM)
    rise = np.sin(np.pi / 2 * (np.arange(20) + 0.5) / 20) ** 2
    side = np.concatenate([rise, np.ones(88), rise[::-1]])
    faded = (image - image.mean()) * side[:, None] * side[None, :]
    # The mean of the faded image is kept by the analysis at frequency 0, one sample of thousands.
    np.testing.assert_allclose(
        found.curve[2:], plain_decorrelation(faded, found.radius)[2:], atol=0.01
    )


@pytest.mark.parametrize("period_um", [0.15, 0.22, 0.4])
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_images_cut_at_a_known_radius(period_um: float, noise: float) -> None:
    n = 256
    cut = (radius_of(n) < 1 / period_um) / (0.5 + radius_of(n))
    image = shaped_noise(n, cut, 5)
    image += np.random.default_rng(6).normal(0, noise * image.std(), (n, n))
    found = decorrelation_analysis(image, PIXEL_UM).resolution_um
    # The radii that are tried lie 0.0086 of the Nyquist frequency apart; the edge is found late.
    assert 2 * PIXEL_UM / found == pytest.approx(2 * PIXEL_UM / period_um, abs=2 * 0.0086)


def test_decorrelation_without_signal_and_of_unusable_images() -> None:
    white = np.random.default_rng(7).normal(size=(128, 128))
    found = decorrelation_analysis(white, PIXEL_UM)
    assert found.resolution_um is None or found.resolution_um < 2.2 * PIXEL_UM
    with pytest.raises(DataError, match="too small"):
        decorrelation_analysis(white[:40], PIXEL_UM)
    with pytest.raises(DataError, match="constant"):
        decorrelation_analysis(np.ones((128, 128)), PIXEL_UM)


# resolution-scaled error


@pytest.fixture(scope="module")
def fine() -> np.ndarray:
    return gaussian_filter(np.random.default_rng(8).random((192, 192)) ** 30, 1.2)


def blurred(fine: np.ndarray, sigma_px: float) -> np.ndarray:
    """In Fourier space, then one value a camera pixel: the mean of 2 x 2 fine ones."""
    f = np.fft.fftfreq(fine.shape[0])
    square = f[:, None] ** 2 + f[None, :] ** 2
    gauss = np.exp(-2 * np.pi**2 * sigma_px**2 * square)
    wide = np.fft.ifft2(np.fft.fft2(fine) * gauss).real
    return (wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]) / 4


@pytest.mark.parametrize("sigma_px", [2.0, 3.5])
def test_blurred_truth_has_no_error_and_the_known_width(fine: np.ndarray, sigma_px: float) -> None:
    wide = 300 * blurred(fine, sigma_px) + 40
    found = resolution_scaled_error(fine, wide, 0.06)
    assert found.sigma_um == pytest.approx(sigma_px * 0.03, rel=0.01)
    assert found.gain == pytest.approx(300, rel=0.01)
    assert found.offset == pytest.approx(40, abs=0.3)
    assert found.relative_rse < 0.01
    assert found.rsp > 0.9999


def test_noise_of_the_wide_field_is_the_error(fine: np.ndarray) -> None:
    wide = blurred(fine, 3)
    noise = np.random.default_rng(9).normal(0, 0.2 * wide.std(), wide.shape)
    found = resolution_scaled_error(fine, wide + noise, 0.06)
    assert found.rse == pytest.approx(noise.std(), rel=0.04)
    assert found.rsp == pytest.approx(1 / np.sqrt(1 + 0.2**2), abs=0.004)


def test_false_and_missing_structure_are_in_the_map(fine: np.ndarray) -> None:
    wide = blurred(fine, 3)
    wrong = fine.copy()
    wrong[60:68, 60:68] += 3 * fine.max()
    wrong[120:140, 120:140] = 0
    found = resolution_scaled_error(wrong, wide, 0.06)
    y, x = np.unravel_index(int(found.error_map.argmax()), wide.shape)
    assert 28 <= y <= 36 and 28 <= x <= 36
    assert found.error_map[62:68, 62:68].mean() < 0
    assert found.rse > 5 * resolution_scaled_error(fine, wide, 0.06).rse


def test_known_optics_in_place_of_a_gaussian(fine: np.ndarray) -> None:
    wide = blurred(fine, 3)

    def gauss(fy: np.ndarray, fx: np.ndarray) -> np.ndarray:
        return np.exp(-2 * np.pi**2 * (3 * 0.03) ** 2 * (fy**2 + fx**2))

    found = resolution_scaled_error(fine, wide, 0.06, transfer=gauss)
    assert found.sigma_um is None
    assert found.relative_rse < 0.01
    with pytest.raises(DataError, match="whole multiple"):
        resolution_scaled_error(fine[1:], wide, 0.06)
    with pytest.raises(DataError, match="constant"):
        resolution_scaled_error(np.ones_like(fine), wide, 0.06)


# time


def decaying(keep: float, frames: int = 12, seed: int = 0) -> np.ndarray:
    """Frames whose correlation falls by ``keep`` from each to the next."""
    rng = np.random.default_rng(seed)
    stack = [rng.normal(size=(200, 200))]
    for _ in range(frames - 1):
        stack.append(keep * stack[-1] + np.sqrt(1 - keep**2) * rng.normal(size=(200, 200)))
    return np.array(stack)


def test_correlation_falls_as_the_sample_changes() -> None:
    stack = decaying(0.8)
    matrix = correlation_matrix(stack)
    lag = np.abs(np.arange(12)[:, None] - np.arange(12)[None, :])
    np.testing.assert_allclose(matrix, 0.8**lag, atol=0.02)
    np.testing.assert_allclose(lag_correlation(matrix), 0.8 ** np.arange(12), atol=0.02)
    # Bleaching and an offset of the camera change nothing.
    dimmed = stack * np.geomspace(1, 0.3, 12)[:, None, None] + 7
    np.testing.assert_allclose(correlation_matrix(dimmed), matrix, atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_persistence_is_the_half_life_whatever_the_noise(noise: float) -> None:
    keep, interval_s = 0.8, 0.5
    stack = decaying(keep)
    stack += np.random.default_rng(1).normal(0, 1, stack.shape) * noise
    half_life = np.log(2) / np.log(1 / keep) * interval_s
    assert persistence_s(stack, interval_s) == pytest.approx(half_life, rel=0.06)
    assert persistence_s(decaying(0.99), interval_s) is None
    with pytest.raises(DataError, match="no course in time"):
        persistence_s(stack[:2], interval_s)


def test_flicker_and_smoothing_against_a_reference() -> None:
    truth = decaying(0.8)
    assert excess_change(3 * truth + 1, truth) == pytest.approx(1)
    noisy = truth + np.random.default_rng(2).normal(0, 0.5, truth.shape)
    # 1 - 0.8 / (1 + 0.25) over 1 - 0.8
    assert excess_change(noisy, truth) == pytest.approx((1 - 0.8 / 1.25) / 0.2, rel=0.04)
    smooth = np.stack([truth[max(0, t - 1) : t + 2].mean(axis=0) for t in range(12)])
    assert excess_change(smooth, truth) < 0.5
    with pytest.raises(DataError, match="does not change"):
        excess_change(truth, np.repeat(truth[:1], 12, axis=0))
