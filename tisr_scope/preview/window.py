"""The live window: camera image, super-resolution, confidence and their overlay, side by side.

The window only looks: it polls a session for its newest images at up to 30 frames/s and for its
counters a few times a second, in the GUI thread.  Closing it stops the run cleanly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from typing_extensions import override

from tisr_scope.errors import DisplayError, TisrScopeError
from tisr_scope.inference.result_arrays import Grid
from tisr_scope.live.live_audit import AuditStatus
from tisr_scope.live.run_live import SessionStatus
from tisr_scope.live.sim_comparison import SimImage, SimStatus
from tisr_scope.live.stream import LiveResult
from tisr_scope.preview import colour
from tisr_scope.preview.controls import Controls
from tisr_scope.preview.panels import ImagePanel
from tisr_scope.preview.readings import Readings
from tisr_scope.preview.sim_card import SimCard
from tisr_scope.preview.style import STYLE
from tisr_scope.preview.widgets import Pill, restyle

DRAW_MS = 40
COUNT_MS = 250


class Session(Protocol):
    """What the window needs of a live run (:class:`tisr_scope.live.run_live.LiveSession`)."""

    @property
    def name(self) -> str:
        """Name of the profile."""

    @property
    def out(self) -> Path:
        """Folder of the run."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names."""

    def grid(self, channel: int) -> Grid:
        """Sizes of the super-resolved images."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Ask for a clean stop."""

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it has been reached."""

    def again(self) -> Session:
        """A new run of the same kind, in a new folder."""

    def status(self) -> SessionStatus:
        """Counters."""

    def take(self, channel: int, position: int = 0) -> LiveResult | None:
        """Newest result not looked at yet."""

    def newest_widefield(
        self, channel: int, position: int = 0
    ) -> tuple[int, Float[np.ndarray, "y x"]] | None:
        """Newest camera image and its time point."""

    def audit_status(self, channel: int) -> AuditStatus | None:
        """How much of what is shown is true; None where no patterns are exposed."""

    def calibration_of(self, channel: int) -> str:
        """Say "calibrated", or why not."""

    def take_sim(self) -> SimImage | None:
        """Newest conventional SIM image of the first channel not looked at yet."""

    def sim_status(self) -> SimStatus | None:
        """State of the conventional SIM; None where no patterns are exposed."""


_STATES = {
    "ready": ("ready", "plain"),
    "preparing": ("getting ready", "plain"),
    "recording": ("recording", "bad"),
    "finishing": ("finishing", "plain"),
    "done": ("light off, saved", "good"),
    "failed": ("stopped by an error", "bad"),
}

_RUNNING = {"preparing", "recording", "finishing"}


class LiveWindow(QWidget):
    """Shows one session, and starts further ones.

    Parameters
    ----------
    session : Session
        Checked and ready to start.
    autostart : bool
        Start with the window.
    on_done : callable, optional
        Called once when a run has ended.
    """

    def __init__(
        self,
        session: Session,
        *,
        autostart: bool = True,
        on_done: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.session = session
        self._on_done = on_done
        self._channel = 0
        self._frame_shown = -1
        self._widefield: Float[np.ndarray, "y x"] | None = None
        self._result: LiveResult | None = None
        self._sim_image: SimImage | None = None
        self._limits: dict[str, tuple[float, float]] = {}
        self._started = False
        self._ended = False
        self._problem: str | None = None
        self._stopping = False
        self.setWindowTitle(f"tisr scope – {session.name}")
        self.setObjectName("root")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setStyleSheet(STYLE)
        self.resize(1600, 900)
        self._build()
        self._draw_timer = QTimer(self, interval=DRAW_MS)
        self._draw_timer.timeout.connect(self.draw)
        self._count_timer = QTimer(self, interval=COUNT_MS)
        self._count_timer.timeout.connect(self.count)
        self._draw_timer.start()
        self._count_timer.start()
        if autostart:
            self.start()
        self.count()

    def _build(self) -> None:
        grid = self.session.grid(0)
        field = (grid.shape[0] * grid.pixel_size_um, grid.shape[1] * grid.pixel_size_um)
        self.camera = ImagePanel("Camera", field)
        self.sr = ImagePanel("Super-resolution", field)
        self.confidence = ImagePanel("Confidence", field)
        self.overlay = ImagePanel("Overlay", field)
        self.panels = [self.camera, self.sr, self.confidence, self.overlay]
        self.sim: ImagePanel | None = None
        if self.session.sim_status() is not None:
            self.sim = ImagePanel("Conventional SIM", field)
            self.panels.insert(1, self.sim)
        for panel in self.panels[1:]:
            panel.link(self.camera)
        bar = colour.unpack(colour.confidence_table()[None, :])
        self.confidence.add_colour_bar(bar, "0", "1")
        self.controls = Controls(self.session.channels)
        self.readings = Readings()
        self.controls.start.connect(self.start)
        self.controls.stop.connect(self.stop)
        self.controls.channel_changed.connect(self.show_channel)
        self.controls.contrast_changed.connect(self.set_contrast)
        self.controls.overlay_changed.connect(self.redraw)
        self.controls.fit.connect(self.show_everything)
        self.controls.setFixedWidth(262)
        self.readings.setFixedWidth(318)

        images = QGridLayout()
        images.setSpacing(8)
        across = 2 if self.sim is None else 3
        for place, panel in enumerate(self.panels):
            images.addWidget(panel, place // across, place % across)
        self.sim_card = SimCard()
        if self.sim is not None:
            images.addWidget(self.sim_card, 1, 2)
        for column in range(across):
            images.setColumnStretch(column, 1)
        columns = QHBoxLayout()
        columns.setSpacing(14)
        columns.addWidget(self.controls)
        columns.addLayout(images, 1)
        columns.addWidget(self.readings)
        self.message = QLabel("")
        self.message.setObjectName("message")
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(18, 14, 18, 10)
        whole.setSpacing(10)
        whole.addLayout(self._header())
        whole.addLayout(columns, 1)
        whole.addWidget(self.message)
        self.readings.show_steps(int(self.controls.steps.value))

    def _header(self) -> QHBoxLayout:
        header = QHBoxLayout()
        title = QLabel("tisr scope")
        title.setObjectName("title")
        self.subtitle = QLabel(self.session.name.replace("_", " "))
        self.subtitle.setObjectName("subtitle")
        self.state = Pill("ready")
        header.addWidget(title)
        header.addSpacing(12)
        header.addWidget(self.subtitle, 1, Qt.AlignmentFlag.AlignBottom)
        header.addWidget(self.state)
        return header

    # ------------------------------------------------------------------------ start, stop, close

    def start(self) -> None:
        """Start the session, or another one of its kind."""
        try:
            if self._started:
                self.session = self.session.again()
                self._forget()
            self._started, self._ended, self._stopping = True, False, False
            self.session.start()
        except TisrScopeError as error:
            self._ended = True
            self._say(str(error), "error")
        self.count()

    def stop(self) -> None:
        """Ask for a clean stop."""
        if self._running:
            self.session.stop()
            self._stopping = True
            self.controls.show_running(running=True, stopping=True)
            self._say("stopping: the light goes off after this exposure")

    @property
    def _running(self) -> bool:
        return self._started and self.session.status().phase in _RUNNING

    @override
    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop cleanly and wait for it: light off, files closed."""
        self._draw_timer.stop()
        self._count_timer.stop()
        if self._started:
            self.session.stop()
            self._say("closing: light off, saving the last frames")
            while not self.session.join(0.05):
                QApplication.processEvents()
        event.accept()

    # ------------------------------------------------------------------------------ what is shown

    def _forget(self) -> None:
        self._frame_shown = -1
        self._widefield = self._result = self._sim_image = None
        self._limits = {}
        self._problem = None
        self.readings.clear_signal()
        for panel in self.panels:
            panel.clear()

    def show_channel(self, channel: int) -> None:
        """Look at another channel."""
        self._channel = channel
        self._forget()
        self.count()

    def show_everything(self) -> None:
        """Zoom out."""
        self.camera.show_everything()

    def set_contrast(self) -> None:
        """Fix the contrast from the frames shown now."""
        self._limits = {}
        self.redraw()

    def _contrast(self, name: str, image: Float[np.ndarray, "y x"]) -> tuple[float, float]:
        if name not in self._limits:
            low, high = self.controls.low.value, self.controls.high.value
            self._limits[name] = colour.contrast_limits(image, low, high)
        return self._limits[name]

    def draw(self) -> None:
        """Show what is new."""
        newest = self.session.newest_widefield(self._channel)
        if newest is not None and newest[0] != self._frame_shown:
            self._frame_shown, self._widefield = newest
            self._draw_camera()
            self._draw_signal()
        result = self.session.take(self._channel)
        if result is not None:
            self._result = result
            self._draw_result()
        if self.sim is not None and self._channel == 0:
            image = self.session.take_sim()
            if image is not None:
                self._sim_image = image
                self._draw_sim()

    def redraw(self) -> None:
        """Draw everything again, after a control has changed."""
        self.readings.show_steps(int(self.controls.steps.value))
        self._draw_camera()
        self._draw_sim()
        self._draw_result()

    def _draw_sim(self) -> None:
        if self._sim_image is None or self.sim is None:
            return
        # Its limits stay too, so that it flickers no more than the others; noise goes below 0.
        low, high = self._contrast("sim", self._sim_image.image)
        self.sim.show_image(colour.intensity_rgba(self._sim_image.image, max(low, 0.0), high))
        self.sim.set_note(f"frame {self._sim_image.time_index + 1}")

    def _draw_camera(self) -> None:
        if self._widefield is None:
            return
        low, high = self._contrast("camera", self._widefield)
        self.camera.show_image(colour.intensity_rgba(self._widefield, low, high))
        self.camera.set_note(f"frame {self._frame_shown + 1}")

    def _draw_signal(self) -> None:
        if self._widefield is not None:
            self.readings.add_signal(float(self._widefield.mean()))

    def _draw_result(self) -> None:
        if self._result is None:
            return
        prediction = self._result.prediction
        mean, confidence = prediction.mean, prediction.confidence
        low, high = self._contrast("sr", mean)
        steps = int(self.controls.steps.value)
        self.sr.show_image(colour.intensity_rgba(mean, low, high))
        self.confidence.show_image(colour.confidence_rgba(confidence))
        if self.controls.mask.isChecked():
            limit = self.controls.threshold.value
            self.overlay.show_image(colour.masked_rgba(mean, confidence, low, high, limit))
            hidden = float((confidence < limit).mean())
            self.overlay.set_note(f"{hidden:.1%} hidden")
        else:
            self.overlay.show_image(colour.overlay_rgba(mean, confidence, low, high, steps))
            self.overlay.set_note("brightness and confidence")
        self.sr.set_note(f"frame {prediction.time_index + 1}")
        self.confidence.set_note(
            f"mean {confidence.mean():.2f}" + ("" if prediction.calibrated else ", not calibrated")
        )

    def count(self) -> None:
        """Show counters, states and errors."""
        status = self.session.status()
        label = self.session.calibration_of(self._channel)
        self.readings.show_status(status, self._channel, label)
        self.readings.show_audit(self.session.audit_status(self._channel))
        self.state.show_state(*_STATES[status.phase])
        sim = self.session.sim_status()
        if sim is not None:
            recording = status.phase == "recording" and status.recorded < status.expected
            self.sim_card.show_status(sim, shown=self._channel == 0, running=recording)
        running = status.phase in _RUNNING
        self.controls.show_running(running, stopping=self._stopping or status.phase == "finishing")
        self._report(status)
        if status.phase in {"done", "failed"} and self._started and not self._ended:
            self._ended = True
            self.draw()
            if self._on_done is not None:
                self._on_done()

    def _report(self, status: SessionStatus) -> None:
        if status.error is not None:
            self._say(status.error, "error")
        elif status.live.error is not None:
            text = f"super-resolution has stopped, recording goes on: {status.live.error}"
            self._say(text, "warning")
        elif status.phase == "done":
            self._say(f"saved in {self.session.out}")
        elif status.phase == "recording" and self._problem is None and not self._stopping:
            self._say(f"saving to {self.session.out}")

    def _say(self, text: str, kind: str = "plain") -> None:
        self._problem = text if kind in {"error", "warning"} else None
        shown = " – ".join(line.strip() for line in text.splitlines())
        if shown != self.message.text():
            self.message.setText(shown)
            self.message.setToolTip(text)
        restyle(self.message, kind)

    def save_picture(self, path: Path) -> None:
        """Save what the window looks like.

        Raises
        ------
        DisplayError
            If the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self.grab().save(str(path)):
            raise DisplayError("the picture of the window cannot be written", where=str(path))
