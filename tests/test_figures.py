"""The scale bar is as long as it says."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from tisr_scope.figures import busiest, scale_bar


@pytest.mark.parametrize(
    ("pixels", "pixel_um", "label"),
    [(256, 0.0313, "2 µm"), (64, 0.0313, "500 nm"), (1024, 0.0626, "10 µm")],
)
def test_length_of_the_bar(pixels: int, pixel_um: float, label: str) -> None:
    axes = Figure().add_subplot()
    axes.imshow(np.zeros((pixels, pixels)))
    scale_bar(axes, pixel_um)
    assert axes.texts[0].get_text() == label
    start, end = axes.lines[-1].get_xdata()
    stated = float(label.split()[0]) * (1e-3 if "nm" in label else 1)
    assert (end - start) * pixels * pixel_um == pytest.approx(stated)
    assert axes.get_xlim() == (-0.5, pixels - 0.5)


def test_busiest_square_stays_inside() -> None:
    rng = np.random.default_rng(1)
    for side in (10, 31, 50):
        y, x = busiest(rng.normal(size=(50, 70)), side)
        assert 0 <= y <= 50 - side
        assert 0 <= x <= 70 - side
