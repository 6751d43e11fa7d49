"""The quality control of pairs as pages that can be read without knowing the program.

One page for each recording, channel and position (``quality/<pair>.png``): what the network will
see and learn, and four courses over time.  One page of all (``quality/summary.png``): a row of
squares for each of them, one square a time point.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from tisr_scope.disk import writing
from tisr_scope.figures import scale_bar
from tisr_scope.formats.ome_tiff import read_series
from tisr_scope.pairs.pair_making import PairSource
from tisr_scope.pairs.pair_quality import Kind, PairQuality
from tisr_scope.pairs.pair_records import FOLDER, Refused, write_tables
from tisr_scope.recording.origin import RANKS

BLUE, ORANGE, RED, GREY = "#2f6f9f", "#d9822b", "#b0413e", "#c9c9c9"
LEVEL_COLOURS = ("#8fb8d6", "#4d8fbd", "#1f5f8f", "#0b2f4f")
DROPPED = "#f6d9c4"
KINDS: dict[Kind | None, tuple[str, str]] = {
    None: ("used", BLUE),
    "motion": ("moved", ORANGE),
    "light": ("dark or too dim", "#4a4a4a"),
    "saturation": ("saturated", RED),
    "registration": ("input and target apart", "#8a5aa5"),
    "numbers": ("NaN", "#3c8d5a"),
    "order": ("order of the frames", "#7a1f1f"),
    "gap": ("good, but not used", GREY),
}
ROWS_PER_PAGE = 36
LINES = 5
WIDTH = 170
REMARK = "Reconstruction (of the time points it took, counted from 0)"


def write_report(
    out: Path,
    found: Sequence[tuple[PairSource, PairQuality]],
    refused: Sequence[Refused],
) -> list[Path]:
    """Write tables and pages of everything that was found.

    Returns
    -------
    files : list of Path
        The pages, those of all first.
    """
    folder = out / FOLDER
    qualities = [quality for _, quality in found]
    write_tables(out, qualities, refused)
    files = []
    rows: list[PairQuality | Refused] = [*qualities, *refused]
    for start in range(0, len(rows), ROWS_PER_PAGE):
        number = start // ROWS_PER_PAGE + 1
        path = folder / ("summary.png" if number == 1 else f"summary_{number}.png")
        _save(summary_figure(rows[start : start + ROWS_PER_PAGE]), path)
        files.append(path)
    for source, quality in found:
        if quality.points:
            path = folder / f"{quality.name}.png"
            _save(page_figure(source, quality, out), path)
            files.append(path)
    return files


def summary_figure(rows: Sequence[PairQuality | Refused]) -> Figure:
    """One row for each source: a square for each time point, and the most telling numbers."""
    longest = max((len(r.points) for r in rows if isinstance(r, PairQuality)), default=1)
    longest = max(longest, 8)
    height = 1.6 + 0.3 * len(rows) + 0.17 * len(_why_not(rows))
    figure = Figure(figsize=(12, max(2.6, height)), layout="constrained", dpi=150)
    axes = figure.subplots()
    right = longest + 0.6
    columns = ("kept", "motion", "signal to noise", "light lost")
    places = [right + step for step in np.array([0.04, 0.15, 0.26, 0.42]) * longest]
    for name, place in zip(columns, places, strict=True):
        axes.text(place, -1.0, name, fontsize=8, color="0.35", ha="left", va="center")
    for y, row in enumerate(rows):
        if isinstance(row, Refused):
            axes.text(-0.46, y, "not readable, or no pairs in it", fontsize=8, va="center")
            continue
        for point in row.points:
            kind: Kind | None = None if point.t in row.kept else "gap"
            kind = point.reasons[0].kind if point.reasons else kind
            axes.add_patch(_square(point.t, y, KINDS[kind][1]))
        for text, place in zip(_numbers(row), places, strict=True):
            axes.text(place, y, text, fontsize=8, ha="left", va="center")
    axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows], fontsize=8)
    axes.set_xlim(-0.6, right + 0.52 * longest)
    axes.set_ylim(len(rows) - 0.4, -1.6)
    ticks = [t for t in range(0, longest) if t == 0 or (t + 1) % (5 if longest <= 40 else 20) == 0]
    axes.set_xticks(ticks, [str(t + 1) for t in ticks], fontsize=8)
    axes.set_xlabel("time point", x=longest / (right + 0.52 * longest) / 2, fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in KINDS.values()],
        loc="outside upper center",
        ncols=len(KINDS),
        fontsize=8,
        frameon=False,
    )
    told = _why_not(rows)
    if told:
        figure.supxlabel("\n".join(told), x=0.01, ha="left", fontsize=8, linespacing=1.4)
    return figure


def page_figure(source: PairSource, quality: PairQuality, out: Path) -> Figure:
    """Images of one source, its courses over time, and what was dropped."""
    told = _notes(quality)
    below = 0.25 + 0.21 * len(told)
    figure = Figure(figsize=(12.5, 7.2 + below), layout="constrained", dpi=130)
    parts = figure.subfigures(3, 1, squeeze=False, height_ratios=(3.8, 3.2, below))
    images, courses, notes = parts[:, 0]
    _images(images.subplots(1, 4), source, quality, out)
    _courses(courses.subplots(1, 4), quality, _level_names(source, quality))
    axes = notes.subplots()
    axes.set_axis_off()
    axes.text(0.0, 1.0, "\n".join(told), fontsize=9, va="top", linespacing=1.5)
    figure.suptitle(_verdict(quality), fontsize=12, ha="left", x=0.01)
    return figure


# ------------------------------------------------------------------------------------- inside


def _why_not(rows: Sequence[PairQuality | Refused]) -> list[str]:
    """Why sources became no pair, in lines that fit the page."""
    told = [
        f"{row.name}: {row.error.what if isinstance(row, Refused) else row.rejected}"
        for row in rows
        if isinstance(row, Refused) or row.rejected
    ]
    lines = [line for text in told for line in wrap(text, WIDTH, subsequent_indent="    ")]
    return ["Not used:", *lines] if lines else []


def _save(figure: Figure, path: Path) -> None:
    with writing(path, "figures") as temporary:
        figure.savefig(temporary, format="png")


def _images(places: Any, source: PairSource, quality: PairQuality, out: Path) -> None:
    shown = quality.kept[len(quality.kept) // 2] if quality.kept else 0
    wide = source.electrons(shown).mean(axis=(0, 1))
    names = _level_names(source, quality)
    pixel = source.recording.pixel_size_um
    _show(places[0], wide[0], pixel, f"Input at the lowest light ({names[0]})")
    _show(places[1], wide[-1], pixel, f"Input at the highest light ({names[-1]})")
    if quality.pairs:
        run = next(n for n, (a, b) in enumerate(quality.runs) if a <= shown <= b)
        series = read_series(out / quality.pairs[run] / "target.ome.tif")
        target = series[shown - quality.runs[run][0]]
        fine = pixel * wide.shape[-1] / target.shape[-1]
        _show(places[2], target, fine, f"SIM target (time point {shown + 1})")
    else:
        places[2].set_axis_off()
        places[2].text(0.5, 0.5, "no SIM target", ha="center", transform=places[2].transAxes)
    moved = [p for p in quality.points if p.motion_nm is not None]
    if not moved:
        places[3].set_axis_off()
        return
    worst = max(moved, key=lambda p: p.motion_nm or 0)
    top = source.electrons(worst.t)[:, :, -1]
    pair = [_scaled(top[n].mean(axis=0)) for n in (0, -1)]
    # Green where only the first, magenta where only the last, white where both.
    overlay = np.stack([pair[1], pair[0], pair[1]], axis=-1)
    places[3].imshow(overlay, interpolation="nearest")
    scale_bar(places[3], pixel)
    places[3].set_axis_off()
    places[3].set_title(
        f"Most motion: {worst.motion_nm:.0f} nm (time point {worst.t + 1})\n"
        "green: its start, magenta: its end, white: both",
        fontsize=9,
    )


def _level_names(source: PairSource, quality: PairQuality) -> list[str]:
    """Laser power of each level; its number where nobody knows the power."""
    if RANKS in source.recording.profile.description:
        return [f"level {number + 1}" for number in range(len(quality.levels_mw))]
    return [f"{power:g} mW" for power in quality.levels_mw]


def _show(axes: Axes, image: Float[np.ndarray, "y x"], pixel_um: float, title: str) -> None:
    axes.imshow(_scaled(image), cmap="gray", interpolation="nearest")
    scale_bar(axes, pixel_um)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


def _scaled(image: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    low, high = np.percentile(image, (1, 99.7))
    return np.asarray(np.clip((image - low) / max(high - low, 1e-9), 0, 1))


def _courses(places: Any, quality: PairQuality, names: Sequence[str]) -> None:
    points, limits = quality.points, quality.limits
    time = np.array([point.t + 1 for point in points])
    motion = np.array([np.nan if p.motion_nm is None else p.motion_nm for p in points])
    places[0].plot(time, motion, "o-", ms=3.5, lw=1, color=BLUE)
    places[0].axhline(limits.motion_nm, color=RED, lw=1, ls="--")
    places[0].set_ylim(0, 1.25 * max(limits.motion_nm, np.nanmax(np.r_[motion, 0])))
    places[0].set_title("Motion while a time point was recorded (nm)", fontsize=9)
    far = [v for p in points for v in p.offset_nm if v is not None]
    levels = len(points[0].snr)
    colours = LEVEL_COLOURS[-levels:]
    for level, colour in enumerate(colours):
        name = names[level]
        offset = [p.offset_nm[level] if p.offset_nm else None for p in points]
        values = np.array([np.nan if v is None else v for v in offset])
        places[1].plot(time, values, "o-", ms=3.5, lw=1, color=colour, label=name)
        snr = [p.snr[level] for p in points]
        places[2].plot(time, snr, "o-", ms=3.5, lw=1, color=colour, label=name)
    places[1].axhline(limits.offset_nm, color=RED, lw=1, ls="--")
    places[1].set_ylim(0, 1.35 * max([limits.offset_nm, *far]))
    places[1].set_title("Distance of input and target (nm)", fontsize=9)
    places[2].set_yscale("log")
    places[2].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    places[2].yaxis.set_major_formatter(ScalarFormatter())
    places[2].yaxis.set_minor_locator(NullLocator())
    low, high = (fold(point.snr[n] for point in points) for fold, n in ((min, 0), (max, -1)))
    places[2].set_ylim(max(low, 0.1) / 1.6, 3.2 * high)
    places[2].set_title("Signal to noise of the input", fontsize=9)
    light = np.array([point.brightness_e for point in points])
    percent = 100 * light / max(light[0], 1e-9)
    places[3].plot(time, percent, "o-", ms=3.5, lw=1, color=BLUE)
    places[3].set_ylim(0, 1.1 * max(100, percent.max()))
    places[3].set_title("Brightness, % of the first time point", fontsize=9)
    for axes in places[1:3]:
        axes.legend(fontsize=7, loc="upper left", ncols=levels, framealpha=0.9)
    for axes in places:
        for point in points:
            if point.t not in quality.kept:
                axes.axvspan(point.t + 0.5, point.t + 1.5, color=DROPPED, zorder=0, lw=0)
        axes.set_xlim(0.5, len(points) + 0.5)
        axes.set_xlabel("time point", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)


def _verdict(quality: PairQuality) -> str:
    kept, total = len(quality.kept), len(quality.points)
    if quality.rejected:
        return f"{quality.name}: not used"
    if kept == total:
        return f"{quality.name}: all {total} time points are used"
    parts = f" in {len(quality.runs)} parts" if len(quality.runs) > 1 else ""
    return f"{quality.name}: {kept} of {total} time points are used{parts}"


def _notes(quality: PairQuality) -> list[str]:
    told = wrap(f"Not used: {quality.rejected}", WIDTH) if quality.rejected else []
    bad = [point for point in quality.points if point.reasons]
    faulty = [point for point in bad if point.reasons[0].kind != "gap"]
    told += [
        f"Time point {point.t + 1}: {'; '.join(r.text for r in point.reasons)}"
        for point in faulty[:LINES]
    ]
    if len(faulty) > LINES:
        told.append(f"and {len(faulty) - LINES} more, see {quality.name}.csv")
    alone = [point for point in bad if point.reasons[0].kind == "gap"]
    if alone:
        numbers = ", ".join(str(point.t + 1) for point in alone)
        told.append(f"Time points {numbers}: {alone[0].reasons[0].text}")
    told += [line for r in quality.remarks for line in wrap(f"{REMARK}: {r}", WIDTH)]
    told = told or ["Nothing was found against any time point."]
    full = max(max(point.saturated) for point in quality.points)
    lost = quality.bleached
    light = f"Saturated pixels: at most {full:.2%} of a raw frame."
    if lost is not None:
        light += f" Light lost by bleaching: {max(0.0, lost):.0%}."
    told.append(light)
    told.append(
        "Signal to noise: light of bright structures over the background, against the noise of "
        "its photons and of the camera. Dashed: limit. Shaded: not used."
    )
    return told


def _numbers(quality: PairQuality) -> tuple[str, str, str, str]:
    if not quality.points:
        return ("0", "", "", "")
    motion = [p.motion_nm for p in quality.points if p.motion_nm is not None]
    snr = [np.median([p.snr[n] for p in quality.points]) for n in (0, -1)]
    lost = quality.bleached
    return (
        f"{len(quality.kept)} of {len(quality.points)}",
        f"{np.median(motion):.0f} nm" if motion else "not seen",
        f"{snr[0]:.0f} to {snr[1]:.0f}",
        "" if lost is None else f"{max(0.0, lost):.0%}",
    )


def _square(x: float, y: float, colour: str) -> Patch:
    return Rectangle((x - 0.46, y - 0.36), 0.92, 0.72, color=colour, lw=0)


def _short(name: str) -> str:
    return name if len(name) <= 36 else f"{name[:20]}...{name[-13:]}"
