"""Transfer function from beads, against the closed form that the images were made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy.special import spherical_jn
from typer.testing import CliRunner

from tisr_scope.cli import app
from tisr_scope.errors import DataError, ReconstructionError
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


def test_the_verb_measures_what_reconstruct_reads(tmp_path: Path) -> None:
    """Gaussian spots: their spectrum is known, and the curve written is it."""
    rng = np.random.default_rng(3)
    pixel, sigma_um = 0.065, 0.09
    y, x = np.mgrid[:256, :256] * pixel
    image = np.full((256, 256), 100.0)
    for row in range(5):
        for column in range(5):
            j, i = (3 * np.array([row, column]) + 2.2 + rng.uniform(-0.3, 0.3, 2)).tolist()
            image += 4000 * np.exp(-((y - j) ** 2 + (x - i) ** 2) / (2 * sigma_um**2))
    frames = rng.poisson(np.broadcast_to(image, (9, 256, 256))).astype(np.uint16)
    tifffile.imwrite(tmp_path / "beads.tif", frames, photometric="minisblack")
    told = ["--numerical-aperture", "1.4", "--emission-nm", "525", "--bead-diameter-um", "0"]
    asked = ["otf", "measure", str(tmp_path / "beads.tif"), str(tmp_path / "otf.csv"), "--raw", "9"]
    run = CliRunner().invoke(app, [*asked, *told])
    assert isinstance(run.exception, DataError)  # nobody says the size of a pixel
    run = CliRunner().invoke(app, [*asked, *told, "--pixel-size-um", "0.065"])
    assert run.exit_code == 0, run.output
    otf = measured_otf(tmp_path / "otf.csv", 1.4, 525)
    f = torch.linspace(0.3, 3.0, 10, dtype=torch.float64)
    expected = np.exp(-2 * (np.pi * sigma_um * f.numpy()) ** 2)
    # A lens has no flat top, from which the value at frequency 0 would be taken too high.
    found = otf.radial(f).numpy()
    np.testing.assert_allclose(found / found[0], expected / expected[0], atol=0.03)
    assert found[0] == pytest.approx(expected[0], abs=0.08)


def test_a_damped_lens_passes_less() -> None:
    ideal, damped = incoherent_otf(1.4, 525), incoherent_otf(1.4, 525, damping=0.6)
    f = torch.tensor([0.0, 0.5, 0.9], dtype=torch.float64) * ideal.cutoff
    ratio = damped.radial(f) / ideal.radial(f)
    np.testing.assert_allclose(ratio.numpy(), [1, 0.6, 0.6**1.8])
    with pytest.raises(ReconstructionError, match="damping"):
        incoherent_otf(1.4, 525, damping=0.0)
