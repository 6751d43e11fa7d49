"""Image panels: a title strip, an image in micrometres with a scale bar, linked zoom."""

from __future__ import annotations

import math

import numpy as np
import pyqtgraph as pg
from jaxtyping import UInt8
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from typing_extensions import override

from tisr_scope.preview.style import IMAGE_BACKGROUND, TEXT
from tisr_scope.preview.widgets import ColourBar


def nice_length(span_um: float, part: float = 0.24) -> float:
    """Round length (1, 2 or 5 times a power of ten) near a part of the visible width."""
    wanted = max(span_um * part, 1e-6)
    power = 10.0 ** math.floor(math.log10(wanted))
    return max((m * power for m in (1, 2, 5) if m * power <= wanted), default=power)


def length_label(length_um: float) -> str:
    """A length with its unit: "500 nm", "2 µm"."""
    return f"{length_um * 1000:g} nm" if length_um < 1 else f"{length_um:g} µm"


class ScaleBar(QWidget):
    """Drawn over the lower right corner of the image, deaf to the mouse."""

    def __init__(self, parent: QWidget, view: pg.ViewBox, field_um: tuple[float, float]) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._view = view
        self._field_um = field_um

    @override
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw."""
        visible = self._view.viewRect()
        if visible.width() <= 0 or self._view.width() <= 0:
            return
        height_um, width_um = self._field_um
        shown = visible.intersected(QRectF(0, 0, width_um, height_um))
        scale = self._view.width() / visible.width()
        right = min((shown.right() - visible.left()) * scale, self.width()) - 14
        bottom = min((shown.bottom() - visible.top()) * scale, self.height()) - 14
        length = nice_length(shown.width())
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = QFont(self.font())
        font.setPointSizeF(10)
        painter.setFont(font)
        self._draw(painter, right, bottom, length * scale, length_label(length))
        painter.end()

    def _draw(
        self, painter: QPainter, right: float, bottom: float, pixels: float, text: str
    ) -> None:
        box = QRectF(right - max(pixels, 80), bottom - 25, max(pixels, 80), 20)
        middle = Qt.AlignmentFlag.AlignHCenter if pixels > 60 else Qt.AlignmentFlag.AlignRight
        for colour, width, grow, shift in (
            (QColor(0, 0, 0, 190), 6.0, 1.5, 1.0),
            (QColor(TEXT), 3.0, 0.0, 0.0),
        ):
            pen = QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap)
            painter.setPen(pen)
            painter.drawLine(QPointF(right - pixels - grow, bottom), QPointF(right + grow, bottom))
            painter.drawText(box.translated(shift, shift), int(middle), text)


class ImagePanel(QFrame):
    """One image: the wheel zooms, dragging moves, a double click shows everything.

    Parameters
    ----------
    title : str
        Name shown over the image.
    field_um : tuple of float
        Height and width of the field of view in micrometres.
    """

    def __init__(self, title: str, field_um: tuple[float, float]) -> None:
        super().__init__()
        self.setObjectName("panel")
        self._field_um = field_um
        self._graphics = pg.GraphicsView(background=IMAGE_BACKGROUND)
        self.view = pg.ViewBox(
            lockAspect=True, invertY=True, enableMenu=False, border=None, defaultPadding=0
        )
        self._graphics.setCentralItem(self.view)
        self._item = pg.ImageItem(axisOrder="row-major", autoDownsample=False, levels=None)
        self.view.addItem(self._item)
        self._scale_bar = ScaleBar(self._graphics, self.view, field_um)
        self._title = QLabel(title)
        self._title.setObjectName("panelTitle")
        self._note = QLabel("")
        self._note.setObjectName("panelNote")
        self._strip = QHBoxLayout()
        self._strip.setContentsMargins(12, 5, 12, 5)
        self._strip.addWidget(self._title)
        self._strip.addStretch(1)
        self._strip.addWidget(self._note)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(1, 1, 1, 1)
        layout.setSpacing(0)
        layout.addLayout(self._strip)
        layout.addWidget(self._graphics, 1)
        self.setMinimumSize(180, 180)
        self.view.sigRangeChanged.connect(lambda *_: self._scale_bar.update())
        self.show_everything()

    @property
    def title(self) -> str:
        """Name shown over the image."""
        return str(self._title.text())

    @property
    def note(self) -> str:
        """Small text beside the title."""
        return str(self._note.text())

    def set_note(self, note: str) -> None:
        """Change the small text beside the title."""
        if note != self._note.text():
            self._note.setText(note)

    def add_colour_bar(self, rgba: UInt8[np.ndarray, "y x 4"], low: str, high: str) -> None:
        """Put a colour bar into the title strip."""
        self._strip.addSpacing(12)
        self._strip.addWidget(ColourBar(rgba, low, high), 2)

    def show_image(self, rgba: UInt8[np.ndarray, "y x 4"]) -> None:
        """Draw ready pixels; no scaling, no look-up happens here."""
        height_um, width_um = self._field_um
        self._item.setImage(rgba, autoLevels=False, levels=None)
        self._item.setRect(QRectF(0, 0, width_um, height_um))
        self._scale_bar.update()

    def image(self) -> UInt8[np.ndarray, "y x 4"] | None:
        """Pixels that are shown."""
        shown: np.ndarray | None = self._item.image
        return shown

    def clear(self) -> None:
        """Show nothing."""
        self._item.clear()
        self.set_note("")

    def show_everything(self) -> None:
        """Zoom out to the whole field."""
        height_um, width_um = self._field_um
        self.view.setRange(QRectF(0, 0, width_um, height_um), padding=0)

    def link(self, other: ImagePanel) -> None:
        """Zoom and move together with another panel."""
        self.view.setXLink(other.view)
        self.view.setYLink(other.view)

    @override
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the scale bar on the image."""
        super().resizeEvent(event)
        self._scale_bar.setGeometry(self._graphics.rect())

    @override
    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show the whole field."""
        self.show_everything()
