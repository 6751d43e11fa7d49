"""The window in every state and size: nothing cut, nothing overlapping, images fill their panels.

With TISR_SCREENSHOTS=FOLDER the pictures are kept, to be looked at.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_session import FakeSession

from tisr_scope.live.live_records import SimStatus
from tisr_scope.preview.app import application, dispose

pytest.importorskip("qtpy")
from window_geometry import faults

from tisr_scope.preview.window import LiveWindow

SIZES = [(1024, 768), (1280, 720), (1366, 768), (1600, 900), (2560, 1440), (3840, 2160)]
SIM = SimStatus(True, "carrier found, modulation 0.78", 0.1807, (0.8, 0.77, 0.77), 31, 4, 6.2)
LONG = "DiskFull: no space left for raw frames of this recording, not even for one time point more"


def recording(window: LiveWindow) -> None:
    window.start()
    for window.session.t in range(118, 121):  # type: ignore[attr-defined]
        window.draw()


def failed_network(window: LiveWindow) -> None:
    recording(window)
    window.session.live_error = f"RuntimeError: {LONG}"  # type: ignore[attr-defined]


def failed_camera(window: LiveWindow) -> None:
    recording(window)
    window.session.light_on = False  # type: ignore[attr-defined]
    window.session.error = f"{LONG}\n  where: /data/{'very_long_name_' * 6}\n  what to do: {LONG}"  # type: ignore[attr-defined]


def finished(window: LiveWindow) -> None:
    recording(window)
    window.stop()


def two_colours(window: LiveWindow) -> None:
    recording(window)
    window.controls.merge.setChecked(True)
    window.controls.wanted["Wide field | SR"].setChecked(True)


STATES: dict[str, Callable[[LiveWindow], None]] = {
    "idle": lambda window: None,
    "recording": recording,
    "two_colours": two_colours,
    "failed_network": failed_network,
    "failed_camera": failed_camera,
    "finished": finished,
}


def opened(state: str, sim: bool = False) -> LiveWindow:
    application()
    session = FakeSession(calibrated=state != "finished", sim=SIM if sim else None)
    window = LiveWindow(session)
    for timer in (window._draw_timer, window._count_timer):
        timer.stop()
    window.show()
    STATES[state](window)
    window.draw()
    window.count()
    return window


@pytest.fixture(params=[False, True], ids=["four images", "with SIM"])
def sim(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield request.param


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_cut_and_nothing_overlaps(state: str, sim: bool) -> None:
    look(state, sim, SIZES)


def look(state: str, sim: bool, sizes: list[tuple[int, int]]) -> None:
    window = opened(state, sim)
    folder = os.environ.get("TISR_SCREENSHOTS")
    wrong: list[str] = []
    for width, height in sizes:
        window.resize(width, height)
        for tab in range(window.tabs.count()):
            window.tabs.setCurrentIndex(tab)
            for _ in range(3):
                application().processEvents()
            assert (window.width(), window.height()) == (width, height), "it does not fit"
            wrong += [f"{width} x {height}, tab {tab}: {fault}" for fault in faults(window)]
            for panel in window.panels:
                assert panel.canvas.filled() >= 0.8
            if folder and tab in (0, 1):
                kind = "sim" if sim else "four"
                ratio = f"_x{window.devicePixelRatioF():g}"
                window.save_picture(
                    Path(folder) / f"{state}_{kind}_{width}x{height}{ratio}_{tab}.png"
                )
        window.tabs.setCurrentIndex(0)
    dispose(window)
    assert not wrong, "\n".join(wrong)


def test_on_a_screen_of_twice_the_density() -> None:
    code = """
from test_preview_geometry import STATES, application, look
application()
for state in STATES:
    look(state, True, [(1024, 768), (1600, 900)])
from qtpy.QtGui import QGuiApplication
assert QGuiApplication.primaryScreen().devicePixelRatio() == 2
"""
    folder = Path(__file__).parent
    environment = os.environ | {
        "QT_SCALE_FACTOR": "2",
        "PYTHONPATH": os.pathsep.join([str(folder), str(folder.parent)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
