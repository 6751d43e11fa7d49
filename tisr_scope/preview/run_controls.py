"""Record and stop, and what the light will be: limits are shown as limits."""

from __future__ import annotations

import shutil
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from tisr_scope.preview.widgets import Card, Reading
from tisr_scope.profiles.schema import Profile
from tisr_scope.running_order.run_plan import RunPlan


class RunControls(QWidget):
    """State of the run and the buttons that change it."""

    start = Signal()
    stop = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("column")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self._run_card())
        self._light = Card("Light")
        self._light.hide()
        column.addWidget(self._light)
        column.addWidget(self._disk_card())
        column.addStretch(1)

    def _run_card(self) -> Card:
        card = Card("Experiment")
        row = QHBoxLayout()
        self.start_button = QPushButton("Record")
        self.start_button.setObjectName("start")
        self.start_button.setToolTip("Light on: begin to record (R)")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setObjectName("stop")
        self.stop_button.setToolTip("Light off; everything that was exposed is kept (Esc)")
        self.start_button.clicked.connect(self.start)
        self.stop_button.clicked.connect(self.stop)
        row.addWidget(self.start_button)
        row.addWidget(self.stop_button)
        card.body.addLayout(row)
        self.says = QLabel("")
        self.says.setObjectName("hint")
        self.says.setWordWrap(True)
        card.body.addWidget(self.says)
        points = QHBoxLayout()
        points.addWidget(QLabel("Time points"))
        self.time_points = QSpinBox()
        self.time_points.setRange(1, 10_000_000)
        self.time_points.setToolTip("Of the next run")
        points.addWidget(self.time_points)
        self._points = QWidget()
        self._points.setLayout(points)
        points.setContentsMargins(0, 0, 0, 0)
        card.body.addWidget(self._points)
        self._points.hide()
        return card

    def _disk_card(self) -> Card:
        card = Card("Folder")
        self.folder = QLabel("")
        self.folder.setWordWrap(True)
        card.body.addWidget(self.folder)
        self.disk = Reading("Free on this disk")
        card.body.addWidget(self.disk)
        return card

    def show_plan(self, profile: Profile, time_points: int | None) -> None:
        """Show exposure and light of a profile, each with its limit."""
        if time_points is not None:
            self._points.show()
            self.time_points.setValue(time_points)
        plan = profile.timelapse
        if plan is None:
            return
        order = RunPlan(profile, "timelapse")
        exposures = order.exposures_per_time_point
        text = f"{plan.exposure_ms:g} ms, {exposures} exposures a time point"
        self._light.body.addWidget(QLabel(text if exposures > 1 else f"{plan.exposure_ms:g} ms"))
        for channel in profile.channels:
            limit = channel.laser.hard_limit_mw
            name = f"{channel.name}: at most {limit:g} mW"
            reading = Reading(name)
            reading.show_value(
                f"{channel.timelapse_mw:g} mW", f"{channel.laser.device}; never above {limit:g} mW"
            )
            self._light.body.addWidget(reading)
        if profile.light_dose_limit_mj is not None:
            reading = Reading("Dose limit of a run, per position")
            reading.show_value(f"{profile.light_dose_limit_mj:g} mJ")
            self._light.body.addWidget(reading)
        self._light.show()

    def show_folder(self, folder: Path) -> None:
        """Show where the frames go, and how much fits there."""
        # A break is allowed behind every separator; a long name has none of its own.
        self.folder.setText(str(folder).replace("/", "/\u200b").replace("_", "_\u200b"))
        self.folder.setToolTip(str(folder))
        there = next((p for p in (folder, *folder.absolute().parents) if p.exists()), None)
        if there is not None:
            self.disk.show_value(f"{shutil.disk_usage(there).free / 1e9:.0f} GB")

    def show_running(self, running: bool, *, stopping: bool, says: str) -> None:
        """Enable what makes sense now."""
        self.start_button.setEnabled(not running)
        self.stop_button.setEnabled(running and not stopping)
        self._points.setEnabled(not running)
        if says != self.says.text():
            self.says.setText(says)
