"""Opening the window, or saying why there is none."""

from __future__ import annotations

import gc
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tisr_scope.cancel import signalled
from tisr_scope.errors import DisplayError

if TYPE_CHECKING:
    from qtpy.QtWidgets import QApplication, QWidget

    from tisr_scope.preview.experiment import Experiment
    from tisr_scope.preview.main_window import MainWindow

REMEDY = "run without a window: add --headless"
SOUND_QT = "'PySide6-Essentials!=6.12.0'"
_PROBES = 200


def missing_display() -> str | None:
    """Say why no window can be drawn; None where one can.

    Qt ends the process when its display is gone, so the display is tried first.
    """
    if not sys.platform.startswith("linux"):
        return None
    if os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0] in {"offscreen", "minimal", "vnc"}:
        return None
    if os.environ.get("WAYLAND_DISPLAY"):
        return None
    name = os.environ.get("DISPLAY", "")
    if not name:
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    found = re.fullmatch(r"(?:unix)?([^:/]*):(\d+)(?:\.\d+)?", name)
    if found and not _answers(found[1], int(found[2])):
        return f"the display {name} does not answer"
    return None


def _answers(host: str, number: int) -> bool:
    """Whether an X server listens there."""
    if host:
        try:
            socket.create_connection((host, 6000 + number), timeout=2).close()
        except OSError:
            return False
        return True
    for address in (f"/tmp/.X11-unix/X{number}", f"\0/tmp/.X11-unix/X{number}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(address)
            except OSError:
                continue
            return True
    return False


def unsound_qt() -> str | None:
    """Say why this build of Qt for Python must not run a window; None where it may.

    PySide6 6.12.0 with Python 3.11 gives back one reference too many of every ``None``, so that the
    process aborts after about a thousand redraws.  The references are counted here, so that another
    build with this fault is found too.
    """
    from qtpy import API_NAME, QT_VERSION
    from qtpy.QtCore import QObject

    probe = QObject()
    before = sys.getrefcount(None)
    for _ in range(_PROBES):
        probe.setObjectName("probe")
    lost = before - sys.getrefcount(None)
    if lost < _PROBES // 2:
        return None
    python = ".".join(map(str, sys.version_info[:2]))
    return (
        f"{API_NAME} {QT_VERSION} with Python {python} loses references to None: it would abort "
        "after some minutes, and the recording with it"
    )


def application() -> QApplication:
    """The Qt application of this process.

    Raises
    ------
    DisplayError
        If Qt is not installed or there is no display.
    """
    problem = missing_display()
    if problem is not None:
        raise DisplayError(problem, remedy=REMEDY)
    try:
        import pyqtgraph  # noqa: F401
        from qtpy.QtWidgets import QApplication
    except ImportError as error:
        raise DisplayError(
            f"the window needs a package that is not installed: {error}",
            remedy=f"pip install 'tisr-scope[gui]', or {REMEDY}",
        ) from error
    problem = unsound_qt()
    if problem is not None:
        raise DisplayError(
            problem,
            remedy=f"pip install --upgrade {SOUND_QT}, or {REMEDY}",
        )
    running = QApplication.instance()
    if isinstance(running, QApplication):
        return running
    app = QApplication(["tisr"])
    app.setStyle("Fusion")
    return app


def dispose(window: QWidget) -> None:
    """Close a window and destroy it at once, in the thread of the windows.

    Left to the garbage collector, it would be destroyed by whichever thread happens to collect,
    and Qt ends the whole process for that: with it, a recording that is still being written.
    """
    from qtpy.QtCore import QCoreApplication, QEvent

    window.close()
    window.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()


@contextmanager
def collecting_here() -> Iterator[Callable[[], None]]:
    """Let no other thread collect garbage; give the function that does it in this one.

    As long as there is a window, reference cycles may hold parts of it (see :func:`dispose`).
    """
    automatic = gc.isenabled()

    def collect() -> None:
        waiting, limits = gc.get_count(), gc.get_threshold()
        for generation in (2, 1, 0):
            if waiting[generation] > limits[generation]:
                gc.collect(generation)
                break

    gc.disable()
    try:
        yield collect
    finally:
        if automatic:
            gc.enable()


def run_window(window: MainWindow, collect: Callable[[], None]) -> None:
    """Show a window until it is closed, by hand or by a signal, then destroy it."""
    from qtpy.QtCore import QTimer

    app = application()

    def beat() -> None:
        collect()
        if signalled():
            heartbeat.stop()
            window.close()

    # Also lets Python see signals: Qt's event loop alone never returns to the interpreter.
    heartbeat = QTimer(interval=200)
    heartbeat.timeout.connect(beat)
    heartbeat.start()
    with when_display_vanishes(window.abandon):
        window.show()
        app.exec()
    heartbeat.stop()
    dispose(window)


@contextmanager
def when_display_vanishes(act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` when the display is gone, just before Qt ends the process.

    Qt then calls the C library's ``exit`` from inside its event loop: no exception is raised, and
    nothing of Python's own is run.  Its last words are the only warning there is.
    """
    from qtpy.QtCore import qInstallMessageHandler

    def hear(_kind: object, _context: object, text: str) -> None:
        sys.stderr.write(text + "\n")
        if "connection broke" in text:
            act()

    before = qInstallMessageHandler(hear)
    try:
        yield
    finally:
        qInstallMessageHandler(before)


def show(
    session: Experiment,
    *,
    autostart: bool = False,
    close_when_done: bool = False,
    picture: Path | None = None,
) -> None:
    """Run an experiment in the live window; returns when the window is closed.

    Parameters
    ----------
    session : Experiment
        Checked and ready to start.
    autostart : bool
        Begin at once; else the light stays off until somebody presses Record.
    close_when_done : bool
        Close the window when the run has ended; else it stays open with the last images.
    picture : path, optional
        Save what the window looks like when the run has ended.

    Raises
    ------
    DisplayError
        If there is no display, or the picture cannot be written.
    """
    from qtpy.QtCore import QTimer

    application()
    from tisr_scope.preview.window import LiveWindow

    failed: list[DisplayError] = []

    def ended() -> None:
        try:
            if picture is not None:
                window.save_picture(picture)
        except DisplayError as error:
            failed.append(error)
        if close_when_done:
            window.close()

    with collecting_here() as collect:
        window = LiveWindow(
            session, autostart=autostart, on_done=lambda: QTimer.singleShot(300, ended)
        )
        run_window(window, collect)
    if failed:
        raise failed[0]


def showing(
    *,
    autostart: bool = False,
    close_when_done: bool = False,
    picture: Path | None = None,
) -> Callable[[Experiment], None]:
    """Make the ``display`` argument of :func:`tisr_scope.live.run_live.run_live`.

    The display is looked for now, before a model is loaded.

    Raises
    ------
    DisplayError
        If there is no display.
    """
    application()
    return lambda session: show(
        session,
        autostart=autostart,
        close_when_done=close_when_done,
        picture=picture,
    )
