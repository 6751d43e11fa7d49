"""Which part of the field of view is looked at: one state for all panels.

Zoom and centre belong to the field, not to a widget.  Every panel computes from them what fits into
its own size, so resizing changes nothing and nothing can creep from one panel to the next.
"""

from __future__ import annotations

from qtpy.QtCore import QObject, QPointF, QRectF, Signal

CLOSEST = 64.0


class SharedView(QObject):
    """Zoom and centre, shared by all panels.

    Parameters
    ----------
    field_um : tuple of float
        Height and width of the field of view in micrometres.
    """

    changed = Signal()

    def __init__(self, field_um: tuple[float, float]) -> None:
        super().__init__()
        self.zoom = 1.0
        self.field_um = field_um
        self._centre = self._middle()

    def _middle(self) -> QPointF:
        height, width = self.field_um
        return QPointF(width / 2, height / 2)

    def set_field(self, field_um: tuple[float, float]) -> None:
        """Look at a field of another size."""
        if field_um != self.field_um:
            self.field_um = field_um
            self.show_everything()

    def scale(self, width_px: float, height_px: float) -> float:
        """Screen pixels per micrometre in a panel of this size."""
        height, width = self.field_um
        return max(min(width_px / width, height_px / height), 1e-6) * self.zoom

    def visible(self, width_px: float, height_px: float) -> QRectF:
        """Part of the field, in micrometres, that a panel of this size shows."""
        scale = self.scale(width_px, height_px)
        width, height = width_px / scale, height_px / scale
        return QRectF(self._centre.x() - width / 2, self._centre.y() - height / 2, width, height)

    def zoom_at(self, point_um: QPointF, factor: float) -> None:
        """Zoom so that a point of the field stays where it is on the screen."""
        zoom = min(max(self.zoom * factor, 1.0), CLOSEST)
        moved = 1 - self.zoom / zoom
        self._centre += (point_um - self._centre) * moved
        self.zoom = zoom
        self._settle()

    def move(self, by_um: QPointF) -> None:
        """Move the field under the panels."""
        self._centre -= by_um
        self._settle()

    def show_everything(self) -> None:
        """Zoom out to the whole field."""
        self.zoom = 1.0
        self._centre = self._middle()
        self.changed.emit()

    def _settle(self) -> None:
        """Keep the centre where at least the middle of the panel shows the field."""
        if self.zoom == 1.0:
            self._centre = self._middle()
        height, width = self.field_um
        half_width, half_height = width / self.zoom / 2, height / self.zoom / 2
        self._centre.setX(min(max(self._centre.x(), half_width), width - half_width))
        self._centre.setY(min(max(self._centre.y(), half_height), height - half_height))
        self.changed.emit()
