"""The simulated comparison: its sequences against physics, its tables against plain NumPy."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter, map_coordinates

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tisr_simulated import flow, sequences, study
from benchmarks.tisr_simulated.models import MODELS, SINGLE, SIX
from benchmarks.tisr_simulated.report import write_report
from benchmarks.tisr_simulated.scales import SCALES
from benchmarks.tisr_simulated.statistics import difference, flat, mean, order_of_six
from tisr_scope.errors import TrainingError
from tisr_scope.networks.dpa_tisr import parameter_count
from tisr_scope.simulated_microscope.camera import SensorProperties


def test_frames_hold_the_photons_they_should() -> None:
    """Mean and variance of the ratio between both signals, pixel by pixel."""
    stack = sequences.sequence("small", 3, size_px=64, frames=7)
    low, high = (stack.widefield[i].astype(np.float64) for i in (0, 1))
    camera = SensorProperties()
    peak = sequences.PHOTONS["high"] * camera.quantum_efficiency * (1 + sequences.BACKGROUND)
    assert np.percentile(high, 99.9) == pytest.approx(peak, rel=0.15)
    ratio = sequences.PHOTONS["low"] / sequences.PHOTONS["high"]
    assert low.mean() / high.mean() == pytest.approx(ratio, rel=0.02)
    shot = low.mean() + ratio**2 * high.mean()
    read = camera.read_noise_rms_e**2 * (1 + ratio**2)
    found = np.median((low - ratio * high).reshape(7, -1).var(axis=1))
    assert found == pytest.approx(shot + read, rel=0.25)


def test_truth_is_where_the_light_is_and_ends_at_the_cut_off() -> None:
    stack = sequences.sequence("large", 4, size_px=64, frames=2)
    truth = stack.target[0].astype(np.float64)
    coarse = truth.reshape(64, 2, 64, 2).mean((1, 3))
    wide = stack.widefield[1, 0].astype(np.float64)
    # The same centre-aligned grid: no shift of the coarse truth agrees better than none.
    shifted = {
        (dy, dx): np.corrcoef(
            np.roll(coarse, (dy, dx), (0, 1))[4:-4, 4:-4].ravel(), wide[4:-4, 4:-4].ravel()
        )[0, 1]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert max(shifted, key=shifted.__getitem__) == (0, 0)
    window = np.outer(np.hanning(128), np.hanning(128))
    power = np.abs(np.fft.fft2((truth - truth.mean()) * window)) ** 2
    k = np.fft.fftfreq(128, sequences.PIXEL_UM / 2)
    radius = np.hypot(k[:, None], k[None])
    edge = 2 * 1.49 / 0.525 + sequences.PATTERN_PER_UM
    assert power[radius > edge + 0.5].sum() < 1e-4 * power.sum()


def test_motion_is_a_fraction_of_a_pixel_or_more_than_one() -> None:
    assert sequences.motion_px("small") < 0.3
    assert 1 < sequences.motion_px("large") < 3


def test_every_model_is_made_at_every_scale_and_the_single_image_has_the_size_of_dpa() -> None:
    with torch.device("meta"):
        for scale in SCALES.values():
            size = {name: parameter_count(make(scale)) for name, make in MODELS.items()}
            assert size[SINGLE] == pytest.approx(size["recurrent, DPA"], rel=0.05)
        assert scale.name == "full"
        assert size["recurrent, optical flow"] == 3_951_469  # in the paper 3.95 million
        assert size["recurrent, deformable"] == 5_400_365  # in the paper 5.40 million


def test_known_motion_leads_from_one_frame_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so many photons that noise is nothing, the other frame at x + flow is this one at x."""
    monkeypatch.setattr(flow, "PHOTONS", {"low": 1e6, "high": 1e6})
    stacks = [sequences.sequence("small", s, size_px=64, frames=1) for s in range(2)]
    image = gaussian_filter(np.stack([s.widefield[1, 0] for s in stacks]), (0, 1.5, 1.5))
    frames = torch.from_numpy(image / image.max())[:, None]
    pairs = flow._pairs(frames, torch.Generator().manual_seed(5))
    reference, other, moved = (part.numpy().astype(np.float64) for part in pairs)
    assert 0.3 < np.hypot(moved[:, 0], moved[:, 1]).mean() < flow.REACH_PX
    y, x = np.mgrid[:32, :32]
    for here, there, (dx, dy) in zip(reference[:, 0], other[:, 0], moved, strict=True):
        found = map_coordinates(there, (y + dy, x + dx), order=1)
        inner = np.s_[6:-6, 6:-6]
        assert np.abs(found - here)[inner].max() < 0.02
        still, led = (np.abs(c - here)[inner].mean() for c in (there, found))
        assert led < 0.3 * still


