"""Stacks that something is wrong with: named, or marked, and never used in silence."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sim_truth import EMISSION_UM, MARGIN, NA, OVER, PIXEL_UM, Stack, filaments, make_stack

from tisr_scope.errors import ReconstructionError
from tisr_scope.formats.biotisr import fold_raw, read_mrc
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.drift import align_orientations
from tisr_scope.sim.parameters.estimate import estimate_parameters, refresh_phases
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.parameters.orientation import estimate_orientation
from tisr_scope.sim.reconstruction.reconstruct import reconstruct
from tisr_scope.sim.reconstruction.region import reconstruct_region

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)
SIZE = 96


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack(n=SIZE, ratio=0.975, seed=3)


def sequence(stack: Stack, photons: float = 200, times: int = 2) -> np.ndarray:
    """Frames in the order of exposure."""
    return np.concatenate([stack.frames(photons, t).reshape(-1, SIZE, SIZE) for t in range(times)])


def fold(flat: np.ndarray) -> np.ndarray:
    return flat[: len(flat) // 9 * 9].reshape(-1, 3, 3, SIZE, SIZE)


def refused(frames: np.ndarray, message: str, **options: object) -> ReconstructionError:
    with pytest.raises(ReconstructionError, match=message) as caught:
        estimate_parameters(frames, OTF, PIXEL_UM, where="cell 7", **options)
    assert caught.value.where == "cell 7"
    assert caught.value.remedy
    return caught.value


def test_good_stacks_get_no_remarks(stack: Stack) -> None:
    for frames in (stack.frames(20), stack.frames(500), fold(sequence(stack))):
        found = estimate_parameters(frames, OTF, PIXEL_UM)
        assert found.remarks == ()
        assert np.abs(found.drift_um).max() < 0.005
    assert refresh_phases(stack.frames(100, 5), found, OTF).remarks == ()


@pytest.mark.parametrize("photons", [20, 500])
def test_exchanged_axes_are_named(stack: Stack, photons: float) -> None:
    frames = stack.frames(photons)
    refused(frames.swapaxes(0, 1), "orientations and phases are exchanged.*ABC ABC ABC")
    refused(frames.swapaxes(0, 1), "exchanged", nominal=stack.carrier)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (range(1, 10), "begins 1 frames late.*AAB BBC CCA"),
        (range(2, 11), "begins 2 frames late.*ABB BCC CAA"),
        ([0, 1, 2, 3, 5, 6, 7, 8, 9], "frame is missing in orientation 1.*AAA BBC CCA"),
        ([0, 1, 2, 3, 4, 5, 6, 8, 9], "frame is missing in orientation 2.*AAA BBB CCA"),
        ([0, 1, 2, 3, 4, 13, 5, 6, 7], "frame too many in orientation 1.*AAA BBB BCC"),
        ([0, 3, 6, 1, 4, 7, 2, 5, 17], "exchanged"),
        ([0, 6, 3, 1, 4, 2, 5, 7, 8], "not in the stated order"),
    ],
)
def test_lost_and_misplaced_frames_are_named(
    stack: Stack, kept: range | list[int], message: str
) -> None:
    refused(fold(sequence(stack)[list(kept)]), message)


@pytest.mark.parametrize(
    ("lost", "message"), [(0, "begins 1 frames late"), (7, "missing in orientation 1.*AAAAA BBBBC")]
)
def test_lost_frames_of_nonlinear_stacks_are_named(lost: int, message: str) -> None:
    """One strange frame among five hardly shows in the bands."""
    many = make_stack(n=SIZE, ratio=0.92, seed=3, phases=5, modulation=1.333, harmonics=(0.333,))
    flat = np.concatenate([many.frames(500, t).reshape(-1, SIZE, SIZE) for t in (1, 2)])
    frames = np.delete(flat, lost, axis=0)[:15].reshape(3, 5, SIZE, SIZE)
    refused(frames, message, orders=2)


def test_a_frame_lost_within_a_time_lapse_is_named_with_its_time(stack: Stack) -> None:
    flat = np.delete(sequence(stack, times=4), 22, axis=0)
    refused(fold(flat), "a frame is missing in orientation 1.*AAA BBC CCA")
    known = estimate_parameters(stack.frames(500), OTF, PIXEL_UM)
    later = refresh_phases(fold(flat)[2], known, OTF)
    assert any("orientation 1" in remark for remark in later.remarks)


def test_a_frame_stored_twice_is_named(stack: Stack) -> None:
    frames = stack.frames(200)
    frames[1, 2] = frames[1, 1]
    refused(frames, "orientation=1 phase=1 and t=0 orientation=1 phase=2 are the same")


def test_a_pattern_shown_twice_is_named(stack: Stack) -> None:
    frames = stack.frames(200)
    frames[2, 1] = stack.frames(200, 9)[2, 0]
    refused(frames, "phases of orientation 2 cannot be told apart")


def test_leak_between_bands_is_that_of_the_closed_form() -> None:
    errors = np.radians([[0, 40, -35], [0, 0, 0], [0, -30, 25]])
    uneven = make_stack(n=160, ratio=0.92, seed=1, step_errors_rad=errors)
    frames = torch.tensor(uneven.frames(800), dtype=torch.float32)
    for o in (0, 1, 2):
        phases = 2 * np.pi * np.arange(3) / 3
        mixed = [np.exp(-1j * phases) @ np.exp(s * 1j * (phases + errors[o])) for s in (-1, 1)]
        found = estimate_orientation(frames[o][None], OTF, PIXEL_UM, 1, carrier=uneven.carrier[o])
        expected = abs(mixed[0] / mixed[1])
        assert abs(found.leak.share - expected) < max(0.15 * expected, 2 * found.leak.error)
    # Even so far off, they are found.
    asked = estimate_parameters(uneven.frames(800), OTF, PIXEL_UM, refine_phases=True)
    np.testing.assert_allclose(asked.steps_rad - phases, errors, atol=np.radians(2))
    assert asked.remarks == ()


def test_uneven_steps_are_named_where_they_are_not_asked_for() -> None:
    errors = np.zeros((3, 3))
    errors[1] = np.radians([0, 14, -8])
    uneven = make_stack(n=160, ratio=0.92, seed=1, step_errors_rad=errors)
    found = estimate_parameters(uneven.frames(500), OTF, PIXEL_UM)
    assert len(found.remarks) == 1
    assert "orientation 1 are 0, 13" in found.remarks[0]
    asked = estimate_parameters(uneven.frames(500), OTF, PIXEL_UM, refine_phases=True)
    assert asked.remarks == ()
    assert (asked.step_error_rad[[0, 2]] < np.radians(1)).all()
    np.testing.assert_allclose(np.degrees(asked.steps_rad[1]), [0, 134, 232], atol=2)


def test_saturation_is_seen_without_a_stated_limit(stack: Stack) -> None:
    frames = stack.frames(500)
    refused(frames.clip(max=np.percentile(frames, 92)), "of the pixels of a frame are saturated")
    counts = np.random.default_rng(0).poisson(0.3 * stack.mean[0, 0] + 0.1, (3, 3, SIZE, SIZE))
    with pytest.raises(ReconstructionError) as caught:
        # Single photons: the brightest value is a common one, but it is no limit.
        estimate_parameters(counts.astype(np.float32), OTF, PIXEL_UM)
    assert "saturated" not in str(caught.value)


def test_a_few_saturated_pixels_are_left_out(stack: Stack) -> None:
    """The stripes are those of the frames that were not clipped, and a remark tells of it."""
    frames = stack.frames(500)
    for limit in (None, float(np.percentile(frames, 99.8))):
        clipped = frames.clip(max=np.percentile(frames, 99.8))
        found = estimate_parameters(clipped, OTF, PIXEL_UM, saturation_electrons=limit)
        assert stack.carrier_error_px(found.carrier).max() < 0.05
        np.testing.assert_allclose(found.modulation[0, :, 0], 0.8, atol=0.07)
        assert any("saturated" in remark for remark in found.remarks)


@pytest.mark.parametrize("guided", [False, True])
def test_flat_field_is_named(stack: Stack, guided: bool) -> None:
    size = (SIZE + 2 * MARGIN) * OVER
    even = make_stack(n=SIZE, ratio=0.975, seed=3, sample=np.ones((size, size)))
    nominal = stack.carrier if guided else None
    refused(even.frames(300), "orientation 0 holds no structure", nominal=nominal)


def test_orientation_without_stripes_is_marked_and_gives_its_wide_field(stack: Stack) -> None:
    frames = stack.frames(200)
    rng = np.random.default_rng(2)
    frames[1] = rng.poisson(200 * stack.mean[1].mean(axis=0), (3, SIZE, SIZE))
    found = estimate_parameters(frames, OTF, PIXEL_UM, allow_weak=True)
    assert found.usable.tolist() == [True, False, True]
    assert any("orientation 1" in remark for remark in found.remarks)
    image = reconstruct(frames, found, OTF)
    # Nothing of its band 1 goes in, whatever carrier was found.
    other = replace(found, carrier=found.carrier + np.array([[0, 0], [0.3, 0.2], [0, 0]]))
    np.testing.assert_allclose(image, reconstruct(frames, other, OTF), rtol=1e-4, atol=1e-3)
    assert image.mean() == pytest.approx(frames.mean(), rel=0.02)


def drifting(shift_fine: np.ndarray, photons: float) -> np.ndarray:
    """Frames of a sample that moves between orientations by fine samples (x, y)."""
    sample = filaments(SIZE, np.random.default_rng(3))
    moved = [np.roll(sample, (dy, dx), (0, 1)) for dx, dy in shift_fine]
    stacks = [make_stack(n=SIZE, ratio=0.92, seed=4, sample=one) for one in moved]
    whole = replace(stacks[0], mean=np.stack([s.mean[o] for o, s in enumerate(stacks)]))
    return whole.frames(photons)


@pytest.mark.parametrize("photons", [20, 500])
def test_drift_between_orientations_is_measured_and_taken_back(photons: float) -> None:
    shift = np.array([[0, 0], [2, -1], [-2, 4]])
    frames = drifting(shift, photons)
    true = shift * PIXEL_UM / OVER
    found = estimate_parameters(frames, OTF, PIXEL_UM)
    np.testing.assert_allclose(found.drift_um[0], true, atol=0.004)
    assert (np.abs(found.drift_um[0] - true) < 5 * found.drift_se_um[0] + 1e-12).all()
    assert re.search(r"moved by 0\.0[67]", found.remarks[0])
    assert "from orientation 0 to 2" in found.remarks[0]
    aligned, drift = align_orientations(frames[None], OTF, PIXEL_UM)
    np.testing.assert_allclose(drift.shift_um[0], true, atol=0.004)
    again = estimate_parameters(aligned, OTF, PIXEL_UM)
    assert np.hypot(*again.drift_um[0].T).max() < 0.004
    assert again.remarks == ()
    with pytest.warns(UserWarning, match="corrected"):
        corrected = reconstruct_region(frames[None], OTF, PIXEL_UM, offset_known=True)
    np.testing.assert_allclose(corrected.parameters.drift_um[0], true, atol=0.004)
    still = drifting(np.zeros((3, 2), int), photons)
    aim = reconstruct_region(still[None], OTF, PIXEL_UM, offset_known=True).image[0]
    with pytest.warns(UserWarning, match="correct the drift"):
        crooked = reconstruct_region(
            frames[None],
            OTF,
            PIXEL_UM,
            offset_known=True,
            estimation=Estimation(correct_drift=False),
        ).image[0]
    inner = np.s_[16:-16, 16:-16]
    before, after = (
        np.corrcoef(image[inner].ravel(), aim[inner].ravel())[0, 1]
        for image in (crooked, corrected.image[0])
    )
    assert after > before + 0.02


def test_more_drift_than_an_image_can_bear_is_refused() -> None:
    frames = drifting(np.array([[0, 0], [12, -5], [0, 0]]), 200)
    refused(frames, r"sample moved by 0\.20\d um from orientation 0 to 1")


def test_steps_are_left_alone_where_light_is_too_little_to_find_them() -> None:
    dim = make_stack(n=SIZE, ratio=1.02, seed=0)
    found = estimate_parameters(dim.frames(20), OTF, PIXEL_UM, refine_phases=True)
    assert (found.step_error_rad < np.radians(6)).all()
    assert np.abs(found.modulation - 0.8).max() < 0.15


def test_real_steps_are_even(real_data: Path) -> None:
    raw, _ = read_mrc(real_data / "gi_sim_microtubules_raw.mrc")
    found = estimate_parameters(fold_raw(raw, 3, 3), OTF, PIXEL_UM, refine_phases=True)
    assert found.remarks == ()
    assert (found.step_error_rad < np.radians(5)).all()
    assert np.hypot(*found.drift_um[0].T).max() < 0.01
