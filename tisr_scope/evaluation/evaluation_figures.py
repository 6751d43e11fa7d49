"""Figures of an evaluation: box plots of the metrics and a montage of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from tisr_scope.evaluation.boxes import draw_boxes
from tisr_scope.figures import scale_bar

COLOURS = ("#9a9a9a", "#2f6f9f", "#d9822b", "#3c8d5a", "#8a5aa5", "#b0413e", "#4d4d4d")
_MOST_PX = 384
_PANELS_PER_LINE, _MOST_MATRICES = 4, 7


def box_figure(panels: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Figure:
    """Tukey box plots, one panel per metric and one box per method (Paper: Statistics).

    See :mod:`~tisr_scope.evaluation.boxes`.

    Parameters
    ----------
    panels : mapping
        Metric label -> method -> values.
    title : str
    """
    methods = list(dict.fromkeys(name for values in panels.values() for name in values))
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(methods)}
    lines = -(-len(panels) // _PANELS_PER_LINE)
    columns = min(len(panels), _PANELS_PER_LINE)
    width = max(2.4, 0.6 * len(methods) + 1.2)
    figure = Figure(figsize=(width * columns, 3.7 * lines), layout="constrained", dpi=130)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (metric, values) in zip(grid, panels.items(), strict=False):
        draw_boxes(axes, values, colour)
        axes.set_ylabel(metric.replace("(um)", "(µm)"), fontsize=9)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def matrix_figure(
    matrices: Mapping[str, Float[np.ndarray, "time time"]], *, title: str = ""
) -> Figure:
    """Correlation of every frame with every other, one matrix a method (Paper: Fig. 1g).

    Parameters
    ----------
    matrices : mapping
        Method -> array, shape (time, time); all on one colour scale.
    title : str
    """
    lines = -(-len(matrices) // _MOST_MATRICES)
    columns = -(-len(matrices) // lines)
    figure = Figure(
        figsize=(1.75 * columns + 1.3, 2.05 * lines + 0.5), layout="constrained", dpi=130
    )
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    low = min(float(matrix.min()) for matrix in matrices.values())
    for axes in grid:
        axes.set_axis_off()
    for axes, (name, matrix) in zip(grid, matrices.items(), strict=False):
        image = axes.imshow(matrix, cmap="viridis", vmin=min(low, 0.99), vmax=1)
        axes.set_title(name.replace(", ", ",\n"), fontsize=8)
    figure.colorbar(image, ax=list(grid), shrink=0.8, label="correlation of frames")
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


@dataclass(frozen=True)
class MontageRow:
    """Images of one method and one frame on the super-resolved grid.

    ``truth``, ``target``, ``confidence`` may be absent: then the panel stays empty.
    """

    label: str
    widefield: Float[np.ndarray, "y x"]
    result: Float[np.ndarray, "y x"]
    truth: Float[np.ndarray, "y x"] | None
    target: Float[np.ndarray, "y x"] | None
    confidence: Float[np.ndarray, "y x"] | None
    calibrated: bool


def montage_figure(rows: Sequence[MontageRow], pixel_size_um: float, *, title: str = "") -> Figure:
    """Wide field, result, truth, SIM, confidence and error side by side, one row per method.

    Parameters
    ----------
    rows : sequence of MontageRow
        ``result`` on the normalised scale of ``target`` (of ``truth`` where there is none).
    pixel_size_um : float
        Of the super-resolved grid.
    """
    figure = Figure(figsize=(14.2, 0.5 + 2.2 * len(rows)), layout="constrained", dpi=150)
    grid = figure.subplots(len(rows), 6, squeeze=False)
    errors = [_error(row) for row in rows]
    error_top = max((float(np.percentile(e, 99.5)) for e in errors if e is not None), default=1.0)
    against = "SIM" if rows[0].target is not None else "truth"
    for place, (row, error) in enumerate(zip(rows, errors, strict=True)):
        line = grid[place]
        height, width = _middle(row.result).shape
        for axes in line[2:]:
            axes.set_box_aspect(height / width)
        _show(line[0], row.widefield, "wide field")
        _show(line[1], row.result, "super-resolved")
        _show(line[2], row.truth, "simulated truth")
        _show(line[3], row.target, "SIM")
        heading = "confidence" if row.calibrated else "confidence, uncalibrated"
        shown = _show(line[4], row.confidence, heading, "cividis", (0, 1))
        if shown is not None:
            figure.colorbar(shown, ax=line[4], fraction=0.046, pad=0.02)
        shown = _show(line[5], error, f"absolute error to {against}", "magma", (0, error_top))
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


def _error(row: MontageRow) -> Float[np.ndarray, "y x"] | None:
    """Absolute error to the SIM target, to the truth where there is none."""
    reference = row.target if row.target is not None else row.truth
    return None if reference is None else np.abs(_middle(row.result) - _middle(reference))


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
