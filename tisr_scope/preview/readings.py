"""Numbers of the run in plain words: progress, speed, light, and what the confidence is worth.

One vocabulary: an *exposure* is one camera frame; a *time point* is all exposures that make one
wide-field image.
"""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from tisr_scope.live.live_records import AuditStatus, SessionStatus
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


def of_limit(millijoule: float, limit_mj: float | None) -> str:
    """Light dose, and the share of the limit that it is."""
    if limit_mj is None:
        return dose(millijoule)
    return f"{dose(millijoule)} · {100 * millijoule / limit_mj:.0f} %"


class Readings(QWidget):
    """Numbers of the run."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("column")
        self.dose_limit_mj: float | None = None
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(8)
        self.column.addWidget(self._progress_card())
        self.column.addWidget(self._speed_card())
        self.column.addWidget(self._confidence_card())
        self.column.addWidget(self._signal_card())
        self.column.addStretch(1)

    def _progress_card(self) -> Card:
        card = Card("Progress")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        card.body.addWidget(self.progress)
        self.recorded = Reading("Exposures recorded")
        self.dose = Reading("Light dose")
        self.remaining = Reading("Time left")
        self.elapsed = Reading("Running for")
        self._two_columns(card, (self.recorded, self.dose, self.remaining, self.elapsed))
        return card

    def _speed_card(self) -> Card:
        card = Card("Speed, in time points")
        self.camera = Reading("Camera")
        self.sr = Reading("Super-resolution")
        self.lag = Reading("Picture is behind by")
        self.skipped = Reading("Not shown live")
        self._two_columns(card, (self.camera, self.sr, self.lag, self.skipped))
        return card

    def _two_columns(self, card: Card, readings: Sequence[Reading]) -> None:
        grid = QGridLayout()
        for place, reading in enumerate(readings):
            grid.addWidget(reading, place // 2, place % 2)
        grid.setVerticalSpacing(7)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        card.body.addLayout(grid)

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
            "patterned exposures, of which the network sees only the mean."
        )
        card.body.addWidget(self.audit_curve)
        return card

    def _signal_card(self) -> Card:
        card = Card("Signal over the whole run")
        self.signal = Reading("Mean per pixel, and share of the start")
        card.body.addWidget(self.signal)
        self.signal_curve = Sparkline()
        self.signal_curve.setToolTip("Falls when the dye bleaches")
        card.body.addWidget(self.signal_curve)
        return card

    def show_signal(self, electrons: Sequence[float]) -> None:
        """Mean of every camera image so far, in photo-electrons per pixel."""
        self.signal_curve.show_values(electrons)
        if not electrons:
            self.signal.show_value("–")
            return
        first, last = electrons[0], electrons[-1]
        change = f" · {100 * last / first:.0f} %" if first > 0 else ""
        self.signal.show_value(f"{last:.1f} e⁻{change}")

    def show_steps(self, steps: int) -> None:
        """Draw the legend of the overlay."""
        self.legend.show_legend(legend_rgba(steps))

    def show_status(self, status: SessionStatus, channel: int, label: str) -> None:
        """Show the counters of a run and one channel of it."""
        self.progress.setMaximum(max(status.expected, 1))
        self.progress.setValue(status.recorded)
        tip = "camera frames that are saved, of those that are planned"
        self.recorded.show_value(f"{status.recorded} of {status.expected}", tip)
        remaining = status.remaining_s
        self.remaining.show_value("–" if remaining is None else duration(remaining))
        self.elapsed.show_value(duration(status.elapsed_s))
        tip = "energy that has left the lasers, at the position that got most"
        if self.dose_limit_mj is not None:
            tip += f"; the profile allows {dose(self.dose_limit_mj)}"
        self.dose.show_value(of_limit(status.dose_mj, self.dose_limit_mj), tip)
        streams = [stream for stream in status.live.streams if stream.channel == channel]
        if not streams:
            return
        stream = streams[0]
        # Afterwards the last rates of the run stay: an idle camera is no slow camera.
        if status.phase == "recording" and status.recorded < status.expected:
            self.camera.show_value(f"{stream.camera_rate:.1f} /s", "time points per second")
            self.sr.show_value(f"{stream.sr_rate:.1f} /s", "super-resolved time points per second")
        if stream.calibrated is not None:
            tip = f"{stream.lag_frames} time points have arrived since the one that is shown"
            self.lag.show_value(f"{stream.lag_s:.2f} s", tip)
        self.skipped.show_value(
            f"{stream.skipped}",
            "time points passed over because the network was busy; all of them are saved",
        )
        self._show_calibration(status, stream.calibrated, stream.warm_up_left, label)

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
        self.audit_curve.show_values([correlation for _, correlation in status.history])

    def _show_calibration(
        self, status: SessionStatus, calibrated: bool | None, left: int, label: str
    ) -> None:
        if status.live.error is not None:
            self.calibration.show_state("no longer computed", "bad")
            self.reason.setText("Super-resolution has stopped; grey pictures are the last ones.")
        elif calibrated is None:
            text = f"measuring brightness: {left} to go" if left else "waiting"
            self.calibration.show_state(text, "plain")
            self.reason.setText("")
        else:
            self.show_calibration(calibrated, label)

    def show_calibration(self, calibrated: bool, label: str) -> None:
        """Say what the confidence is worth."""
        if calibrated:
            tip = "the confidence was tested on recordings like this one"
            self.calibration.show_state("calibrated", "good", tip)
            self.reason.setText("90 % sure means right nine times out of ten.")
        else:
            self.calibration.show_state("not calibrated", "warning", label)
            self.reason.setText(label)
