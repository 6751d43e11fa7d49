"""The figures can be drawn from every kind of result, and mark what is not usable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from sim_truth import EMISSION_UM, NA, PIXEL_UM, Stack, make_stack

from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import SimParameters, estimate_parameters
from tisr_scope.sim.reconstruction.reconstruct import reconstruct
from tisr_scope.sim.reconstruction.widefield import widefield
from tisr_scope.sim.report.diagnostic_figure import write_diagnostics
from tisr_scope.sim.report.reconstruction_figure import write_figure

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)


@pytest.fixture(scope="module")
def nonlinear() -> tuple[Stack, np.ndarray, SimParameters]:
    stack = make_stack(
        n=96, ratio=0.92, seed=3, orientations=2, phases=5, modulation=1.333, harmonics=(0.333,)
    )
    frames = np.stack([stack.frames(400, seed) for seed in range(2)])
    return stack, frames, estimate_parameters(frames, OTF, PIXEL_UM, orders=2)


def reds(path: Path) -> int:
    """Pixels in the red of the sentence that excludes an orientation (tab:red)."""
    picture = matplotlib.image.imread(path)[..., :3]
    assert picture.std() > 0.05
    return int((np.abs(picture - np.array([214, 39, 40]) / 255).max(axis=-1) < 0.02).sum())


def test_diagnostics_mark_an_orientation_that_is_left_out(
    tmp_path: Path, nonlinear: tuple[Stack, np.ndarray, SimParameters]
) -> None:
    _, frames, found = nonlinear
    write_diagnostics(tmp_path / "good.png", frames, found, OTF, "good")
    weak = replace(found, usable=np.array([True, False]), quality=np.array([np.nan, 3.0]))
    write_diagnostics(tmp_path / "weak.png", frames, weak, OTF, "weak")
    assert reds(tmp_path / "weak.png") > reds(tmp_path / "good.png") + 50


def test_result_figure_marks_every_band_that_is_used(
    tmp_path: Path, nonlinear: tuple[Stack, np.ndarray, SimParameters]
) -> None:
    _, frames, found = nonlinear
    wide = widefield(frames[:1])[0]
    image = reconstruct(frames, found, OTF)[0]
    write_figure(tmp_path / "all.png", wide, image, found, OTF.cutoff, "all")
    one = replace(found, usable=np.array([True, False]))
    write_figure(tmp_path / "one.png", wide, image, one, OTF.cutoff, "one")
    assert reds(tmp_path / "all.png") > 1.5 * reds(tmp_path / "one.png") > 0
