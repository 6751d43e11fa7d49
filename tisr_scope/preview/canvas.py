"""One image on the screen: only its visible part is computed, as finely as the screen can show."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from qtpy.QtWidgets import QWidget
from typing_extensions import override

from tisr_scope.preview.annotations import LIGHT, draw_scale_bar, draw_words
from tisr_scope.preview.marks import Marks
from tisr_scope.preview.picture import Picture, Rgba
from tisr_scope.preview.shared_view import SharedView
from tisr_scope.preview.style import IMAGE_BACKGROUND
from tisr_scope.preview.widgets import to_qimage

GRIP_PX = 8
"""How near the mouse must be to the divider of a split picture to move it."""


class ImageCanvas(QWidget):
    """Draws a picture, or two divided by an upright line, with scale bar and marks.

    Parameters
    ----------
    view : SharedView
        Zoom and centre.
    marks : Marks
        Line and region.
    """

    hovered = Signal(object)
    """Point of the field under the mouse in micrometres, or None."""
    double_clicked = Signal()

    def __init__(self, view: SharedView, marks: Marks) -> None:
        super().__init__()
        self.view, self.marks = view, marks
        self.picture: Picture | None = None
        self.beside: Picture | None = None
        self.divider = 0.5
        self.stamp = ""
        self.notice = ""
        self._shown: Rgba | None = None
        self._down: QPointF | None = None
        self._last = QPointF()
        self._dividing = False
        self.setMouseTracking(True)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMinimumSize(60, 60)
        view.changed.connect(self.update)
        marks.changed.connect(self.update)
        marks.tool_changed.connect(self._show_tool)

    def visible_um(self) -> QRectF:
        """Part of the field that this canvas shows."""
        return self.view.visible(self.width(), self.height())

    def filled(self) -> float:
        """Share of the canvas that the field covers, by area."""
        height, width = self.view.field_um
        field = QRectF(0, 0, width, height)
        visible = self.visible_um()
        common = visible.intersected(field)
        return float(common.width() * common.height() / (visible.width() * visible.height()))

    def point_um(self, place: QPointF) -> QPointF:
        """Point of the field under a place of the widget."""
        scale = self.view.scale(self.width(), self.height())
        return self.visible_um().topLeft() + place / scale

    # -------------------------------------------------------------------------------- painting

    @override
    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(IMAGE_BACKGROUND))
        visible, scale = self.visible_um(), self.view.scale(self.width(), self.height())
        if self.picture is not None:
            self._draw(painter, self.picture, visible, scale)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.beside is not None:
            self._draw_beside(painter, self.beside, visible, scale)
        height, width = self.view.field_um
        field = QRectF(
            -visible.left() * scale, -visible.top() * scale, width * scale, height * scale
        )
        inside = field.intersected(QRectF(self.rect()))
        draw_scale_bar(painter, inside, scale)
        self.marks.paint(painter, visible, scale)
        if self.stamp:
            draw_words(painter, inside, self.stamp)
        if self.notice:
            draw_words(painter, QRectF(self.rect()), self.notice, 13, Qt.AlignmentFlag.AlignCenter)
        painter.end()

    def _draw(self, painter: QPainter, picture: Picture, visible: QRectF, scale: float) -> None:
        rows, columns = picture.shape
        height, width = self.view.field_um
        pixel_y, pixel_x = height / rows, width / columns
        top = max(math.floor(visible.top() / pixel_y), 0)
        bottom = min(math.ceil(visible.bottom() / pixel_y), rows)
        left = max(math.floor(visible.left() / pixel_x), 0)
        right = min(math.ceil(visible.right() / pixel_x), columns)
        if bottom <= top or right <= left:
            return
        across = pixel_x * scale * self.devicePixelRatioF()
        factor = max(int(1 / across + 0.05), 1)
        # Whole blocks counted from the edge of the image, so that nothing shimmers while moving.
        top, left = top // factor * factor, left // factor * factor
        rgba = picture.render((slice(top, bottom), slice(left, right)), factor)
        shown = QRectF(left * pixel_x, top * pixel_y, 0, 0)
        shown.setWidth(rgba.shape[1] * factor * pixel_x)
        shown.setHeight(rgba.shape[0] * factor * pixel_y)
        target = QRectF((shown.topLeft() - visible.topLeft()) * scale, shown.size() * scale)
        # Single pixels are shown as they are once they are large enough to be seen.
        smooth = across * factor < 3
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smooth)
        painter.drawImage(target, to_qimage(rgba))

    def _draw_beside(
        self, painter: QPainter, picture: Picture, visible: QRectF, scale: float
    ) -> None:
        line = self._divider_px()
        painter.save()
        painter.setClipRect(QRectF(line, 0, self.width() - line, self.height()))
        painter.fillRect(self.rect(), QColor(IMAGE_BACKGROUND))
        self._draw(painter, picture, visible, scale)
        painter.restore()
        painter.setPen(QPen(LIGHT, 1.5))
        painter.drawLine(QPointF(line, 0), QPointF(line, self.height()))
        painter.setBrush(LIGHT)
        painter.drawEllipse(QPointF(line, self.height() / 2), 4.5, 4.5)
        painter.setBrush(Qt.BrushStyle.NoBrush)

    def _divider_px(self) -> float:
        return float(self.divider * self.width())

    # ----------------------------------------------------------------------------------- mouse

    def _show_tool(self) -> None:
        drawing = self.marks.tool != "look"
        self.setCursor(Qt.CursorShape.CrossCursor if drawing else Qt.CursorShape.ArrowCursor)

    def _on_divider(self, place: QPointF) -> bool:
        return self.beside is not None and abs(place.x() - self._divider_px()) < GRIP_PX

    @override
    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom at the mouse."""
        steps = event.angleDelta().y() / 120
        self.view.zoom_at(self.point_um(event.position()), 1.25**steps)
        event.accept()

    @override
    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin to move, to draw, or to shift the divider."""
        self._last = event.position()
        self._dividing = self._on_divider(event.position())
        self._down = self.point_um(event.position())

    @override
    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Move, draw or shift."""
        place = event.position()
        if self._down is not None and event.buttons():
            if self._dividing:
                self.divider = min(max(place.x() / max(self.width(), 1), 0.02), 0.98)
                self.update()
            elif self.marks.tool == "look":
                scale = self.view.scale(self.width(), self.height())
                self.view.move((place - self._last) / scale)
            else:
                self.marks.draw(self._down, self.point_um(place))
        elif self.marks.tool == "look":
            near = self._on_divider(place)
            self.setCursor(Qt.CursorShape.SplitHCursor if near else Qt.CursorShape.ArrowCursor)
        self._last = place
        self.hovered.emit(self.point_um(place))

    @override
    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End of moving or drawing."""
        self._down = None
        self._dividing = False

    @override
    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show the whole field."""
        self.view.show_everything()

    @override
    def leaveEvent(self, event: object) -> None:
        """The mouse has gone."""
        self.hovered.emit(None)
