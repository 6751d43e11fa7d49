"""The icon of the window: stripes of three directions, drawn here."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap

COLOURS = ("#6fc3d8", "#e3c45b", "#d77fb0")


def icon() -> QIcon:
    """Icon in the usual sizes."""
    made = QIcon()
    for size in (16, 32, 64, 128):
        made.addPixmap(_pixmap(size))
    return made


def _pixmap(size: int) -> QPixmap:
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    outline = QPainterPath()
    outline.addEllipse(QRectF(1, 1, size - 2, size - 2))
    painter.fillPath(outline, QColor("#14161b"))
    painter.setClipPath(outline)
    painter.translate(size / 2, size / 2)
    for colour in COLOURS:
        painter.rotate(60)
        pen = QColor(colour)
        pen.setAlpha(190)
        painter.setPen(QPen(pen, size / 12))
        for place in (-0.3, 0.0, 0.3):
            painter.drawLine(QPointF(-size, place * size), QPointF(size, place * size))
    painter.end()
    return pixmap
