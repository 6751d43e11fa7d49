"""The live window: an experiment is started, watched and ended here.

It opens dark: nothing is exposed because a window is there.  It polls the experiment for its newest
images at up to 25 a second and for its counters four times a second, in the thread of the windows.
Closing it ends the run cleanly.
"""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QMessageBox
from typing_extensions import override

from tisr_scope.errors import TisrScopeError
from tisr_scope.live.live_records import SessionStatus
from tisr_scope.preview.experiment import Experiment
from tisr_scope.preview.follower import Follower
from tisr_scope.preview.main_window import MainWindow, scrolled
from tisr_scope.preview.readings import Readings
from tisr_scope.preview.run_controls import RunControls
from tisr_scope.preview.sim_card import SimCard
from tisr_scope.preview.viewer import CONFIDENCE, OVERLAY, SIM, SR, WIDEFIELD
from tisr_scope.profiles.schema import Profile

DRAW_MS = 40
COUNT_MS = 250

_STATES = {
    "ready": ("dark, ready", "plain", "The light is off until you press Record."),
    "preparing": ("getting ready", "plain", "The network is warming up; the light is still off."),
    "recording": ("recording", "bad", "The light is on."),
    "finishing": ("finishing", "plain", "The light is off; the last images are being made."),
    "done": ("light off, saved", "good", "The light is off. Record again, or close."),
    "failed": ("stopped by an error", "bad", "The light is off."),
}
_RUNNING = {"preparing", "recording", "finishing"}


