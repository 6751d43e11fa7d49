"""The audit without truth against the truth, on frames of an independent forward model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sim_truth import CUTOFF, EMISSION_UM, NA, PIXEL_UM, Stack, make_stack

from tisr_scope.confidence.side_band_audit import SideBandAuditor
from tisr_scope.errors import ReconstructionError
from tisr_scope.evaluation.evaluate import enlarge
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import estimate_parameters

OTF = incoherent_otf(NA, EMISSION_UM * 1e3)
SIZE = 128


def true_correlation(image: np.ndarray, truth: np.ndarray, carriers: np.ndarray) -> np.ndarray:
    """Of image and sample at the frequencies each side band reaches, and over all of them.

    In the frequencies of the sample, on whole images: no camera, no stripes, no noise.
    """
    n = image.shape[0]
    f = np.fft.fftfreq(n, PIXEL_UM / 2)
    ky, kx = f[:, None], f[None, :]
    ramp = np.clip((np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / 24, 0, 1)
    window = np.outer(np.sin(np.pi / 2 * ramp) ** 2, np.sin(np.pi / 2 * ramp) ** 2)
    radius = np.hypot(ky, kx)
    edge = CUTOFF + np.hypot(*carriers[0])
    flat = 1 / np.maximum(np.cos(np.pi / 2 * np.clip(radius / edge, 0, 1)), 0.1)
    a, b = (np.fft.fft2((part - part.mean()) * window) * flat for part in (image, truth))
    sums = []
    for px, py in carriers:
        seen = np.hypot(ky + py, kx + px)
        s = np.clip(seen / CUTOFF, 0, 1)
        weight = (2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))) ** 2
        weight *= (radius > CUTOFF) & (seen < CUTOFF) & (seen > 0.1 * CUTOFF)
        sums.append(
            [(weight * part).sum() for part in ((a * b.conj()).real, abs(a) ** 2, abs(b) ** 2)]
        )
    table = np.array([*sums, np.sum(sums, axis=0)])
    return table[:, 0] / np.sqrt(table[:, 1] * table[:, 2])


def auditor(stack: Stack, photons: float) -> SideBandAuditor:
    """With the stripes as measured from the mean of eight dim sets, as at the microscope."""
    mean = np.mean([stack.frames(photons, seed=100 + s) for s in range(8)], axis=0)
    parameters = estimate_parameters(mean, OTF, PIXEL_UM, allow_weak=True)
    return SideBandAuditor(parameters, OTF, (SIZE, SIZE), 2)


def mesh(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Made-up detail of the size that only SIM resolves."""
    grain = rng.normal(size=shape)
    made = gaussian_filter(grain, 1.0, mode="wrap") - gaussian_filter(grain, 1.6, mode="wrap")
    return made / made.std()


def rings(n: int, rng: np.random.Generator) -> np.ndarray:
    """Small circles, as of clathrin-coated pits, on the grid of the forward model."""
    sample = np.full((n + 32,) * 2, 0.0).repeat(4, 0).repeat(4, 1) + 2e-3
    size = sample.shape[0]
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    for y, x in rng.uniform(8, size - 8, (n, 2)):
        at = np.rint([y + 4.5 * np.sin(angle), x + 4.5 * np.cos(angle)]).astype(int)
        np.add.at(sample, tuple(at), 1.0)
    return sample


def hazed(stack: Stack, level: float, seed: int) -> Stack:
    """Light from out of focus: no stripes, no detail, only more of it and more noise."""
    haze = gaussian_filter(np.random.default_rng(seed).random((SIZE, SIZE)), 20, mode="wrap")
    haze = level * haze / haze.mean()
    return Stack(stack.mean + haze, stack.carrier, stack.phase, stack.sample, stack.ratio)


def conditions() -> list[tuple[str, Stack]]:
    plain = make_stack(SIZE, seed=11)
    return [
        ("in domain", plain),
        ("haze", hazed(plain, 0.5, 1)),
        ("offset", Stack(plain.mean + 0.5, plain.carrier, plain.phase, plain.sample, plain.ratio)),
        ("rings", make_stack(SIZE, seed=12, sample=rings(SIZE, np.random.default_rng(5)))),
        ("weak stripes", make_stack(SIZE, seed=13, modulation=0.5)),
        ("carrier beyond the cut-off", make_stack(SIZE, seed=14, ratio=1.02)),
    ]


