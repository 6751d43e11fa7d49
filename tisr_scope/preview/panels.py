"""Image panels: a title strip over an image, and the grid that gives every image most room."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from qtpy.QtCore import QRect, QSize, Qt, Signal
from qtpy.QtGui import QMouseEvent, QResizeEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget
from typing_extensions import override

from tisr_scope.preview.canvas import ImageCanvas
from tisr_scope.preview.marks import Marks
from tisr_scope.preview.picture import Picture, Rgba
from tisr_scope.preview.shared_view import SharedView
from tisr_scope.preview.widgets import ColourBar, ElidedLabel, restyle

STRIP_PX = 30
GAP_PX = 8
SLACK = 1.12
"""How much wider or higher than its image a panel may be."""


class ImagePanel(QFrame):
    """One image: the wheel zooms, dragging moves, a double click shows everything.

    Parameters
    ----------
    title : str
        Name shown over the image.
    view, marks
        Shared by all panels.
    """

    enlarge = Signal()
    """The title was double-clicked: show this panel alone, or all of them again."""

    def __init__(self, title: str, view: SharedView, marks: Marks) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.canvas = ImageCanvas(view, marks)
        self._title = QLabel(title)
        self._title.setObjectName("panelTitle")
        self._title.setToolTip("Double click: this image alone, or all of them again")
        self._note = ElidedLabel("")
        self._note.setObjectName("panelNote")
        self._note.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        strip = QWidget()
        strip.setFixedHeight(STRIP_PX)
        self._strip = QHBoxLayout(strip)
        self._strip.setContentsMargins(10, 0, 10, 0)
        self._strip.setSpacing(8)
        self._strip.addWidget(self._title)
        self._strip.addWidget(self._note, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(1, 1, 1, 1)
        layout.setSpacing(0)
        layout.addWidget(strip)
        layout.addWidget(self.canvas, 1)

    @property
    def title(self) -> str:
        """Name shown over the image."""
        return str(self._title.text())

    @property
    def note(self) -> str:
        """Small text beside the title."""
        return str(self._note.full_text)

    def set_note(self, note: str, kind: str = "plain") -> None:
        """Change the small text beside the title; a warning is coloured."""
        self._note.setText(note)
        restyle(self._note, kind)

    def add_colour_bar(self, rgba: UInt8[np.ndarray, "y x 4"], low: str, high: str) -> None:
        """Put a colour bar into the title strip."""
        self._strip.insertWidget(1, ColourBar(rgba, low, high))

    def show_picture(
        self, picture: Picture, beside: Picture | None = None, notice: str = ""
    ) -> None:
        """Draw a picture, or two divided by a line; ``notice`` is written over it."""
        canvas = self.canvas
        canvas.picture, canvas.beside, canvas.notice = picture, beside, notice
        canvas.update()

    def set_stamp(self, text: str) -> None:
        """Time written into the corner of the image."""
        self.canvas.stamp = text

    def image(self) -> Rgba | None:
        """All pixels of the picture that is shown."""
        return None if self.canvas.picture is None else self.canvas.picture.whole()

    def clear(self) -> None:
        """Show nothing."""
        self.canvas.picture = self.canvas.beside = None
        self.canvas.notice = self.canvas.stamp = ""
        self.canvas.update()
        self.set_note("")

    @override
    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Only the title strip gets here: the image takes its own."""
        self.enlarge.emit()


class PanelGrid(QWidget):
    """Places the visible panels in the rows and columns that make the images largest.

    Parameters
    ----------
    panels : sequence of ImagePanel
        In reading order.
    view : SharedView
        For the shape of the field.
    """

    def __init__(self, panels: Sequence[ImagePanel], view: SharedView) -> None:
        super().__init__()
        self.panels = list(panels)
        self._view = view
        self._alone: ImagePanel | None = None
        for panel in self.panels:
            panel.setParent(self)
            panel.enlarge.connect(lambda panel=panel: self.show_alone(panel))
        self.setMinimumSize(320, 300)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    @override
    def sizeHint(self) -> QSize:
        """Preferred size."""
        return QSize(960, 760)

    def show_alone(self, panel: ImagePanel) -> None:
        """Show one panel over the whole room, or all of them again."""
        self._alone = None if self._alone is panel else panel
        self.arrange()

    def shown(self) -> list[ImagePanel]:
        """Panels that have a place now."""
        if self._alone is not None and not self._alone.isHidden():
            return [self._alone]
        return [panel for panel in self.panels if panel.property("wanted") is not False]

    def want(self, panel: ImagePanel, wanted: bool) -> None:
        """Give a panel a place, or none."""
        panel.setProperty("wanted", wanted)
        if not wanted and self._alone is panel:
            self._alone = None
        self.arrange()

    def arrange(self) -> None:
        """Give every panel its place."""
        shown = self.shown()
        for panel in self.panels:
            panel.setVisible(panel in shown)
        if not shown:
            return
        height_um, width_um = self._view.field_um
        aspect = width_um / height_um
        across, width, height = best_grid(len(shown), self.width(), self.height(), aspect)
        down = math.ceil(len(shown) / across)
        used_x, used_y = across * (width + GAP_PX) - GAP_PX, down * (height + GAP_PX) - GAP_PX
        left, top = (self.width() - used_x) // 2, (self.height() - used_y) // 2
        for place, panel in enumerate(shown):
            row, column = divmod(place, across)
            x, y = left + column * (width + GAP_PX), top + row * (height + GAP_PX)
            panel.setGeometry(QRect(x, y, width, height))

    @override
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Arrange again."""
        super().resizeEvent(event)
        self.arrange()


def best_grid(count: int, width: int, height: int, aspect: float) -> tuple[int, int, int]:
    """Columns, and width and height of a panel, that make ``count`` images largest.

    A panel is never much wider or higher than its image, which so fills it.
    """
    best = (1, 1, 1)
    largest = -1.0
    for across in range(1, count + 1):
        down = math.ceil(count / across)
        cell_x = (width - GAP_PX * (across - 1)) // across
        cell_y = (height - GAP_PX * (down - 1)) // down
        room_x, room_y = max(cell_x - 2, 1), max(cell_y - STRIP_PX - 2, 1)
        image = min(room_x, room_y * aspect)
        if image > largest:
            largest = image
            panel_x = min(room_x, round(image * SLACK)) + 2
            panel_y = min(room_y, round(image / aspect * SLACK)) + STRIP_PX + 2
            best = (across, panel_x, panel_y)
    return best
