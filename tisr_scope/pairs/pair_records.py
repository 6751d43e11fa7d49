"""The numbers of the pair quality control on disk, as JSON for programs and CSV for tables.

In ``quality/`` beside the pairs: ``<pair>.json`` and ``<pair>.csv``, one row for each time point,
and ``summary.json`` and ``summary.csv``, one row for each recording, channel and position.
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tisr_scope.disk import writing
from tisr_scope.errors import TisrScopeError
from tisr_scope.pairs.pair_quality import PairQuality
from tisr_scope.provenance import write_json

FOLDER = "quality"


@dataclass(frozen=True)
class Refused:
    """A recording that was not even measured, and why."""

    name: str
    error: TisrScopeError


def write_quality(out: Path, quality: PairQuality, made_from: dict[str, Any]) -> None:
    """Keep what was found in one source, with what it was found from."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    content = {"made_from": made_from, "quality": quality.to_dict()}
    write_json(folder / f"{quality.name}.json", content)


def read_quality(out: Path, name: str, made_from: dict[str, Any]) -> PairQuality | None:
    """What was found before from the same frames and settings; None where there is nothing."""
    try:
        content = json.loads((out / FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        if content["made_from"] != made_from:
            return None
        return PairQuality.from_dict(content["quality"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_summary(out: Path, found: Sequence[PairQuality], refused: Sequence[Refused]) -> None:
    """One entry for each source, and the recordings that could not be measured."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    rows = [summary_row(quality) for quality in found]
    write_json(
        folder / "summary.json",
        {
            "sources": rows,
            "not_good": [
                {
                    "source": q.name,
                    "time_point": point.t,
                    "reasons": [r.text for r in point.reasons],
                }
                for q in found
                for point in q.points
                if point.reasons
            ],
            "rejected": [{"source": q.name, "reason": q.rejected} for q in found if q.rejected]
            + [{"source": r.name, "reason": r.error.what} for r in refused],
        },
    )


def read_summary(out: Path) -> dict[str, Any]:
    """What :func:`write_summary` wrote."""
    content: dict[str, Any] = json.loads(
        (out / FOLDER / "summary.json").read_text(encoding="utf-8")
    )
    return content


def write_tables(out: Path, found: Sequence[PairQuality], refused: Sequence[Refused]) -> None:
    """The same as tables: one of all, and one with every time point of each source."""
    folder = out / FOLDER
    rows = [summary_row(quality) for quality in found]
    rows += [{"source": r.name, "time_points": 0, "rejected": r.error.what} for r in refused]
    _write_csv(folder / "summary.csv", rows)
    for quality in found:
        if quality.points:
            _write_csv(folder / f"{quality.name}.csv", time_point_rows(quality))


def summary_row(quality: PairQuality) -> dict[str, Any]:
    """The most telling numbers of one source; medians are over all time points."""
    points = quality.points
    levels = range(len(points[0].snr)) if points else range(0)
    row: dict[str, Any] = {
        "source": quality.name,
        "time_points": len(points),
        "kept": len(quality.kept),
        "pairs": " ".join(quality.pairs),
        "motion_nm_median": _middle([p.motion_nm for p in points]),
        "motion_nm_largest": _largest([p.motion_nm for p in points]),
        "saturated_largest": _largest([max(p.saturated) for p in points]),
        "bleached": quality.bleached,
    }
    for n in levels:
        row[f"snr_level_{n + 1}"] = _middle([p.snr[n] for p in points])
    for n in levels:
        offsets = [p.offset_nm[n] for p in points if p.offset_nm]
        row[f"offset_nm_level_{n + 1}"] = _middle(offsets)
    row["rejected"] = quality.rejected
    row["remarks"] = "; ".join(quality.remarks)
    return row


def time_point_rows(quality: PairQuality) -> list[dict[str, Any]]:
    """One row for each time point."""
    rows = []
    for point in quality.points:
        row: dict[str, Any] = {
            "time_point": point.t,
            "time_s": point.t * quality.interval_s,
            "kept": point.t in quality.kept,
            "motion_nm": point.motion_nm,
            "drift_nm": point.drift_nm,
            "brightness_e": point.brightness_e,
        }
        for n in range(len(point.snr)):
            there = bool(point.offset_nm)
            row |= {
                f"signal_e_level_{n + 1}": point.signal_e[n],
                f"background_e_level_{n + 1}": point.background_e[n],
                f"snr_level_{n + 1}": point.snr[n],
                f"saturated_level_{n + 1}": point.saturated[n],
                f"offset_nm_level_{n + 1}": point.offset_nm[n] if there else None,
                f"offset_error_nm_level_{n + 1}": point.offset_error_nm[n] if there else None,
            }
        rows.append(row | {"reasons": "; ".join(r.text for r in point.reasons)})
    return rows


# ------------------------------------------------------------------------------------- inside


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with writing(path, "tables") as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows({k: _short(v) for k, v in row.items()} for row in rows)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _middle(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def _largest(values: Sequence[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)