@pytest.mark.parametrize(("name", "stack"), conditions())
def test_agrees_with_the_true_correlation(name: str, stack: Stack) -> None:
    """Images from perfect to made up, one dim time point each: 0.06 rms, no truth used."""
    photons = 40.0
    audit = auditor(stack, photons)
    truth = stack.truth()
    frames = stack.frames(photons, seed=1)
    rng = np.random.default_rng(3)
    detail = truth - gaussian_filter(truth, 2.0)
    images = {
        "truth": truth,
        "half made up": truth + detail.std() * mesh(truth.shape, rng),
        "mostly made up": truth + 3 * detail.std() * mesh(truth.shape, rng),
        "made up": gaussian_filter(truth, 4) + detail.std() * mesh(truth.shape, rng),
        "blurred": gaussian_filter(truth, 1.5),
        "wide field": enlarge(frames.mean(axis=(0, 1))[None].astype(np.float32), 2)[0],
    }
    errors, found = [], {}
    for key, image in images.items():
        one = audit.audit(frames, image.astype(np.float32)).overall
        found[key] = float(one.correlation)
        errors.append(found[key] - true_correlation(image, truth, stack.carrier)[-1])
        assert float(one.standard_error) < 0.06
    assert np.sqrt(np.mean(np.square(errors))) <= 0.06, found
    assert found["truth"] > 0.93 and abs(found["wide field"]) < 0.1
    assert found["truth"] > found["half made up"] > found["mostly made up"] > found["made up"]


def test_scale_offset_and_sign_of_the_image() -> None:
    stack = make_stack(SIZE, seed=11)
    audit, frames = auditor(stack, 100), stack.frames(100, seed=2)
    truth = stack.truth().astype(np.float32)
    plain = float(audit.audit(frames, truth).overall.correlation)
    assert float(audit.audit(frames, 7 * truth + 3).overall.correlation) == pytest.approx(
        plain, abs=1e-3
    )
    assert float(audit.audit(frames, -truth).overall.correlation) == pytest.approx(-plain, abs=1e-3)


def test_the_stated_error_is_that_of_repeated_measurements() -> None:
    stack = make_stack(SIZE, seed=21)
    audit, truth = auditor(stack, 15), stack.truth().astype(np.float32)
    sums = [audit.audit(stack.frames(15, seed=s), truth).overall for s in range(24)]
    spread = np.std([float(one.correlation) for one in sums], ddof=1)
    stated = np.mean([float(one.standard_error) for one in sums])
    assert 0.6 < stated / spread < 1.6


def test_time_points_add_up_and_regions_are_told_apart() -> None:
    """A mesh in the left half lowers the left half alone."""
    stack = make_stack(SIZE, seed=31)
    audit, truth = auditor(stack, 100), stack.truth()
    detail = truth - gaussian_filter(truth, 2.0)
    spoilt = truth.copy()
    made = 3 * detail.std() * mesh(truth.shape, np.random.default_rng(0))
    spoilt[:, :SIZE] += made[:, :SIZE]
    one = audit.audit(stack.frames(100, seed=3), spoilt.astype(np.float32))
    both = one + audit.audit(stack.frames(100, seed=4), spoilt.astype(np.float32))
    left = np.zeros((SIZE, SIZE), bool)
    left[:, : SIZE // 2 - 8] = True
    right = np.zeros_like(left)
    right[:, SIZE // 2 + 8 :] = True
    assert float(both.maps.inside(right).correlation) > 0.9
    assert float(both.maps.inside(left).correlation) < 0.6
    assert float(both.overall.standard_error) < 0.8 * float(one.overall.standard_error)
    # By place and by frequency are two ways to sum the same products.
    assert float(both.maps.sum().correlation) == pytest.approx(
        float(both.overall.correlation), abs=0.01
    )


def test_nothing_is_told_where_there_is_no_detail() -> None:
    stack = make_stack(SIZE, seed=41)
    audit = auditor(stack, 100)
    smooth = gaussian_filter(np.random.default_rng(1).random((SIZE, SIZE)), 12, mode="wrap")
    flat = np.random.default_rng(0).poisson(
        np.broadcast_to(40 * smooth / smooth.mean(), (3, 3, SIZE, SIZE))
    )
    told = audit.audit(flat.astype(np.float32), stack.truth().astype(np.float32)).overall
    assert np.isnan(told.correlation) or abs(float(told.correlation)) < 3 * told.standard_error


def test_images_of_another_field_are_refused() -> None:
    stack = make_stack(SIZE, seed=11)
    audit = auditor(stack, 100)
    with pytest.raises(ReconstructionError, match="do not belong"):
        audit.audit(stack.frames(100), np.zeros((SIZE, SIZE), np.float32))
