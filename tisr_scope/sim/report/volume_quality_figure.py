"""The quality of a 3D SIM reconstruction as one page."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from tisr_scope.figures import scale_bar
from tisr_scope.metrics.ring_correlation import Resolution, RingCorrelation
from tisr_scope.provenance import provenance, write_json
from tisr_scope.sim.report.quality_figure import (
    BLUE,
    GREY,
    ORANGE,
    finding_lines,
    orientation_colour,
    page_heading,
    panel_title,
    plain_axes,
    without_value,
    write_notes,
)
from tisr_scope.sim.report.volume_figure import CUT_PX
from tisr_scope.sim.report.volume_findings import bleached, volume_findings, volume_report
from tisr_scope.sim.report.volume_quality import VolumeQuality

WORST_SHOWN = 0.4
"""Share of the structure at the top of the colour scale, unless more is left."""


def write_volume_report(folder: Path, name: str, quality: VolumeQuality, title: str) -> None:
    """Write ``<name>_report.json`` and ``<name>_report.png``."""
    content = {**volume_report(quality), "provenance": provenance()}
    write_json(folder / f"{name}_report.json", content)
    write_volume_quality_figure(folder / f"{name}_report.png", quality, title)


def write_volume_quality_figure(
    path: Path, quality: VolumeQuality, title: str, dpi: int = 100
) -> None:
    """Draw the report.

    Parameters
    ----------
    path : Path
        PNG file.
    quality : VolumeQuality
        As measured.
    title : str
        Name of the data.
    dpi : int
        The figure is 15 inches wide.
    """
    found = volume_findings(quality)
    lines = finding_lines(found)
    below = 0.35 + 0.2 * len(lines)
    figure = Figure(figsize=(15.0, 12.2 + below), layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    parts = figure.subfigures(5, 1, squeeze=False, height_ratios=(0.5, 4.3, 3.7, 3.7, below))
    heading, pictures, tests, more, notes = parts[:, 0]
    page_heading(heading, title, quality.time_point, found)
    _pictures(pictures, quality)
    axes = tests.subplots(1, 3)
    for direction, ax in enumerate(axes[:2]):
        _correlation(ax, quality, direction)
    _resolutions(axes[2], quality)
    axes = more.subplots(1, 4)
    _stripes(axes[0], quality)
    _ratios(axes[1], quality)
    _residual(axes[2], quality)
    _light(axes[3], quality)
    write_notes(notes, lines)
    figure.savefig(path, format="png", pil_kwargs={"optimize": True})


def _pictures(part: SubFigure, quality: VolumeQuality) -> None:
    """One section and one axial section of each; the axial one at true proportions."""
    pixel, spacing = quality.parameters.pixel_size_um, quality.parameters.section_um
    sections, height, width = quality.widefield.shape
    deep, tall, wide = sections * spacing, height * pixel, width * pixel
    middle = int(quality.volume.std(axis=(1, 2)).argmax())
    row = int(quality.volume.max(axis=0)[4:-4].std(axis=1).argmax()) + 4
    grid = part.add_gridspec(2, 3, width_ratios=(1, 1, 1.4))
    places = (grid[:, 0], grid[:, 1], grid[0, 2], grid[1, 2])
    axes = [part.add_subplot(place) for place in places]
    panels = (("Wide field", quality.widefield), ("SIM", quality.volume))
    for column, (name, content) in enumerate(panels):
        fine = content.shape[1] // height
        here = row * fine // 2
        cut = content[:, max(here - CUT_PX * fine // 2, 0) : here + CUT_PX * fine // 2 + 1]
        low = float(np.percentile(content, 1)) if column == 0 else 0.0
        views = (
            (content[middle], f"{name}, z = {middle * spacing:.2f} µm", (0, wide, tall, 0)),
            (cut.max(axis=1), f"{name}, along the dashed line (z down)", (0, wide, deep, 0)),
        )
        for line, (image, text, extent) in enumerate(views):
            ax = axes[2 * line + column]
            high = max(float(np.percentile(image, 99.8)), low + 1e-9)
            ax.imshow(
                image, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="nearest"
            )
            ax.set(xticks=[], yticks=[])
            panel_title(ax, text)
            scale_bar(ax)
    for ax in axes[:2]:
        ax.axhline(0.5 * row * pixel, color="gold", lw=0.8, ls="--")


def _curves(
    quality: VolumeQuality, direction: int
) -> tuple[tuple[str, RingCorrelation, Resolution, str], ...]:
    curves = []
    for name, found, colour in (
        ("wide field", quality.widefield_correlation, GREY),
        ("SIM", quality.sim_correlation, BLUE),
    ):
        curve = (found.lateral, found.axial)[direction]
        curves.append((name, curve, found.resolution[direction], colour))
    return tuple(curves)


def _correlation(ax: Axes, quality: VolumeQuality, direction: int) -> None:
    limits = [quality.limits_um[name][direction] for name in ("widefield", "sim")]
    for (name, curve, resolution, colour), limit in zip(
        _curves(quality, direction), limits, strict=True
    ):
        ax.plot(curve.frequency, curve.correlation, color=colour, lw=0.5, alpha=0.45)
        told = f"{1e3 * resolution.um:.0f} nm" if resolution.um else without_value(resolution)
        ax.plot(curve.frequency, curve.smoothed(), color=colour, lw=2, label=f"{name}: {told}")
        ax.axvline(1 / limit, color=colour, lw=1.2, ls=":")
        if resolution.um:
            ax.plot(1 / resolution.um, 1 / 7, "o", color=colour, ms=6)
    ax.axhline(1 / 7, color=ORANGE, lw=1, ls="--")
    ax.text(0.02, 1 / 7 + 0.02, "1/7", color=ORANGE, fontsize=8, transform=ax.get_yaxis_transform())
    ax.set_xlim(0, 1.03 / limits[1])
    ax.set_ylim(-0.15, 1.05)
    what = ("kr, cycles/µm", "kz, cycles/µm")[direction]
    ax.set(xlabel=what, ylabel="correlation")
    ax.legend(fontsize=8.5, frameon=False, loc="lower left")
    name = ("across (rings, kz near 0)", "along the axis (planes of kz)")[direction]
    panel_title(ax, f"Two halves of the light, {name}\ndotted: limits of the optics and of SIM")
    plain_axes(ax)


def _resolutions(ax: Axes, quality: VolumeQuality) -> None:
    rows: list[tuple[str, float | None, float | None, str, str]] = []
    for direction, place in enumerate(("across", "along the axis")):
        wide, sim = (
            one[direction] for one in (quality.widefield_resolution, quality.sim_resolution)
        )
        for name, found, kind, colours in (
            ("wide field", wide, "widefield", ("0.75", GREY)),
            ("SIM", sim, "sim", ("#b9d3e6", BLUE)),
        ):
            rows.append(
                (f"{name} {place}, limit", quality.limits_um[kind][direction], None, colours[0], "")
            )
            rows.append(
                (
                    f"{name} {place}",
                    found.um,
                    found.standard_error_um,
                    colours[1],
                    without_value(found),
                )
            )
    longest = max(1e3 * (value or 0) for _, value, *_ in rows)
    for y, (_, value, error, colour, untold) in enumerate(rows):
        length, spread = 1e3 * (value or 0.0), 1e3 * (error or 0.0)
        ax.barh(y, length, 0.66, color=colour, xerr=spread or None)
        told = f"{length:.0f} nm" if length else untold
        ax.text(length + spread + 0.015 * longest, y, told, va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=9)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2 * longest)
    ax.set_xlabel("nm")
    panel_title(ax, "Resolution of two halves\nbeside the limits")
    plain_axes(ax)


def _stripes(ax: Axes, quality: VolumeQuality) -> None:
    parameters = quality.parameters
    depth, error = parameters.modulation, parameters.modulation_se
    _bars(ax, depth, 2 * error, "{:.2f}")
    names = []
    for (kx, ky), spread in zip(parameters.carrier, parameters.carrier_se, strict=True):
        length = math.hypot(kx, ky)
        period = 1e3 / length
        unsure = period * float(np.hypot(*spread)) / length
        angle = math.degrees(math.atan2(ky, kx)) % 180
        names.append(f"{period:.1f} nm\n± {unsure:.2f}\n{angle:.1f}°")
    ax.set_xticks(range(len(depth)), names, fontsize=8.5)
    ax.set_ylabel("modulation (bars: 2 standard errors)", fontsize=8.5)
    panel_title(ax, "Stripes: period, direction, modulation\nof order 1 (full) and 2 (pale)")
    plain_axes(ax)


def _ratios(ax: Axes, quality: VolumeQuality) -> None:
    ratio = quality.modulation_to_noise
    _bars(ax, ratio, np.zeros_like(ratio), "{:.1f}")
    ax.set_xticks(range(len(ratio)))
    ax.set(xlabel="orientation", ylabel="stripes / noise")
    panel_title(ax, "Stripes over noise at the structures\norder 1 (full) and 2 (pale)")
    plain_axes(ax)


def _bars(ax: Axes, values: np.ndarray, errors: np.ndarray, form: str) -> None:
    top = 1.15 * max(float((values + errors).max()), 0.1)
    for (o, n), value in np.ndenumerate(values):
        place = o + 0.4 * (n - 0.5)
        spread = float(errors[o, n])
        ax.bar(
            place,
            value,
            0.36,
            color=orientation_colour(o),
            alpha=1 - 0.45 * n,
            yerr=spread or None,
            error_kw={"lw": 1.2, "capsize": 3, "ecolor": "0.2"},
        )
        ax.text(
            place,
            value + spread + 0.01 * top,
            form.format(value),
            ha="center",
            va="bottom",
            fontsize=8.5,
        )
    ax.set_ylim(0, top)


def _residual(ax: Axes, quality: VolumeQuality) -> None:
    score, share = quality.residual.score, quality.residual.unexplained
    top = max(WORST_SHOWN, float(share.max()))
    ax.imshow(share, cmap="magma", vmin=0, vmax=top, aspect="auto")
    for (o, n), value in np.ndenumerate(score):
        colour = "white" if share[o, n] < 0.6 * top else "black"
        text = f"{value:.2f}\n{100 * share[o, n]:.0f} %"
        ax.text(n, o, text, ha="center", va="center", color=colour, fontsize=10)
    ax.set_xticks(range(score.shape[1]))
    ax.set_yticks(range(score.shape[0]))
    ax.set(xlabel="order of the band", ylabel="orientation")
    panel_title(ax, "What the volume leaves of each band:\nover noise; percent of the structure")


def _light(ax: Axes, quality: VolumeQuality) -> None:
    light = quality.section_light
    place = np.arange(light.shape[1]) * quality.parameters.section_um
    for o, curve in enumerate(light):
        label = f"orientation {o}"
        ax.plot(place, curve, "o-", color=orientation_colour(o), lw=1.4, ms=3, label=label)
    ax.set_ylim(0, 1.3 * float(light.max()))
    ax.set(xlabel="z, µm", ylabel="mean brightness")
    ax.legend(fontsize=8, frameon=False, loc="lower left")
    lost = bleached(quality)
    told = f"{100 * quality.bleaching:.0f} % lost by bleaching" if lost else "no certain bleaching"
    panel_title(ax, f"Light of the sections\n{told}")
    plain_axes(ax)
