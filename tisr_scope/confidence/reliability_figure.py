"""The reliability diagram as a figure: accuracy against confidence, and where the pixels are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tisr_scope.confidence.expected_calibration_error import BINS, Reliability

BLUE, ORANGE, GREY = "#2f6f9f", "#d9822b", "#6b6b6b"


def reliability_figure(
    diagrams: Mapping[str, Reliability], *, title: str = "", bins: int = BINS
) -> Figure:
    """Diagrams side by side, each with the histogram of its pixels below.

    Parameters
    ----------
    diagrams : mapping
        Heading of each diagram and its counts; counts of finer bins are joined into ``bins``.
    title : str
        Of the whole figure.
    bins : int
        Groups K that are drawn.
    """
    columns = len(diagrams)
    figure = Figure(figsize=(0.6 + 3.3 * columns, 4.9), layout="constrained", dpi=150)
    grid = figure.subplots(
        2, columns, squeeze=False, sharex=True, sharey="row", height_ratios=(3.2, 1)
    )
    for place, (heading, counts) in enumerate(diagrams.items()):
        shown = counts.coarser(bins) if counts.bins != bins else counts
        _diagram(grid[0, place], shown, heading)
        _histogram(grid[1, place], shown)
    grid[0, 0].set_ylabel("accuracy (truth inside the interval)")
    grid[1, 0].set_ylabel("pixels")
    for row in (0, 1):
        grid[row, 0].legend(loc="upper left", edgecolor="none", framealpha=0.85, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _diagram(axes: Axes, counts: Reliability, heading: str) -> None:
    filled = counts.pixels > 0
    centre = (counts.edges[:-1] + counts.edges[1:])[filled] / 2
    width = 0.92 / counts.bins
    accuracy, stated = counts.accuracy[filled], counts.confidence[filled]
    axes.bar(centre, accuracy, width, color=BLUE, alpha=0.85, label="accuracy")
    axes.bar(
        centre,
        stated - accuracy,
        width,
        bottom=accuracy,
        color=ORANGE,
        alpha=0.35,
        edgecolor=ORANGE,
        linewidth=0.6,
        label="gap to the confidence",
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect calibration")
    axes.plot(stated, accuracy, "o", color="black", markersize=2.6)
    direction = "overconfident" if counts.relative_ece > 0 else "underconfident"
    axes.text(
        0.97,
        0.04,
        f"ECE {counts.ece:.3f}\n{direction} by {abs(counts.relative_ece):.3f}",
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.0},
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_title(heading, fontsize=10)
    _plain(axes)


def _histogram(axes: Axes, counts: Reliability) -> None:
    share = counts.pixels / counts.total
    axes.bar(
        (counts.edges[:-1] + counts.edges[1:]) / 2, share, 0.92 / counts.bins, color=GREY, alpha=0.7
    )
    axes.axvline(counts.mean_confidence, color=ORANGE, linewidth=1.6, label="mean confidence")
    axes.axvline(
        counts.mean_accuracy, color=BLUE, linewidth=1.6, linestyle="--", label="mean accuracy"
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel="confidence", xticks=np.linspace(0, 1, 6))
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
