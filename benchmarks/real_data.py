"""A real raw GI-SIM stack through reconstruction and network, against the instrument's settings.

Prints JSON: the carrier of each orientation and its distance from the settings, with the closed
form and the measured transfer function.  Draws wide field, SIM, super-resolution and confidence.

    python -m benchmarks.real_data ../shared/data --model microtubules_small
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from matplotlib.figure import Figure

from tisr_scope.figures import busiest, scale_bar
from tisr_scope.inference.offline import infer
from tisr_scope.inference.result_store import open_results
from tisr_scope.sim.reconstruction.reconstruct_files import Making, reconstruct_raw_file

STACK, OTF = "gi_sim_microtubules_raw.mrc", "otf_2d_488.mrc"
PIXEL_UM = 0.0626
FREQUENCY, ANGLES = 5.53, (1.480, 2.5272, 3.5744)
"""Settings of the instrument: cycles/um, and radians modulo pi."""


def carriers(folder: Path) -> list[dict[str, float]]:
    """Estimated carriers beside the settings."""
    (file,) = folder.glob("*_parameters.json")
    found = json.loads(file.read_text())["sim_parameters"]
    rows = []
    for k, angle, wanted in zip(found["frequency"], found["angle_rad"], ANGLES, strict=True):
        off = (angle - wanted + math.pi / 2) % math.pi - math.pi / 2
        rows.append(
            {
                "cycles_per_um": k,
                "from_setting": round(k - FREQUENCY, 4),
                "angle_from_setting_rad": round(off, 5),
            }
        )
    return rows


def background(folder: Path) -> float:
    """Counts of the empty parts, mean over the orientations: the stack has no known offset."""
    (file,) = folder.glob("*_parameters.json")
    return float(np.mean(json.loads(file.read_text())["background"]))


def draw(images: dict[str, tuple[np.ndarray, str]], file: Path) -> None:
    """Whole field above, the busiest part below."""
    figure = Figure(figsize=(4 * len(images), 8.2), layout="constrained", facecolor="#14161a")
    grid = figure.subplots(2, len(images))
    sim = images["SIM"][0]
    side = sim.shape[0] // 4
    y, x = (n / sim.shape[0] for n in busiest(sim, side))
    for column, (name, (image, colours)) in enumerate(images.items()):
        size = image.shape[0]
        low, high = (0, 1) if colours == "cividis" else np.percentile(image, [1, 99.8])
        part = image[int(y * size) : int((y + 0.25) * size), int(x * size) : int((x + 0.25) * size)]
        for axes, shown in ((grid[0, column], image), (grid[1, column], part)):
            axes.imshow(shown, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            axes.set_axis_off()
            scale_bar(axes, PIXEL_UM * images["wide field"][0].shape[0] / size)
        grid[0, column].set_title(name, color="white", fontsize=13)
    figure.savefig(file, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help=f"folder with {STACK} and {OTF}")
    parser.add_argument("--model", default="microtubules_small")
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/real_data.png"))
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, otf in (("closed form", None), ("measured OTF", arguments.data / OTF)):
            reconstruct_raw_file(arguments.data / STACK, folder / name, making=Making(otf_file=otf))
            result[name] = carriers(folder / name)
        (widefield,) = (folder / "closed form").glob("*_widefield.ome.tif")
        (sim,) = (folder / "closed form").glob("*_sim.ome.tif")
        (summary,) = infer(
            arguments.model,
            arguments.data / STACK,
            folder / "sr",
            pixel_size_um=PIXEL_UM,
            offset_adu=background(folder / "closed form"),
            average=9,
            repeat=7,
        )
        (channel,) = (p for p in (folder / "sr").iterdir() if p.is_dir())
        shown = open_results(channel)
        middle = len(shown) // 2
        images = {
            "wide field": (np.squeeze(tifffile.imread(widefield)), "gray"),
            "SIM": (np.squeeze(tifffile.imread(sim)), "gray"),
            "super-resolution": (shown.intensity(middle), "gray"),
            "confidence, uncalibrated": (shown.confidence(middle), "cividis"),
        }
        result["network"] = {
            "model": arguments.model,
            "calibrated": summary.calibrated,
            "mean_confidence": round(float(shown.confidence(middle).mean()), 3),
        }
        draw(images, arguments.figure)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
