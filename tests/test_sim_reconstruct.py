"""SIM images against the sample they were made from."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from sim_truth import EMISSION_UM, MARGIN, NA, OVER, PIXEL_UM, Stack, filaments, make_stack, psnr

import tisr_scope.sim.reconstruction.reconstruct as module
from tisr_scope.errors import DataError, ReconstructionError
from tisr_scope.formats.raw_stack import PatternLayout
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import estimate_parameters
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.raw_plan import RawSettings
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings, reconstruct
from tisr_scope.sim.reconstruction.reconstruct_files import Making, reconstruct_raw_file
from tisr_scope.sim.reconstruction.widefield import widefield

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)


def enlarged(image: np.ndarray) -> np.ndarray:
    tensor = torch.tensor(image)[None, None]
    options = {"scale_factor": 2, "mode": "bicubic", "align_corners": False}
    return torch.nn.functional.interpolate(tensor, **options)[0, 0].numpy()


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack(n=128, ratio=0.975, seed=2)


@pytest.mark.parametrize(("photons", "gain_db"), [(20, 2.5), (100, 5.0), (500, 6.0)])
def test_closer_to_the_sample_than_the_wide_field(
    stack: Stack, photons: float, gain_db: float
) -> None:
    frames = stack.frames(photons)
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    image = reconstruct(frames, parameters, OTF)[0]
    truth = stack.truth(photons)
    assert image.shape == (256, 256)
    assert image.dtype == np.float32
    assert psnr(image, truth) > psnr(enlarged(widefield(frames)), truth) + gain_db
    assert image.mean() == pytest.approx(frames.mean(), rel=0.02)


def test_two_lines_closer_than_the_diffraction_limit_are_resolved() -> None:
    n = 96
    sample = filaments(n, np.random.default_rng(0))  # around the lines, for the parameters
    size = sample.shape[0]
    clear = np.s_[3 * size // 8 : 5 * size // 8]
    sample[:, clear] = 1e-4
    gap = round(0.125 / (PIXEL_UM / OVER))  # wide field resolves 176 nm at best
    first = size // 2 - gap // 2
    sample[[first, first + gap], clear] = 1
    stack = make_stack(n=n, ratio=0.975, seed=1, sample=sample)
    frames = stack.frames(2000)
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    middle = np.s_[n - 4 : n + 4, n - 6 : n + 6]  # of the fine grid
    image = reconstruct(frames, parameters, OTF)[0][middle].mean(axis=1)
    wide = enlarged(widefield(frames))[middle].mean(axis=1)
    assert image[3:5].min() < 0.75 * min(image[:3].max(), image[5:].max())
    assert wide[3:5].min() > 0.97 * wide.max()


def test_a_bead_stays_where_it_is() -> None:
    """Fine pixels 2i and 2i + 1 lie a quarter of a camera pixel on either side of pixel i."""
    n = 64
    size = (n + 2 * MARGIN) * OVER
    rng = np.random.default_rng(3)
    sample = np.full((size, size), 1e-6)
    # Beads that only serve the parameters stay away from the one that is looked at.
    for y, x in rng.integers(MARGIN * OVER, size - MARGIN * OVER, (60, 2)):
        if np.hypot(y - size / 2, x - size / 2) > 14 * OVER:
            sample[y, x] = 1
    bead = np.array([size // 2 + 5, size // 2 - 6])
    sample[tuple(bead)] = 1
    expected = (bead - (size - 1) / 2) / OVER  # camera pixels from the centre of the field
    stack = make_stack(n=n, ratio=0.95, seed=4, sample=sample)
    frames = stack.frames(3000)
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    fine = reconstruct(frames, parameters, OTF)[0]
    for image, pixels in ((widefield(frames), 1.0), (fine, 0.5)):
        half = round(5 / pixels)
        axis = (np.arange(image.shape[0]) - (image.shape[0] - 1) / 2) * pixels
        row, column = (int(np.abs(axis - e).argmin()) for e in expected)
        part = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        weight = np.clip(image[part] - 0.2 * image[part].max(), 0, None)
        y, x = axis[part[0]], axis[part[1]]
        centroid = [(weight.sum(1) * y).sum(), (weight.sum(0) * x).sum()] / weight.sum()
        np.testing.assert_allclose(centroid, expected, atol=0.06)


def test_no_artefact_at_the_borders(stack: Stack) -> None:
    frames = stack.frames(500)
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    error = reconstruct(frames, parameters, OTF)[0] - stack.truth(500)
    inside = error[40:-40, 40:-40].std()
    edges = (error[4:12], error[-12:-4], error[:, 4:12], error[:, -12:-4])
    assert max(edge.std() for edge in edges) < 2.5 * inside


def test_uneven_orientations_leave_no_stripes(stack: Stack) -> None:
    frames = stack.frames(500)
    uneven = frames * np.array([1.25, 1.0, 0.8])[:, None, None, None]
    nominal = stack.carrier
    images = [
        reconstruct(f, estimate_parameters(f, OTF, PIXEL_UM, nominal=nominal), OTF)[0]
        for f in (frames, uneven)
    ]
    truth = stack.truth(500)
    assert psnr(images[1], truth) > psnr(images[0], truth) - 0.5


def test_time_points_in_batches_equal_time_points_alone(stack: Stack) -> None:
    frames = np.stack([stack.frames(100, seed)[:, :, :64, :64] for seed in range(3)])
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    settings = WienerSettings(parameter=0.1)
    together = reconstruct(frames, parameters, OTF, settings)
    alone = reconstruct(frames, parameters, OTF, settings, batch=1)
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_attenuation_takes_haze_away(stack: Stack) -> None:
    y = np.linspace(-1, 1, 128)
    haze = 400 * np.exp(-(y[:, None] ** 2 + y[None, :] ** 2) / 0.3)
    frames = stack.frames(500) + haze
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    truth = stack.truth(500)
    plain, damped = (
        psnr(reconstruct(frames, parameters, OTF, WienerSettings(attenuation=a))[0], truth)
        for a in (0.0, 0.95)
    )
    assert damped > plain


def test_wrong_settings_and_mismatched_frames_are_refused(stack: Stack) -> None:
    frames = stack.frames(500)
    parameters = estimate_parameters(frames, OTF, PIXEL_UM, nominal=stack.carrier)
    with pytest.raises(ReconstructionError, match="do not fit"):
        reconstruct(frames[:2], parameters, OTF)
    with pytest.raises(ReconstructionError, match="out of range"):
        WienerSettings(parameter=-1.0)
    with pytest.raises(ReconstructionError, match="no orientations"):
        widefield(frames[0])


def test_raw_file_to_files(tmp_path: Path, stack: Stack) -> None:
    raw = tmp_path / "raw.tif"
    counts = np.rint(stack.frames(500) / 0.46 + 100).clip(0).astype(np.uint16)
    tifffile.imwrite(raw, counts.reshape(-1, 128, 128))
    image = reconstruct_raw_file(raw, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "raw_figure.png",
        "raw_parameters.json",
        "raw_sim.ome.tif",
        "raw_widefield.ome.tif",
    ]
    with tifffile.TiffFile(image) as file:
        assert 'PhysicalSizeX="0.0313"' in file.ome_metadata
        assert psnr(file.asarray().squeeze(), stack.truth()) > 25
    about = json.loads((tmp_path / "out" / "raw_parameters.json").read_text())
    found = np.array(about["sim_parameters"]["carrier"])
    assert stack.carrier_error_px(found).max() < 0.1
    with pytest.raises(DataError, match="not empty"):
        reconstruct_raw_file(raw, tmp_path / "out")
    with pytest.raises(DataError, match="no multiple"):
        reconstruct_raw_file(raw, tmp_path / "other", RawSettings(PatternLayout(3, 5)))


def test_options_reach_the_reconstruction(tmp_path: Path) -> None:
    uneven = np.radians([[0, 0, 0, 0, 0], [0, 8, -6, 5, -7]])
    nonlinear = make_stack(
        n=96,
        ratio=0.92,
        seed=3,
        orientations=2,
        phases=5,
        modulation=1.333,
        harmonics=(0.333,),
        step_errors_rad=uneven,
    )
    counts = np.rint(nonlinear.frames(800) + 300).astype(np.uint16)
    light = nonlinear.mean[0].mean(axis=0)  # an orientation without stripes
    counts[0] = np.random.default_rng(1).poisson(800 * light + 300, counts[0].shape)
    raw = tmp_path / "raw.tif"
    tifffile.imwrite(raw, counts.reshape(-1, 96, 96))
    image = reconstruct_raw_file(
        raw,
        tmp_path / "out",
        RawSettings(PatternLayout(2, 5)),
        Making(
            Estimation(orders=2, refine_phases=True, allow_weak=True, background=300),
            WienerSettings(attenuation=0.5),
        ),
    )
    assert tifffile.imread(image).squeeze().shape == (288, 288)
    about = json.loads((tmp_path / "out" / "raw_parameters.json").read_text())
    assert about["background"] == [[300.0, 300.0]]
    assert about["wiener"]["attenuation"] == 0.5
    found = about["sim_parameters"]
    assert found["usable"] == [False, True]
    even = 2 * np.pi * np.arange(5) / 5
    np.testing.assert_allclose(found["steps_rad"][1] - even, uneven[1], atol=np.radians(4))
    with pytest.raises(ReconstructionError, match="orientation 0"):
        reconstruct_raw_file(raw, tmp_path / "strict", RawSettings(PatternLayout(2, 5)))


def test_the_plan_of_the_last_stack_is_used_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stacks of one region share it, and come out as with a plan of their own."""
    made = []

    class Counted(module.WienerPlan):
        def __init__(self, *given: object, **options: object) -> None:
            made.append(given)
            super().__init__(*given, **options)

    first = estimate_parameters(stack.frames(500), OTF, PIXEL_UM, nominal=stack.carrier)
    turned = replace(first, phase_rad=first.phase_rad + 0.3, gain=1.1 * first.gain)
    monkeypatch.setattr(module, "_held", threading.local())
    alone = reconstruct(stack.frames(500), turned, OTF)
    monkeypatch.setattr(module, "_held", threading.local())
    monkeypatch.setattr(module, "WienerPlan", Counted)
    reconstruct(stack.frames(500), first, OTF)
    np.testing.assert_array_equal(reconstruct(stack.frames(500), turned, OTF), alone)
    assert len(made) == 1
    moved = replace(first, carrier=1.01 * first.carrier)
    reconstruct(stack.frames(500), moved, OTF)
    reconstruct(stack.frames(500), moved, OTF, WienerSettings(attenuation=0.5))
    assert len(made) == 3
