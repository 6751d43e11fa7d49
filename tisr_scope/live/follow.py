"""Following a recording by hand, from this machine or another one that sees its folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tisr_scope.errors import RecordingError
from tisr_scope.inference.predictor import load_models
from tisr_scope.live.frame_source import RecordingSource
from tisr_scope.live.live_records import LiveOptions, LiveStatus
from tisr_scope.live.network_follower import NetworkFollower
from tisr_scope.recording.recording import Recording

RESULTS = "super_resolution"


def follow(
    recording: str | Path,
    models: str | Path | Mapping[str, str | Path],
    out: str | Path | None = None,
    *,
    options: LiveOptions | None = None,
    quiet_s: float = 60.0,
    cancel: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LiveStatus:
    """Super-resolve a recording while it grows, then what was passed over.

    Parameters
    ----------
    recording : path
        Folder of a recording, growing or finished.
    models : str, path or mapping
        Bundle for every channel, or one for each channel name.
    out : path, optional
        Where the results go; ``super_resolution`` in the recording by default.
    options : LiveOptions, optional
        How the network is run.
    quiet_s : float
        A recording that has not ended and shows nothing new for so long is given up: its process
        may have been killed.
    cancel : threading.Event, optional
        Set it to stop; a later call goes on.
    progress : callable, optional
        Called with (results, time points that can have one) a few times a second.

    Raises
    ------
    TisrScopeError
        If the recording, the models or the results cannot be used.
    """
    chosen = options or LiveOptions(complete=True)
    folder = Path(recording)
    source = RecordingSource(Recording.open(folder))
    found = load_models(
        source.facts, models, device=chosen.device, passes=chosen.passes, seed=chosen.seed
    )
    follower = NetworkFollower(source, found, Path(out or folder / RESULTS), chosen)
    quiet = threading.Event()
    done = threading.Event()

    def watch() -> None:
        seen, since = -1, time.monotonic()
        while not done.wait(0.2):
            status = follower.loop.status()
            arrived = sum(stream.time_points for stream in status.streams) + status.predicted
            if arrived != seen:
                seen, since = arrived, time.monotonic()
            if progress is not None:
                progress(status.predicted, status.predicted + status.skipped)
            if not source.ended and time.monotonic() - since > quiet_s:
                quiet.set()
            if quiet.is_set() or (cancel is not None and cancel.is_set()):
                follower.loop.stop()

    watcher = threading.Thread(target=watch, name="tisr-follow", daemon=True)
    watcher.start()
    try:
        status = follower.run()
    finally:
        done.set()
        watcher.join()
    if quiet.is_set():
        raise RecordingError(
            f"nothing new for {quiet_s:g} s, and the recording has not ended",
            where=str(folder),
            remedy="see whether it is still recorded; start the same command again to go on",
        )
    return status
