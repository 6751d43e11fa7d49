"""The live window in a process of its own: ``python -m`` this module.

Its end, whatever it is, is nothing to the recording.  Closing it says so before it goes; one that
crashed is opened again and looks at the same run.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

from tisr_scope.cancel import cancellable
from tisr_scope.child_process import ENDED, Child, Message, Parent, error_message, error_of
from tisr_scope.errors import DisplayError
from tisr_scope.live.remote_session import RemoteSession, SessionServer
from tisr_scope.live.session import LiveSession
from tisr_scope.preview.app import REMEDY, missing_display, show

MODULE = "tisr_scope.preview.window_process"
MOST_CRASHES = 25


def in_own_process(
    *, autostart: bool = False, close_when_done: bool = False, picture: Path | None = None
) -> Callable[[LiveSession], None]:
    """Make the ``display`` argument of :func:`tisr_scope.live.run_live.run_live`.

    The display is looked for now, before a model is loaded.

    Raises
    ------
    DisplayError
        If there is no display.
    """
    problem = missing_display()
    if problem is not None:
        raise DisplayError(problem, remedy=REMEDY)

    def display(session: LiveSession) -> None:
        window = WindowProcess(
            session, autostart=autostart, close_when_done=close_when_done, picture=picture
        )
        window.wait()

    return display


class WindowProcess:
    """A window that is opened again when it crashes, as long as the run goes on.

    Parameters
    ----------
    session : LiveSession
        Ready to start.
    autostart, close_when_done, picture
        As for :func:`tisr_scope.preview.app.show`.
    """

    def __init__(
        self,
        session: LiveSession,
        *,
        autostart: bool = False,
        close_when_done: bool = False,
        picture: Path | None = None,
    ) -> None:
        self.crashes = 0
        self.server = SessionServer(session)
        self._job = {
            "card": str(self.server.card),
            "autostart": autostart,
            "close_when_done": close_when_done,
            "picture": None if picture is None else str(picture.absolute()),
        }
        self._closed = False
        self._problem: Message | None = None
        self._child = self._open()

    @property
    def process_id(self) -> int:
        """Of the window there is now."""
        return self._child.process.pid

    def wait(self) -> None:
        """Until the window is closed; the run has then ended.

        Raises
        ------
        DisplayError
            If no window can be drawn.
        """
        with cancellable() as cancel:
            while not self._closed and self._problem is None:
                self._child.process.poll()
                if cancel.wait(0.05):
                    self.server.session.stop()
                    self._child.close(10.0)
                    break
                if not self._child.alive and not self._reopened():
                    break
        self.server.session.stop()
        self.server.session.join()
        self.server.close()
        self._child.close(10.0)
        if self._problem is not None:
            raise error_of(self._problem)

    def _reopened(self) -> bool:
        """After a crash: another window, as long as there is something to look at."""
        threading.Event().wait(0.2)  # its last words
        if self._closed or self._problem is not None:
            return True
        running = self.server.session.status().phase not in ("done", "failed")
        if not running or self.crashes >= MOST_CRASHES:
            return False
        self.crashes += 1
        self._child = self._open()
        return True

    def _open(self) -> Child:
        child = Child(MODULE, self._hear)
        child.say(**self._job)
        return child

    def _hear(self, message: Message) -> None:
        if "closed" in message:
            self._closed = True
        elif "error" in message:
            self._problem = message["error"]


def main() -> None:
    """Entry point of the process."""
    jobs: list[Message] = []
    arrived = threading.Event()

    def obey(message: Message) -> None:
        jobs.append(message)
        arrived.set()
        if message == ENDED:
            signal.raise_signal(signal.SIGTERM)  # the window closes as for any signal

    parent = Parent(obey)
    arrived.wait()
    job = jobs[0]
    if job == ENDED:
        return
    picture = job["picture"]
    try:
        with cancellable():
            session = RemoteSession(Path(job["card"]))
            running = session.status().phase != "ready"  # opened again after a crash
            show(
                session,
                autostart=bool(job["autostart"]) or running,
                close_when_done=bool(job["close_when_done"]),
                picture=None if picture is None else Path(picture),
            )
    except Exception as error:
        parent.say(error=error_message(error))
        return
    parent.say(closed=True)


if __name__ == "__main__":
    main()
