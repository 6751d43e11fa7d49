"""Line and region drawn on the images: one state for all panels, in micrometres."""

from __future__ import annotations

from typing import Literal

from qtpy.QtCore import QObject, QPointF, QRectF, Signal
from qtpy.QtGui import QColor, QPainter, QPen

Tool = Literal["look", "line", "region"]
COLOUR = QColor("#ffd54a")


class Marks(QObject):
    """What the mouse does, and what it has drawn."""

    changed = Signal()
    tool_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.tool: Tool = "look"
        self.line: tuple[QPointF, QPointF] | None = None
        self.region: QRectF | None = None

    def choose(self, tool: Tool) -> None:
        """Let the mouse move the image, draw a line, or draw a region."""
        self.tool = tool
        self.tool_changed.emit()

    def draw(self, start: QPointF, end: QPointF) -> None:
        """Set the line or the region from where the mouse went down to where it is."""
        if self.tool == "line":
            self.line = (QPointF(start), QPointF(end))
        elif self.tool == "region":
            self.region = QRectF(start, end).normalized()
        self.changed.emit()

    def clear(self) -> None:
        """Remove both."""
        self.line = self.region = None
        self.changed.emit()

    def paint(self, painter: QPainter, visible_um: QRectF, px_per_um: float) -> None:
        """Draw what there is."""

        def place(point: QPointF) -> QPointF:
            return (point - visible_um.topLeft()) * px_per_um

        painter.setPen(QPen(COLOUR, 1.5))
        if self.line is not None:
            start, end = self.line
            painter.drawLine(place(start), place(end))
            for point in (start, end):
                painter.drawEllipse(place(point), 3.0, 3.0)
        if self.region is not None:
            painter.drawRect(QRectF(place(self.region.topLeft()), place(self.region.bottomRight())))
