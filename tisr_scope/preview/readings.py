"""Right column: progress, speed, light, and what the confidence is worth."""

from __future__ import annotations

from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from tisr_scope.confidence.calibration import CALIBRATED
from tisr_scope.live.live_audit import AuditStatus
from tisr_scope.live.run_live import SessionStatus
from tisr_scope.preview.colour import legend_rgba
from tisr_scope.preview.widgets import Card, Legend, Pill, Reading, Sparkline


def duration(seconds: float) -> str:
    """Seconds as "0:42" or "1:02:03"."""
    whole = max(round(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def dose(millijoule: float) -> str:
    """Light dose with a fitting unit."""
    if millijoule < 1:
        return f"{millijoule * 1e3:.0f} µJ"
    return f"{millijoule:.3g} mJ" if millijoule < 1000 else f"{millijoule / 1e3:.3g} J"


class Readings(QWidget):
    """Numbers of the run, in plain words."""

    def __init__(self) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addWidget(self._progress_card())
        column.addWidget(self._speed_card())
        column.addWidget(self._confidence_card())
        column.addWidget(self._signal_card())
        column.addStretch(1)

    def _progress_card(self) -> Card:
        card = Card("Progress")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        card.body.addWidget(self.progress)
        grid = QGridLayout()
        self.recorded = Reading("Recorded")
        self.remaining = Reading("Time left")
        self.dose = Reading("Light dose")
        self.elapsed = Reading("Running for")
        for place, reading in enumerate((self.recorded, self.remaining, self.dose, self.elapsed)):
            grid.addWidget(reading, place // 2, place % 2)
        grid.setVerticalSpacing(10)
        card.body.addLayout(grid)
        return card

    def _speed_card(self) -> Card:
        card = Card("Speed")
        grid = QGridLayout()
        self.camera = Reading("Camera")
        self.sr = Reading("Super-resolution")
        self.lag = Reading("Picture is behind by")
        self.skipped = Reading("Not shown live")
        for place, reading in enumerate((self.camera, self.sr, self.lag, self.skipped)):
            grid.addWidget(reading, place // 2, place % 2)
        grid.setVerticalSpacing(10)
        card.body.addLayout(grid)
        return card

    def _confidence_card(self) -> Card:
        card = Card("Confidence")
        self.calibration = Pill("waiting")
        card.body.addWidget(self.calibration)
        self.reason = QLabel("")
        self.reason.setObjectName("hint")
        self.reason.setWordWrap(True)
        card.body.addWidget(self.reason)
        self.legend = Legend()
        card.body.addWidget(self.legend)
        self.audit = Reading("True beyond the diffraction limit")
        card.body.addWidget(self.audit)
        self.audit_curve = Sparkline(top=1.1)
        self.audit_curve.setToolTip(
            "1: all detail that the network added is of the sample, 0: none. Measured with the "
            "patterned frames, of which the network sees only the mean."
        )
        card.body.addWidget(self.audit_curve)
        self._audited = 0
        return card

    def _signal_card(self) -> Card:
        card = Card("Signal")
        self.signal = Reading("Mean per pixel, and share of the start")
        card.body.addWidget(self.signal)
        self.signal_curve = Sparkline()
        self.signal_curve.setToolTip("falls when the dye bleaches")
        card.body.addWidget(self.signal_curve)
        self._first_signal: float | None = None
        return card

    def add_signal(self, electrons: float) -> None:
        """Append the mean of the newest camera image, in photo-electrons a pixel."""
        self._first_signal = self._first_signal or electrons
        self.signal_curve.add(electrons)
        change = 100 * electrons / self._first_signal if self._first_signal > 0 else 100.0
        text = f"{electrons:.1f} e⁻ · {change:.0f} %"
        self.signal.show_value(text)

    def clear_signal(self) -> None:
        """Begin a new curve."""
        self._first_signal = None
        self.signal_curve.clear()
        self.signal.show_value("–")

    def show_steps(self, steps: int) -> None:
        """Draw the legend of the overlay."""
        self.legend.show_legend(legend_rgba(steps))

    def show_status(self, status: SessionStatus, channel: int, label: str) -> None:
        """Show the counters of a run and one channel of it."""
        self.progress.setMaximum(max(status.expected, 1))
        self.progress.setValue(status.recorded)
        self.recorded.show_value(f"{status.recorded} of {status.expected}", "frames that are saved")
        remaining = status.remaining_s
        self.remaining.show_value("–" if remaining is None else duration(remaining))
        self.elapsed.show_value(duration(status.elapsed_s))
        self.dose.show_value(dose(status.dose_mj), "energy that has left the lasers")
        streams = [stream for stream in status.live.streams if stream.channel == channel]
        if not streams:
            return
        stream = streams[0]
        # Afterwards the last rates of the run stay: an idle camera is no slow camera.
        if status.phase == "recording" and status.recorded < status.expected:
            self.camera.show_value(f"{stream.camera_rate:.1f} /s", "time points per second")
            self.sr.show_value(f"{stream.sr_rate:.1f} /s", "super-resolved frames per second")
        self.lag.show_value(f"{stream.lag_s:.2f} s", f"{stream.lag_frames} frames")
        self.skipped.show_value(
            f"{stream.skipped} frames",
            "passed over because the network was busy; all of them are saved",
        )
        self._show_calibration(stream.calibrated, stream.warm_up_left, label)

    def show_audit(self, status: AuditStatus | None) -> None:
        """Show how much is true, and whether that alarms; nothing without patterns."""
        self.audit.setVisible(status is not None)
        self.audit_curve.setVisible(status is not None and bool(status.history))
        if status is None:
            return
        if status.correlation is None:
            self.audit.show_value("–", status.text)
        else:
            self.audit.show_value(
                f"{status.correlation:.2f} ± {1.96 * (status.standard_error or 0):.2f}",
                status.alarm or f"{status.audited} time points measured",
            )
        if status.audited < self._audited:
            self.audit_curve.clear()
            self._audited = 0
        new = status.audited - self._audited
        for _, correlation in status.history[-new:] if new else ():
            self.audit_curve.add(correlation)
        self._audited = status.audited

    def _show_calibration(self, calibrated: bool | None, left: int, label: str) -> None:
        if calibrated is None and label == CALIBRATED:
            text = f"measuring brightness: {left} frames to go" if left else "waiting"
            self.calibration.show_state(text, "plain")
            self.reason.setText("")
        elif calibrated:
            tip = "the confidence was tested on recordings like this one"
            self.calibration.show_state("calibrated", "good", tip)
            self.reason.setText("90 % sure means right nine times out of ten.")
        else:
            self.calibration.show_state("not calibrated", "warning", label)
            self.reason.setText(label)
