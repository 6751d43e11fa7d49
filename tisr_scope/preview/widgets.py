"""Small drawn widgets of the side columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import (
    QColor,
    QFont,
    QImage,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
    QResizeEvent,
)
from qtpy.QtWidgets import QFrame, QLabel, QSizePolicy, QVBoxLayout, QWidget
from typing_extensions import override

from tisr_scope.preview.style import theme


def to_qimage(rgba: UInt8[np.ndarray, "y x 4"]) -> QImage:
    """Pixels as a Qt image that owns its memory."""
    height, width = rgba.shape[:2]
    raw = np.ascontiguousarray(rgba).data
    return QImage(raw, width, height, 4 * width, QImage.Format.Format_RGBA8888).copy()


class ColourBar(QWidget):
    """A thin colour bar with its two ends named."""

    def __init__(self, rgba: UInt8[np.ndarray, "y x 4"], low: str, high: str) -> None:
        super().__init__()
        self._image = to_qimage(rgba)
        self._low, self._high = low, high
        self.setFixedHeight(16)
        self.setMinimumWidth(72)
        self.setMaximumWidth(150)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @override
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw."""
        painter = QPainter(self)
        font = QFont(self.font())
        font.setPointSizeF(9)
        painter.setFont(font)
        painter.setPen(QColor(theme().soft))
        metrics = painter.fontMetrics()
        left = metrics.horizontalAdvance(self._low) + 6
        right = metrics.horizontalAdvance(self._high) + 6
        whole = QRectF(self.rect())
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(whole, int(middle | Qt.AlignmentFlag.AlignLeft), self._low)
        painter.drawText(whole, int(middle | Qt.AlignmentFlag.AlignRight), self._high)
        painter.drawImage(QRectF(left, 4, self.width() - left - right, 8), self._image)
        painter.end()


class Legend(QWidget):
    """Two-dimensional legend of the overlay: brightness across, confidence upwards."""

    def __init__(self) -> None:
        super().__init__()
        self._image = QImage()
        self.setMinimumHeight(140)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @override
    def sizeHint(self) -> QSize:
        """Preferred size."""
        return QSize(220, 140)

    def show_legend(self, rgba: UInt8[np.ndarray, "y x 4"]) -> None:
        """Set the colours, lowest confidence in the last row."""
        self._image = to_qimage(rgba)
        self.update()

    @override
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw."""
        painter = QPainter(self)
        font = QFont(self.font())
        font.setPointSizeF(9)
        painter.setFont(font)
        left, bottom = painter.fontMetrics().horizontalAdvance("unsure") + 8, 22
        box = QRectF(left, 2, self.width() - left - 2, self.height() - bottom - 2)
        painter.drawImage(box, self._image)
        painter.setPen(QColor(theme().edge))
        painter.drawRect(box)
        painter.setPen(QColor(theme().soft))
        right = Qt.AlignmentFlag.AlignRight
        upper = QRectF(0, box.top(), left - 8, 16)
        lower = QRectF(0, box.bottom() - 16, left - 8, 16)
        painter.drawText(upper, int(right | Qt.AlignmentFlag.AlignTop), "sure")
        painter.drawText(lower, int(right | Qt.AlignmentFlag.AlignBottom), "unsure")
        below = QRectF(box.left(), box.bottom() + 4, box.width(), 16)
        painter.drawText(below, int(Qt.AlignmentFlag.AlignLeft), "dark")
        painter.drawText(below, int(right), "bright")
        painter.end()


class Sparkline(QWidget):
    """A small curve over the whole run, from zero up to ``top`` or to its largest value."""

    def __init__(self, top: float | None = None) -> None:
        super().__init__()
        self._top = top
        self.values: Sequence[float] = ()
        self.setMinimumHeight(52)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_values(self, values: Sequence[float]) -> None:
        """Draw other values."""
        self.values = values
        self.update()

    @override
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        base = self.height() - 2.0
        painter.setPen(QPen(QColor(theme().edge), 1))
        painter.drawLine(QPointF(0, base), QPointF(self.width(), base))
        every = max(len(self.values) // max(self.width(), 1), 1)
        values = self.values[::every]
        top = max(values, default=0.0) * 1.15 if self._top is None else self._top
        if len(values) > 1 and top > 0:
            step = self.width() / (len(values) - 1)
            points = [
                QPointF(place * step, base - max(value, 0) / top * (base - 2))
                for place, value in enumerate(values)
            ]
            painter.setPen(QPen(QColor(theme().good), 1.6))
            painter.drawPolyline(QPolygonF(points))
        painter.end()


class ElidedLabel(QLabel):
    """One line that is shortened where there is no room; the tooltip has all of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.full_text = text
        self.setMinimumWidth(0)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._fit()

    @override
    def setText(self, text: str) -> None:
        """Change the text."""
        if text != self.full_text:
            self.full_text = text
            self._fit()

    def _fit(self) -> None:
        shown = self.fontMetrics().elidedText(
            self.full_text, Qt.TextElideMode.ElideRight, max(self.width() - 2, 0)
        )
        super().setText(shown)
        self.setToolTip(self.full_text if shown != self.full_text else "")

    @override
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Shorten again."""
        super().resizeEvent(event)
        self._fit()


class Reading(QWidget):
    """A number with its name above it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        self._name = QLabel(name)
        self._name.setObjectName("readingName")
        self._value = QLabel("–")
        self._value.setObjectName("readingValue")
        layout.addWidget(self._name)
        layout.addWidget(self._value)

    def show_value(self, value: str, tip: str = "") -> None:
        """Change the number."""
        if value != self._value.text():
            self._value.setText(value)
        self.setToolTip(tip)

    @property
    def value(self) -> str:
        """Number that is shown."""
        return str(self._value.text())


class Card(QFrame):
    """A titled box of the side columns; contents go into ``body``."""

    def __init__(self, heading: str) -> None:
        super().__init__()
        self.setObjectName("card")
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(14, 11, 14, 13)
        self.body.setSpacing(9)
        label = QLabel(heading.upper())
        label.setObjectName("heading")
        self.body.addWidget(label)


class Pill(QLabel):
    """A short state in a coloured capsule: good, warning, bad or plain."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setObjectName("pill")
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setProperty("kind", "plain")

    def show_state(self, text: str, kind: str, tip: str = "") -> None:
        """Change text and colour."""
        self.setText(text)
        self.setToolTip(tip)
        restyle(self, kind)


def restyle(widget: QWidget, kind: str) -> None:
    """Give a widget another kind of the style sheet."""
    if widget.property("kind") != kind:
        widget.setProperty("kind", kind)
        widget.style().unpolish(widget)
        widget.style().polish(widget)
