"""Several processes that share a batch against one process with the whole of it.

Trains the same network twice, once in one process and once in several started by torchrun, and
prints one JSON object with the largest difference of the final weights.  Dropout is off, so that
the one process may take the whole batch at once; with --dropout it takes the same parts of the
batch as the processes do, which then have the same masks.

    python benchmarks/training_ddp.py --processes 2 --steps 20
    python benchmarks/training_ddp.py --processes 4 --device cuda --preset released --batch 8
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from tisr_scope.bundles.bundle import load_bundle
from tisr_scope.formats.ome_tiff import write_series
from tisr_scope.networks.config import DpaTisrConfig
from tisr_scope.networks.presets import PRESETS, preset
from tisr_scope.training.processes import launched
from tisr_scope.training.settings import TrainingSettings
from tisr_scope.training.train import train

PIXEL_UM, TIME = 0.0626, 9


def write_pairs(folder: Path, size: int) -> None:
    """Points that drift, seen sharply and through a wide PSF with photon noise."""
    rng = np.random.default_rng(0)
    names = {"train": ["one", "two", "three"], "validation": ["four"], "test": []}
    for name in names["train"] + names["validation"]:
        fine = np.zeros((TIME, 2 * size, 2 * size))
        for y, x in rng.integers(8, 2 * size - 16, (size, 2)):
            for t in range(TIME):
                fine[t, y, x + t] = 1
        wide = gaussian_filter(fine, (0, 4, 4)).reshape(TIME, size, 2, size, 2).mean((2, 4))
        wide = rng.poisson(200 * wide / wide.max()).astype(np.float32)
        target = gaussian_filter(fine, (0, 1.2, 1.2)).astype(np.float32)
        pair = folder / name
        pair.mkdir(parents=True)
        write_series(pair / "widefield_level_1.ome.tif", wide, PIXEL_UM, 1.0, "wide field")
        write_series(pair / "target.ome.tif", target, PIXEL_UM / 2, 1.0, "target")
        about = {
            "recording": name,
            "channel": "488",
            "levels": 1,
            "raw_frames": 9,
            "pixel_size_um": PIXEL_UM,
            "interval_s": 1.0,
            "made_from": {"otf": {"numerical_aperture": 1.49, "emission_nm": 525.0}},
        }
        (pair / "pair.json").write_text(json.dumps(about))
    (folder / "split.json").write_text(json.dumps(names))


def train_here(folder: Path, out: str, chosen: argparse.Namespace) -> None:
    """One of the processes of a run."""
    torch.set_num_threads(chosen.threads)
    config = preset(chosen.preset)
    assert isinstance(config, DpaTisrConfig), "bundles are made of the template only"
    settings = {
        "steps": chosen.steps,
        "batch": chosen.batch,
        "precision": chosen.precision,
        "learning_rate": chosen.rate,
        "warmup_steps": 5,
        "l1_warmup_steps": 5,
        "ema_decay": 0,
        "validate_every": chosen.steps,
        "checkpoint_every": chosen.steps,
        "validation_patches": 2,
        "log_every": 1,
        "patches": {"frames": 7, "size_px": chosen.size, "least_light": 0.3},
    }
    if chosen.dropout:
        settings["micro_batch"] = chosen.batch // chosen.processes
    else:
        config = config.model_copy(update={"dropout_in": ()})
    chosen_settings = TrainingSettings.model_validate(settings)
    with launched(chosen.device, precision=chosen.precision) as fabric:
        train(folder / "pairs", config, chosen_settings, folder / out, fabric=fabric)


def start(launcher: list[str], folder: Path, out: str) -> float:
    """Run this file again as one or several processes; gives their seconds."""
    command = [*launcher, __file__, *sys.argv[1:], "--folder", str(folder), "--out", out]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.perf_counter() - began


def losses(run: Path) -> list[float]:
    with (run / "history.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--batch", type=int, default=4, help="of all processes together")
    parser.add_argument("--size", type=int, default=48, help="patch, in input pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rate", type=float, default=5e-5, help="the default is that of the paper")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dropout", action="store_true")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.folder:
        train_here(chosen.folder, chosen.out, chosen)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "pairs", max(64, chosen.size + 16))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        several = [*torchrun, "--nproc-per-node", str(chosen.processes)]
        seconds = {
            "one process": start([sys.executable], folder, "one"),
            f"{chosen.processes} processes": start(several, folder, "many"),
        }
        one, many = (load_bundle(folder / run / "bundle").weights for run in ("one", "many"))
        again = [losses(folder / run) for run in ("one", "many")]
    apart = {key: float((one[key] - many[key]).abs().max()) for key in one}
    worst = max(apart, key=lambda key: apart[key])
    cuda = chosen.device.startswith("cuda")
    report = {
        "settings": {k: v for k, v in vars(chosen).items() if k not in ("folder", "out")},
        "machine": torch.cuda.get_device_name() if cuda else platform.machine(),
        "torch": torch.__version__,
        "largest_weight_difference": apart[worst],
        "in": worst,
        "largest_weight": max(float(w.abs().max()) for w in one.values()),
        "largest_loss_difference": max(abs(a - b) for a, b in zip(*again, strict=True)),
        "first_and_last_loss": [again[0][0], again[0][-1]],
        "seconds_with_start": {key: round(value, 1) for key, value in seconds.items()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