@pytest.fixture(scope="module")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[study.Study, study.Data]:
    scale = replace(
        SCALES["tiny"],
        network=SCALES["tiny"].network | {"channels": 4, "deformable_groups": 4},
        train_sequences=1,
        test_sequences=2,
        size_px=48,
        patch_px=16,
        flow_steps=2,
    )
    data = study.Data.simulate(scale)
    models = (SINGLE, SIX[0])
    folder = tmp_path_factory.mktemp("study")
    plan = study.Study.open(scale, models, (0, 1), folder, "cpu", lambda _: 2)
    done: list[float] = []
    assert plan.run(data, lambda share, _: done.append(share))
    assert done[-1] == pytest.approx(1) and done == sorted(done)
    return plan, data


def test_order_is_by_the_mean_over_conditions() -> None:
    rows = [
        {"model": model, "seed": seed, "condition": str(c), "sequence": "a", "PSNR (dB)": value}
        for model, values in (
            (SIX[2], (20.0, 30.0)),
            (SIX[0], (26.0, 25.0)),
            (SINGLE, (40.0, 40.0)),
        )
        for seed in (0, 1)
        for c, value in zip(sequences.CONDITIONS[:2], values, strict=True)
    ]
    assert order_of_six(rows) == [SIX[0], SIX[2]]


def test_a_finished_study_is_not_trained_again(
    small_study: tuple[study.Study, study.Data],
) -> None:
    plan, data = small_study
    files = sorted(plan.folder.glob("seed_*/*/result.json"))
    before = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 4
    assert plan.run(data, lambda *_: None)
    assert [file.stat().st_mtime_ns for file in files] == before
    again = study.Study.open(plan.scale, plan.models, (0,), plan.folder, "cpu", lambda _: 99)
    assert again.steps == 2  # what the study was begun with
    with pytest.raises(TrainingError, match="begun at scale tiny"):
        study.Study.open(SCALES["small"], plan.models, (0,), plan.folder, "cpu", lambda _: 2)


def test_a_cancelled_study_says_so(
    small_study: tuple[study.Study, study.Data], tmp_path: Path
) -> None:
    plan, data = small_study
    cancel = threading.Event()
    cancel.set()
    assert not replace(plan, folder=tmp_path).run(data, lambda *_: None, cancel)


def test_tables_are_those_of_the_rows(small_study: tuple[study.Study, study.Data]) -> None:
    plan, data = small_study
    text = write_report(plan, data)
    rows = flat(plan.results())
    condition, metric = str(sequences.CONDITIONS[0]), "PSNR (dB)"

    def table(model: str) -> np.ndarray:
        return np.array(
            [
                [
                    r[metric]
                    for r in rows
                    if (r["model"], r["seed"], r["condition"]) == (model, seed, condition)
                ]
                for seed in (0, 1)
            ]
        )

    one, other = table(SIX[0]), table(SINGLE)
    assert one.shape == (2, 2)
    found = difference(rows, "seed", SIX[0], SINGLE, condition, metric)
    apart = (one - other).mean(axis=1)
    half = stats.t.ppf(0.975, 1) * stats.sem(apart)
    assert found is not None
    assert (found.mean, found.half_width_95) == pytest.approx((apart.mean(), half))
    over = mean(rows, "sequence", SIX[0], condition, metric)
    assert over.half_width_95 == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem(one.mean(axis=0)))
    assert "Order of the six" in text
    content = json.loads((plan.folder / "results.json").read_text())
    stored = content["means"][condition][SIX[0]][metric]["over_seeds"]
    assert stored["mean"] == pytest.approx(one.mean())
    for name in ("boxes.png", "correlation.png", "crops.png", "results.csv"):
        assert (plan.folder / name).stat().st_size > 1000
