"""Box statistics against matplotlib's and NumPy's, and against the letter of the captions."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from tisr_scope.errors import DataError
from tisr_scope.evaluation.boxes import BoxStatistics, draw_boxes


@pytest.mark.parametrize("count", [1, 2, 3, 5, 50])
def test_boxes_are_those_of_tukey(count: int) -> None:
    for seed in range(20):
        values = np.random.default_rng(seed).standard_t(2, count)  # heavy tails: many outliers
        found = BoxStatistics.of(values.tolist())
        (expected,) = boxplot_stats(values, whis=1.5)
        assert found.median == pytest.approx(np.median(values))
        assert found.lower_quartile == pytest.approx(expected["q1"])
        assert found.upper_quartile == pytest.approx(expected["q3"])
        assert found.lower_whisker == pytest.approx(expected["whislo"])
        assert found.upper_whisker == pytest.approx(expected["whishi"])
        np.testing.assert_allclose(found.outliers, np.sort(expected["fliers"]))


def test_whiskers_by_the_letter_leave_no_outlier() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 100.0]
    found = BoxStatistics.of(values)
    assert (found.lower_quartile, found.upper_quartile) == (2.0, 4.0)
    assert found.as_worded == (-1.0, 100.0)  # min(1, 2 - 1.5 * 2), max(100, 4 + 1.5 * 2)
    assert (found.lower_whisker, found.upper_whisker) == (1.0, 4.0)
    assert found.outliers == (100.0,)
    assert all(found.as_worded[0] <= v <= found.as_worded[1] for v in values)


def test_boxes_without_values_are_refused() -> None:
    for values in ([], [1.0, float("nan")]):
        with pytest.raises(DataError, match="a box needs values"):
            BoxStatistics.of(values)


def test_drawn_box_stands_where_its_statistics_are() -> None:
    axes = Figure().subplots()
    draw_boxes(axes, {"a": [1, 2, 3, 4, 100], "b": [5, 6]}, {"a": "red", "b": "blue"})
    heights = {float(y) for line in axes.lines for y in np.asarray(line.get_ydata())}
    assert {1.0, 2.0, 3.0, 4.0, 100.0, 5.5} <= heights
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]
