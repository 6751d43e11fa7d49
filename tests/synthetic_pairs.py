"""Prepared pairs without a microscope, and a network whose answer is known in closed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from tisr_scope.evaluation.evaluate import enlarge
from tisr_scope.formats.ome_tiff import write_series
from tisr_scope.networks.dpa_tisr import DpaTisr, DpaTisrConfig, small
from tisr_scope.normalise import Normalisation

RULE = Normalisation(reference="maximum", target_blur_sigma_px=0)
PIXEL_UM = 0.0626


def stack(
    seed: int, noise: float, shape: tuple[int, int, int] = (9, 24, 28)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wide field, noiseless truth and noisy target; the target is enlarged wide field + noise."""
    random = np.random.default_rng(seed)
    wide = gaussian_filter(random.random(shape), (1, 2, 2), mode="wrap")
    wide = (100 * (wide - wide.min()) / np.ptp(wide)).astype(np.float32)
    truth = enlarge(wide, 2)
    target = truth / wide.max() + random.laplace(0, noise, truth.shape)
    target.flat[0] = 1.0  # a known maximum: the intensity rule must give exactly this scale
    return wide, truth, 300 * np.minimum(target, 1.0).astype(np.float32)


def write_pairs(folder: Path, split: dict[str, list[int]], noise: float) -> Path:
    """Folder of pairs as ``tisr prepare`` leaves it."""
    table: dict[str, list[str]] = {}
    for subset, seeds in split.items():
        table[subset] = [f"recording{seed}_488" for seed in seeds]
        for seed, name in zip(seeds, table[subset], strict=True):
            wide, truth, target = stack(seed, noise)
            (folder / name).mkdir(parents=True)
            for file, image, pixel in (
                ("widefield_level_1", wide, PIXEL_UM),
                ("target", target, PIXEL_UM / 2),
                ("truth", truth, PIXEL_UM / 2),
            ):
                write_series(folder / name / f"{file}.ome.tif", image, pixel, 1.0, file)
            (folder / name / "pair.json").write_text(
                json.dumps(
                    {
                        "recording": f"recording{seed}",
                        "channel": "488",
                        "levels": 1,
                        "pixel_size_um": PIXEL_UM,
                        "interval_s": 1.0,
                    }
                )
            )
    (folder / "split.json").write_text(json.dumps(table))
    return folder


def bilinear_network(scale: float, *, bayesian: bool = True, upscale: Literal[2, 3] = 2) -> DpaTisr:
    """Network that answers with the enlarged input and one Laplace scale everywhere."""
    torch.manual_seed(0)
    config: DpaTisrConfig = small(upscale=upscale, bayesian=bayesian).model_copy(
        update={
            "temporal": False,
            "channels": 4,
            "output_channels": 4,
            "reconstruction_blocks": 1,
            "initial_scale": scale,
        }
    )
    network = DpaTisr(config)
    with torch.no_grad():
        network.conv_last.weight.zero_()
    return network.eval()
