"""Foreign raw frames become recordings, which everything after an acquisition takes unchanged.

A published cell holds raw frames at rising light and the SIM image its authors made of the highest
level.  Two results make sense:

* A *recording* (:func:`import_recordings`): all raw frames, paired mode where there are several
  levels, so that ``tisr prepare`` reconstructs its own target with known parameters, and
  ``reconstruct``, ``train``, ``infer`` and ``evaluate`` follow.  The published image lies untouched
  in ``reference/``.  A stack of one level becomes a time-lapse that keeps its patterns.
* *Pairs* (:mod:`tisr_scope.exchange.import_pairs`): wide field at every level with the published
  image itself as the target; also where the raw frames of the target were never released, or
  only wide field was.

The profile of an imported recording describes its optics and names no microscope; the journal
marks every frame as imported, with time from the stated interval.  Counts are never scaled.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from tisr_scope.acquisition.folder import finish_folder
from tisr_scope.errors import DataError
from tisr_scope.exchange.import_plan import ImportPlan
from tisr_scope.exchange.import_record import (
    HEADER_SUFFIX,
    REFERENCE,
    camera_of,
    source_record,
    stored_blocks,
)
from tisr_scope.exchange.import_settings import ImportSettings
from tisr_scope.exchange.imported_profile import (
    MEASURED_TIME_POINTS,
    NO_MICROSCOPE,
    Stripes,
    imported_profile,
    measure_stripes,
)
from tisr_scope.formats.counts import CountsRule, counts_rule, require_finite
from tisr_scope.formats.mrc import open_mrc
from tisr_scope.formats.mrc_header import header_bytes
from tisr_scope.profiles.library import profile_yaml
from tisr_scope.profiles.schema import Profile
from tisr_scope.provenance import provenance, write_json
from tisr_scope.recording.origin import RANKS, imported_from
from tisr_scope.recording.recorder import Recorder, create_store
from tisr_scope.running_order.run_plan import FrameInfo, RunPlan

MOST_LEVELS = 4
UNFINISHED = ".importing"
Progress = Callable[[int, int], None]


def import_recordings(
    plans: Sequence[ImportPlan],
    out: Path,
    settings: ImportSettings | None = None,
    *,
    progress: Progress | None = None,
) -> list[Path]:
    """Write one recording for each region; finished ones are kept.

    Parameters
    ----------
    plans : sequence of ImportPlan
        Regions with raw frames.
    out : Path
        Folder of the recordings.
    settings : ImportSettings, optional
        As the plans were made with.
    progress : callable, optional
        Called with (done, total) frames.

    Returns
    -------
    folders : list of Path
        Every recording, in the order of the plans.

    Raises
    ------
    DataError
        If raw frames are missing, damaged or of more levels than a recording holds, or a folder
        holds something else.
    DiskFull
        If there is no space left.
    """
    settings = settings or ImportSettings()
    for plan in plans:
        _require_recordable(plan)
        plan.require_interval()
    total = sum(plan.frames for plan in plans)
    done, folders = 0, []
    for plan in plans:
        before = done

        def advance(frames: int, before: int = before) -> None:
            if progress:
                progress(before + frames, total)

        advance(0)
        folders.append(_import_one(plan, Path(out) / plan.name, settings, advance))
        done += plan.frames
    if progress:
        progress(total, total)
    return folders


# ------------------------------------------------------------------------------------- inside


def _require_recordable(plan: ImportPlan) -> None:
    if not plan.cell.levels:
        raise DataError(
            "there are no raw frames to make a recording of",
            where=str(plan.cell.folder),
            remedy="import wide field and SIM image as pairs: --to pairs",
        )
    if plan.levels > MOST_LEVELS:
        raise DataError(
            f"{plan.levels} light levels, a recording holds up to {MOST_LEVELS}",
            where=str(plan.cell.folder),
            remedy=f"choose some, the last one for the target: --levels 1,5,{plan.levels}; or "
            "import all as pairs: --to pairs",
        )


def _import_one(
    plan: ImportPlan, folder: Path, settings: ImportSettings, advance: Callable[[int], None]
) -> Path:
    record = source_record(plan, settings)
    if folder.exists() and _is_finished(folder, record):
        return folder
    unfinished = folder.with_name(folder.name + UNFINISHED)
    if unfinished.exists():
        # Left by an import that was interrupted; its name says that nobody else made it.
        shutil.rmtree(unfinished)
    try:
        unfinished.mkdir(parents=True)
        _write_recording(plan, unfinished, folder, settings, record, advance)
        unfinished.replace(folder)
    finally:
        # After an error, a full disk above all, nothing half-written stays.
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _write_recording(
    plan: ImportPlan,
    unfinished: Path,
    folder: Path,
    settings: ImportSettings,
    record: dict[str, Any],
    advance: Callable[[int], None],
) -> None:
    rule = counts_rule(stored_blocks(plan), unsigned=settings.unsigned, where=str(plan.cell.folder))
    stripes = _stripes(plan, settings, rule)
    profile = _profile(plan, settings, rule, stripes)
    mode: Literal["paired", "timelapse"] = "paired" if plan.levels > 1 else "timelapse"
    about = {
        **record,
        "pixel_types": list(plan.pixel_types),
        "counts": asdict(rule),
        "stripes": asdict(stripes),
        "axes": plan.axes,
        "sections": plan.sections,
        "planes": list(plan.planes),
        "section_um": plan.section_um,
    }
    (unfinished / "profile.yaml").write_text(profile_yaml(profile), encoding="utf-8")
    settings_record: dict[str, Any] = {"mode": mode, "device_settings": [], "imported": about}
    write_json(
        unfinished / "provenance.json",
        {**provenance(settings_record), "started": time.time(), "config": NO_MICROSCOPE},
    )
    frames = _write_frames(plan, unfinished, profile, mode, rule, advance)
    _keep_reference(plan, unfinished / REFERENCE)
    finish_folder(
        unfinished,
        {
            "out": str(folder),
            "mode": mode,
            "reason": "completed",
            "imported": True,
            "frames_expected": frames,
            "frames_recorded": frames,
            "time_points_complete": plan.time_points,
        },
    )


def _keep_reference(plan: ImportPlan, reference: Path) -> None:
    """The published images untouched, and what stands before the pixels of the raw stacks."""
    for file in (plan.cell.target, *plan.cell.more_targets):
        if file is not None:
            for image in open_mrc(file)[0]:
                require_finite(image, str(file))
            reference.mkdir(exist_ok=True)
            shutil.copyfile(file, reference / file.name)
    for file in plan.cell.levels:
        if file.suffix.lower() == ".mrc":
            reference.mkdir(exist_ok=True)
            (reference / (file.name + HEADER_SUFFIX)).write_bytes(header_bytes(file))


def _is_finished(folder: Path, record: dict[str, Any]) -> bool:
    about = imported_from(folder)
    if about is None or not (folder / "summary.json").is_file():
        raise DataError(
            "the folder holds something else than this import",
            where=str(folder),
            remedy="import into another folder, or move this one away",
        )
    if any(about.get(key) != value for key, value in record.items()):
        raise DataError(
            "the folder holds an import with other files or settings",
            where=str(folder),
            remedy="import into another folder, or move this one away",
        )
    return True


def _stripes(plan: ImportPlan, settings: ImportSettings, rule: CountsRule) -> Stripes:
    if settings.angles_rad or settings.period_um:
        if len(settings.angles_rad) != plan.orientations or not settings.period_um:
            raise DataError(
                f"{len(settings.angles_rad)} angles and period {settings.period_um} do not state "
                f"the stripes of {plan.orientations} orientations",
                where=plan.name,
                remedy="give one angle for each orientation, and the period; or neither",
            )
        return Stripes(settings.angles_rad, settings.period_um, "stated")
    if plan.profile is not None and plan.profile.illumination is not None:
        illumination, period = plan.profile.illumination, plan.profile.channels[0].pattern_period_um
        if illumination.orientations == plan.orientations and period is not None:
            return Stripes(illumination.angles_rad, period, "profile")
    offset, gain = camera_of(plan, settings)
    brightest = rule.counts(plan.level(plan.levels - 1)[:MEASURED_TIME_POINTS])
    electrons: Float[np.ndarray, "time orientation phase y x"] = (
        brightest.astype(np.float32) - np.float32(offset + rule.pedestal)
    ) * np.float32(gain)
    return measure_stripes(electrons, plan.optics, str(plan.cell.folder))


def _profile(
    plan: ImportPlan, settings: ImportSettings, rule: CountsRule, stripes: Stripes
) -> Profile:
    offset, gain = camera_of(plan, settings)
    known = plan.profile.channels[0] if plan.profile else None
    powers: Sequence[float] = settings.levels_mw
    if not powers and known is not None and plan.levels in (1, len(known.levels_mw)):
        powers = known.levels_mw if plan.levels > 1 else (known.timelapse_mw,)
    ranks = not powers or (plan.profile is not None and RANKS in plan.profile.description)
    powers = powers or tuple(float(n + 1) for n in range(plan.levels))
    if len(powers) != plan.levels:
        raise DataError(
            f"{len(powers)} laser powers are stated for {plan.levels} levels",
            where=plan.name,
            remedy="give one for each level: --levels-mw 1,5,25",
        )
    description = f"Imported: {plan.cell.structure} {plan.cell.folder.name}".replace("  ", " ")
    description += f"; {RANKS}" if ranks else ""
    return imported_profile(
        plan.name,
        description,
        mode="paired" if plan.levels > 1 else "timelapse",
        optics=plan.optics,
        stripes=stripes,
        phases=plan.phases,
        frame_shape=plan.frame_shape,
        time_points=plan.time_points,
        interval_s=plan.interval_s,
        exposure_ms=plan.exposure_ms,
        levels_mw=powers,
        offset_adu=offset + rule.pedestal,
        electrons_per_adu=gain,
        channel=known.name if known else None,
        planes_um=_heights(plan),
    )


def _heights(plan: ImportPlan) -> list[float | None]:
    """Of the focal planes, where there are several; None where no file says how far apart."""
    if len(plan.planes) < 2:
        return []
    step = plan.section_um
    return [None if step is None else round(plane * step, 6) for plane in plan.planes]


def _write_frames(
    plan: ImportPlan,
    folder: Path,
    profile: Profile,
    mode: Literal["paired", "timelapse"],
    rule: CountsRule,
    advance: Callable[[int], None],
) -> int:
    """Every frame to disk and into the journal, in the running order; returns their number."""
    run = RunPlan(profile, mode)
    powers = run.channels[0].powers_mw
    files = [file.name for file in plan.cell.levels]
    stacks = [[plan.level(n, plane) for n in range(plan.levels)] for plane in plan.planes]
    create_store(folder, run)
    recorder = Recorder(folder, run)
    done = 0
    try:
        for t, position in np.ndindex(plan.time_points, len(plan.planes)):
            levels = [rule.counts(stack[t]) for stack in stacks[position]]
            for orientation, phase, level in np.ndindex(
                plan.orientations, plan.phases, plan.levels
            ):
                frame = np.array(levels[level][orientation, phase], np.uint16)
                info = FrameInfo(
                    t=t,
                    channel=0,
                    position=position,
                    orientation=orientation,
                    phase=phase,
                    level=level,
                    power_mw=powers[level],
                    exposure_ms=plan.exposure_ms,
                    time_s=t * plan.interval_s,
                    dose_mj=0.0,
                )
                recorder.put(info, frame, {"imported": True, "file": files[level]})
                done += 1
            advance(done)
    finally:
        recorder.close()
    return done
