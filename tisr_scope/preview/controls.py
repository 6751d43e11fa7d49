"""What is shown and how: channel, images, contrast, overlay."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from tisr_scope.preview.contrast import LUTS, Kind
from tisr_scope.preview.histogram import Histogram
from tisr_scope.preview.picture import Contrast
from tisr_scope.preview.widgets import Card

KINDS: dict[Kind, str] = {
    "widefield": "Wide field",
    "sr": "Super-resolution",
    "sim": "Conventional SIM",
}


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
        self._label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._label.setMinimumWidth(34)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(round(low / step), round(high / step))
        self.slider.setValue(round(value / step))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(QLabel(name))
        row.addWidget(self.slider, 1)
        row.addWidget(self._label)
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


class DisplayControls(QWidget):
    """Everything that can be changed while looking.

    Parameters
    ----------
    channels : sequence of str
        Names to choose from.
    panels : sequence of str
        Titles of the images, to be shown or not.
    """

    channel_changed = Signal(int)
    merge_changed = Signal(bool)
    panel_wanted = Signal(str, bool)
    contrast_edited = Signal()
    auto_asked = Signal()
    undo_asked = Signal()
    lock_changed = Signal(bool)
    kind_changed = Signal()
    overlay_changed = Signal()

    def __init__(self, channels: Sequence[str], panels: Sequence[tuple[str, bool]]) -> None:
        super().__init__()
        self.setObjectName("column")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self._images_card(channels, panels))
        column.addWidget(self._contrast_card())
        column.addWidget(self._overlay_card())
        column.addStretch(1)

    def _images_card(self, channels: Sequence[str], panels: Sequence[tuple[str, bool]]) -> Card:
        card = Card("Images")
        row = QHBoxLayout()
        self.channel = QComboBox()
        self.channel.addItems(list(channels))
        self.channel.setToolTip("Channel that is shown; all of them are recorded (C)")
        self.channel.currentIndexChanged.connect(self.channel_changed)
        self.merge = QCheckBox("Merge")
        self.merge.setToolTip("All channels in one image, each in its own colour (M)")
        self.merge.toggled.connect(self.merge_changed)
        self.merge.setVisible(len(channels) > 1)
        row.addWidget(self.channel, 1)
        row.addWidget(self.merge)
        card.body.addLayout(row)
        grid = QGridLayout()
        grid.setVerticalSpacing(4)
        self.wanted: dict[str, QCheckBox] = {}
        for place, (title, on) in enumerate(panels):
            box = QCheckBox(title.replace("Conventional SIM", "SIM"))
            box.setChecked(on)
            box.toggled.connect(lambda on, title=title: self.panel_wanted.emit(title, on))
            grid.addWidget(box, place // 2, place % 2)
            self.wanted[title] = box
        card.body.addLayout(grid)
        return card

    def _contrast_card(self) -> Card:
        card = Card("Contrast")
        row = QHBoxLayout()
        self.kind = QComboBox()
        for kind, name in KINDS.items():
            self.kind.addItem(name, kind)
        self.kind.currentIndexChanged.connect(lambda _: self.kind_changed.emit())
        self.lut = QComboBox()
        self.lut.addItems(list(LUTS))
        self.lut.setToolTip("Colour map")
        for chooser in (self.kind, self.lut):
            chooser.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            chooser.setMinimumContentsLength(6)
        row.addWidget(self.kind, 3)
        row.addWidget(self.lut, 2)
        card.body.addLayout(row)
        self.histogram = Histogram()
        card.body.addWidget(self.histogram)
        limits = QHBoxLayout()
        self.low, self.high = QDoubleSpinBox(), QDoubleSpinBox()
        for box, tip in ((self.low, "Black up to here"), (self.high, "White from here")):
            box.setRange(-1e6, 1e6)
            box.setDecimals(2)
            box.setKeyboardTracking(False)
            box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
            box.setToolTip(tip)
            box.setMinimumWidth(70)
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            box.valueChanged.connect(lambda _: self._edited())
            limits.addWidget(box)
        card.body.addLayout(limits)
        self.gamma = NamedSlider("Gamma", 0.2, 2.0, 1.0, 0.05)
        self.gamma.setToolTip("Below 1 lifts what is dim")
        card.body.addWidget(self.gamma)
        buttons = QHBoxLayout()
        self.auto = QPushButton("Auto")
        self.auto.setToolTip("Set black and white from this image; they then stay fixed (A)")
        self.undo = QPushButton("Undo")
        self.undo.setToolTip("Take the last change of contrast back (Ctrl+Z)")
        self.lock = QCheckBox("Lock")
        self.lock.setToolTip("Nothing automatic changes the contrast of this channel")
        for button in (self.auto, self.undo, self.lock):
            buttons.addWidget(button)
        card.body.addLayout(buttons)
        self.auto.clicked.connect(self.auto_asked)
        self.undo.clicked.connect(self.undo_asked)
        self.lock.toggled.connect(self.lock_changed)
        self.gamma.changed.connect(self._edited)
        self.lut.currentIndexChanged.connect(lambda _: self._edited())
        self.histogram.limits_dragged.connect(self._dragged)
        return card

    def _overlay_card(self) -> Card:
        card = Card("Overlay")
        self.steps = NamedSlider("Colour steps", 4, 8, 5, 1)
        self.steps.changed.connect(self.overlay_changed)
        card.body.addWidget(self.steps)
        self.mask = QCheckBox("Hide the unsure parts")
        self.mask.setToolTip("Stripes where the confidence is below the limit (H)")
        self.mask.toggled.connect(self.overlay_changed)
        card.body.addWidget(self.mask)
        self.threshold = NamedSlider("Hide below", 0, 100, 50, 5, " %")
        self.threshold.setEnabled(False)
        self.threshold.changed.connect(self.overlay_changed)
        self.mask.toggled.connect(self.threshold.setEnabled)
        card.body.addWidget(self.threshold)
        return card

    # -------------------------------------------------------------------------------- contrast

    @property
    def chosen_kind(self) -> Kind:
        """Kind of image whose contrast is edited."""
        kind: Kind = self.kind.currentData()
        return kind

    def contrast(self) -> Contrast:
        """Contrast as it stands in the controls."""
        return Contrast(
            self.low.value(), self.high.value(), self.gamma.value, self.lut.currentText()
        )

    def show_contrast(self, contrast: Contrast, locked: bool) -> None:
        """Put a contrast into the controls, without asking anybody to draw."""
        boxes = (self.low, self.high, self.gamma, self.lut, self.lock)
        for box in boxes:
            box.blockSignals(True)
        # Enough decimals for the normalised scale, no more than needed for electrons.
        decimals = 3 if abs(contrast.high) < 10 else 1
        for limit in (self.low, self.high):
            limit.setDecimals(decimals)
        self.low.setValue(contrast.low)
        self.high.setValue(contrast.high)
        self.gamma.set_value(contrast.gamma)
        self.lut.setCurrentText(contrast.lut)
        self.lock.setChecked(locked)
        for box in boxes:
            box.blockSignals(False)

    def _dragged(self, low: float, high: float) -> None:
        for box, value in ((self.low, low), (self.high, high)):
            box.blockSignals(True)
            box.setValue(value)
            box.blockSignals(False)
        self.contrast_edited.emit()

    def _edited(self) -> None:
        if self.high.value() > self.low.value():
            self.contrast_edited.emit()
