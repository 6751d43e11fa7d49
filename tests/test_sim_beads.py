"""Transfer function from beads, against the closed form that the images were made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.beads import measure_otf, sphere_transfer, write_otf
from tisr_scope.sim.optics.otf import incoherent_otf, measured_otf

PIXEL_UM, NA, EMISSION_NM = 0.0626, 1.49, 525.0
CUTOFF = 2 * NA / (EMISSION_NM * 1e-3)
MARGIN = 48


def lens(frequency: np.ndarray) -> np.ndarray:
    s = np.clip(frequency / CUTOFF, 0, 1)
    return 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))


def sphere(frequency: np.ndarray, diameter_um: float) -> np.ndarray:
    x = np.maximum(np.pi * frequency * diameter_um, 1e-9)
    return 3 * spherical_jn(1, x) / x


def bead_image(
    beads: int, photons: float, diameter_um: float, seed: int, n: int = 320
) -> np.ndarray:
    """Beads at random places of a field with a margin, a few clumps among them."""
    rng = np.random.default_rng(seed)
    size = n + 2 * MARGIN
    places = rng.uniform(0, size, (round(beads * size**2 / n**2), 2))
    brightness = np.where(rng.random(len(places)) < 0.1, 3.0, rng.uniform(0.8, 1.2, len(places)))
    f = np.fft.fftfreq(size)
    left = np.exp(-2j * np.pi * f[:, None] * places[:, 0]) * brightness
    spectrum = left @ np.exp(-2j * np.pi * places[:, 1, None] * f)
    radius = np.hypot(f[:, None], f[None, :]) / PIXEL_UM
    image = np.fft.ifft2(spectrum * lens(radius) * sphere(radius, diameter_um)).real
    image = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
    peak = lens(radius).sum() / size**2
    light = rng.poisson(photons / peak * image.clip(min=0) + 2)
    return light + rng.normal(0, 1.6, image.shape) + 100


@pytest.mark.parametrize(("diameter_um", "beads"), [(0.1, 30), (0.02, 30), (0.1, 80)])
def test_closed_form_is_found_again(diameter_um: float, beads: int) -> None:
    images = np.stack([bead_image(beads, 800, diameter_um, seed) for seed in range(4)])
    found = measure_otf(images, PIXEL_UM, NA, EMISSION_NM, diameter_um)
    error = np.array(found.otf.radial_values) - lens(found.frequency)
    assert np.abs(error).max() < 0.015
    assert np.sqrt(np.mean(error**2)) < 0.006
    assert np.sqrt(np.mean((error[5:] / found.standard_error[5:]) ** 2)) < 2.5
    assert 20 < len(found.positions_px) < 4 * beads


def test_size_of_the_beads_matters() -> None:
    images = np.stack([bead_image(30, 800, 0.17, seed) for seed in range(3)])
    with_size = measure_otf(images, PIXEL_UM, NA, EMISSION_NM, 0.17)
    without = measure_otf(images, PIXEL_UM, NA, EMISSION_NM)
    middle = np.abs(with_size.frequency - 0.6 * CUTOFF) < 0.1 * CUTOFF
    true = lens(with_size.frequency)[middle]
    np.testing.assert_allclose(np.array(with_size.otf.radial_values)[middle], true, atol=0.015)
    assert (np.array(without.otf.radial_values)[middle] < 0.9 * true).all()


def test_sphere_transfer_is_that_of_a_ball() -> None:
    frequency = np.linspace(0, 5, 11)
    np.testing.assert_allclose(sphere_transfer(frequency, 0.2), sphere(frequency, 0.2), atol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "mrc"])
def test_written_curve_is_read_again(tmp_path: Path, ending: str) -> None:
    found = measure_otf(bead_image(30, 800, 0.1, 7), PIXEL_UM, NA, EMISSION_NM, 0.1).otf
    path = tmp_path / f"otf.{ending}"
    write_otf(path, found)
    read = measured_otf(path, NA, EMISSION_NM)
    frequency = torch.linspace(0, 1.1 * CUTOFF, 50, dtype=torch.float64)
    np.testing.assert_allclose(read.radial(frequency), found.radial(frequency), atol=1e-4)
    assert float(read.radial(torch.tensor([1.01 * CUTOFF]))) == 0


def test_what_is_no_curve_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "otf.csv"
    path.write_text("frequency,transfer\n" + "\n".join(f"{i**2},{1 / (i + 1)}" for i in range(30)))
    with pytest.raises(ReconstructionError, match="not a radial transfer function"):
        measured_otf(path, NA, EMISSION_NM)
    path.write_text("frequency,transfer\none,two\n")
    with pytest.raises(ReconstructionError, match="not a table"):
        measured_otf(path, NA, EMISSION_NM)
    with pytest.raises(ReconstructionError, match="closed form"):
        write_otf(path, incoherent_otf(NA, EMISSION_NM))


@pytest.mark.parametrize(
    ("image", "diameter_um", "message"),
    [
        (np.random.default_rng(0).normal(100, 3, (128, 128)), 0.0, "single beads"),
        (np.full((128, 128), np.nan), 0.0, "no image of beads"),
        (np.zeros((10, 10)), 0.0, "no image of beads"),
        (bead_image(30, 800, 0.1, 1), 0.5, "hide the finest detail"),
    ],
)
def test_unusable_images_are_refused(image: np.ndarray, diameter_um: float, message: str) -> None:
    with pytest.raises(ReconstructionError, match=message) as caught:
        measure_otf(image, PIXEL_UM, NA, EMISSION_NM, diameter_um, where="slide 3")
    assert caught.value.where == "slide 3"
    assert caught.value.remedy
