"""One picture that shows how the illumination was estimated, and whether it can be trusted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.bands import BandSpectra, band_spectra
from tisr_scope.sim.parameters.coarse_carrier import agreement
from tisr_scope.sim.parameters.estimate import SimParameters
from tisr_scope.sim.parameters.fine_carrier import compare
from tisr_scope.sim.parameters.overlap import SamplePower, blocks

AROUND_SAMPLES = 8
"""Frequency samples shown around the carrier."""
PHASE_CELLS = 8
"""Per axis of the phase map: with fewer, noise hides a bend of the stripes."""
LARGEST_PHASE_SE_DEG = 30.0
"""Cells that know their phase less well are left white."""
MARK = "#ff5a4d"


def write_diagnostics(
    path: Path,
    frames: Float[np.ndarray, "time orientation phase y x"] | Float[Tensor, ...],
    parameters: SimParameters,
    otf: DetectionOtf,
    title: str,
) -> None:
    """Draw spectrum, band agreement, phase over the field and modulation of every orientation.

    Parameters
    ----------
    path : Path
        PNG file.
    frames : array, shape (time, orientation, phase, y, x) or without time
        That the parameters were estimated from; the first time point is shown.
    parameters : SimParameters
        As estimated.
    otf : DetectionOtf
        Detection optics.
    title : str
        Above the figure.
    """
    stack = torch.as_tensor(frames)
    stack = (stack[None] if stack.ndim == 4 else stack).to(torch.float32)
    orientations = stack.shape[1]
    figure = Figure(figsize=(15.0, 3.7 * orientations + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(orientations, 4, squeeze=False)
    for o in range(orientations):
        steps = torch.as_tensor(parameters.steps_rad[o], device=stack.device)
        bands = band_spectra(stack[:1, o], steps, parameters.orders, otf, parameters.pixel_size_um)
        _spectrum(axes[o, 0], bands, parameters, o)
        _peak(axes[o, 1], bands, parameters, o)
        _phase_map(axes[o, 2], bands, parameters, o)
        _depths(axes[o, 3], parameters, o)
    figure.savefig(path, dpi=100, format="png")


def _spectrum(ax: Axes, bands: BandSpectra, parameters: SimParameters, orientation: int) -> None:
    """Magnitude of the highest band, whitened by the noise, and where the bands are centred."""
    highest = bands.spectra[0, -1].abs() / bands.noise[0, -1].sqrt()
    shown = torch.fft.fftshift(highest).cpu().numpy()
    low, high = (-extent for extent in _edges(bands))
    ax.imshow(
        np.log10(np.maximum(shown, 0.3)),
        cmap="viridis",
        vmin=0.0,
        extent=(low, -low, -high, high),
        interpolation="nearest",
    )
    cutoff = bands.otf.cutoff
    ax.add_patch(Circle((0, 0), cutoff, fill=False, color="white", lw=1, ls="--"))
    for n in range(1, parameters.orders + 1):
        kx, ky = n * parameters.carrier[orientation]
        ax.plot(kx, ky, "o", mfc="none", mec=MARK, ms=12, mew=1.8)
        label = ax.annotate(
            f"{n} k",
            (kx, ky),
            (-10 if kx > 0 else 10, 0),
            textcoords="offset points",
            color=MARK,
            fontweight="bold",
            va="center",
            ha="right" if kx > 0 else "left",
        )
        label.set_path_effects([withStroke(linewidth=2.5, foreground="black")])
    reach = 1.1 * max(cutoff, parameters.orders * float(parameters.frequency.max()))
    ax.set_facecolor("0.15")
    ax.set_xlim(-reach, reach)
    ax.set_ylim(reach, -reach)
    ax.set_xlabel("cycles/µm")
    ax.set_ylabel(f"orientation {orientation}", fontsize=12, fontweight="bold")
    ax.set_title(
        f"Spectrum of band {parameters.orders} over noise (log)\n"
        "red: stripes, dashed: limit of the optics",
        fontsize=10,
    )


def _edges(bands: BandSpectra) -> tuple[float, float]:
    """Half the span of fx and of fy."""
    height, width = bands.shape
    return width / 2 / bands.extent_um[1], height / 2 / bands.extent_um[0]


def _peak(ax: Axes, bands: BandSpectra, parameters: SimParameters, orientation: int) -> None:
    """Agreement of bands 0 and 1 around the carrier, with its standard error."""
    carrier, error = parameters.carrier[orientation], parameters.carrier_se[orientation]
    found = agreement(bands, float(np.hypot(*carrier)) + (AROUND_SAMPLES + 2) * max(_steps(bands)))
    power = found.power.permute(2, 0, 3, 1).flatten(2).flatten(0, 1).cpu().numpy()
    ky, kx = (
        (axis[:, None] + torch.tensor([0.0, 0.5], device=axis.device) * step)
        .flatten()
        .cpu()
        .numpy()
        for axis, step in ((found.ky, found.step[0]), (found.kx, found.step[1]))
    )
    near_y, near_x = (
        np.flatnonzero(np.abs(axis - centre) <= AROUND_SAMPLES * step)
        for axis, centre, step in (
            (ky, carrier[1], found.step[0]),
            (kx, carrier[0], found.step[1]),
        )
    )
    near_y, near_x = near_y[np.argsort(ky[near_y])], near_x[np.argsort(kx[near_x])]
    shown = power[np.ix_(near_y, near_x)]
    offset_x = (kx[near_x] - carrier[0]) / found.step[1]
    offset_y = (ky[near_y] - carrier[1]) / found.step[0]
    image = ax.pcolormesh(offset_x, offset_y, shown, cmap="magma", vmin=0, shading="nearest")
    ax.figure.colorbar(image, ax=ax, shrink=0.8, label="agreement (1: chance)")
    ax.axhline(0, color="white", lw=0.5, ls=":")
    ax.axvline(0, color="white", lw=0.5, ls=":")
    ax.add_patch(
        Ellipse(
            (0, 0),
            4 * error[0] / found.step[1],
            4 * error[1] / found.step[0],
            fill=False,
            color="cyan",
            lw=1.5,
        )
    )
    ax.set_aspect("equal")
    ax.set_ylim(AROUND_SAMPLES, -AROUND_SAMPLES)
    ax.set_xlim(-AROUND_SAMPLES, AROUND_SAMPLES)
    period = 1e3 / float(np.hypot(*carrier))
    angle = math.degrees(math.atan2(carrier[1], carrier[0])) % 180
    ax.set_title(f"Bands 0 and 1 around the carrier\n{period:.2f} nm, {angle:.2f}°", fontsize=10)
    ax.set_xlabel("frequency samples (cyan: 2 standard errors)")


def _steps(bands: BandSpectra) -> tuple[float, float]:
    return 1 / bands.extent_um[0], 1 / bands.extent_um[1]


def _phase_map(ax: Axes, bands: BandSpectra, parameters: SimParameters, orientation: int) -> None:
    """Phase of the fundamental over the field, less the one value that is used."""
    power = SamplePower.measure(bands)
    (one, *_rest) = compare(bands, power, parameters.carrier[orientation], 1)
    product, _, centres = blocks(one)
    turned = product[0] * np.exp(-1j * parameters.phase_rad[0, orientation, 0])
    height, width = bands.extent_um
    column = ((centres[:, 0] / width + 0.5) * PHASE_CELLS).astype(int)
    cell = ((centres[:, 1] / height + 0.5) * PHASE_CELLS).astype(int) * PHASE_CELLS + column

    def add(values: Float[np.ndarray, " block"]) -> Float[np.ndarray, " cell"]:
        return np.bincount(cell, values, PHASE_CELLS**2)

    along, across = add(turned.real), add(turned.imag)
    # Noise grows with light; the scatter of one cell's few blocks alone would be too uncertain.
    strength = np.abs(turned)
    noise = add(strength) * float((turned.imag**2).sum() / max(strength.sum(), 1e-300))
    error = np.degrees(np.sqrt(noise) / np.maximum(np.hypot(along, across), 1e-300))
    known = error < LARGEST_PHASE_SE_DEG
    rest = np.degrees(np.arctan2(across, along))
    shown = np.where(known, rest, np.nan).reshape(PHASE_CELLS, PHASE_CELLS)
    limit = max(10.0, float(np.percentile(np.abs(rest[known]), 95))) if known.any() else 10.0
    image = ax.imshow(
        shown,
        cmap="coolwarm",
        vmin=-limit,
        vmax=limit,
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    ax.figure.colorbar(image, ax=ax, shrink=0.8, label="degrees")
    spread = f"rms {np.sqrt(np.mean(rest[known] ** 2)):.1f}°, " if known.any() else ""
    expected = (
        f"{np.sqrt(np.mean(error[known] ** 2)):.1f}° from noise" if known.any() else "unknown"
    )
    ax.set_title(f"Phase over the field, residual\n{spread}{expected}", fontsize=10)
    ax.set_xlabel("µm (an even colour: straight stripes)")


def _depths(ax: Axes, parameters: SimParameters, orientation: int) -> None:
    """Modulation and phase of every harmonic, over time where there is more than one time."""
    times = np.arange(parameters.modulation.shape[0])
    for n in range(parameters.orders):
        ax.errorbar(
            times,
            parameters.modulation[:, orientation, n],
            2 * parameters.modulation_se[:, orientation, n],
            fmt="o-",
            ms=4,
            capsize=3,
            color=f"C{n}",
        )
    top = max(1.0, 1.1 * float(parameters.modulation[:, orientation].max()))
    ax.set_ylim(0, 1.7 * top)
    ax.set_yticks(np.arange(0, top + 0.01, 0.25 if top <= 1.2 else 0.5))
    ax.set_xlim(-0.5, times[-1] + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    ax.set_xlabel("time point (bars: 2 standard errors)")
    ax.set_title("Modulation depth", fontsize=10)
    ax.grid(alpha=0.3)
    lines = []
    for n in range(parameters.orders):
        depth, phase = (
            values[0, orientation, n] for values in (parameters.modulation, parameters.phase_rad)
        )
        depth_se, phase_se = (
            values[0, orientation, n]
            for values in (parameters.modulation_se, parameters.phase_se_rad)
        )
        lines.append(
            (
                f"m{n + 1} = {depth:.3f} ± {depth_se:.3f},  "
                f"φ{n + 1} = {math.degrees(phase):.1f}° ± {math.degrees(phase_se):.1f}°",
                f"C{n}",
            )
        )
    quality, uneven = parameters.quality[orientation], parameters.step_error_rad[orientation]
    search = (
        "carrier given" if math.isnan(quality) else f"peak {quality:.0f} deviations over chance"
    )
    steps = f"steps {math.degrees(uneven):.1f}° rms uneven" if uneven > 1e-6 else "even steps"
    lines += [(search, "0.2"), (steps, "0.2")]
    if not parameters.usable[orientation]:
        lines.append(("not usable: no side bands from here", "tab:red"))
    for number, (text, colour) in enumerate(lines):
        ax.text(
            0.03,
            0.965 - 0.075 * number,
            text,
            va="top",
            fontsize=8.5,
            color=colour,
            transform=ax.transAxes,
        )
