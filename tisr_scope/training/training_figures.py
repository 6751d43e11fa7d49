"""Pictures of a training run: how the loss fell, and what the network makes of unseen cells."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tisr_scope.figures import scale_bar
from tisr_scope.training.checkpoint import write_atomic


def draw_losses(
    history: Sequence[dict[str, float | int]], path: Path, *, bilinear_psnr_db: float
) -> None:
    """Training and validation loss, and PSNR against plain enlargement, over the steps."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    validated = [row for row in history if "validation_loss" in row]
    trained = [row for row in history if "loss" in row]
    steps = [row["step"] for row in trained]
    left.plot(steps, [row["loss"] for row in trained], lw=0.8, color="0.6", label="training")
    checks = [row["step"] for row in validated]
    left.plot(
        checks,
        [row["validation_loss"] for row in validated],
        "o-",
        ms=3,
        color="C0",
        label="validation",
    )
    # A high first loss would flatten everything that matters.
    shown = [row["loss"] for row in trained[len(trained) // 20 :]]
    judged = [row["validation_loss"] for row in validated]
    if shown:
        high = max(np.percentile(shown, 99), *judged, min(shown) + 1e-6)
        low = min(shown + judged)
        left.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    left.set(xlabel="step", ylabel="loss", title="Loss")
    left.legend(frameon=False)
    right.plot(
        checks, [row["validation_psnr_db"] for row in validated], "o-", ms=3, label="network"
    )
    right.axhline(bilinear_psnr_db, color="0.5", ls="--", label="enlarged input")
    right.set(xlabel="step", ylabel="PSNR (dB)", title="Validation recordings")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_samples(
    inputs: Float[np.ndarray, "row y x"],
    outputs: Float[np.ndarray, "row fy fx"],
    targets: Float[np.ndarray, "row fy fx"],
    path: Path,
    *,
    pixel_size_um: float,
    labels: Sequence[str],
) -> None:
    """One row a patch: wide-field input, network output, SIM target, error.

    ``pixel_size_um`` is that of the input.
    """
    rows = len(inputs)
    figure = Figure(figsize=(9.4, 2.35 * rows), layout="constrained")
    grid = figure.subplots(rows, 4, squeeze=False)
    errors = outputs - targets
    reach = max(float(np.percentile(np.abs(errors), 99.5)), 1e-6)
    for axes, name in zip(
        grid[0],
        ("wide-field input", "network output", "SIM target", "output − target"),
        strict=True,
    ):
        axes.set_title(name, fontsize=10)
    for row in range(rows):
        high = max(float(np.percentile(targets[row], 99.8)), 1e-6)
        width_um = inputs.shape[-1] * pixel_size_um
        extent = (0.0, width_um, inputs.shape[-2] * pixel_size_um, 0.0)
        brightest = max(float(np.percentile(inputs[row], 99.8)), 1e-6)
        pictures = ((inputs[row], brightest), (outputs[row], high), (targets[row], high))
        for axes, (picture, top) in zip(grid[row], pictures, strict=False):
            axes.imshow(picture, cmap="magma", vmin=0, vmax=top, extent=extent)
        shown = grid[row][3].imshow(
            errors[row], cmap="RdBu_r", vmin=-reach, vmax=reach, extent=extent
        )
        figure.colorbar(shown, ax=grid[row][3], shrink=0.85)
        grid[row][0].set_ylabel(labels[row], fontsize=8)
        for axes in grid[row]:
            axes.set_xticks([])
            axes.set_yticks([])
        scale_bar(grid[row][0])
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=140)
    write_atomic(path, buffer.getbuffer())
