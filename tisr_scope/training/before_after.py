"""What fine-tuning changed: both models on the validation recordings of the new specimen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from tisr_scope.figures import scale_bar
from tisr_scope.metrics.fidelity import fitted, psnr, ssim
from tisr_scope.normalise import Normalisation
from tisr_scope.provenance import provenance, write_json
from tisr_scope.training.checkpoint import write_atomic
from tisr_scope.training.validation import bilinear
from tisr_scope.types import PairedStack

FRAMES = 3
"""Time points judged of every recording, evenly spread."""
ROWS = 4
METHODS = ("enlarged input", "before", "after")


@dataclass(frozen=True)
class Score:
    """Of the best linear transform of an image to the SIM target (Paper: eq. 19-20)."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class Comparison:
    """One recording: scores and pictures by method, pictures of its middle time point."""

    recording: str
    channel: str
    scores: dict[str, Score]
    pictures: dict[str, Float[np.ndarray, "fy fx"]]
    fine_um: float


def compare_models(
    before: nn.Module,
    after: nn.Module,
    stacks: Sequence[PairedStack],
    rule: Normalisation,
    *,
    frames: int,
    level: int = 0,
    device: torch.device | str = "cpu",
) -> list[Comparison]:
    """Judge two networks on whole frames of recordings, dropout switched off.

    Parameters
    ----------
    before, after : Module
        Networks of one architecture, in evaluation mode.
    stacks : sequence of PairedStack
    rule : Normalisation
        Of both.
    frames : int
        Time points of a window; its centre is judged.
    level : int
        Laser level of the input, 0 is the lowest.
    """
    return [
        _compare({"before": before, "after": after}, stack, rule, frames, level, device)
        for stack in stacks
    ]


def write_report(
    comparisons: Sequence[Comparison], folder: Path, *, level: int, about: dict[str, Any]
) -> Path:
    """Write ``before_after.json`` and ``before_after.png``; gives the path of the former."""
    content = {
        **about,
        "level": level + 1,
        "time_points_judged": FRAMES,
        "reference": "SIM target, normalised; images after their best linear transform to it",
        "recordings": [
            {
                "recording": c.recording,
                "channel": c.channel,
                **{method: vars(score) for method, score in c.scores.items()},
            }
            for c in comparisons
        ],
        "mean": {method: vars(mean_score(comparisons, method)) for method in METHODS},
        "note": "the weights of the fine-tuned model were chosen on patches of these recordings; "
        "recordings that nothing was chosen by are judged with 'tisr evaluate'",
        "provenance": provenance(),
    }
    _draw(comparisons[:ROWS], folder / "before_after.png")
    path = folder / "before_after.json"
    write_json(path, content)
    return path


def mean_score(comparisons: Sequence[Comparison], method: str) -> Score:
    """Mean over recordings."""
    scores = [c.scores[method] for c in comparisons]
    return Score(
        float(np.mean([s.psnr_db for s in scores])), float(np.mean([s.ssim for s in scores]))
    )


def _compare(
    networks: dict[str, nn.Module],
    stack: PairedStack,
    rule: Normalisation,
    frames: int,
    level: int,
    device: torch.device | str,
) -> Comparison:
    wide = stack.widefield[level]
    inputs = rule.normalise_input(wide, rule.scale(wide, f"{stack.name}, level {level + 1}"))
    target = rule.learnable(rule.target_of(stack), stack.upscale)
    last = len(inputs) - frames
    starts = sorted({round(last * k / (FRAMES - 1)) for k in range(FRAMES)})
    centre = frames // 2
    reference = target[[s + centre for s in starts]]
    images: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
    for start in starts:
        window = torch.from_numpy(inputs[None, start : start + frames, None]).to(device)
        found = {"enlarged input": bilinear(window, stack.upscale)}
        with torch.inference_mode():
            found |= {name: network(window) for name, network in networks.items()}
        for method, output in found.items():
            images[method].append(output[0, centre, 0].float().cpu().numpy())
    scores, pictures, middle = {}, {}, len(starts) // 2
    for method in METHODS:
        shown = fitted(np.stack(images[method]), reference)
        pairs = list(zip(shown, reference, strict=True))
        scores[method] = Score(
            float(np.mean([psnr(a, b) for a, b in pairs])),
            float(np.mean([ssim(a, b) for a, b in pairs])),
        )
        pictures[method] = shown[middle]
    pictures["SIM target"] = reference[middle]
    return Comparison(
        stack.name, stack.channel, scores, pictures, stack.pixel_size_um / stack.upscale
    )


def _draw(comparisons: Sequence[Comparison], path: Path) -> None:
    rows = len(comparisons)
    figure = Figure(figsize=(10.4, 2.85 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, 4, squeeze=False)
    for axes_row, found in zip(grid, comparisons, strict=True):
        high = float(np.percentile(found.pictures["SIM target"], 99.8))
        for axes, (method, picture) in zip(axes_row, found.pictures.items(), strict=True):
            height, width = (n * found.fine_um for n in picture.shape)
            axes.imshow(picture, cmap="magma", vmin=0, vmax=high, extent=(0, width, height, 0))
            axes.set(xticks=[], yticks=[])
            score = found.scores.get(method)
            below = f"\n{score.psnr_db:.2f} dB, SSIM {score.ssim:.3f}" if score else "\n"
            axes.set_title(method + below, fontsize=9)
        axes_row[0].set_ylabel(f"{found.recording}\n{found.channel}", fontsize=8)
        scale_bar(axes_row[0])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    write_atomic(path, buffer.getbuffer())
