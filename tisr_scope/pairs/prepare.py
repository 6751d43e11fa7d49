"""From recordings to training pairs, with a check of every time point on the way."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tisr_scope.errors import DataError, TisrScopeError
from tisr_scope.pairs.pair_folder import SUBSETS, read_about
from tisr_scope.pairs.pair_making import MakingSettings, PairSource, make_pairs
from tisr_scope.pairs.pair_quality import Limits, PairQuality
from tisr_scope.pairs.pair_records import Refused, write_summary
from tisr_scope.pairs.recording_split import Split
from tisr_scope.provenance import write_json
from tisr_scope.recording.origin import imported_from
from tisr_scope.recording.recording import Recording
from tisr_scope.sim.optics.otf import DetectionOtf
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings

PHASES_OF_3D_SIM = 5


def prepare(
    recordings: Sequence[Recording | Path],
    out: Path,
    *,
    split: Split | None = None,
    estimation: Estimation | None = None,
    wiener: WienerSettings | None = None,
    otf: DetectionOtf | None = None,
    limits: Limits | None = None,
    report: bool = False,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Make the training pairs of recordings; pairs that are there already are kept.

    A time point that is not good (it moved, is saturated, lacks light) is dropped, and the
    stretches before and after it become pairs of their own, named ``..._t007`` by their first
    time point: the time points of a pair always follow each other without a gap.

    Parameters
    ----------
    recordings : sequence of Recording or Path
        In paired mode.
    out : Path
        Folder of the pairs.
    split : Split, optional
        Random by default, by recording.
    estimation : Estimation, optional
        How the illumination is estimated: orders of nonlinear SIM, phases, drift.
    wiener : WienerSettings, optional
        Settings of the reconstruction.
    otf : DetectionOtf, optional
        Detection optics; from the profile of each recording if omitted.
    limits : Limits, optional
        What a time point must fulfil.
    report : bool
        Draw a page for each recording and one of all, in ``out/quality``.
    device : str
        Where to reconstruct.
    progress : callable, optional
        Called with (done, total) time points; each counts twice, for its check and for its
        reconstruction.

    Returns
    -------
    folders : list of Path
        Every pair, in the order of recordings, channels, positions and time.  What became none is
        listed with its reason in ``out/quality/summary.json``.

    Raises
    ------
    DataError
        If the split cannot be made, or no recording gives a pair.
    RecordingError
        Instead, where there is one recording only and it cannot be read.
    DiskFull
        If there is no space left; finished pairs stay whole, and the next call goes on.
    """
    if not recordings:
        raise DataError("there are no recordings to prepare", remedy="give their folders")
    opened, refused = _opened(recordings)
    split = split or Split()
    split.assign([r.name for r in refused] + [recording.name for recording in opened])
    sources = [
        PairSource(recording, channel, position)
        for recording in opened
        for channel in range(len(recording.channels))
        for position in range(recording.positions)
    ]
    _require_any(bool(sources), refused)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    settings = MakingSettings(
        estimation or Estimation(), wiener or WienerSettings(), otf, limits or Limits(), device
    )
    total = 2 * sum(source.recording.time_points for source in sources)
    done, found = 0, []
    for source in sources:

        def advance(steps: int, before: int = done) -> None:
            if progress:
                progress(before + steps, total)

        advance(0)
        found.append(make_pairs(source, out, settings, advance))
        done += 2 * source.recording.time_points
    if progress:
        progress(total, total)
    write_summary(out, found, refused)
    if report:
        from tisr_scope.pairs.pair_report import write_report

        write_report(out, list(zip(sources, found, strict=True)), refused)
    made = [(s, q) for s, q in zip(sources, found, strict=True) if q.pairs]
    _require_any(bool(made), [*refused, *(_refused(q) for q in found if q.rejected)])
    subsets = split.assign(list(dict.fromkeys(source.recording.name for source, _ in made)))
    table: dict[str, list[str]] = {subset: [] for subset in SUBSETS}
    for source, quality in made:
        table[subsets[source.recording.name]] += quality.pairs
    write_json(out / "split.json", table)
    for source, quality in zip(sources, found, strict=True):
        _remove_superseded(out, source, quality)
    return [out / name for _, quality in made for name in quality.pairs]


# ------------------------------------------------------------------------------------- inside


def _opened(recordings: Sequence[Recording | Path]) -> tuple[list[Recording], list[Refused]]:
    """Recordings that can be read, and those that cannot, with the reason."""
    opened, refused = [], []
    for given in recordings:
        try:
            recording = Recording.open(given) if isinstance(given, str | Path) else given
            _require_paired(recording)
            opened.append(recording)
        except TisrScopeError as error:
            name = Path(given).name if isinstance(given, str | Path) else given.name
            refused.append(Refused(name, error))
    return opened, refused


def _require_paired(recording: Recording) -> None:
    if recording.mode != "paired" or recording.profile.illumination is None:
        raise DataError(
            f"a recording in mode {recording.mode!r} gives no pairs",
            where=str(recording.path),
            remedy="record with 'tisr acquire --mode paired'",
        )
    if recording.time_points < 1:
        raise DataError(
            "the recording holds no complete time point",
            where=str(recording.path),
            remedy="go on with 'tisr acquire --resume', or leave the recording out",
        )

    planes = len((imported_from(recording.path) or {}).get("planes", [0]))
    if planes > 1 and recording.sim_shape[1] >= PHASES_OF_3D_SIM:
        raise DataError(
            f"{planes} focal planes with {recording.sim_shape[1]} phases are 3D-SIM, whose planes "
            "cannot be reconstructed one by one",
            where=str(recording.path),
            remedy="take the published SIM images as targets: tisr import --to pairs",
        )


def _refused(quality: PairQuality) -> Refused:
    error = DataError(
        quality.rejected,
        where=quality.name,
        remedy="look at the numbers in quality/summary.json beside the pairs; --keep-all keeps "
        "time points that moved",
    )
    return Refused(quality.name, error)


def _require_any(left: bool, refused: Sequence[Refused]) -> None:
    if left:
        return
    if len(refused) == 1:
        raise refused[0].error
    told = "; ".join(f"{r.name}: {r.error.what}" for r in refused[:5])
    raise DataError(
        f"none of {len(refused)} recordings gives a pair: {told}",
        remedy="look at quality/summary.json beside the pairs",
    )


def _remove_superseded(out: Path, source: PairSource, quality: PairQuality) -> None:
    """Take away pairs of the same frames that other settings had made."""
    for folder in out.iterdir():
        if folder.name in quality.pairs:
            continue
        if not re.fullmatch(re.escape(source.name) + r"(_t\d+)?", folder.name):
            continue
        about = read_about(folder) or {}
        here = (source.recording.name, source.channel_name, source.position)
        if tuple(about.get(key) for key in ("recording", "channel", "position")) == here:
            shutil.rmtree(folder)
