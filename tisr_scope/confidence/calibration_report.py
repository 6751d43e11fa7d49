"""What a calibration leaves behind for people: diagrams, tables, and the card of the bundle."""

from __future__ import annotations

import csv
from pathlib import Path

from tisr_scope.confidence.expected_calibration_error import Reliability
from tisr_scope.confidence.fine_tuning import Judgement
from tisr_scope.confidence.iterative_fine_tuning import (
    STAGES,
    CalibrationResult,
    CalibrationSettings,
    Stage,
)
from tisr_scope.confidence.reliability_figure import reliability_figure
from tisr_scope.provenance import provenance, write_json


def write_report(folder: Path, result: CalibrationResult, settings: CalibrationSettings) -> Path:
    """Write reliability diagrams (PNG), tables (CSV) and all numbers (JSON) of a calibration."""
    stages = result.test or result.validation
    subset = "test" if result.test is not None else "validation"
    headings: dict[Stage, str] = {"before": "before", "fine-tuned": "after fine-tuning"}
    if any(result.maps):
        headings["recalibrated"] = "with recalibration map"
    diagrams: dict[str, Reliability] = {}
    rows: list[dict[str, str | float]] = []
    for place, interval in enumerate(settings.intervals):
        for stage, heading in headings.items():
            counts = stages[stage].reliability[place].coarser()
            if place == 0:
                diagrams[heading] = counts
            rows += [
                {"interval": interval.name, "stage": stage, "recordings": subset, **row}
                for row in counts.table()
            ]
    figure = folder / "reliability.png"
    reliability_figure(
        diagrams, title=f"{subset.capitalize()} recordings, {settings.intervals[0].name} interval"
    ).savefig(figure)
    with (folder / "reliability.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    content = {
        **provenance(settings.model_dump(mode="json")),
        "k": result.k,
        "k_search": {
            "k": result.search.k,
            "source": result.search.source,
            "reason": result.search.reason,
            "trials": [{"k": t.k, "ece_validation": t.ece} for t in result.search.trials],
        },
        "notes": list(result.notes),
        "validation": _summary(result.validation, settings),
        "test": None if result.test is None else _summary(result.test, settings),
    }
    write_json(folder / "reliability.json", content)
    return figure


def _summary(stages: dict[Stage, Judgement], settings: CalibrationSettings) -> dict[str, object]:
    return {
        stage: {
            "psnr_db": dict(zip(judgement.recordings, judgement.psnr, strict=True)),
            "intervals": {
                interval.name: {
                    **judgement.reliability[place].coarser().summary(),
                    "ece_of_recordings": dict(
                        zip(judgement.recordings, judgement.ece[place], strict=True)
                    ),
                }
                for place, interval in enumerate(settings.intervals)
            },
        }
        for stage, judgement in stages.items()
    }


def card_text(original: Path, result: CalibrationResult, settings: CalibrationSettings) -> str:
    """Card of the bundle with the figures of its calibration."""
    text = original.read_text(encoding="utf-8").rstrip() if original.is_file() else ""
    stages, subset = (
        (result.test, "test") if result.test is not None else (result.validation, "validation")
    )
    lines = [
        "## Calibration",
        "",
        f"Expected calibration error on {subset} recordings, {settings.passes} passes, "
        + ("original weights:" if result.k is None else f"k = {result.k:.3f}:"),
        "",
        "| credible interval | before | fine-tuned | as used |",
        "|---|---|---|---|",
    ]
    for place, interval in enumerate(settings.intervals):
        figures = " | ".join(f"{stages[stage].error(place):.4f}" for stage in STAGES)
        lines.append(f"| {interval.name} | {figures} |")
    before, after = stages["before"].mean_psnr, stages["fine-tuned"].mean_psnr
    lines += ["", f"PSNR {before:.2f} dB before, {after:.2f} dB after.", ""]
    lines += [f"- {note}" for note in result.notes]
    return "\n".join([text, "", *lines, ""])
