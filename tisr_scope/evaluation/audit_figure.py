"""The picture of an audit: where, when and at which frequencies an image is true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from tisr_scope.confidence.side_band_audit import Audit, AuditSums
from tisr_scope.figures import scale_bar

BLUE, GREY = "#2f6f9f", "0.45"
MAP_SIGMA_UM = 0.8
"""Over which the map is averaged: a place needs enough detail to be judged."""


def local(maps: AuditSums, sigma_px: float) -> AuditSums:
    """Sums over the neighbourhood of every pixel, weighted by a Gaussian."""
    area = 4 * np.pi * sigma_px**2  # pixels that such a mean stands for
    parts = (maps.product, maps.predicted, maps.measured, maps.noise, maps.samples)
    return AuditSums(*(area * gaussian_filter(part, sigma_px, mode="nearest") for part in parts))


def write_audit_figure(
    path: Path,
    total: Audit,
    moments: Mapping[int, AuditSums],
    image: Float[np.ndarray, "fy fx"],
    *,
    pixel_size_um: float,
    title: str,
) -> None:
    """Draw the result, the map of its agreement, and the curves over time and frequency.

    Parameters
    ----------
    path : Path
        PNG file.
    total : Audit
        All time points together.
    moments : mapping
        Time point to its sums.
    image : array, shape (fy, fx)
        One super-resolved frame.
    pixel_size_um : float
        Camera pixel in the sample.
    title : str
    """
    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(2, 2)
    fine_um = pixel_size_um * total.maps.product.shape[1] / image.shape[1]
    left = axes[0, 0]
    left.imshow(image, cmap="gray", vmin=0, vmax=float(np.percentile(image, 99.8)))
    left.set_title("super-resolved", fontsize=10)
    left.set_axis_off()
    scale_bar(left, fine_um)
    right = axes[0, 1]
    here = local(total.maps, MAP_SIGMA_UM / pixel_size_um).correlation
    cmap = "RdYlBu"
    drawn = right.imshow(here, cmap=cmap, vmin=-1, vmax=1)
    right.set_facecolor("0.85")
    right.set_title(
        f"true beyond the diffraction limit, within {MAP_SIGMA_UM:g} µm (grey: cannot be told)",
        fontsize=10,
    )
    right.set_xticks([])
    right.set_yticks([])
    figure.colorbar(drawn, ax=right, shrink=0.8, label="correlation with the sample")
    _curve(axes[1, 0], np.array(list(moments)), list(moments.values()), "time point")
    _curve(
        axes[1, 1],
        total.frequency,
        [total.by_frequency[n] for n in range(len(total.frequency))],
        "frequency in the sample (cycles/µm)",
    )
    figure.savefig(path, dpi=110)


def _curve(axes: Axes, x: np.ndarray, sums: list[AuditSums], label: str) -> None:
    y = np.array([float(one.correlation) for one in sums])
    error = np.array([1.96 * float(one.standard_error) for one in sums])
    told = np.isfinite(y)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.errorbar(x[told], y[told], yerr=error[told], color=BLUE, fmt="o-", markersize=4, capsize=2)
    axes.set_ylim(-0.35, 1.1)
    axes.set_xlabel(label)
    axes.set_ylabel("correlation with the sample")
    axes.grid(alpha=0.25)
