"""Histogram of the image with its two contrast limits, which can be dragged."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget
from typing_extensions import override

from tisr_scope.preview.experiment import Image
from tisr_scope.preview.style import theme

BINS = 128


class Histogram(QWidget):
    """Counts on a logarithmic scale; two lines mark black and white."""

    limits_dragged = Signal(float, float)

    def __init__(self) -> None:
        super().__init__()
        self._counts: Float[np.ndarray, " bins"] = np.zeros(BINS)
        self.range = (0.0, 1.0)
        self.low, self.high = 0.0, 1.0
        self._dragged: str | None = None
        self.setFixedHeight(72)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Drag the lines: left of the first is black, right of the second is white")

    def show_image(self, image: Image, low: float, high: float) -> None:
        """Count an image and show its limits."""
        step = max(image.size // 65_536, 1)
        sample = image.reshape(-1)[::step]
        finite = sample[np.isfinite(sample)]
        if finite.size:
            least, most = float(finite.min()), float(finite.max())
            span = max(most - least, high - low, 1e-9)
            self.range = (min(least, low - 0.02 * span), max(most, high + 0.02 * span))
            counts, _ = np.histogram(finite, BINS, range=self.range)
            self._counts = np.log1p(counts)
        self.low, self.high = low, high
        self.update()

    def _place(self, value: float) -> float:
        first, last = self.range
        return float((value - first) / (last - first) * (self.width() - 2) + 1)

    def _value(self, place: float) -> float:
        first, last = self.range
        part = min(max((place - 1) / max(self.width() - 2, 1), 0.0), 1.0)
        return float(first + part * (last - first))

    @override
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        base, top = self.height() - 2.0, float(self._counts.max()) or 1.0
        step = (self.width() - 2) / BINS
        points = [QPointF(1, base)]
        points += [
            QPointF(1 + (place + 0.5) * step, base - count / top * (base - 4))
            for place, count in enumerate(self._counts.tolist())
        ]
        points.append(QPointF(self.width() - 1, base))
        fill = QColor(theme().good)
        fill.setAlpha(90)
        painter.setPen(QPen(QColor(theme().edge), 1))
        painter.setBrush(fill)
        painter.drawPolygon(QPolygonF(points))
        line = QColor(theme().text)
        painter.setPen(QPen(line, 2))
        for value in (self.low, self.high):
            place = self._place(value)
            painter.drawLine(QPointF(place, 2), QPointF(place, base))
        painter.setPen(QPen(QColor(theme().soft), 1.2, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(self._place(self.low), base), QPointF(self._place(self.high), 4.0))
        painter.fillRect(QRectF(0, base, self.width(), 1), QColor(theme().edge))
        painter.end()

    @override
    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take the nearer line."""
        place = event.position().x()
        near_low = abs(place - self._place(self.low)) <= abs(place - self._place(self.high))
        self._dragged = "low" if near_low else "high"
        self.mouseMoveEvent(event)

    @override
    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Shift the line."""
        if self._dragged is None:
            return
        value = self._value(event.position().x())
        least = (self.range[1] - self.range[0]) / 500
        if self._dragged == "low":
            self.low = min(value, self.high - least)
        else:
            self.high = max(value, self.low + least)
        self.update()
        self.limits_dragged.emit(self.low, self.high)

    @override
    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go."""
        self._dragged = None
