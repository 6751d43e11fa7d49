"""One picture that shows whether a reconstructed volume can be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tisr_scope.figures import scale_bar
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.parameters.volume_parameters import VolumeParameters

CUT_PX = 5
"""Camera pixels over which the axial section takes the brightest value."""


def write_volume_figure(
    path: Path,
    widefield: Float[np.ndarray, "z y x"],
    volume: Float[np.ndarray, "z fy fx"],
    parameters: VolumeParameters,
    optics: VolumeOptics,
    title: str,
) -> None:
    """Wide field and SIM: one section, an axial section, and the spectrum over kr and kz.

    Grey levels are linear: from the 1st percentile (wide field) or 0 (SIM) to the 99.8th.

    Parameters
    ----------
    path : Path
        PNG file.
    widefield, volume : array
        First time point, on the camera grid and on the fine grid.
    parameters : VolumeParameters
    optics : VolumeOptics
    title : str
        Above the figure.
    """
    pixel, section = parameters.pixel_size_um, parameters.section_um
    sections, height, width = widefield.shape
    depth_um, tall_um, wide_um = sections * section, height * pixel, width * pixel
    middle = int(volume.std(axis=(1, 2)).argmax())
    row = int(volume.max(axis=0)[4:-4].std(axis=1).argmax()) + 4
    share = depth_um / tall_um
    figure = Figure(figsize=(11.5, 4.2 * (1.9 + share)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    heights = (1, max(share, 0.25), 0.9)
    grid = figure.add_gridspec(3, 3, height_ratios=heights, width_ratios=(1, 1, 0.8))
    spectra = []
    for column, (name, content) in enumerate((("Wide field", widefield), ("SIM", volume))):
        fine = content.shape[1] // height
        low = float(np.percentile(content, 1)) if column == 0 else 0.0
        here = row * fine // 2
        cut = content[:, max(here - CUT_PX * fine // 2, 0) : here + CUT_PX * fine // 2 + 1]
        views = (
            (content[middle], f"{name}, z = {middle * section:.2f} µm", (0, wide_um, tall_um, 0)),
            (cut.max(axis=1), f"{name}, along the axis", (0, wide_um, depth_um, 0)),
        )
        for line, (image, text, extent) in enumerate(views):
            ax = figure.add_subplot(grid[line, column])
            high = max(float(np.percentile(image, 99.8)), low + 1e-9)
            ax.imshow(
                image, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="nearest"
            )
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(text)
            scale_bar(ax)
        ax = figure.add_subplot(grid[2, column])
        spectra.append(ax)
        _spectrum(ax, content, (section, pixel / fine), optics)
        ax.set_title(f"{name}: spectrum (log)")
    _table(figure.add_subplot(grid[:2, 2]), parameters, optics)
    note = figure.add_subplot(grid[2, 2])
    note.axis("off")
    note.text(
        0,
        0.9,
        "dashed: limit of the optics\ndotted: limit of SIM\n\nkr across, kz along the axis",
        va="top",
        transform=note.transAxes,
    )
    figure.savefig(path, dpi=110, format="png")


def axial_spectrum(
    volume: Float[np.ndarray, "z y x"], spacing: tuple[float, float]
) -> tuple[Float[np.ndarray, "kz kr"], float, float]:
    """Mean magnitude over lateral directions; largest kz and kr in cycles per micrometre."""
    windows = [np.hanning(n + 2)[1:-1] for n in volume.shape]
    window = windows[0][:, None, None] * windows[1][:, None] * windows[2]
    power = np.abs(np.fft.fftn((volume - volume.mean()) * window))
    fy, fx = (np.fft.fftfreq(n, spacing[1]) for n in volume.shape[1:])
    bins = min(volume.shape[1:]) // 2
    edge = 0.5 / spacing[1]
    index = (np.hypot(fy[:, None], fx) / edge * bins).astype(int).clip(max=bins).ravel()
    count = np.maximum(np.bincount(index, minlength=bins + 1), 1)
    rows = [np.bincount(index, plane.ravel(), bins + 1) / count for plane in power]
    return np.fft.fftshift(np.stack(rows), axes=0)[:, :bins], 0.5 / spacing[0], edge


def _spectrum(
    ax: Axes,
    volume: Float[np.ndarray, "z y x"],
    spacing: tuple[float, float],
    optics: VolumeOptics,
) -> None:
    spectrum, kz, kr = axial_spectrum(volume, spacing)
    shown = np.log10(spectrum + 1e-6 * spectrum.max())
    ax.imshow(
        shown,
        cmap="viridis",
        vmin=float(np.percentile(shown, 40)),
        extent=(0, kr, -kz, kz),
        origin="lower",
        aspect="auto",
    )
    turn = np.linspace(-np.pi / 2, np.pi / 2, 100)
    across, along = optics.extended_cutoff, optics.extended_axial_cutoff
    ax.plot(across * np.cos(turn), along * np.sin(turn), color="white", lw=1, ls=":")
    lateral = np.linspace(0, optics.cutoff, 100)
    edge = optics.axial_edge(lateral)
    ax.plot(np.r_[lateral, lateral[::-1]], np.r_[edge, -edge[::-1]], color="white", lw=1, ls="--")
    ax.set_xlim(0, min(1.08 * optics.extended_cutoff, 0.5 / spacing[1] * 2))
    ax.set_ylim(-kz, kz)
    ax.set_xlabel("kr, cycles/µm")
    ax.set_ylabel("kz, cycles/µm")
    ax.set_facecolor("#440154")


def _table(ax: Axes, parameters: VolumeParameters, optics: VolumeOptics) -> None:
    ax.axis("off")
    ax.set_title("Stripes")
    lines = ["     period    angle  order  modulation"]
    for o, (kx, ky) in enumerate(parameters.carrier):
        angle = np.degrees(np.arctan2(ky, kx)) % 180
        place = f"{o + 1:>2} {1e3 / np.hypot(kx, ky):6.1f} nm {angle:5.1f}°"
        for n, (depth, error) in enumerate(
            zip(parameters.modulation[o], parameters.modulation_se[o], strict=True), 1
        ):
            lines.append(f"{place if n == 1 else '':<20}{n:>6}  {depth:.3f} ± {error:.3f}")
    lines += [
        "",
        f"limit across      {1e3 / optics.extended_cutoff:5.0f} nm",
        f"limit along axis  {1e3 / optics.extended_axial_cutoff:5.0f} nm",
    ]
    ax.text(
        0,
        0.97,
        "\n".join(lines),
        family="monospace",
        fontsize=8.5,
        va="top",
        transform=ax.transAxes,
    )
