"""Left column: start and stop, channel, contrast, overlay."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from tisr_scope.preview.widgets import Card


class NamedSlider(QWidget):
    """A slider with its name on the left and its value on the right.

    Parameters
    ----------
    name : str
        What it changes.
    low, high, value : float
        Range and start.
    step : float
        Smallest change.
    suffix : str
        Unit behind the value.
    """

    changed = Signal()

    def __init__(
        self, name: str, low: float, high: float, value: float, step: float, suffix: str = ""
    ) -> None:
        super().__init__()
        self._step, self._suffix = step, suffix
        self._label = QLabel()
        self._label.setObjectName("readingName")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(round(low / step), round(high / step))
        self.slider.setValue(round(value / step))
        title = QLabel(name)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(4)
        grid.addWidget(title, 0, 0)
        grid.addWidget(self._label, 0, 1, Qt.AlignmentFlag.AlignRight)
        grid.addWidget(self.slider, 1, 0, 1, 2)
        self.slider.valueChanged.connect(self._on_change)
        self._show()

    @property
    def value(self) -> float:
        """Present value."""
        return float(self.slider.value() * self._step)

    def set_value(self, value: float) -> None:
        """Move the slider."""
        self.slider.setValue(round(value / self._step))

    def _show(self) -> None:
        self._label.setText(f"{self.value:g}{self._suffix}")

    def _on_change(self) -> None:
        self._show()
        self.changed.emit()


class Controls(QWidget):
    """Everything that can be changed while looking.

    Parameters
    ----------
    channels : sequence of str
        Names to choose from.
    """

    start = Signal()
    stop = Signal()
    channel_changed = Signal(int)
    contrast_changed = Signal()
    overlay_changed = Signal()
    fit = Signal()

    def __init__(self, channels: Sequence[str]) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addWidget(self._run_card(channels))
        column.addWidget(self._contrast_card())
        column.addWidget(self._overlay_card())
        column.addStretch(1)
        hint = QLabel("Wheel zooms, dragging moves,\na double click shows the whole field.")
        hint.setObjectName("hint")
        column.addWidget(hint)

    def _run_card(self, channels: Sequence[str]) -> Card:
        card = Card("Recording")
        row = QHBoxLayout()
        self.start_button = QPushButton("Start")
        self.start_button.setObjectName("start")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setObjectName("stop")
        self.stop_button.setToolTip("Light off; everything that was exposed is kept")
        self.start_button.clicked.connect(self.start)
        self.stop_button.clicked.connect(self.stop)
        row.addWidget(self.start_button)
        row.addWidget(self.stop_button)
        card.body.addLayout(row)
        self.channel = QComboBox()
        self.channel.addItems(list(channels))
        self.channel.setToolTip("Channel that is shown; all of them are recorded")
        self.channel.currentIndexChanged.connect(self.channel_changed)
        card.body.addWidget(self.channel)
        return card

    def _contrast_card(self) -> Card:
        card = Card("Contrast")
        self.low = NamedSlider("Black at", 0, 60, 2, 0.5, " %")
        self.high = NamedSlider("White at", 95, 100, 99.8, 0.1, " %")
        for slider in (self.low, self.high):
            slider.setToolTip("Share of pixels that are darker")
            slider.changed.connect(self.contrast_changed)
            card.body.addWidget(slider)
        self.auto = QPushButton("Set from this frame")
        self.auto.setToolTip("Contrast stays fixed until you press here again")
        self.auto.clicked.connect(self.contrast_changed)
        card.body.addWidget(self.auto)
        return card

    def _overlay_card(self) -> Card:
        card = Card("Overlay")
        self.steps = NamedSlider("Colour steps", 4, 8, 5, 1)
        self.steps.changed.connect(self.overlay_changed)
        card.body.addWidget(self.steps)
        self.mask = QCheckBox("Hide the unsure parts")
        self.mask.setToolTip("Stripes where the confidence is below the limit")
        self.mask.toggled.connect(self.overlay_changed)
        card.body.addWidget(self.mask)
        self.threshold = NamedSlider("Hide below", 0, 1, 0.5, 0.05)
        self.threshold.setEnabled(False)
        self.threshold.changed.connect(self.overlay_changed)
        self.mask.toggled.connect(self.threshold.setEnabled)
        card.body.addWidget(self.threshold)
        fit = QPushButton("Show whole field")
        fit.clicked.connect(self.fit)
        card.body.addWidget(fit)
        return card

    def show_running(self, running: bool, stopping: bool = False) -> None:
        """Enable what makes sense now."""
        self.start_button.setEnabled(not running)
        self.stop_button.setEnabled(running and not stopping)
