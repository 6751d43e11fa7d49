"""One picture that shows whether a reconstruction can be trusted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from tisr_scope.figures import busiest, scale_bar
from tisr_scope.sim.parameters.estimate import SimParameters


def write_figure(
    path: Path,
    widefield: Float[np.ndarray, "y x"],
    image: Float[np.ndarray, "fy fx"],
    parameters: SimParameters,
    cutoff: float,
    title: str,
) -> None:
    """Wide field, SIM image, an enlarged part of both, and the spectrum with the carriers.

    Grey levels are linear: from the 1st percentile (wide field) or 0 (SIM) to the 99.8th.

    Parameters
    ----------
    path : Path
        PNG file.
    widefield, image : array
        First time point, on the camera grid and on the fine grid.
    parameters : SimParameters
        Gives pixel size and carriers.
    cutoff : float
        Of the detection, cycles per micrometre.
    title : str
        Above the figure.
    """
    pixel = parameters.pixel_size_um
    figure = Figure(figsize=(13.2, 9.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(2, 3)
    height, width = widefield.shape
    side = max(16, min(height, width) // 4)
    top, left = busiest(widefield, side)
    extent = (0.0, width * pixel, height * pixel, 0.0)
    part = (left * pixel, (left + side) * pixel, (top + side) * pixel, top * pixel)
    panels = (("Wide field", widefield, "wide"), ("SIM", image, "sim"))
    for column, (name, content, kind) in enumerate(panels):
        low = float(np.percentile(content, 1)) if kind == "wide" else 0.0
        high = max(float(np.percentile(content, 99.8)), low + 1e-9)
        for row, (x0, x1, y1, y0) in enumerate((extent, part)):
            ax = axes[row, column]
            ax.imshow(
                content,
                cmap="gray",
                vmin=low,
                vmax=high,
                extent=extent,
                interpolation="nearest",
            )
            ax.set_xlim(x0, x1)
            ax.set_ylim(y1, y0)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(name if row == 0 else f"{name}, enlarged")
            scale_bar(ax)
        axes[0, column].add_patch(
            Rectangle(
                (part[0], part[3]), side * pixel, side * pixel, fill=False, color="gold", lw=1
            )
        )
    _spectrum(axes[0, 2], image, pixel * width / image.shape[1], parameters, cutoff)
    _table(axes[1, 2], parameters)
    figure.savefig(path, dpi=110, format="png")


def _spectrum(
    ax: Axes,
    image: Float[np.ndarray, "fy fx"],
    fine_um: float,
    parameters: SimParameters,
    cutoff: float,
) -> None:
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None, :]
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2((image - image.mean()) * window)))
    edge = 0.5 / fine_um
    shown = np.log10(spectrum + 1e-6 * spectrum.max())
    ax.imshow(
        shown,
        cmap="viridis",
        vmin=float(np.percentile(shown, 60)),
        extent=(-edge, edge, edge, -edge),
    )
    ax.add_patch(Circle((0, 0), cutoff, fill=False, color="white", lw=1, ls="--"))
    reach = cutoff + parameters.orders * float(parameters.frequency.mean())
    ax.add_patch(Circle((0, 0), reach, fill=False, color="white", lw=1, ls=":"))
    for order in range(1, parameters.orders + 1):
        for kx, ky in order * parameters.carrier[parameters.usable]:
            ax.plot([kx, -kx], [ky, -ky], "o", mfc="none", mec="tab:red", ms=9)
    limit = min(edge, 1.08 * reach)
    ax.set_xlim(-limit, limit)
    ax.set_ylim(limit, -limit)
    ax.set_xlabel("cycles/µm")
    ax.set_title("Spectrum of the SIM image (log)\nred: stripes, dashed: optics, dotted: SIM limit")


def _table(ax: Axes, parameters: SimParameters) -> None:
    ax.axis("off")
    ax.set_title("Stripes")
    lines = ["        period    angle   order   modulation"]
    for number, (frequency, angle, depths, usable) in enumerate(
        zip(
            parameters.frequency,
            parameters.angle_rad % math.pi,
            parameters.pooled_modulation,
            parameters.usable,
            strict=True,
        )
    ):
        errors = np.median(parameters.modulation_se[:, number], axis=0)
        for order, (depth, error) in enumerate(zip(depths, errors, strict=True), 1):
            place = f"{number + 1:>4}  {1e3 / frequency:6.1f} nm  {math.degrees(angle):5.1f}°"
            lines.append(
                f"{place if order == 1 else '':<23}{order:>6}   {depth:.3f} ± {error:.3f}"
                + ("" if usable else "  left out")
            )
    ax.text(0.0, 0.95, "\n".join(lines), family="monospace", va="top", transform=ax.transAxes)
