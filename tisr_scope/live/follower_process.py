"""A follower in a process of its own: ``python -m`` this module, then ``network`` or ``sim``.

It prepares (models loaded and rehearsed) before there is any light, says that it is ready or why it
cannot be, and is then told which recording to follow.  Its pulse tells the parent that it is alive,
also while the network computes.  Its end is its own: the recording does not know of it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from tisr_scope.child_process import ENDED, Message, Parent, error_message
from tisr_scope.errors import RecordingError
from tisr_scope.live.live_records import LiveOptions
from tisr_scope.profiles.library import parse_profile
from tisr_scope.running_order.run_plan import RunPlan

PULSE_S = 0.2
OPEN_S = 60.0
"""Longest wait for a recording that was announced."""
_LAST_S = 10.0


class Work(Protocol):
    """One recording being followed."""

    def run(self) -> Any:
        """Follow until it has ended."""

    def stop(self, within_s: float) -> None:
        """End soon, from another thread."""

    def report(self) -> Message:
        """What it does and has done, at this moment."""


class Trade(Protocol):
    """What a follower can do, prepared."""

    def prepare(self) -> Message:
        """Get ready without any light; what the parent wants to know."""

    def follow(self, folder: Path) -> Work:
        """Begin with a recording that is there."""


class FollowerProcess:
    """Prepares once, then follows one recording after the other."""

    def __init__(self) -> None:
        self._orders: queue.Queue[Message] = queue.Queue()
        self._work: Work | None = None
        self._state = "starting"
        self._parent = Parent(self._obey)
        threading.Thread(target=self._pulse, name="tisr-pulse", daemon=True).start()

    def run(self, kind: str) -> int:
        """Until the parent ends it; exit code of the process."""
        try:
            trade = _trade(kind, self._orders)
            if trade is None:
                return 0
            ready = trade.prepare()
            self._state = "ready"
            self._parent.say(state="ready", ready=ready)
            while (order := self._orders.get()) != ENDED:
                if "follow" in order:
                    self._follow(trade, Path(order["follow"]))
        except Exception as error:
            report = {} if self._work is None else self._work.report()
            self._parent.say(state="failed", error=error_message(error), **report)
            return 1
        return 0

    def _follow(self, trade: Trade, folder: Path) -> None:
        self._wait_for(folder)
        self._work = trade.follow(folder)
        self._state = "following"
        self._work.run()
        self._state = "ended"
        self._parent.say(state="ended", **self._work.report())

    def _wait_for(self, folder: Path) -> None:
        """Until the recording can be opened, or there will be none."""
        from tisr_scope.recording.recording import Recording

        deadline = time.monotonic() + OPEN_S
        while True:
            try:
                Recording.open(folder)
            except RecordingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            return

    def _obey(self, message: Message) -> None:
        if message == ENDED:
            self._stop(0.0)
            self._orders.put(ENDED)
            threading.Thread(target=_last_resort, daemon=True).start()
        elif "finish_s" in message:
            self._stop(float(message["finish_s"]))
        else:
            self._orders.put(message)

    def _stop(self, within_s: float) -> None:
        if self._work is not None:
            self._work.stop(within_s)

    def _pulse(self) -> None:
        while True:
            report: Message = {}
            if self._work is not None and self._state == "following":
                with contextlib.suppress(Exception):
                    report = self._work.report()
            self._parent.say(state=self._state, **report)
            time.sleep(PULSE_S)


def _last_resort() -> None:
    """A parent that has gone is not outlived, whatever the network is doing."""
    time.sleep(_LAST_S)
    os._exit(1)


class NetworkTrade:
    """Super-resolution with the models of the job."""

    def __init__(self, job: Message) -> None:
        self._options = LiveOptions(**job["options"])
        self._plan = RunPlan(parse_profile(job["profile"], "profile"), job["mode"])
        self._names = job["models"]
        self._results = job["results"]

    def prepare(self) -> Message:
        """Load and rehearse the models."""
        from tisr_scope.inference.image_facts import ImageFacts
        from tisr_scope.inference.predictor import load_models
        from tisr_scope.live.stream import be_humble, network_threads

        options, facts = self._options, ImageFacts.of_plan(self._plan)
        be_humble(network_threads(options.threads))
        self._models = load_models(
            facts,
            self._names,
            device=options.device,
            passes=options.passes,
            seed=options.seed,
        )
        for model in {id(model): model for model in self._models.values()}.values():
            model.rehearse(facts.frame_shape)
        return {
            "models": {name: model.name for name, model in self._models.items()},
            "upscale": {name: model.upscale for name, model in self._models.items()},
            "objections": {name: model.objections(None) for name, model in self._models.items()},
        }

    def follow(self, folder: Path) -> Work:
        """Serve one recording."""
        from tisr_scope.live.frame_source import RecordingSource
        from tisr_scope.live.network_follower import NetworkFollower
        from tisr_scope.recording.recording import Recording

        source = RecordingSource(Recording.open(folder))
        follower = NetworkFollower(
            source, self._models, folder / self._results, self._options, share=True
        )
        return _NetworkWork(follower)


class _NetworkWork:
    def __init__(self, follower: Any) -> None:
        self._follower = follower

    def run(self) -> Any:
        return self._follower.run()

    def stop(self, within_s: float) -> None:
        self._follower.loop.stop(within_s)

    def report(self) -> Message:
        return {
            "live": asdict(self._follower.loop.status()),
            "rings": self._follower.rings(),
            "objections": self._follower.objections(),
            "audit": {name: asdict(a) for name, a in self._follower.audit_status().items()},
        }


def _trade(kind: str, orders: queue.Queue[Message]) -> Trade | None:
    """Import what is needed, then wait for the job: a spare process is ready sooner."""
    if kind == "network":
        import tisr_scope.live.network_follower
    else:
        import tisr_scope.live.sim_follower
    job = orders.get()
    if job == ENDED:
        return None
    if kind == "network":
        return NetworkTrade(job)
    return tisr_scope.live.sim_follower.SimTrade(job)


def main() -> None:
    """Entry point of the process."""
    # Waiting threads of the network must sleep, not spin: the camera needs the processor too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    code = FollowerProcess().run(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of a graphics library must not hold the end


if __name__ == "__main__":
    main()
