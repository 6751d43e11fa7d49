"""Published SIM images become training targets: pairs as ``tisr prepare`` writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError
from tisr_scope.exchange.import_plan import ImportPlan
from tisr_scope.exchange.import_record import camera_of, source_record
from tisr_scope.exchange.import_settings import ImportSettings
from tisr_scope.formats.counts import counts_rule, require_finite
from tisr_scope.formats.mrc import open_mrc
from tisr_scope.metrics.motion import Shift, shift_between
from tisr_scope.pairs.pair_folder import SUBSETS, read_about, write_pair
from tisr_scope.pairs.pair_measures import on_input_grid
from tisr_scope.pairs.recording_split import Split
from tisr_scope.provenance import provenance, write_json
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.reconstruction.widefield import widefield

MISPLACED = 0.25
"""Part of an input pixel by which a target may lie off its input without a word."""


def import_pairs(
    plans: Sequence[ImportPlan],
    out: Path,
    settings: ImportSettings | None = None,
    *,
    split: Split | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write one pair for each region, with the published SIM image as the target.

    Wide field is the mean of the patterns in photo-electrons, never rounded and never scaled by
    its own range; the target keeps the authors' numbers, negative ones included.

    Parameters
    ----------
    plans : sequence of ImportPlan
        Regions with a SIM image.
    out : Path
        Folder of the pairs; finished ones of the same files and settings are kept.
    settings : ImportSettings, optional
        As the plans were made with.
    split : Split, optional
        Random by default, by cell.
    progress : callable, optional
        Called with (done, total) raw frames.

    Returns
    -------
    folders : list of Path
        Every pair, in the order of the plans; one for each focal plane of a 3D stack.

    Raises
    ------
    DataError
        If a region has no SIM image, or frames hold NaN.
    DiskFull
        If there is no space left.
    """
    settings = settings or ImportSettings()
    plans = [one for plan in plans for one in plan.by_plane()]
    for plan in plans:
        plan.target_frames()
        plan.require_interval()
    # Levels and planes of one cell are one sample: they must never part.
    subsets = (split or Split()).assign(list(dict.fromkeys(plan.sample for plan in plans)))
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    table: dict[str, list[str]] = {subset: [] for subset in SUBSETS}
    total, done, folders = sum(plan.frames for plan in plans), 0, []
    for plan in plans:
        if progress:
            progress(done, total)
        folder = out / plan.name
        _import_pair(plan, folder, settings)
        table[subsets[plan.sample]].append(folder.name)
        folders.append(folder)
        done += plan.frames
    write_json(out / "split.json", table)
    if progress:
        progress(total, total)
    return folders


# ------------------------------------------------------------------------------------- inside


def _import_pair(plan: ImportPlan, folder: Path, settings: ImportSettings) -> None:
    record = source_record(plan, settings)
    about = read_about(folder)
    if about is not None and about.get("imported", {}).get("source") == record:
        return
    if folder.exists() and (about is None or "imported" not in about):
        raise DataError(
            "the folder holds something else than this import",
            where=str(folder),
            remedy="import into another folder, or move this one away",
        )
    otf = incoherent_otf(plan.optics.numerical_aperture, plan.optics.emission_nm)
    target = plan.target_frames()
    require_finite(target, str(plan.cell.target))
    pixel, interval = plan.optics.pixel_size_um, plan.interval_s
    known = plan.profile.channels[0].name if plan.profile else f"{plan.optics.excitation_nm:g}"
    content: dict[str, Any] = {
        "recording": plan.name,
        "channel": known,
        "position": 0,
        "levels": plan.levels,
        "raw_frames": plan.orientations * plan.phases if plan.cell.levels else None,
        "levels_mw": list(settings.levels_mw) or None,
        "pixel_size_um": pixel,
        "interval_s": interval,
        "intensity_unit": "wide field: photo-electrons per camera pixel and raw frame; target: as "
        "published",
        "made_from": {"otf": asdict(otf), "simulated": False, "time_points": plan.time_points},
        "imported": {
            "source": record,
            "structure": plan.cell.structure,
            "cell": plan.cell.folder.name,
            "part": "_".join(p for p in (plan.cell.part, plan.plane_name) if p),
            "target_pixel_type": target.dtype.str,
        },
        "provenance": provenance(),
    }
    levels = _widefield(plan, settings)
    target = np.asarray(target, np.float32)
    content["registration"] = _registration(levels, target, 1e3 * pixel)
    write_pair(folder, content, levels, target)


def _registration(
    levels: Float[np.ndarray, "level time y x"], target: Float[np.ndarray, "time fy fx"], nm: float
) -> list[dict[str, float] | None]:
    """Where the published image lies against the wide field of each level, in nanometres.

    The shift is one of the whole stack, a grid that others laid otherwise, so its time points are
    averaged; None where nothing is bright enough to tell.
    """
    reference = on_input_grid(target.mean(axis=0), levels.shape[-2:])
    found = [shift_between(level.mean(axis=0, dtype=np.float64), reference) for level in levels]
    return [None if shift is None else _as_seen_from_input(shift, nm) for shift in found]


def _as_seen_from_input(shift: Shift, nm: float) -> dict[str, float]:
    """Where the target has what the input shows: the other way round than the input lies."""
    return {"y_nm": -shift.y_px * nm, "x_nm": -shift.x_px * nm, "se_nm": shift.error_px * nm}


def misplaced_targets(folders: Sequence[Path]) -> dict[str, str]:
    """Pairs whose published target lies a quarter of an input pixel or more off the input.

    Returns
    -------
    told : dict
        What is off, by the name of the folder.
    """
    told = {}
    for folder in folders:
        about = read_about(folder) or {}
        found = [level for level in about.get("registration", []) if level is not None]
        if not found:
            continue
        best = min(found, key=lambda level: float(level["se_nm"]))
        away = math.hypot(best["y_nm"], best["x_nm"])
        if away - 3 * best["se_nm"] > 1e3 * about["pixel_size_um"] * MISPLACED:
            told[folder.name] = (
                f"the SIM image lies {away:.0f} nm off its input "
                f"(y {best['y_nm']:+.0f}, x {best['x_nm']:+.0f} nm)"
            )
    return told


def _widefield(plan: ImportPlan, settings: ImportSettings) -> Float[np.ndarray, "level time y x"]:
    """Photo-electrons of every level; wide field that comes as such is in electrons already."""
    if not plan.cell.levels:
        stacks = [open_mrc(file)[0] for file in plan.cell.widefield]
        for file, stack in zip(plan.cell.widefield, stacks, strict=True):
            require_finite(stack, str(file))
        return np.stack([np.asarray(stack, np.float32) for stack in stacks])
    where = str(plan.cell.folder)
    offset, gain = camera_of(plan, settings)
    # Floats are taken as they are; whole numbers may be counts in disguise, all alike.
    whole = [np.dtype(kind).kind in "iu" for kind in plan.pixel_types]
    blocks = (block for n, counts in enumerate(whole) if counts for block in plan.level(n))
    rule = counts_rule(blocks, unsigned=settings.unsigned, where=where)
    levels = []
    for level in range(plan.levels):
        pedestal = np.float32(offset + (rule.pedestal if whole[level] else 0))
        images = []
        for block in plan.level(level):
            require_finite(block, f"{where}, level {level + 1}")
            counts = rule.counts(block) if whole[level] else block
            electrons = (counts.astype(np.float32) - pedestal) * np.float32(gain)
            images.append(widefield(electrons[None])[0])
        levels.append(np.stack(images))
    return np.stack(levels)
