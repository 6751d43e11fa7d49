"""Cells with haze, depth and wrong optics: the physics, and one description for all who draw."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest

from tisr_scope.errors import MicroscopeError
from tisr_scope.normalise import Background, Normalisation
from tisr_scope.pairs.patches import PatchSettings
from tisr_scope.pairs.simulated_patches import SimulatedPatches
from tisr_scope.simulated_microscope.camera import Sensor
from tisr_scope.simulated_microscope.cell import Cell
from tisr_scope.simulated_microscope.detection import (
    CosineApodisation,
    DefocusedOtf,
    IncoherentOtf,
    cutoff,
)
from tisr_scope.simulated_microscope.randomisation import (
    RANGES,
    Conditions,
    draw_conditions,
    read_ranges,
    sensor_of,
)
from tisr_scope.simulated_microscope.recordings import simulate_cell
from tisr_scope.simulated_microscope.scene import View
from tisr_scope.simulated_microscope.specimens import SPECIMENS
from tisr_scope.simulated_microscope.world import Line, World

NA, EMISSION_NM = 1.49, 525.0
FREQUENCIES = np.linspace(0, 6, 61)


def test_the_pupil_in_focus_has_the_closed_form_transfer() -> None:
    closed = IncoherentOtf(cutoff(NA, EMISSION_NM))(FREQUENCIES)
    np.testing.assert_allclose(DefocusedOtf(NA, EMISSION_NM)(FREQUENCIES), closed, atol=0.01)


def test_defocus_takes_fine_detail_first_and_keeps_all_the_light() -> None:
    otfs = [DefocusedOtf(NA, EMISSION_NM, z)(FREQUENCIES) for z in (0, 0.1, 0.2, 0.5)]
    middle = np.searchsorted(FREQUENCIES, cutoff(NA, EMISSION_NM) / 2)
    for sharper, softer in itertools.pairwise(otfs):
        assert softer[0] == 1
        assert softer[middle] < 0.8 * sharper[middle]
    both = (DefocusedOtf(NA, EMISSION_NM, z)(FREQUENCIES) for z in (-0.3, 0.3))
    np.testing.assert_allclose(*both, atol=1e-9)
    # Spherical aberration tells above from below.
    above, below = (DefocusedOtf(NA, EMISSION_NM, z, 0.6)(FREQUENCIES) for z in (-0.3, 0.3))
    assert np.abs(above - below).max() > 0.02


def cell(**conditions: object) -> Cell:
    of = Conditions(**conditions)  # type: ignore[arg-type]
    view = View(of.specimen, 11, (0.0, 0.0), (96, 96), 0.0626)
    return Cell(of, view, NA, EMISSION_NM)


TRANSFER = CosineApodisation(cutoff(NA, EMISSION_NM) + 5.5)


def test_haze_membrane_and_distant_structures_are_never_sharp() -> None:
    plain = cell(haze=0.0)
    sharp, truth = plain.in_focus(0.0, TRANSFER, 2), plain.truth(0.0, TRANSFER, 2)
    for extra in ({"haze": 1.0}, {"membrane": 0.4}, {"far": 1.0}, {"haze": 0.5, "nucleus": 2.0}):
        other = cell(**({"haze": 0.0} | extra))
        np.testing.assert_array_equal(other.in_focus(0.0, TRANSFER, 2), sharp)
        added = other.image(0.0) - plain.image(0.0)
        assert added.mean() > 0.05
        shown = (other.truth(0.0, TRANSFER, 2) - truth).reshape(96, 2, 96, 2).mean((1, 3))
        np.testing.assert_allclose(shown[4:-4, 4:-4], added[4:-4, 4:-4], atol=0.02 * added.max())
        # Nothing that is added has detail near the resolution limit.
        spectrum = np.abs(np.fft.fft2(added * np.outer(np.hanning(96), np.hanning(96))))
        assert spectrum[0, 30:48].max() < 0.02 * spectrum.max()


def test_truth_holds_as_much_light_as_the_structure_in_focus() -> None:
    plain = cell(haze=0.0)
    image, truth = plain.image(0.0), plain.truth(0.0, TRANSFER, 2)
    assert truth.mean() == pytest.approx(image.mean(), rel=0.03)
    assert truth.max() > 1.5 * image.max()


def test_a_structure_out_of_focus_blurs_in_image_and_truth() -> None:
    sharp, soft, away = (cell(haze=0.0, focus_um=z) for z in (0.0, 0.15, 0.4))
    in_focus = [c.in_focus(0.0, TRANSFER, 2).sum() for c in (sharp, soft, away)]
    assert 0.2 < in_focus[1] / in_focus[0] < 0.9 and in_focus[2] == 0
    whole = [c.truth(0.0, TRANSFER, 2).mean() for c in (sharp, soft, away)]
    np.testing.assert_allclose(whole, whole[0], rtol=0.1)
    assert away.image(0.0).mean() == pytest.approx(sharp.image(0.0).mean(), rel=0.1)
    assert away.image(0.0).std() < 0.7 * sharp.image(0.0).std()


@pytest.mark.parametrize("name", list(SPECIMENS))
def test_every_specimen_can_lie_in_depth_with_uneven_label(name: str) -> None:
    even, uneven = (
        cell(specimen=name, haze=0.0, **extra).image(0.0)
        for extra in ({}, {"depth_um": 0.2, "label_spread": 0.5, "label_patchiness": 0.5})
    )
    assert np.isfinite(uneven).all() and not np.allclose(even, uneven)
    gaps = cell(specimen=name, haze=0.0, label_gaps=0.3).image(0.0)
    assert gaps.sum() < 0.9 * even.sum()


def test_values_of_a_seed_are_its_own_and_lie_in_their_ranges() -> None:
    ranges = read_ranges(RANGES)
    assert set(ranges) == set(asdict(Conditions()))
    drawn = [draw_conditions(seed) for seed in range(400)]
    assert drawn[7] == draw_conditions(7) != drawn[8]
    assert {of.specimen for of in drawn} == set(SPECIMENS)
    for name, of in ranges.items():
        values = [getattr(c, name) for c in drawn]
        if "choose" in of:
            assert set(values) == set(of["choose"])
        else:
            low, high = of.get("log") or of["uniform"]
            usual = {of["otherwise"]} if "chance" in of else set()
            assert all(low <= v <= high or v in usual for v in values)
            share = np.mean([v not in usual for v in values])
            assert share == pytest.approx(of.get("chance", 1.0), abs=0.08)
    # A range more does not move the others.
    fewer = {name: of for name, of in ranges.items() if name != "haze"}
    assert draw_conditions(7, fewer) == replace(drawn[7], haze=Conditions().haze)


def test_ranges_that_mean_nothing_are_refused_by_name() -> None:
    with pytest.raises(MicroscopeError, match="'fog'"):
        draw_conditions(1, {"fog": {"uniform": [0, 1]}})
    with pytest.raises(MicroscopeError, match="haze"):
        draw_conditions(1, {"haze": {"normal": [0, 1]}})


def test_the_microscope_and_the_training_recordings_show_the_same_cell() -> None:
    seed = next(s for s in range(100) if draw_conditions(s, specimen="er").hot_pixels > 0)
    world = World(seed=seed, frame_shape=(64, 64), randomised=True)
    world.lines["488"] = Line(power_mw=1.0, specimen="er")
    made = simulate_cell(
        replace(draw_conditions(seed, specimen="er"), still=0, exposures=900),
        seed,
        time_points=2,
        frame_shape=(64, 64),
    )
    of, efficiency = made.conditions, world._sensor().properties.quantum_efficiency
    electrons = efficiency * world.photons("488", 0.0)
    sensor = Sensor((64, 64), sensor_of(of), seed)
    expected = sensor.mean_electrons(electrons, 100_000, np.random.default_rng(0))
    error = made.widefield[0] - expected
    cold = sensor.leakage_e == 0
    noise = np.sqrt(electrons.mean() / 900) + sensor.read_noise_e.max() / 30
    assert np.abs(error[cold]).std() < 2 * noise
    edge = cutoff(NA, EMISSION_NM) + 5.53
    truth = efficiency * world.photons("488", 0.0, transfer=CosineApodisation(edge), upscale=2)
    np.testing.assert_allclose(made.truth[0], truth, atol=2e-3 * truth.max())


def test_stills_repeat_one_image_with_its_noise() -> None:
    of = replace(draw_conditions(3), still=1)
    made = simulate_cell(of, 3, time_points=4, frame_shape=(48, 48))
    np.testing.assert_array_equal(made.widefield[0], made.widefield[3])
    moving = simulate_cell(replace(of, still=0), 3, time_points=4, frame_shape=(48, 48))
    assert not np.array_equal(moving.widefield[0], moving.widefield[3])


def test_noise_of_the_mean_is_that_of_so_many_photons() -> None:
    sensor = Sensor((128, 128), replace(sensor_of(Conditions()), read_noise_median_e=0.1))
    flat = np.full((128, 128), 40.0)
    nine = sensor.mean_electrons(flat, 9, np.random.default_rng(1))
    assert nine.mean() == pytest.approx(40, abs=0.2)
    assert nine.std() == pytest.approx(np.sqrt(40 / 9), rel=0.05)


def test_patches_are_a_function_of_the_step_and_belong_together() -> None:
    rule = Normalisation(background=Background(), smooth_sigma_px=1.0, target_gain=3.0)
    settings = PatchSettings(frames=3, size_px=48)
    fixed = {"haze": 0.3, "peak_electrons": 500.0, "specimen": "microtubules", "far": 0.0}
    patches, again = (
        SimulatedPatches(rule, settings, batch=2, first_seed=5, fixed=fixed) for _ in range(2)
    )
    later = patches.batch(3)
    patches.batch(0)
    np.testing.assert_array_equal(again.batch(3).inputs, later.inputs)
    half = again.batch(3, part=1, parts=2)
    np.testing.assert_array_equal(half.targets[0], later.targets[1])
    coarse = later.targets.reshape(2, 3, 1, 48, 2, 48, 2).mean((4, 6))
    for x, y in zip(later.inputs, coarse, strict=True):
        assert np.corrcoef(x.ravel(), y.ravel())[0, 1] > 0.5
    named = [draw.recording for draw in patches.draws(3)]
    assert named == ["simulated_5", "simulated_6"]
    assert patches.draws(6)[0].recording == "simulated_7"
