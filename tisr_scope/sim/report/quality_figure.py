"""The quality of a SIM reconstruction as one page: images, four tests, and what they found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tisr_scope.figures import busiest, scale_bar
from tisr_scope.metrics.ring_correlation import Resolution
from tisr_scope.provenance import provenance, write_json
from tisr_scope.sim.report.findings import RESIDUAL, Finding, findings, report, verdict
from tisr_scope.sim.report.quality import SimQuality
from tisr_scope.sim.report.reprojection import SLOW

BLUE, ORANGE, RED, GREEN = "#2f6f9f", "#d9822b", "#b0413e", "#3c8d5a"
GREY = "0.45"
ORIENTATIONS = ("#2f6f9f", "#d9822b", "#3c8d5a", "#8a5aa5", "#b0413e", "#5f6b73", "#c2a83e")
WORST_SHOWN = 2.0
"""Top of the colour scale of residuals, unless they are larger."""


def write_report(
    folder: Path, name: str, quality: SimQuality, optics_cutoff: float, title: str
) -> None:
    """Write ``<name>_report.json`` and ``<name>_report.png``."""
    content = {**report(quality), "provenance": provenance()}
    write_json(folder / f"{name}_report.json", content)
    write_quality_figure(folder / f"{name}_report.png", quality, optics_cutoff, title)


def write_quality_figure(
    path: Path, quality: SimQuality, optics_cutoff: float, title: str, dpi: int = 100
) -> None:
    """Draw the report.

    Parameters
    ----------
    path : Path
        PNG file.
    quality : SimQuality
        As measured.
    optics_cutoff : float
        Of the detection, cycles per micrometre.
    title : str
        Name of the data.
    dpi : int
        The figure is 15 inches wide.
    """
    found = findings(quality)
    lines = finding_lines(found)
    below = 0.35 + 0.2 * len(lines)
    figure = Figure(figsize=(15.0, 11.9 + below), layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    parts = figure.subfigures(5, 1, squeeze=False, height_ratios=(0.5, 4.1, 3.7, 3.5, below))
    heading, pictures, tests, more, notes = parts[:, 0]
    page_heading(heading, title, quality.time_point, found)
    _pictures(list(pictures.subplots(1, 4)), quality)
    axes = tests.subplots(1, 4)
    _map(axes[0], quality)
    _frames(axes[1], quality)
    _residual_curve(axes[2], quality, optics_cutoff)
    _correlation(axes[3], quality)
    axes = more.subplots(1, 4)
    _stripes(axes[0], quality)
    _brightness(axes[1], quality)
    _decorrelation(axes[2], quality)
    _resolutions(axes[3], quality, optics_cutoff)
    write_notes(notes, lines)
    figure.savefig(path, format="png", pil_kwargs={"optimize": True})


def page_heading(part: SubFigure, title: str, time_point: int, found: Sequence[Finding]) -> None:
    """Name of the data and the verdict over it."""
    serious = any(one.serious for one in found)
    colour = RED if serious else ORANGE if found else GREEN
    part.text(0.012, 0.42, title, fontsize=14, fontweight="bold", va="center")
    when = f"time point {time_point + 1}"
    part.text(0.66, 0.42, when, fontsize=10.5, color=GREY, va="center", ha="center")
    part.text(
        0.988,
        0.42,
        verdict(tuple(found)),
        fontsize=12.5,
        fontweight="bold",
        color="white",
        ha="right",
        va="center",
        bbox={"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "none"},
    )


def _pictures(axes: Sequence[Axes], quality: SimQuality) -> None:
    pixel = quality.parameters.pixel_size_um
    height, width = quality.widefield.shape
    extent = (0.0, width * pixel, height * pixel, 0.0)
    side = max(16, min(height, width) // 4)
    top, left = busiest(quality.widefield, side)
    whole = (0.0, width * pixel, height * pixel, 0.0)
    part = (left * pixel, (left + side) * pixel, (top + side) * pixel, top * pixel)
    panels = (
        ("Wide field", quality.widefield, whole),
        ("SIM", quality.image, whole),
        ("Wide field, enlarged", quality.widefield, part),
        ("SIM, enlarged", quality.image, part),
    )
    for ax, (name, content, (x0, x1, y1, y0)) in zip(axes, panels, strict=True):
        low = float(np.percentile(content, 1)) if name.startswith("Wide") else 0.0
        high = max(float(np.percentile(content, 99.8)), low + 1e-9)
        ax.imshow(content, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="nearest")
        ax.set(xlim=(x0, x1), ylim=(y1, y0), xticks=[], yticks=[])
        panel_title(ax, name)
        scale_bar(ax)
    for ax in axes[:2]:
        corner = (part[0], part[3])
        ax.add_patch(
            Rectangle(corner, side * pixel, side * pixel, fill=False, color="gold", lw=1.2)
        )


def _map(ax: Axes, quality: SimQuality) -> None:
    shown, pixel = quality.residual.map, quality.parameters.pixel_size_um
    top = max(WORST_SHOWN, float(np.percentile(shown, 99.5)))
    height, width = (n * pixel for n in shown.shape)
    picture = ax.imshow(shown, cmap="magma", vmin=0.5, vmax=top, extent=(0, width, height, 0))
    ax.set(xticks=[], yticks=[])
    scale_bar(ax)
    bar = ax.figure.colorbar(picture, ax=ax, shrink=0.86, pad=0.02)
    bar.set_label("what is left / noise", fontsize=9)
    panel_title(ax, "Where the image does not explain the frames\n(1: noise alone)")


def _frames(ax: Axes, quality: SimQuality) -> None:
    score = quality.residual.frame_score
    share = 100 * quality.residual.unexplained.max()
    more = quality.residual.score > RESIDUAL
    beyond = f"up to {share:.0f} % of the structure" if more else "no more than noise"
    top = max(WORST_SHOWN, float(score.max()))
    ax.imshow(score, cmap="magma", vmin=0.5, vmax=top, aspect="auto")
    for (o, p), value in np.ndenumerate(score):
        dark = value < 0.5 + 0.6 * (top - 0.5)
        colour = "white" if dark else "black"
        ax.text(p, o, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=10)
    ax.set_xticks(range(score.shape[1]))
    ax.set_yticks(range(score.shape[0]))
    ax.set(xlabel="phase", ylabel="orientation")
    panel_title(
        ax,
        f"Every frame: what is left / noise\nall {quality.residual.score:.2f}: {beyond}",
    )


def _residual_curve(ax: Axes, quality: SimQuality, cutoff: float) -> None:
    residual = quality.residual
    for o, curve in enumerate(residual.ring_score):
        ax.plot(
            residual.frequency, curve, color=orientation_colour(o), lw=1.6, label=f"orientation {o}"
        )
    ax.axhline(1, color=GREY, lw=1, ls="--")
    ax.axvspan(0, SLOW * cutoff, color="0.93", zorder=0)
    ax.set_yscale("log")
    top = max(2.0, 1.15 * float(residual.ring_score.max()))
    ax.set_ylim(0.7, top)
    ticks = [t for t in (0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100) if t <= top]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.set_xlim(0, cutoff)
    ax.set(xlabel="cycles/µm", ylabel="what is left / noise")
    ax.legend(fontsize=8, frameon=False)
    panel_title(ax, "Coarse to fine details\ngrey: haze and uneven light show here")
    plain_axes(ax)


def _correlation(ax: Axes, quality: SimQuality) -> None:
    curves = (
        ("wide field", quality.widefield_correlation, quality.widefield_resolution, GREY),
        ("SIM", quality.sim_correlation, quality.sim_resolution, BLUE),
    )
    for name, curve, resolution, colour in curves:
        ax.plot(curve.frequency, curve.correlation, color=colour, lw=0.5, alpha=0.45)
        told = f"{1e3 * resolution.um:.0f} nm" if resolution.um else without_value(resolution)
        ax.plot(curve.frequency, curve.smoothed(), color=colour, lw=2, label=f"{name}: {told}")
        if resolution.um:
            ax.plot(1 / resolution.um, 1 / 7, "o", color=colour, ms=6)
    ax.axhline(1 / 7, color=ORANGE, lw=1, ls="--")
    ax.text(0.02, 1 / 7 + 0.02, "1/7", color=ORANGE, fontsize=8, transform=ax.get_yaxis_transform())
    ax.set_xlim(0, quality.sim_correlation.frequency[-1])
    ax.set_ylim(-0.15, 1.05)
    ax.set(xlabel="cycles/µm", ylabel="correlation")
    ax.legend(fontsize=8.5, frameon=False)
    panel_title(ax, "Two halves of the light: ring correlation\n(where noise begins, true or not)")
    plain_axes(ax)


def _stripes(ax: Axes, quality: SimQuality) -> None:
    parameters = quality.parameters
    depth, error = parameters.modulation[0], parameters.modulation_se[0]
    count, orders = depth.shape
    wide = 0.8 / orders
    highest = max(1.0, float(depth.max()))
    top = 1.32 * max(highest, min(float((depth + 2 * error).max()), 1.5 * highest))
    for o in range(count):
        for n in range(orders):
            place = o + (n - (orders - 1) / 2) * wide
            usable = bool(parameters.usable[o])
            ax.bar(
                place,
                depth[o, n],
                0.9 * wide,
                color=orientation_colour(o) if usable else "0.8",
                alpha=1 - 0.4 * n,
                yerr=2 * error[o, n],
                error_kw={"lw": 1.2, "capsize": 3, "ecolor": "0.2"},
            )
            label = f"{depth[o, n]:.2f}\nSNR {quality.modulation_to_noise[o, n]:.1f}"
            ax.text(
                place,
                min(depth[o, n] + 2 * error[o, n] + 0.02, 0.86 * top),
                label if usable else "not used",
                ha="center",
                va="bottom",
                fontsize=8 if orders == 1 else 6.5,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
            )
    names = []
    for o in range(count):
        period = 1e3 / float(parameters.frequency[o])
        spread = period * float(np.hypot(*parameters.carrier_se[o]) / parameters.frequency[o])
        angle = math.degrees(float(parameters.angle_rad[o])) % 180
        names.append(f"{period:.1f} nm\n± {spread:.2f}\n{angle:.1f}°")
    ax.set_xticks(range(count), names, fontsize=8.5)
    ax.set_ylim(0, top)
    ax.set_ylabel("modulation depth (bars: 2 standard errors)", fontsize=8.5)
    panel_title(ax, "Stripes: period, direction, modulation,\nstripes over noise (SNR)")
    plain_axes(ax)


def _brightness(ax: Axes, quality: SimQuality) -> None:
    light = quality.brightness
    orientations, phases = light.shape
    for o in range(orientations):
        place = np.arange(phases) + o * phases
        ax.plot(place, light[o], "o-", color=orientation_colour(o), lw=1.4, ms=5)
        ax.hlines(
            light[o].mean(), place[0] - 0.4, place[-1] + 0.4, color=orientation_colour(o), alpha=0.4
        )
    ax.set_ylim(0, 1.25 * max(1.1, float(light.max())))
    ax.set_xticks([o * phases + (phases - 1) / 2 for o in range(orientations)])
    ax.set_xticklabels([str(o) for o in range(orientations)])
    ax.set(xlabel="orientation (points: phases)", ylabel="mean brightness")
    change = f"{-100 * quality.bleaching:+.0f} ± {100 * quality.bleaching_se:.0f} %"
    panel_title(ax, f"Light of the frames\nchange from first to last: {change}")
    plain_axes(ax)


def _decorrelation(ax: Axes, quality: SimQuality) -> None:
    found = quality.decorrelation
    fine = quality.parameters.pixel_size_um * quality.widefield.shape[0] / quality.image.shape[0]
    nyquist = 0.5 / fine
    ax.plot(nyquist * found.radius, found.curve, color=BLUE, lw=2, label="of the image")
    peaks = found.maxima[found.maxima[:, 0] > 0]
    ax.plot(
        nyquist * peaks[:, 0],
        peaks[:, 1],
        "+",
        color=GREY,
        ms=6,
        label="maxima, high-pass filtered",
    )
    if found.resolution_um:
        ax.axvline(1 / found.resolution_um, color=ORANGE, lw=1.2, ls="--")
    ax.set_xlim(0, nyquist)
    ax.set_ylim(0, 1.15 * max(float(found.curve.max()), float(found.maxima[:, 1].max())))
    told = f"{1e3 * found.resolution_um:.0f} nm" if found.resolution_um else "no maximum"
    ax.set(xlabel="cycles/µm", ylabel="correlation")
    ax.legend(fontsize=8, frameon=False)
    panel_title(ax, f"Decorrelation analysis: {told}\n(where signal ends, true or not)")
    plain_axes(ax)


def _resolutions(ax: Axes, quality: SimQuality, cutoff: float) -> None:
    parameters = quality.parameters
    usable = parameters.frequency[parameters.usable]
    limit = 1e3 / (cutoff + parameters.orders * float(usable.max()))
    wide, sim = quality.widefield_resolution, quality.sim_resolution
    rows = [
        ("optics, limit", 1e3 / cutoff, None, "0.75", ""),
        ("wide field, halves", wide.um, wide.standard_error_um, GREY, without_value(wide)),
        ("SIM, limit", limit, None, "#b9d3e6", ""),
        ("SIM, halves", sim.um, sim.standard_error_um, BLUE, without_value(sim)),
        ("SIM, decorrelation", quality.decorrelation.resolution_um, None, "#6fa3c8", "none"),
    ]
    longest = 0.0
    for y, (_, value, error, colour, untold) in enumerate(rows):
        length = 0.0 if value is None else value * (1.0 if "limit" in rows[y][0] else 1e3)
        longest = max(longest, length)
        ax.barh(y, length, 0.66, color=colour, xerr=None if error is None else 2e3 * error)
        told = f"{length:.0f} nm" if length else untold
        ax.text(length + 6 + (2e3 * error if error else 0), y, told, va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=9)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.3 * longest)
    ax.set_xlabel("nm")
    agreement = quality.scaled_error
    panel_title(
        ax,
        "Resolution. Blurred SIM and wide field:\n"
        f"correlation {agreement.rsp:.3f}, difference {100 * agreement.relative_rse:.0f} %",
    )
    plain_axes(ax)


def without_value(resolution: Resolution) -> str:
    """What to say where there is no resolution."""
    return "to the limit" if resolution.note.startswith("not reached") else "no agreement"


def finding_lines(found: Sequence[Finding]) -> list[tuple[str, str]]:
    """Sentences in lines of the page, each with its colour."""
    if not found:
        text = "No test found anything against this image. Compare it with what is known of the "
        return [(text + "sample all the same: no test sees everything.", "0.2")]
    lines = []
    for one in found:
        first, *rest = textwrap.wrap(one.text, 165)
        colour = RED if one.serious else "0.15"
        lines.append((f"{'✕' if one.serious else '•'}  {first}", colour))
        lines += [(f"    {more}", colour) for more in rest]
    return lines


def write_notes(part: SubFigure, lines: Sequence[tuple[str, str]]) -> None:
    """Write these lines one below the other."""
    for row, (text, colour) in enumerate(lines):
        y = 1 - (row + 0.6) / (len(lines) + 0.6)
        part.text(0.012, y, text, fontsize=10.5, color=colour, va="center")


def orientation_colour(o: int) -> str:
    """The same in every panel."""
    return ORIENTATIONS[o % len(ORIENTATIONS)]


def panel_title(ax: Axes, text: str) -> None:
    """Title of one panel."""
    ax.set_title(text, fontsize=10.5, loc="left")


def plain_axes(ax: Axes) -> None:
    """Axes without a box."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8.5)
