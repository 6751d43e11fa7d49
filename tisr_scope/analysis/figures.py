"""Figures of an evaluation: box plots of the metrics and a montage of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from tisr_scope.figures import scale_bar

COLOURS = ("#9a9a9a", "#2f6f9f", "#d9822b", "#3c8d5a", "#8a5aa5", "#b0413e", "#4d4d4d")
_MOST_PX = 384


def box_figure(panels: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Figure:
    """Tukey box plots, one panel per metric and one box per method.

    The box spans the quartiles with the median in it, whiskers reach the last values within 1.5
    interquartile ranges of the box, values beyond are dots (Paper: Statistics).

    Parameters
    ----------
    panels : mapping
        Metric label -> method -> values.
    title : str
    """
    methods = list(dict.fromkeys(name for values in panels.values() for name in values))
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(methods)}
    width = max(2.4, 0.75 * len(methods) + 1.2)
    figure = Figure(figsize=(width * len(panels), 3.9), layout="constrained", dpi=150)
    for axes, (metric, values) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        names = list(values)
        boxes = axes.boxplot(
            [list(values[name]) for name in names],
            whis=1.5,
            widths=0.6,
            patch_artist=True,
            medianprops={"color": "black", "linewidth": 1.4},
            flierprops={"marker": "o", "markersize": 2.5, "markerfacecolor": "black"},
        )
        for patch, name in zip(boxes["boxes"], names, strict=True):
            patch.set(facecolor=colour[name], alpha=0.75, linewidth=0.8)
        axes.set_xticks(range(1, len(names) + 1), names, rotation=30, ha="right")
        axes.set_ylabel(metric)
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


@dataclass(frozen=True)
class MontageRow:
    """Images of one method and one frame on the super-resolved grid.

    ``truth``, ``confidence`` may be absent: then the panel stays empty.
    """

    label: str
    widefield: Float[np.ndarray, "y x"]
    result: Float[np.ndarray, "y x"]
    truth: Float[np.ndarray, "y x"] | None
    target: Float[np.ndarray, "y x"]
    confidence: Float[np.ndarray, "y x"] | None
    calibrated: bool


def montage_figure(rows: Sequence[MontageRow], pixel_size_um: float, *, title: str = "") -> Figure:
    """Wide field, result, truth, SIM, confidence and error side by side, one row per method.

    Parameters
    ----------
    rows : sequence of MontageRow
        ``result`` and ``target`` on the same normalised scale.
    pixel_size_um : float
        Of the super-resolved grid.
    """
    figure = Figure(figsize=(14.2, 0.5 + 2.2 * len(rows)), layout="constrained", dpi=150)
    grid = figure.subplots(len(rows), 6, squeeze=False)
    errors = [np.abs(_middle(row.result) - _middle(row.target)) for row in rows]
    error_top = max(float(np.percentile(error, 99.5)) for error in errors)
    for place, (row, error) in enumerate(zip(rows, errors, strict=True)):
        line = grid[place]
        line[4].set_box_aspect(error.shape[0] / error.shape[1])
        line[2].set_box_aspect(error.shape[0] / error.shape[1])
        _show(line[0], row.widefield, "wide field")
        _show(line[1], row.result, "super-resolved")
        _show(line[2], row.truth, "simulated truth")
        _show(line[3], row.target, "SIM")
        heading = "confidence" if row.calibrated else "confidence, uncalibrated"
        shown = _show(line[4], row.confidence, heading, "cividis", (0, 1))
        if shown is not None:
            figure.colorbar(shown, ax=line[4], fraction=0.046, pad=0.02)
        shown = _show(line[5], error, "absolute error to SIM", "magma", (0, error_top))
        if shown is not None:
            figure.colorbar(shown, ax=line[5], fraction=0.046, pad=0.02)
        line[0].set_ylabel(row.label, fontsize=9)
        if place:
            for axes in line[[0, 1, 2, 3, 5] if row.confidence is not None else range(6)]:
                axes.set_title("")
    scale_bar(grid[0, 0], pixel_size_um)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _middle(image: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    """Central part of an image, small enough that its pixels can be seen."""
    y, x = (max(0, (n - _MOST_PX) // 2) for n in image.shape)
    return image[y : y + _MOST_PX, x : x + _MOST_PX]


def _show(
    axes: Axes,
    image: Float[np.ndarray, "y x"] | None,
    heading: str,
    colours: str = "gray",
    limits: tuple[float, float] | None = None,
) -> AxesImage | None:
    axes.set_title(heading, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    if image is None:
        axes.set_facecolor("#f0f0f0")
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
        return None
    shown = _middle(image)
    low, high = limits or (
        max(0.0, float(np.percentile(shown, 1))),
        float(np.percentile(shown, 99.8)),
    )
    drawn: AxesImage = axes.imshow(
        shown, cmap=colours, vmin=low, vmax=high, interpolation="nearest"
    )
    return drawn
