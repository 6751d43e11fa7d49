"""Box-and-whisker statistics and drawing, after Tukey.

The published captions say "Tukey", show outliers as black spots, and then word the upper whisker as
"the larger value between the largest data point and the 75th percentile plus 1.5 times the IQR"
(the lower one likewise).  Taken by the letter no point can ever lie beyond a whisker, and whiskers
may end where there are no data, so neither outliers nor Tukey's plot would be possible: "larger"
and "smaller" must be exchanged.  Drawn here is Tukey's plot, whose whiskers end at the last data
points within 1.5 IQR of the box; :attr:`BoxStatistics.as_worded` gives the letter of the caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from tisr_scope.errors import DataError

REACH = 1.5
"""Interquartile ranges from the box to its fences."""


@dataclass(frozen=True)
class BoxStatistics:
    """What one box shows.

    Attributes
    ----------
    median, lower_quartile, upper_quartile : float
        50th, 25th and 75th percentiles, interpolated linearly.
    lower_whisker, upper_whisker : float
        Smallest and largest values within 1.5 interquartile ranges of the box.
    outliers : tuple of float
        Values beyond the whiskers, rising.
    smallest, largest : float
    count : int
    """

    median: float
    lower_quartile: float
    upper_quartile: float
    lower_whisker: float
    upper_whisker: float
    outliers: tuple[float, ...]
    smallest: float
    largest: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> BoxStatistics:
        """Statistics of some values.

        Raises
        ------
        DataError
            If there are none, or one is not finite.
        """
        data = np.sort(np.asarray(values, np.float64))
        if data.size == 0 or not np.isfinite(data).all():
            raise DataError(
                "a box needs values, all of them finite",
                remedy="leave out methods or recordings without a value",
            )
        lower, median, upper = (float(v) for v in np.percentile(data, (25, 50, 75)))
        reach = REACH * (upper - lower)
        inside = data[(data >= lower - reach) & (data <= upper + reach)]
        # The quartiles are interpolated: with few values no datum need lie between box and fence.
        low = min(float(inside[0]), lower) if inside.size else lower
        high = max(float(inside[-1]), upper) if inside.size else upper
        return cls(
            median=median,
            lower_quartile=lower,
            upper_quartile=upper,
            lower_whisker=low,
            upper_whisker=high,
            outliers=tuple(float(v) for v in data if v < low or v > high),
            smallest=float(data[0]),
            largest=float(data[-1]),
            count=data.size,
        )

    @property
    def as_worded(self) -> tuple[float, float]:
        """Lower and upper whisker by the letter of the published captions; see the module."""
        reach = REACH * (self.upper_quartile - self.lower_quartile)
        return (
            min(self.smallest, self.lower_quartile - reach),
            max(self.largest, self.upper_quartile + reach),
        )

    def as_json(self) -> dict[str, Any]:
        """JSON types."""
        low, high = self.as_worded
        return {
            "median": self.median,
            "quartiles": [self.lower_quartile, self.upper_quartile],
            "whiskers": [self.lower_whisker, self.upper_whisker],
            "whiskers_as_worded_in_the_paper": [low, high],
            "outliers": list(self.outliers),
            "count": self.count,
        }


def draw_boxes(
    axes: Axes,
    values: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    *,
    horizontal: bool = False,
) -> None:
    """Draw one box for each name: vertical from left to right, or horizontal from the top.

    Parameters
    ----------
    axes : Axes
    values : mapping
        Name -> values.
    colours : mapping
        Name -> colour of the box.
    horizontal : bool
        For many boxes with long names.
    """
    names = list(values)
    boxes = []
    for name in names:
        box = BoxStatistics.of(values[name])
        boxes.append(
            {
                "med": box.median,
                "q1": box.lower_quartile,
                "q3": box.upper_quartile,
                "whislo": box.lower_whisker,
                "whishi": box.upper_whisker,
                "fliers": box.outliers,
            }
        )
    drawn = axes.bxp(
        boxes,
        orientation="horizontal" if horizontal else "vertical",
        widths=0.6,
        patch_artist=True,
        medianprops={"color": "black", "linewidth": 1.4},
        flierprops={"marker": "o", "markersize": 2.5, "markerfacecolor": "black"},
        manage_ticks=False,
    )
    for patch, name in zip(drawn["boxes"], names, strict=True):
        patch.set(facecolor=colours[name], alpha=0.75, linewidth=0.8)
    places = range(1, len(names) + 1)
    if horizontal:
        axes.set_yticks(places, names)
        axes.set_ylim(len(names) + 0.6, 0.4)
    else:
        axes.set_xticks(places, names, rotation=30, ha="right")
        axes.set_xlim(0.4, len(names) + 0.6)
    axes.grid(axis="x" if horizontal else "y", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
