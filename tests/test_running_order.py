"""The running order: which exposure follows which, counted in closed form."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import useq
from bench import bench_profile, channel

from tisr_scope.acquisition.bursts import Steppable, merge
from tisr_scope.errors import ProfileError
from tisr_scope.profiles.library import load_profile, parse_profile, profile_yaml
from tisr_scope.running_order.escalating_order import exposure_events, mda_sequence
from tisr_scope.running_order.explain import explain
from tisr_scope.running_order.patterns import Pattern, even_slm_image, slm_image
from tisr_scope.running_order.run_plan import RunPlan

LASER_A = ("LaserA", "Power_mW")


def test_level_is_fastest_and_time_slowest(tmp_path: Path) -> None:
    profile = bench_profile(
        tmp_path,
        channels=[channel("green", "LaserA"), channel("red", "LaserB")],
        positions=[{"x_um": 0, "y_um": 0}, {"x_um": 5, "y_um": 0}],
    )
    events = list(exposure_events(RunPlan(profile, "paired"), (32, 32)))
    keys = ("t", "p", "c", "orientation", "phase", "level")
    assert [tuple(e.index[k] for k in keys) for e in events] == list(
        itertools.product(range(2), range(2), range(2), range(2), range(3), range(3))
    )
    assert [e.x_pos for e in events] == [5 * e.index["p"] for e in events]


def test_only_the_laser_of_the_channel_shines(tmp_path: Path) -> None:
    profile = bench_profile(
        tmp_path, channels=[channel("green", "LaserA"), channel("red", "LaserB")]
    )
    for event in exposure_events(RunPlan(profile, "paired")):
        powers = {device: value for device, _, value in event.properties or ()}
        on = "LaserA" if event.index["c"] == 0 else "LaserB"
        assert powers.pop(on) == (1, 2.5, 10)[event.index["level"]]
        assert set(powers.values()) == {0.0}


def test_counts_of_the_paper() -> None:
    """Paper: Methods, (N phases, M orientations, T) = (3, 3, 20), three levels: 540 frames."""
    profile = load_profile("simulated_microtubules")
    order = RunPlan(profile, "paired")
    levels, exposure_s = profile.channels[0].levels_mw, order.exposure_ms / 1e3
    assert order.exposures == 3 * 3 * 20 * len(levels) == len(list(exposure_events(order)))
    assert order.dose_mj()["488"] == pytest.approx(3 * 3 * 20 * sum(levels) * exposure_s)
    assert order.duration_s == pytest.approx(540 * exposure_s)


def test_dose_is_the_sum_over_the_events(tmp_path: Path) -> None:
    order = RunPlan(bench_profile(tmp_path), "paired")
    energy = sum(e.properties[0][2] * e.exposure / 1e3 for e in exposure_events(order))
    assert order.dose_mj() == {"green": pytest.approx(energy)}
    assert sum(e.metadata["dose_mj"] for e in exposure_events(order)) == pytest.approx(energy)


def test_duration_counts_intervals(tmp_path: Path) -> None:
    order = RunPlan(bench_profile(tmp_path), "timelapse")
    assert order.duration_s == pytest.approx(3 * 0.4 + 0.002)
    assert [e.min_start_time for e in exposure_events(order)] == pytest.approx([0, 0.4, 0.8, 1.2])
    # 398 ms of pause: shutter closed and lasers dark after every time point
    assert all(not e.keep_shutter_open and e.metadata["idle_after"] for e in exposure_events(order))


def test_going_on_starts_the_clock_anew(tmp_path: Path) -> None:
    events = list(exposure_events(RunPlan(bench_profile(tmp_path), "timelapse"), None, 2))
    assert [e.index["t"] for e in events] == [2, 3]
    assert [e.min_start_time for e in events] == pytest.approx([0, 0.4])


def test_round_trip_through_yaml_and_useq(tmp_path: Path) -> None:
    profile = bench_profile(tmp_path, positions=[{"x_um": 1, "y_um": 2, "name": "cell"}])
    text = profile_yaml(profile)
    again = RunPlan(parse_profile(text, "profile.yaml"), "paired")
    plan = RunPlan(profile, "paired")
    assert again == plan
    assert list(exposure_events(again)) == list(exposure_events(plan))
    sequence = mda_sequence(plan)
    assert useq.MDASequence.from_file(_saved(sequence, tmp_path)) == sequence
    assert len(text) < 3000, "patterns are stored as parameters, not pixels"


def _saved(sequence: useq.MDASequence, folder: Path) -> Path:
    path = folder / "sequence.yaml"
    path.write_text(sequence.yaml())
    return path


def test_one_image_object_per_pattern(tmp_path: Path) -> None:
    events = list(exposure_events(RunPlan(bench_profile(tmp_path), "paired"), (32, 32)))
    assert len({id(e.slm_image) for e in events}) == 6
    for event in events:
        pattern = Pattern(
            period_um=0.25,
            angle_rad=(0.2, 1.3)[event.index["orientation"]],
            phase_rad=2 * math.pi * event.index["phase"] / 3,
        )
        assert event.metadata["pattern"] == pattern.model_dump()
        assert np.array_equal(np.asarray(event.slm_image), slm_image(pattern, (32, 32), 0.06))


def test_evenly_lit_timelapse(tmp_path: Path) -> None:
    order = RunPlan(bench_profile(tmp_path), "timelapse")
    events = list(exposure_events(order, (32, 32)))
    assert order.exposures == len(events) == 4
    assert np.array_equal(np.asarray(events[0].slm_image), even_slm_image((32, 32)))
    assert {e.properties[0][2] for e in events} == {4.0}


def test_pattern_mean_timelapse(tmp_path: Path) -> None:
    profile = bench_profile(
        tmp_path, timelapse={"time_points": 4, "exposure_ms": 2, "widefield": "pattern_mean"}
    )
    order = RunPlan(profile, "timelapse")
    assert (order.sim_frames, order.levels, order.exposures) == (6, 1, 24)


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "preset", "group": "Pattern", "presets": [f"P{n}" for n in range(6)]},
        {"kind": "index", "device": "Bench", "property": "Index"},
    ],
)
def test_even_light_is_not_guessed(tmp_path: Path, source: dict[str, object]) -> None:
    profile = bench_profile(
        tmp_path, illumination={"angles_rad": [0.2, 1.3], "phases": 3, "source": source}
    )
    with pytest.raises(ProfileError, match="no pattern"):
        RunPlan(profile, "timelapse")


def test_missing_mode(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no 'paired' section"):
        RunPlan(bench_profile(tmp_path, paired=None), "paired")


def test_explained_in_words() -> None:
    text = explain(load_profile("simulated_microtubules"), "paired")
    for part in ("540 =", "orientation > phase > laser level", "5.4 s", "55.8 mJ", "17.7 MB"):
        assert part in text


# ------------------------------------------------------------------------------------- bursts


def _merged(folder: Path, laser: int, slm: int, mode: str = "paired") -> list[useq.MDAEvent]:
    order = RunPlan(bench_profile(folder), mode)
    return list(merge(exposure_events(order, (32, 32)), Steppable({LASER_A: laser}, slm)))


@pytest.mark.parametrize(
    ("laser", "slm", "lengths"),
    [
        (0, 0, [1] * 36),
        (0, 64, [1] * 36),
        (8, 0, [3] * 12),  # pattern held over the levels
        (64, 64, [18] * 2),  # everything at once, but never across time points
        (8, 64, [8, 8, 2] * 2),
        (2, 0, [2, 1] * 12),
    ],
)
def test_burst_lengths(tmp_path: Path, laser: int, slm: int, lengths: list[int]) -> None:
    merged = _merged(tmp_path, laser, slm)
    assert [len(getattr(e, "events", [e])) for e in merged] == lengths


def test_bursts_keep_the_pattern(tmp_path: Path) -> None:
    plain = _merged(tmp_path, 0, 0)
    held = _merged(tmp_path, 8, 0)
    assert all(np.array_equal(b.slm_image, plain[3 * n].slm_image) for n, b in enumerate(held))
    whole = _merged(tmp_path, 64, 64)
    images = [image for burst in whole for image in burst.slm_sequence]
    assert images == [np.asarray(e.slm_image).tobytes() for e in plain]
    assert whole[0].property_sequences[LASER_A] == ["1", "2.5", "10"] * 6


def test_presets_end_a_burst(tmp_path: Path) -> None:
    source = {"kind": "preset", "group": "Pattern", "presets": [f"P{n}" for n in range(6)]}
    profile = bench_profile(
        tmp_path, illumination={"angles_rad": [0.2, 1.3], "phases": 3, "source": source}
    )
    events = exposure_events(RunPlan(profile, "paired"))
    merged = merge(events, Steppable({LASER_A: 64}, 0))
    assert [len(e.events) for e in merged] == [3] * 12
