"""What a time point is judged by, against closed forms and specimens of known motion."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from moving_specimens import PIXEL_NM, moving_frames, noisy, wide
from sim_truth import make_stack

from tisr_scope.errors import DataError
from tisr_scope.pairs.pair_measures import measure_time_point, with_offsets
from tisr_scope.pairs.pair_quality import Limits, PairQuality, TimePoint
from tisr_scope.pairs.pair_verdict import dark_frames, decide, judged, runs_of

STACK = make_stack(96, seed=4)
FULL = 30_000.0


def levels_of(frames: np.ndarray, photons: tuple[float, ...], seed: int = 0) -> np.ndarray:
    """Noisy raw frames at rising light, shape (orientation, phase, level, y, x)."""
    rng = np.random.default_rng(seed)
    bright = np.stack([p * frames for p in photons], axis=2)
    return np.asarray(rng.poisson(bright) + rng.normal(0, 1.6, bright.shape))


def still(t: int = 0, photons: tuple[float, ...] = (20, 500), seed: int = 0) -> TimePoint:
    return measure_time_point(t, levels_of(STACK.mean, photons, seed), PIXEL_NM, FULL)


def quality(points: list[TimePoint], limits: Limits) -> PairQuality:
    return PairQuality("a_488", "a", "488", 0, (1.0, 25.0), 0.5, tuple(points), limits)


@pytest.mark.parametrize("velocity_nm", [0.0, 5.0, 12.0, 25.0])
def test_motion_of_a_specimen_of_known_velocity(velocity_nm: float) -> None:
    """Nanometres a raw frame of the highest level; 8 steps from the first to the last."""
    step = velocity_nm / PIXEL_NM
    frames = moving_frames(STACK, 0.6 * step, -0.8 * step)
    point = measure_time_point(0, levels_of(frames, (20, 500)), PIXEL_NM, FULL)
    assert point.motion_nm == pytest.approx(8 * velocity_nm, rel=0.08, abs=5)
    assert point.drift_nm == pytest.approx(8 * velocity_nm, rel=0.08, abs=3)


def test_one_orientation_cannot_show_motion() -> None:
    point = measure_time_point(0, levels_of(STACK.mean[:1], (500,)), PIXEL_NM, FULL)
    assert point.motion_nm is None
    assert not judged([point], Limits())[0].reasons


def test_signal_to_noise_is_what_repeated_images_show() -> None:
    """A bright square on a background: S and B are known, noise is the spread of 100 images."""
    photons, background = 30.0, 12.0
    mean = np.full((48, 48), background)
    mean[18:30, 18:30] += photons  # 6 % of the field: the brightest 5 % lie inside
    rng = np.random.default_rng(0)
    shape = (100, 3, 3, 48, 48)
    frames = rng.poisson(mean, shape) + rng.normal(0, 1.6, shape)
    spread = frames.mean(axis=(1, 2)).std(axis=0)[20:28, 20:28].mean()
    found = [measure_time_point(0, f[:, :, None], PIXEL_NM, FULL) for f in frames[:10]]
    snr = np.mean([point.snr[0] for point in found])
    assert snr == pytest.approx(photons / spread, rel=0.05)
    assert np.mean([p.signal_e[0] for p in found]) == pytest.approx(photons, rel=0.04)
    assert np.mean([p.background_e[0] for p in found]) == pytest.approx(background, rel=0.06)


def test_structure_of_noise_alone_is_none() -> None:
    flat = np.full((3, 3, 96, 96), 0.4)
    point = measure_time_point(0, levels_of(flat, (20, 500)), PIXEL_NM, FULL)
    (told,) = judged([point], Limits())[0].reasons
    assert told.kind == "light"
    assert "no structure" in told.text


def test_saturated_pixels_are_counted_in_the_worst_raw_frame() -> None:
    raw = levels_of(STACK.mean, (20, 500))
    raw[2, 1, 1, :10, :9] = FULL + 5
    point = measure_time_point(0, raw, PIXEL_NM, FULL)
    assert point.saturated == (0.0, pytest.approx(90 / 96**2))
    assert point.motion_nm is None
    (told,) = judged([point], Limits())[0].reasons
    assert (told.kind, told.text) == (
        "saturation",
        "0.98% of the pixels are saturated at level 2 (limit 0.10%)",
    )


def test_frames_without_light_are_found_also_where_bleaching_is_strong() -> None:
    points = []
    for t in range(12):
        raw = levels_of(STACK.mean * 0.8**t, (20, 500), seed=t)  # 91 % is lost in the end
        if t == 5:
            raw[1, 2, 0] = np.random.default_rng(1).normal(0, 1.6, (96, 96))
        points.append(measure_time_point(t, raw, PIXEL_NM, FULL))
    assert dark_frames(points).tolist() == [0] * 5 + [1] + [0] * 6
    raw = levels_of(STACK.mean, (20, 500))
    raw[0, 0, 1] = 0.0
    blank = measure_time_point(0, raw, PIXEL_NM, FULL)
    assert blank.blank_frames == 1
    assert judged([blank], Limits())[0].reasons[0].kind == "light"


def test_light_lost_by_bleaching() -> None:
    points = [still(t, (20, 500 * 0.9**t), seed=t) for t in range(8)]
    raw = levels_of(STACK.mean, (20, 500))
    raw[0, 0, 1, :40] = FULL  # a flash that is no part of it
    points[3] = measure_time_point(3, raw, PIXEL_NM, FULL)
    told = decide(quality(points, Limits()))
    assert told.points[3].reasons[0].kind == "saturation"
    assert told.bleached == pytest.approx(1 - 0.9**7, abs=0.01)


def test_nan_is_named() -> None:
    raw = levels_of(STACK.mean, (20, 500))
    raw[0, 1, 0, 3, 4:6] = np.nan
    (told,) = judged([measure_time_point(0, raw, PIXEL_NM, FULL)], Limits())[0].reasons
    assert (told.kind, told.text) == ("numbers", "2 pixels are NaN or infinite")
    point = with_offsets(still(), np.ones((2, 96, 96)), np.full((192, 192), np.nan), PIXEL_NM)
    assert point.not_finite == 192**2


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_distance_of_input_and_target(shift: float) -> None:
    """The target lies half an input pixel, 31 nm, off, or not at all."""
    inputs = np.stack([noisy(wide(STACK.sample), p, frames=9) for p in (20, 500)])
    fine = np.kron(wide(STACK.sample, 0, shift), np.ones((2, 2)))
    point = with_offsets(still(), inputs, fine, PIXEL_NM)
    for found, error in zip(point.offset_nm, point.offset_error_nm, strict=True):
        assert found == pytest.approx(shift * PIXEL_NM, abs=4 * error + 0.5)
        assert error < 2
    reasons = judged([point], Limits(offset_nm=20))[0].reasons
    assert [r.kind for r in reasons] == (["registration"] * 2 if shift else [])


@pytest.mark.parametrize(
    ("good", "least", "runs"),
    [
        ("1111", 7, ((0, 3),)),
        ("1101111", 3, ((3, 6),)),
        ("1101111", 2, ((0, 1), (3, 6))),
        ("0110110", 3, ()),
        ("0000", 1, ()),
        ("0101", 1, ((1, 1), (3, 3))),
    ],
)
def test_runs_never_contain_a_gap(good: str, least: int, runs: tuple[tuple[int, int], ...]) -> None:
    assert runs_of(np.array([c == "1" for c in good]), least) == runs


def test_too_few_good_time_points_in_a_row_reject_the_whole() -> None:
    points = [replace(still(), t=t, motion_nm=150.0 if t % 3 == 0 else 10.0) for t in range(9)]
    told = decide(quality(points, Limits(least_frames=3)))
    assert told.runs == ()
    assert told.rejected == (
        "6 of 9 time points are good, at most 2 in a row; 3 are needed (most often: motion)"
    )
    assert [p.reasons[0].kind for p in told.points[:3]] == ["motion", "gap", "gap"]
    kept = decide(quality(points, Limits(keep_all=True)))
    assert kept.runs == ((0, 8),)
    assert [bool(p.reasons) for p in kept.points] == [True, False, False] * 3
    wider = decide(quality(points, Limits(motion_nm=151)))
    assert not any(p.reasons for p in wider.points)


def test_numbers_come_back_from_json() -> None:
    points = [replace(still(t=t), motion_nm=None if t else 150.0) for t in range(3)]
    told = decide(quality(points, Limits(least_frames=2)))
    again = PairQuality.from_dict(json.loads(json.dumps(told.to_dict())))
    assert again == told
    assert again.kept == (1, 2)
    assert math.isclose(again.bleached, told.bleached)


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(DataError, match="at least one time point"):
        Limits(least_frames=0)
    with pytest.raises(DataError, match="positive"):
        Limits(motion_nm=0)
