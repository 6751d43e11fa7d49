"""Figures of a study: Tukey box plots, and crops beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from benchmarks.tisr_simulated.models import DPA, SINGLE, SIX
from benchmarks.tisr_simulated.study import WIDEFIELD
from tisr_scope.evaluation.boxes import draw_boxes
from tisr_scope.figures import busiest, scale_bar

_CROP_PX = 72
_MOST_IN_LINE = 7


def colour(model: str) -> str:
    """Grey without time, blue sliding, green recurrent, orange DPA, violet the others."""
    if model == WIDEFIELD:
        return "#d0d0d0"
    if model.startswith(SINGLE):
        return "#8c8c8c"
    if model == DPA:
        return "#d9822b"
    if model in SIX:
        return "#2f6f9f" if model.startswith("sliding") else "#3c8d5a"
    return "#8a5aa5"


def box_grid(
    values: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], conditions: Sequence[str]
) -> Figure:
    """One row for each metric, one column for each condition, one box for each model."""
    models = list(next(iter(next(iter(values.values())).values())))
    figure = Figure(
        figsize=(3.1 * len(conditions) + 2.2, (0.27 * len(models) + 0.9) * len(values)),
        layout="constrained",
        dpi=130,
    )
    grid = figure.subplots(len(values), len(conditions), squeeze=False, sharey=True)
    colours = {model: colour(model) for model in models}
    for line, (metric, by_condition) in zip(grid, values.items(), strict=True):
        for axes, condition in zip(line, conditions, strict=True):
            draw_boxes(axes, by_condition[condition], colours, horizontal=True)
            axes.axvline(
                float(np.median(by_condition[condition][SINGLE]))
                if by_condition[condition].get(SINGLE)
                else np.nan,
                color="#8c8c8c",
                linewidth=0.8,
                linestyle="--",
                zorder=0,
            )
            axes.set_xlabel(metric, fontsize=8)
            axes.set_title(condition, fontsize=9)
    figure.suptitle(
        "each value: one test sequence and seed; dashed: median of the single image", fontsize=9
    )
    return figure


def crop_figure(
    rows: Mapping[str, Mapping[str, Float[np.ndarray, "fy fx"]]], pixel_um: float
) -> Figure:
    """Where the truth has most structure: enlarged input, every model, truth; by condition."""
    names = list(next(iter(rows.values())))
    lines = -(-len(names) // _MOST_IN_LINE)
    columns = -(-len(names) // lines)
    figure = Figure(
        figsize=(1.75 * columns, (1.98 * lines + 0.3) * len(rows)), layout="constrained", dpi=130
    )
    for part, (condition, images) in zip(
        np.atleast_1d(np.asarray(figure.subfigures(len(rows), 1), dtype=object)),
        rows.items(),
        strict=True,
    ):
        part.suptitle(condition, fontsize=9)
        grid = part.subplots(lines, columns, squeeze=False).ravel()
        truth = images["truth"]
        y, x = busiest(truth, _CROP_PX)
        high = float(np.percentile(truth[y : y + _CROP_PX, x : x + _CROP_PX], 99.8))
        for axes in grid:
            axes.set_axis_off()
        for axes, name in zip(grid, names, strict=False):
            shown = images[name][y : y + _CROP_PX, x : x + _CROP_PX].astype(np.float32)
            axes.imshow(shown, cmap="gray", vmin=0, vmax=high, interpolation="nearest")
            axes.set_title(name.replace(", ", ",\n"), fontsize=8)
        scale_bar(grid[0], pixel_um)
    return figure
