"""Tables and figures of a study: JSON, CSV, PNG, and Markdown on the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.tisr_simulated.figures import box_grid, crop_figure
from benchmarks.tisr_simulated.models import DPA, SINGLE
from benchmarks.tisr_simulated.scales import FRAMES
from benchmarks.tisr_simulated.sequences import (
    CONDITIONS,
    MOTIONS,
    PHOTONS,
    PIXEL_UM,
    UPSCALE,
    motion_px,
)
from benchmarks.tisr_simulated.statistics import (
    Rows,
    by,
    difference,
    flat,
    mean,
    names,
    order_of_six,
    summary,
)
from benchmarks.tisr_simulated.study import METRICS, WIDEFIELD, Data, Study, assess
from tisr_scope.evaluation.evaluation_figures import matrix_figure
from tisr_scope.metrics.fidelity import normalised_reference
from tisr_scope.metrics.statistics import Mean
from tisr_scope.metrics.temporal import correlation_matrix
from tisr_scope.provenance import provenance, write_json
from tisr_scope.training.checkpoint import write_atomic

PSNR, SSIM = METRICS[0], METRICS[1]
LOW = tuple(str(c) for c in CONDITIONS if c.signal == "low")


def write_report(study: Study, data: Data) -> str:
    """Write ``results.json``, ``results.csv``, three figures and ``table.md``; gives the table."""
    results = study.results()
    baseline, matrices, images = assess(None, data.test)
    widefield = [{"model": WIDEFIELD, "seed": 0, **row} for row in baseline]
    rows = widefield + flat(results)
    shown = names(rows)
    study.folder.mkdir(parents=True, exist_ok=True)
    _write_csv(rows, study.folder / "results.csv")
    text = "\n".join(_markdown(study, results, rows))
    write_json(
        study.folder / "results.json",
        {
            **provenance({"scale": study.scale.name, "steps": study.steps}),
            "models": {r["model"]: {"parameters": r["parameters"]} for r in results},
            "seeds": {m: sorted({r["seed"] for r in results if r["model"] == m}) for m in shown},
            "training_seconds": {f"{r['model']}, seed {r['seed']}": r["seconds"] for r in results},
            "photons": PHOTONS,
            "motion_px": {m: round(motion_px(m), 2) for m in MOTIONS},
            "order_of_six": order_of_six(rows),
            "means": summary(rows),
        },
    )
    write_atomic(study.folder / "table.md", text.encode())
    box_grid(_boxes(rows), list(map(str, CONDITIONS))).savefig(study.folder / "boxes.png")
    first: dict[str, dict[str, Any]] = {}
    for result in results:
        first.setdefault(result["model"], result)
    for model in first:
        with np.load(study.place(model, first[model]["seed"]) / "images.npz") as file:
            images |= {f"{model}|{name}": file[name] for name in file.files}
    truth = _Truth(data)
    matrices = {WIDEFIELD: matrices} | {m: r["correlation"] for m, r in first.items()}
    matrix_figure(
        {m: np.asarray(found[LOW[0]]) for m, found in matrices.items()}
        | {"truth": truth.correlation(MOTIONS[0])},
        title=f"frames 1 to {FRAMES}; {LOW[0]}, mean over test sequences",
    ).savefig(study.folder / "correlation.png")
    rows_shown = {
        condition: {WIDEFIELD: images[condition]}
        | {m: images[f"{m}|{condition}"] for m in first}
        | {"truth": truth.middle(condition.split()[0])}
        for condition in LOW
    }
    crop_figure(rows_shown, PIXEL_UM / UPSCALE).savefig(study.folder / "crops.png")
    return text


class _Truth:
    """References of the test sequences."""

    def __init__(self, data: Data) -> None:
        self._of: dict[str, list[Float[np.ndarray, "time fy fx"]]] = {m: [] for m in MOTIONS}
        for stack in data.test:
            self._of[stack.name.split()[0]].append(normalised_reference(stack.target, 0))

    def correlation(self, motion: str) -> Float[np.ndarray, "time time"]:
        """Mean correlation matrix."""
        return np.mean([correlation_matrix(t) for t in self._of[motion]], axis=0)

    def middle(self, motion: str) -> Float[np.ndarray, "fy fx"]:
        """Middle frame of the first sequence."""
        return self._of[motion][0][FRAMES // 2]


def _boxes(rows: Rows) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Metric -> condition -> model -> one value for each sequence and seed."""
    return {
        metric: {
            str(c): {
                model: [r[metric] for r in rows if r["model"] == model and r["condition"] == str(c)]
                for model in names(rows)
            }
            for c in CONDITIONS
        }
        for metric in (PSNR, SSIM)
    }


def _write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["model", "seed", "condition", "sequence", *METRICS])
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def _cell(value: Mean | None, digits: int = 2, sign: bool = False) -> str:
    if value is None:
        return ""
    plus = "+" if sign else ""
    half = "" if np.isnan(value.half_width_95) else f" ± {value.half_width_95:.{digits}f}"
    return f"{value.mean:{plus}.{digits}f}{half}"


def _markdown(study: Study, results: list[dict[str, Any]], rows: Rows) -> Iterator[str]:
    """PSNR by condition, paired differences, and the order of the six combinations."""
    size = {r["model"]: r["parameters"] for r in results}
    seeds = {m: len({r["seed"] for r in results if r["model"] == m}) for m in names(rows)}
    conditions = list(map(str, CONDITIONS))
    for metric, digits in ((PSNR, 2), (SSIM, 3), (METRICS[2], 3), (METRICS[3], 2)):
        yield f"**{metric}**, mean ± 95 % limits over seeds"
        yield ""
        yield "| model | parameters | seeds | " + " | ".join(conditions) + " |"
        yield "|---|---|---|" + "---|" * len(conditions)
        for model in names(rows):
            cells = [_cell(mean(rows, "seed", model, c, metric), digits) for c in conditions]
            about = f"{model} | {size.get(model, '')} | {seeds[model] or ''}"
            yield f"| {about} | {' | '.join(cells)} |"
        yield ""
    for other in (SINGLE, DPA):
        yield f"**{PSNR}, paired difference to {other}**: over seeds; over sequences"
        yield ""
        yield "| model | " + " | ".join(conditions) + " |"
        yield "|---|" + "---|" * len(conditions)
        for model in names(rows):
            if model in (other, WIDEFIELD):
                continue
            cells = [
                "; ".join(
                    _cell(difference(rows, key, model, other, c, PSNR), 2, True)
                    for key in ("seed", "sequence")
                )
                for c in conditions
            ]
            yield f"| {model} | {' | '.join(cells)} |"
        yield ""
    yield "**Order of the six combinations** by mean PSNR over the four conditions"
    yield ""
    order = order_of_six(rows)
    for place, model in enumerate(order):
        over = _cell(mean(rows, "seed", model, None, PSNR))
        behind = ""
        if place:
            paired = difference(rows, "sequence", model, order[place - 1], None, PSNR)
            behind = f"; {_cell(paired, 2, True)} to the one above, over sequences"
        values = by(rows, "seed", model, None, PSNR)
        single = ", ".join(f"{v:.2f}" for v in values.values())
        yield f"{place + 1}. {model}: {over} dB over seeds ({single}){behind}"
