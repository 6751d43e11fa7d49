"""Models on real cells with ground truth: fidelity, invented detail, confidence, side-band audit.

Folders are searched for BioSR regions (``<name>_level<nn>_raw9.tif`` beside ``<name>_gt_sim.tif``)
and for ``gi_sim_microtubules_raw.mrc``, whose SIM image is reconstructed here.  Each stack is given
to the models as a still, the mean of its nine frames seven times, by ``tisr infer``.

- PSNR: SIM over its maximum, not blurred; images after their best line to it (paper, eq. 19-20).
- detail: difference of Gaussians of 30 and 95 nm (structures of 60 to 190 nm); its correlation
  with that of SIM, and its rms where SIM is dimmer than its median over its rms where SIM is
  brightest (a tenth), which for SIM itself is the grain.
- FRC with SIM at 5, 6 and 7 cycles/um, the diffraction limit being at 5.7.
- ECE and confidence: SIM brought to the result by its best line; foreground is where the result is
  above 0.2 over its own darkest tenth.

    python -m benchmarks.real_cells ../shared/cases/cells ../shared/data --model microtubules_small
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from benchmarks.real_data import OTF, STACK, background
from tisr_scope.confidence.credible_interval import half_width
from tisr_scope.confidence.expected_calibration_error import Reliability, inside_interval
from tisr_scope.errors import TisrScopeError
from tisr_scope.evaluation.audit import audit_raw_stack, audit_result
from tisr_scope.evaluation.evaluate import enlarge
from tisr_scope.inference.offline import infer
from tisr_scope.inference.result_store import open_results
from tisr_scope.metrics.fidelity import fitted, psnr
from tisr_scope.sim.reconstruction.reconstruct_files import Making, reconstruct_raw_file

PIXEL_UM, NA, EMISSION_NM = 0.0626, 1.49, 525.0
BIOSR_OFFSET_ADU, BIOSR_E_PER_ADU = 100.4, 0.38
"""Measured by regression of two levels."""
DETAIL_UM = (0.030, 0.095)
FOREGROUND = 0.2
Image = np.ndarray


@dataclass(frozen=True)
class Cell:
    """A raw stack and its SIM image."""

    name: str
    raw: Path
    widefield: Image
    sim: Image
    offset_adu: float
    electrons_per_adu: float


def cells(folders: list[Path], temporary: Path) -> Iterator[Cell]:
    """Every stack with a ground truth in the folders."""
    for folder in folders:
        for raw in sorted(folder.glob("*_raw9.tif")):
            truth = folder / re.sub(r"_level\d+_raw9$", "_gt_sim.tif", raw.stem)
            if truth.is_file():
                frames = tifffile.imread(raw).astype(np.float32) - BIOSR_OFFSET_ADU
                sim = np.squeeze(tifffile.imread(truth)).astype(np.float32)
                wide = frames.mean(0) * BIOSR_E_PER_ADU
                yield Cell(raw.stem, raw, wide, sim, BIOSR_OFFSET_ADU, BIOSR_E_PER_ADU)
        if (folder / STACK).is_file():
            out = temporary / "sim"
            otf = folder / OTF if (folder / OTF).is_file() else None
            reconstruct_raw_file(folder / STACK, out, making=Making(otf_file=otf))
            wide, sim = (
                np.squeeze(tifffile.imread(next(out.glob(f"*_{kind}.ome.tif")))).astype(np.float32)
                for kind in ("widefield", "sim")
            )
            yield Cell("GI-SIM", folder / STACK, wide, sim, background(out), 1.0)


def detail(image: Image) -> Image:
    """Structures of 60 to 190 nm."""
    fine, coarse = (gaussian_filter(image, s / (PIXEL_UM / 2)) for s in DETAIL_UM)
    return np.asarray(fine - coarse)


def correlation(a: Image, b: Image) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def frc(a: Image, b: Image, frequency: float, width: float = 0.5) -> float:
    fa, fb = np.fft.fft2(a - a.mean()), np.fft.fft2(b - b.mean())
    ky, kx = (np.fft.fftfreq(n, PIXEL_UM / 2) for n in a.shape)
    ring = np.abs(np.hypot(ky[:, None], kx) - frequency) < width
    power = np.sum(np.abs(fa[ring]) ** 2) * np.sum(np.abs(fb[ring]) ** 2)
    return float(np.sum(fa[ring] * fb[ring].conj()).real / np.sqrt(power))


def image_figures(image: Image, sim: Image) -> dict[str, Any]:
    """What an image has in common with SIM."""
    reference = sim / sim.max()
    smooth = gaussian_filter(sim, 2)
    dim, bright = smooth < np.median(smooth), smooth > np.percentile(smooth, 90)
    fine = detail(image)
    return {
        "psnr_db": round(psnr(fitted(image[None], reference[None])[0], reference), 2),
        "detail_correlation": round(correlation(fine, detail(sim)), 3),
        "detail_where_sim_is_dim": round(float(fine[dim].std() / fine[bright].std()), 3),
        "frc_5_6_7": [round(frc(image, sim, k), 2) for k in (5, 6, 7)],
    }


def confidence_figures(image: Image, stated: Image, sim: Image) -> dict[str, float]:
    """Stated against found, SIM standing for the truth."""
    target = torch.from_numpy(fitted(sim[None], image[None])[0])
    centre = torch.from_numpy(image)
    inside = inside_interval(target, centre, half_width(centre))
    counts = Reliability.of(torch.from_numpy(stated), inside)
    bright = torch.from_numpy(image - np.percentile(image, 10) > FOREGROUND)
    return {
        "ece": round(counts.ece, 3),
        "foreground_part": round(float(bright.float().mean()), 3),
        "foreground_stated": round(float(torch.from_numpy(stated)[bright].mean()), 3),
        "foreground_found": round(float(inside[bright].float().mean()), 3),
    }


def run(model: str, cell: Cell, folder: Path) -> tuple[dict[str, Any], Image, Image]:
    """Figures of one model on one cell, and its image and confidence."""
    (summary,) = infer(
        model,
        cell.raw,
        folder,
        pixel_size_um=PIXEL_UM,
        numerical_aperture=NA,
        emission_nm=EMISSION_NM,
        offset_adu=cell.offset_adu,
        electrons_per_adu=cell.electrons_per_adu,
        average=9,
        repeat=7,
    )
    results = open_results(Path(summary.folder))
    image, stated = results.intensity(3), results.confidence(3)
    found = image_figures(image, cell.sim) | confidence_figures(image, stated, cell.sim)
    found |= {"label": summary.calibration, "background_e": summary.background_electrons}
    try:
        frames = audit_raw_stack(
            cell.raw,
            numerical_aperture=NA,
            emission_nm=EMISSION_NM,
            pixel_size_um=PIXEL_UM,
            offset_adu=cell.offset_adu,
        )
        overall = audit_result(frames, Path(summary.folder), folder / "audit").total.overall
        found["audit_beyond_limit"] = round(float(overall.correlation), 3)
    except TisrScopeError as error:
        found["audit_beyond_limit"] = f"none: {error.what}"
    return found, image, stated


def draw(rows: list[tuple[Cell, dict[str, tuple[Image, Image]]]], file: Path) -> None:
    """A row of panels for each cell: wide field, SIM, and each model with its confidence."""
    models = list(rows[0][1])
    columns = 2 + 2 * len(models)
    size = (3.4 * columns, 3.7 * len(rows))
    figure = Figure(figsize=size, layout="constrained", facecolor="#14161a")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (cell, shown) in zip(grid, rows, strict=True):
        side = min(256, cell.sim.shape[0])
        panels = [("wide field", cell.widefield[: side // 2, : side // 2], "gray")]
        panels.append(("SIM", cell.sim[:side, :side], "gray"))
        for name, (image, stated) in shown.items():
            panels.append((name, image[:side, :side], "gray"))
            panels.append(("its confidence", stated[:side, :side], "cividis"))
        for axes, (title, image, colours) in zip(line, panels, strict=True):
            low, high = (0, 1) if colours == "cividis" else np.percentile(image, [1, 99.7])
            axes.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            axes.set_title(title, color="white", fontsize=11)
            axes.set_axis_off()
        line[0].set_title(f"{cell.name}: wide field", color="white", fontsize=11)
    figure.savefig(file, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders with real stacks")
    parser.add_argument("--model", action="append", help="bundle; several may be compared")
    parser.add_argument("--figure", type=Path, help="draw images and confidence into this file")
    arguments = parser.parse_args()
    models: list[str] = arguments.model or ["microtubules_small"]
    rows, table = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        for cell in cells(arguments.data, Path(temporary)):
            wide = enlarge(cell.widefield[None], 2)[0]
            table[cell.name] = {
                "enlarged wide field": image_figures(wide, cell.sim),
                "SIM": {
                    "detail_where_sim_is_dim": image_figures(cell.sim, cell.sim)[
                        "detail_where_sim_is_dim"
                    ]
                },
            }
            shown = {}
            for number, model in enumerate(models):
                folder = Path(temporary) / f"{cell.name}_{number}"
                found, image, stated = run(model, cell, folder)
                table[cell.name][Path(model).name] = found
                shown[Path(model).name] = (image, stated)
            rows.append((cell, shown))
    print(json.dumps(table, indent=1))
    if arguments.figure and rows:
        draw(rows, arguments.figure)


if __name__ == "__main__":
    main()
