"""The picture of a demo: images, a closer look, and whether the confidence kept its word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from tisr_scope.confidence.expected_calibration_error import Reliability
from tisr_scope.figures import busiest, scale_bar

PAPER = "#14161b"
CARD = "#1b1e25"
LINE = "#3a404d"
TEXT = "#e6e9ef"
SOFT = "#97a0b0"
GOLD = "#e3c45b"
BLUE = "#7fa8d8"
ROSE = "#e08a8a"


@dataclass(frozen=True)
class DemoImages:
    """One frame on the super-resolved grid; intensities are fitted to the truth."""

    widefield: Float[np.ndarray, "y x"]
    sr: Float[np.ndarray, "y x"]
    truth: Float[np.ndarray, "y x"]
    confidence: Float[np.ndarray, "y x"]
    pixel_size_um: float

    @property
    def error(self) -> Float[np.ndarray, "y x"]:
        """Absolute difference between super-resolution and truth."""
        return np.asarray(np.abs(self.sr - self.truth))


def summary_figure(
    images: DemoImages,
    counts: Reliability,
    times_s: Float[np.ndarray, " frames"],
    psnr_widefield: Float[np.ndarray, " frames"],
    psnr_sr: Float[np.ndarray, " frames"],
    facts: Sequence[tuple[str, str]],
    *,
    calibrated: bool,
) -> Figure:
    """Images, closer look, reliability diagram and figures of a demo.

    Parameters
    ----------
    images : DemoImages
        The frame that is shown.
    counts : Reliability
        Of all compared frames.
    times_s, psnr_widefield, psnr_sr : arrays, shape (frames,)
        Of the compared frames, in s and dB.
    facts : sequence of (name, value)
        Printed in the last panel.
    calibrated : bool
        Whether the confidence is calibrated here.
    """
    figure = Figure(figsize=(15.4, 10.4), dpi=110, facecolor=PAPER)
    figure.text(
        0.035, 0.958, "Camera, super-resolution and truth", color=TEXT, fontsize=17, weight="bold"
    )
    grid = figure.add_gridspec(
        2, 5, left=0.035, right=0.975, top=0.915, bottom=0.375, hspace=0.06, wspace=0.05
    )
    _image_rows(figure, grid, images, calibrated)
    below = figure.add_gridspec(
        1,
        3,
        width_ratios=(1, 1.25, 0.8),
        left=0.06,
        right=0.975,
        top=0.31,
        bottom=0.07,
        wspace=0.17,
    )
    _reliability(figure.add_subplot(below[0]), counts, calibrated)
    _over_time(figure.add_subplot(below[1]), times_s, psnr_widefield, psnr_sr)
    _facts(figure.add_subplot(below[2]), facts)
    return figure


def _image_rows(figure: Figure, grid: GridSpec, images: DemoImages, calibrated: bool) -> None:
    top = float(np.percentile(images.truth, 99.8))
    error = Normalize(0, max(0.25 * top, float(np.percentile(images.error, 99.5))))
    heading = "confidence" if calibrated else "confidence, uncalibrated"
    panels = (
        ("camera (enlarged)", images.widefield, "gray", _contrast(images.widefield)),
        ("super-resolution", images.sr, "gray", _contrast(images.sr)),
        ("truth", images.truth, "gray", _contrast(images.truth)),
        (heading, images.confidence, "cividis", Normalize(0, 1)),
        ("error", images.error, "magma", error),
    )
    size = max(24, min(images.truth.shape) // 4)
    y, x = busiest(images.truth, size)
    for place, (title, image, colours, norm) in enumerate(panels):
        whole = figure.add_subplot(grid[0, place])
        closer = figure.add_subplot(grid[1, place])
        shown = whole.imshow(image, cmap=colours, norm=norm, interpolation="nearest")
        closer.imshow(
            image[y : y + size, x : x + size], cmap=colours, norm=norm, interpolation="nearest"
        )
        whole.set_title(title, color=TEXT, fontsize=12.5, loc="left", y=1.01)
        whole.add_patch(
            Rectangle((x - 0.5, y - 0.5), size, size, fill=False, edgecolor=GOLD, linewidth=1.2)
        )
        for axes in (whole, closer):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(LINE)
        closer.spines[:].set_color(GOLD)
        scale_bar(whole, images.pixel_size_um)
        scale_bar(closer, images.pixel_size_um)
        if colours != "gray":
            _colour_bar(figure, whole, shown)


def _contrast(image: Float[np.ndarray, "y x"]) -> Normalize:
    low, high = np.percentile(image, [1, 99.8])
    return Normalize(float(low), float(high))


def _colour_bar(figure: Figure, axes: Axes, shown: AxesImage) -> None:
    box = axes.inset_axes((0.83, 1.028, 0.17, 0.03))
    bar = figure.colorbar(shown, cax=box, orientation="horizontal")
    low, high = shown.get_clim()
    bar.set_ticks([low, high], labels=[f"{low:g}", f"{high:.2g}"])
    bar.ax.xaxis.set_ticks_position("top")
    bar.ax.tick_params(colors=SOFT, labelsize=8.5, length=0, pad=1.5)
    bar.outline.set_visible(False)


def _plot(axes: Axes, title: str) -> None:
    axes.set_facecolor(CARD)
    axes.set_title(title, color=TEXT, fontsize=12.5, loc="left", pad=9)
    axes.tick_params(colors=SOFT, labelsize=9)
    axes.spines[:].set_color(LINE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=LINE, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)


def _reliability(axes: Axes, counts: Reliability, calibrated: bool) -> None:
    word = "calibrated" if calibrated else "not calibrated"
    _plot(axes, f"confidence: said and found ({word})")
    held = counts.pixels > 0
    centre = (counts.edges[:-1] + counts.edges[1:]) / 2
    width = 1 / counts.bins
    part = counts.pixels / counts.total
    axes.bar(centre, part / max(part.max(), 1e-12) * 0.3, width * 0.9, color=LINE, zorder=1)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    stated, found = counts.confidence[held], counts.accuracy[held]
    axes.vlines(
        stated, np.minimum(stated, found), np.maximum(stated, found), color=ROSE, linewidth=1.2
    )
    axes.plot(stated, found, "o-", color=GOLD, markersize=4.5, linewidth=1.6, zorder=3)
    axes.text(
        0.04, 0.93, f"calibration error {counts.ece:.3f}",
        color=TEXT, fontsize=10, transform=axes.transAxes, va="top",
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="part that was right")


def _over_time(
    axes: Axes,
    times_s: Float[np.ndarray, " frames"],
    widefield: Float[np.ndarray, " frames"],
    sr: Float[np.ndarray, " frames"],
) -> None:
    _plot(axes, "likeness to the truth")
    axes.plot(times_s, sr, "o-", color=GOLD, markersize=4, linewidth=1.6, label="super-resolution")
    axes.plot(times_s, widefield, "o-", color=BLUE, markersize=4, linewidth=1.6, label="camera")
    low, high = min(sr.min(), widefield.min()), max(sr.max(), widefield.max())
    axes.set(xlabel="time (s)", ylabel="PSNR (dB)", ylim=(low - 1.5, high + 2.5))
    legend = axes.legend(frameon=False, ncols=2, loc="upper right", fontsize=10)
    for text in legend.get_texts():
        text.set_color(TEXT)


def _facts(axes: Axes, facts: Sequence[tuple[str, str]]) -> None:
    axes.axis("off")
    axes.add_patch(
        Rectangle((0, 0), 1, 1, transform=axes.transAxes, facecolor=CARD, edgecolor=LINE)
    )
    step = 0.92 / max(len(facts), 1)
    for row, (name, value) in enumerate(facts):
        y = 0.955 - (row + 0.5) * step
        axes.text(0.06, y, name, color=SOFT, fontsize=10.5, transform=axes.transAxes, va="center")
        axes.text(
            0.94, y, value, color=TEXT, fontsize=10.5, transform=axes.transAxes,
            va="center", ha="right",
        )  # fmt: skip
