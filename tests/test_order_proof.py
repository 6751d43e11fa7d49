"""The proof of the running order: against the simulated microscope's devices and plain NumPy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from sim_truth import CUTOFF, PIXEL_UM, Stack, make_stack
from typer.testing import CliRunner

from tisr_scope.acquisition.acquire import acquire
from tisr_scope.cli import app
from tisr_scope.errors import DataError, MicroscopeError, ReconstructionError, RecordingError
from tisr_scope.order_proof.check import check_time_point
from tisr_scope.order_proof.commanded import Commanded
from tisr_scope.order_proof.frame_facts import camera_faults, pixel_faults
from tisr_scope.pairs.prepare import prepare
from tisr_scope.profiles.library import load_profile
from tisr_scope.recording.marks import Mark, add_marks, read_marks
from tisr_scope.recording.order_check import check_order
from tisr_scope.recording.recording import Recording
from tisr_scope.sim.reconstruction.reconstruct_files import reconstruct_recording
from tisr_scope.simulated_microscope import devices

LEVELS = (1.0, 5.0, 25.0)
Shown = Callable[[int], int]


def same(frame: int) -> int:
    return frame


@lru_cache
def truth_of(modulation: float, phases: int, seed: int) -> Stack:
    return make_stack(modulation=modulation, phases=phases, seed=seed)


def stack(
    laser: Shown = same,
    slm: Shown = same,
    *,
    levels: tuple[float, ...] = LEVELS,
    photons: float = 20.0,
    modulation: float = 0.8,
    phases: int = 3,
    seed: int = 0,
    bleaching: float = 0.0,
) -> tuple[np.ndarray, Commanded]:
    """Frames of filaments that share no code with the package, and what was commanded."""
    truth = truth_of(modulation, phases, seed)
    patterns = truth.mean.reshape(-1, *truth.mean.shape[2:])
    count, frames = len(levels), len(patterns) * len(levels)
    rng = np.random.default_rng(seed)
    images, lost = [], 1.0
    for f in range(frames):
        power = levels[laser(f) % frames % count]
        light = photons * power * lost * patterns[slm(f) % frames // count]
        images.append(100 + (rng.poisson(light) + rng.normal(0, 1.6, light.shape)) / 0.46)
        lost *= math.exp(-bleaching * power)
    plan = Commanded(
        3, phases, levels, tuple(map(tuple, truth.carrier.tolist())), PIXEL_UM, CUTOFF, 100.0
    )
    return np.rint(np.array(images)).clip(0, 65535).astype(np.uint16), plan


SLIPS: dict[str, tuple[Shown, Shown, str, int]] = {
    "levels exchanged": (lambda f: f - f % 3 + 2 - f % 3, same, "light", 0),
    "two levels exchanged": (lambda f: f - f % 3 + (0, 2, 1)[f % 3], same, "light", 1),
    "laser lost": (lambda f: f - (f >= 10), same, "light", 10),
    "laser doubled": (lambda f: f + (f >= 10), same, "light", 10),
    "laser lost at the end": (lambda f: f - (f >= 26), same, "light", 26),
    "slm a frame late": (same, lambda f: f - 1, "pattern", 0),
    "slm a pattern late": (same, lambda f: f - 3, "pattern", 0),
    "slm lost": (same, lambda f: f - (f >= 10), "pattern", 12),
    "slm doubled": (same, lambda f: f + (f >= 10), "pattern", 11),
    "camera lost a frame": (lambda f: f + (f >= 10), lambda f: f + (f >= 10), "light", 10),
}


@pytest.mark.parametrize("name", SLIPS)
@pytest.mark.parametrize("photons", [20.0, 4.0])
def test_every_slip_is_found_and_its_first_frame_named(name: str, photons: float) -> None:
    laser, slm, kind, first = SLIPS[name]
    frames, plan = stack(laser, slm, photons=photons)
    verdict = check_time_point(frames, plan)
    assert verdict.light_seen
    assert verdict.pattern_seen
    found = {fault.kind: fault for fault in verdict.wrong}
    assert kind in found
    assert found[kind].frames[0] == first
    assert f"frame {first + 1} " in found[kind].text


@pytest.mark.parametrize("levels", [LEVELS, (1.0, 1.1, 1.2), (2.0, 40.0), (1.0, 2.0, 4.0, 9.0)])
@pytest.mark.parametrize("modulation", [0.8, 0.3, 0.0])
@pytest.mark.parametrize("bleaching", [0.0, 0.002])
def test_an_orderly_time_point_is_never_called_wrong(
    levels: tuple[float, ...], modulation: float, bleaching: float
) -> None:
    for seed, photons in ((1, 20.0), (2, 2.0)):
        frames, plan = stack(
            levels=levels, photons=photons, modulation=modulation, seed=seed, bleaching=bleaching
        )
        verdict = check_time_point(frames, plan)
        assert verdict.faults == ()
        if modulation == 0:
            assert not verdict.pattern_seen  # nothing to prove an order by, and it says so


def test_five_phases_and_carriers_that_are_off() -> None:
    frames, plan = stack(same, lambda f: f - 3, phases=5)
    assert [fault.kind for fault in check_time_point(frames, plan).wrong] == ["pattern"]
    elsewhere = tuple((1.04 * x, 1.04 * y) for x, y in plan.carriers)
    wrong = Commanded(3, 5, LEVELS, elsewhere, PIXEL_UM, CUTOFF, 100.0)
    clean, _ = stack(phases=5)
    assert check_time_point(clean, wrong).faults == ()


def test_frames_that_are_no_whole_new_frames() -> None:
    frames, plan = stack()
    repeated, cut, stale, blank = (frames.copy() for _ in range(4))
    repeated[5] = repeated[3]
    cut[7, 64:] = 0
    stale[9, :40] = stale[8, :40]
    blank[2] = 100
    for broken, number, words in (
        (repeated, 5, "frame 4"),
        (cut, 7, "64 of 128 rows are blank"),
        (stale, 9, "40 of 128 rows are those of the frame before"),
        (blank, 2, "is blank"),
    ):
        (fault,) = check_time_point(broken, plan).wrong
        assert fault.frames == (number,)
        assert words in fault.text
    assert pixel_faults(frames, plan) == ()


def test_the_cameras_own_numbers_and_times() -> None:
    plan = Commanded(1, 3, LEVELS, (), PIXEL_UM, CUTOFF, 100.0)
    burst = [{"ImageNumber": str(n % 3), "ElapsedTime-ms": str(5 + n % 3)} for n in range(9)]
    assert camera_faults(burst, plan) == ()  # three bursts: both start anew with each
    one = [{"ImageNumber": n, "ElapsedTime-ms": 10.0 * n} for n in range(9)]
    assert camera_faults(one, plan) == ()
    gap = [*one[:4], *({**said, "ImageNumber": said["ImageNumber"] + 1} for said in one[4:])]
    (fault,) = camera_faults(gap, plan)
    assert fault.frames == (4,)
    assert "1 frame(s) lost before it" in fault.text
    back = [*one[:6], {**one[6], "ElapsedTime-ms": 41.0}, *one[7:]]
    assert [f.frames for f in camera_faults(back, plan)] == [(6,)]
    snaps = [{"Binning": 1, "frame_id": 7} for _ in range(9)]
    assert camera_faults(snaps, plan) == ()  # the same for all: no counter


# ---------------------------------------------------------------------------------- recordings


def _exchange_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    load = devices.Sequencer.load

    def wrong(self: devices.Sequencer, values: list) -> None:
        powers = bool(values) and isinstance(values[0], float)
        load(self, [{5.0: 25.0, 25.0: 5.0}.get(v, v) for v in values] if powers else values)

    monkeypatch.setattr(devices.Sequencer, "load", wrong)


def _lose_one(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """One trigger of the SLM, in the whole run."""
    advance, seen = devices.Sequencer._advance, [0]

    def wrong(self: devices.Sequencer) -> None:
        if self._values and not isinstance(self._values[0], float) and self.running:
            seen[0] += 1
            if seen[0] == at:
                return
        advance(self)

    monkeypatch.setattr(devices.Sequencer, "_advance", wrong)


def test_a_run_with_exchanged_levels_is_told_stopped_and_gives_no_pair(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _exchange_levels(monkeypatch)
    out = tmp_path / "rec"
    try:
        summary = acquire(load_profile("simulated_microtubules"), out, "paired", time_points=3)
        assert summary.wrong_time_points == (0, 1, 2)
        assert "levels exchanged" in str(summary.wrong_order)
    except MicroscopeError as error:  # the watch was quick enough to save the last time point
        assert "3 time points in a row" in error.what
    recording = Recording.open(out)
    assert {mark.t for mark in recording.marks} == set(range(recording.time_points))
    with pytest.raises(DataError, match="levels exchanged"):
        prepare([out], tmp_path / "pairs")
    assert not list((tmp_path / "pairs").glob("rec_*"))
    with pytest.raises(ReconstructionError, match="levels exchanged"):
        reconstruct_recording(out, tmp_path / "sim")


def test_a_wrong_wiring_stops_a_long_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _exchange_levels(monkeypatch)
    profile = load_profile("simulated_microtubules")
    with pytest.raises(MicroscopeError, match="3 time points in a row contradict"):
        acquire(profile, tmp_path / "rec", "paired", time_points=60)
    summary = json.loads((tmp_path / "rec" / "summary.json").read_text())
    assert summary["reason"] == "failed"
    assert summary["frames_recorded"] < 60 * 27


def test_one_lost_trigger_costs_one_time_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        _lose_one(patch, at=2 * 27 + 12)
        out = tmp_path / "rec"
        summary = acquire(load_profile("simulated_microtubules"), out, "paired", time_points=10)
    assert summary.wrong_time_points == (2,)
    (mark,) = Recording.open(out).marks
    assert (mark.t, mark.kind, mark.channel, mark.position) == (2, "order", 0, 0)
    assert mark.frames[0] == 12
    (pair,) = prepare([out], tmp_path / "pairs")
    assert pair.name == "rec_488_t003"
    with pytest.warns(UserWarning, match="time point 3"):
        reconstruct_recording(out, tmp_path / "sim")
    about = json.loads((tmp_path / "sim" / "488_parameters.json").read_text())
    assert about["time_points"] == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    told = CliRunner().invoke(app, ["verify", str(out), "--json"])
    assert told.exit_code == 1
    report = json.loads(told.stdout)
    assert report["wrong_time_points"] == [2]
    assert report["pattern_seen"] == report["checked"] == 10


def test_an_orderly_recording_is_proven(tmp_path: Path) -> None:
    out = tmp_path / "rec"
    acquire(load_profile("simulated_two_colour"), out, "paired", time_points=2)
    report = check_order(Recording.open(out))
    assert report.checked == report.light_seen == 4
    assert report.marks == []
    assert read_marks(out) == []
    assert CliRunner().invoke(app, ["verify", str(out)]).exit_code == 0


def test_marks_are_kept_once_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    first = Mark(3, "order", "wrong", 0, 0, (1, 2))
    second = Mark(4, "late", "0.2 s late")
    assert add_marks(tmp_path, [first, second, first]) == [first, second]
    assert add_marks(tmp_path, [second]) == []
    with (tmp_path / "marks.jsonl").open("a") as file:
        file.write('{"t":5,"ki')
    assert read_marks(tmp_path) == [first, second]
    assert [mark.bad for mark in read_marks(tmp_path)] == [True, False]
    (tmp_path / "marks.jsonl").write_text("nonsense\n")
    with pytest.raises(RecordingError, match="damaged"):
        read_marks(tmp_path)
