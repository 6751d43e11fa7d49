"""Foreign frames all the way: imported, prepared, trained from, without a step by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from published_layout import PIXEL, write_mrc_by_hand
from sim_truth import make_stack
from test_training import CONFIG, settings

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.exchange.import_pairs import import_pairs
from tisr_scope.exchange.import_plan import plan_region
from tisr_scope.exchange.import_recordings import import_recordings
from tisr_scope.exchange.import_settings import ImportSettings
from tisr_scope.exchange.regions import find_regions
from tisr_scope.pairs.pair_folder import load_pair
from tisr_scope.pairs.prepare import prepare
from tisr_scope.training.train import train


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImportSettings]:
    """Three cells of two levels and four time points with their SIM images."""
    folder = tmp_path_factory.mktemp("data") / "BioTISR_Tubules"
    stack = make_stack(64, seed=3)
    for number in range(1, 4):
        cell = folder / f"Cell_{number:03d}"
        for level, photons in enumerate((20, 400), start=1):
            frames = [stack.frames(photons, seed=100 * number + t) for t in range(4)]
            counts = np.rint(np.clip(100 + np.stack(frames) / 0.46, 0, None)).astype("<u2")
            write_mrc_by_hand(
                cell / f"RawSIMData_level_{level:02d}.mrc", counts.reshape(-1, 64, 64)
            )
        image = np.stack([stack.truth(400)] * 4).astype("<f4")
        write_mrc_by_hand(cell / "SIM_gt.mrc", image, PIXEL / 2)
    angles = tuple(float(math.atan2(y, x)) for x, y in stack.carrier)
    period = float(1 / np.hypot(*stack.carrier.T).mean())
    return folder, ImportSettings(interval_s=1.0, angles_rad=angles, period_um=period)


@pytest.mark.parametrize("way", ["recordings", "pairs"])
def test_a_published_folder_trains_a_network(
    published: tuple[Path, ImportSettings], tmp_path: Path, way: str
) -> None:
    folder, stated = published
    plans = [plan_region(region, stated) for region in find_regions(folder)]
    if way == "recordings":
        prepare(import_recordings(plans, tmp_path / "recordings", stated), tmp_path / "pairs")
    else:
        import_pairs(plans, tmp_path / "pairs", stated)
    pairs = [load_pair(file.parent) for file in (tmp_path / "pairs").glob("*/pair.json")]
    assert len(pairs) == 3
    for pair in pairs:
        assert pair.widefield.shape == (2, 4, 64, 64)
        assert (pair.upscale, pair.raw_frames, pair.interval_s) == (2, 9, 1.0)
        # In electrons, whichever way they came: 20 times the light is 20 times the number.
        ratio = pair.widefield[1].mean() / pair.widefield[0].mean()
        assert ratio == pytest.approx(20, rel=0.03)
    summary = train(tmp_path / "pairs", CONFIG, settings(steps=2, validate_every=2), tmp_path / "t")
    assert math.isfinite(summary.validation_loss)
    optics = load_bundle(summary.bundle).optics
    assert optics.pixel_size_um == pytest.approx(PIXEL)
    assert (optics.emission_nm, optics.interval_s) == (525, 1.0)