class LiveWindow(MainWindow):
    """Runs one experiment, and further ones of its kind.

    Parameters
    ----------
    session : Experiment
        Checked and ready to start.
    autostart : bool
        Start with the window: the light goes on by itself.
    on_done : callable, optional
        Called once when a run has ended.
    """

    def __init__(
        self,
        session: Experiment,
        *,
        autostart: bool = False,
        on_done: Callable[[], None] | None = None,
    ) -> None:
        self.session = session
        self.readings = Readings()
        super().__init__(session, sim=session.sim_status() is not None, numbers=self.readings)
        self._on_done = on_done
        self._follower = Follower(session)
        self._started = self._ended = self._stopping = False
        self._problem = False
        panels = self.viewer.panels
        self.camera, self.sr = panels[WIDEFIELD], panels[SR]
        self.confidence, self.overlay = panels[CONFIDENCE], panels[OVERLAY]
        self.sim = panels.get(SIM)
        self.run_controls = RunControls()
        self.tabs.insertTab(0, scrolled(self.run_controls), "Run")
        self.tabs.setCurrentIndex(0)
        self.run_controls.start.connect(self.start)
        self.run_controls.stop.connect(self.stop)
        self.sim_card = SimCard()
        self.sim_card.setVisible(self.sim is not None)
        self.readings.column.insertWidget(3, self.sim_card)
        self.readings.show_steps(self.display.steps)
        self._plan()
        self._actions()
        self._draw_timer = QTimer(self, interval=DRAW_MS)
        self._draw_timer.timeout.connect(self.draw)
        self._count_timer = QTimer(self, interval=COUNT_MS)
        self._count_timer.timeout.connect(self.count)
        self._draw_timer.start()
        self._count_timer.start()
        if autostart:
            self.start()
        self.count()

    def _plan(self) -> None:
        profile = getattr(self.session, "profile", None)
        if isinstance(profile, Profile):
            self.readings.dose_limit_mj = profile.light_dose_limit_mj
            self.run_controls.show_plan(profile, getattr(self.session, "time_points", None))
        self.run_controls.show_folder(self.session.out)

    def _actions(self) -> None:
        first = self.file_menu.actions()[0] if self.file_menu.actions() else None
        for text, keys, call in (("Record", "R", self.start), ("Stop", "Esc", self.stop)):
            entry = self.action(self.file_menu, text, keys, call)
            if first is not None:
                self.file_menu.insertAction(first, entry)
        self.newest = self.action(
            self.view_menu, "Newest image of each, not the same time point", "N", self.draw_again
        )
        self.newest.setCheckable(True)
        self.action(self.file_menu, "Quit", "Ctrl+Q", self.quit)

    # ------------------------------------------------------------------------ start, stop, close

    def start(self) -> None:
        """Start the experiment, or another one of its kind."""
        if self._running:
            return
        try:
            if self._started:
                self._again()
            self._started, self._ended, self._stopping = True, False, False
            self.session.start()
        except TisrScopeError as error:
            self._ended = True
            self.say(str(error), "error")
        self.count()

    def _again(self) -> None:
        if self.run_controls.time_points.isVisibleTo(self.run_controls):
            # The next run is made from this one.
            self.session.time_points = self.run_controls.time_points.value()  # type: ignore[attr-defined]
        self.session = self.session.again()
        self._follower = Follower(self.session)
        self._problem = False
        self.display.contrasts.forget()
        self.viewer.clear()
        self.run_controls.show_folder(self.session.out)

    def stop(self) -> None:
        """Ask for a clean stop."""
        if self._running:
            self.session.stop()
            self._stopping = True
            self.say("stopping: the light goes off after this exposure")
            self.count()

    @property
    def _running(self) -> bool:
        return self._started and self.session.status().phase in _RUNNING

    def quit(self) -> None:
        """Close, after a question while the experiment runs."""
        if not self._running or self.confirm_end():
            self.close()

    def confirm_end(self) -> bool:
        """Ask whether a running experiment may be ended."""
        answer = QMessageBox.question(
            self,
            "The experiment is running",
            "Stop it and close the window? The light goes off, and everything that was exposed "
            "is kept.",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No,
            QMessageBox.StandardButton.No,
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    @override
    def abandon(self) -> None:
        """The display has vanished: light off, and wait until everything is on disk."""
        if self._started:
            self.session.stop()
            self.session.join(60)

    @override
    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop cleanly and wait for it: light off, files closed.

        A person is asked first; a signal or the program itself is not.
        """
        if event.spontaneous() and self._running and not self.confirm_end():
            event.ignore()
            return
        self._draw_timer.stop()
        self._count_timer.stop()
        if self._started:
            self.session.stop()
            self.say("closing: light off, saving the last images")
            while not self.session.join(0.05):
                QApplication.processEvents()
        super().closeEvent(event)

    # ------------------------------------------------------------------------------ what is shown

    @override
    def show_channel(self, channel: int) -> None:
        """Look at another channel."""
        self.display.channel = channel
        self.viewer.clear()
        self.draw_again()
        self.show_contrast()
        self.count()

    def draw(self) -> None:
        """Show what is new."""
        status = self.session.status()
        fresh = self._follower.poll(status)
        self._grey(status)
        if fresh:
            self._show(status)

    def draw_again(self) -> None:
        """Show the same images, after something else was chosen."""
        self._show(self.session.status())

    def _show(self, status: SessionStatus) -> None:
        time_point = self._follower.time_point(
            self.display.channel, status, newest=self.newest.isChecked()
        )
        if time_point is None:
            return
        first = self.viewer.shown is None
        self.viewer.show_time_point(time_point)
        if first:
            self.show_contrast()

    def count(self) -> None:
        """Show counters, states and errors."""
        status = self.session.status()
        channel = self.display.channel
        self.readings.show_status(status, channel, self.session.calibration_of(channel))
        self.readings.show_audit(self.session.audit_status(channel))
        self.readings.show_steps(self.display.steps)
        self.readings.show_signal(self._follower.signals[channel])
        word, kind, says = _STATES[status.phase]
        self.state.show_state(word, kind)
        sim = self.session.sim_status()
        if sim is not None:
            recording = status.phase == "recording" and status.recorded < status.expected
            self.sim_card.show_status(sim, shown=channel == 0, running=recording)
        running = status.phase in _RUNNING
        stopping = running and (self._stopping or status.phase == "finishing")
        self.run_controls.show_running(running, stopping=stopping, says=says)
        self._report(status)
        if status.phase in {"done", "failed"} and self._started and not self._ended:
            self._ended = True
            self.draw()
            if self._on_done is not None:
                self._on_done()

    def _report(self, status: SessionStatus) -> None:
        self._grey(status)
        if status.error is not None:
            self._tell(status.error, "error")
        elif status.live.error is not None:
            self._tell(
                f"super-resolution has stopped, recording goes on: {status.live.error}", "warning"
            )
        elif status.phase == "done":
            self.say(f"saved in {self.session.out}")
        elif status.phase == "recording" and not self._problem and not self._stopping:
            self.say(f"saving to {self.session.out}")

    def _tell(self, text: str, kind: str) -> None:
        self._problem = True
        self.say(text, kind)

    def _grey(self, status: SessionStatus) -> None:
        """What the network made is greyed as soon as the network has failed."""
        stale = "" if status.live.error is None else "super-resolution has stopped"
        if stale != self.viewer.stale:
            self.viewer.stale = stale
            self.draw_again()
