"""What every window here has: images, tabs to their left, numbers to their right, and a menu."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QSettings, Qt
from qtpy.QtGui import QAction, QCloseEvent, QGuiApplication, QKeySequence, QResizeEvent
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QMenu,
    QMessageBox,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from typing_extensions import override

from tisr_scope.errors import DisplayError
from tisr_scope.preview.contrast import Kind
from tisr_scope.preview.controls import DisplayControls
from tisr_scope.preview.experiment import Source
from tisr_scope.preview.follower import field_um
from tisr_scope.preview.icon import icon
from tisr_scope.preview.panels import ImagePanel
from tisr_scope.preview.style import THEMES, choose, sheet
from tisr_scope.preview.viewer import COMPARE, Display, Viewer, image_of
from tisr_scope.preview.widgets import ElidedLabel, Pill, restyle

WIDE_PX = 1240
"""Narrower windows show the numbers as a tab, so that the images keep their room."""
SIDE_PX = 300


class MainWindow(QMainWindow):
    """Images, controls, menu; subclasses say where images and numbers come from.

    Parameters
    ----------
    source : Source
        What is shown.
    sim : bool
        Whether conventional SIM can be shown.
    numbers : QWidget
        Right column.
    """

    def __init__(self, source: Source, *, sim: bool, numbers: QWidget) -> None:
        super().__init__()
        self.setObjectName("root")
        self.setWindowTitle(f"tisr scope – {source.name}")
        self.setWindowIcon(icon())
        self.display = Display()
        self.viewer = Viewer(field_um(source.grid(0)), self.display, sim=sim)
        titles = [(title, title != COMPARE) for title in self.viewer.panels]
        self.controls = DisplayControls(source.channels, titles)
        self.controls.kind.setVisible(True)
        if not sim:
            self.controls.kind.removeItem(self.controls.kind.findData("sim"))
        self.numbers = numbers
        self._numbers_left = False
        self._settings = QSettings(
            QSettings.Format.IniFormat, QSettings.Scope.UserScope, "tisr_scope", "window"
        )
        self._key = source.name.replace("/", "_")
        self._build(source)
        self._connect()
        self.set_theme(str(self._settings.value("theme", "dark")))
        self._restore()

    # ------------------------------------------------------------------------------- built once

    def _build(self, source: Source) -> None:
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.setFixedWidth(SIDE_PX)
        self.tabs.addTab(scrolled(self.controls), "Images")
        self._right = scrolled(self.numbers)
        self._right.setFixedWidth(SIDE_PX)
        self.below = QVBoxLayout()
        self.below.setSpacing(4)
        middle = QVBoxLayout()
        middle.setSpacing(6)
        middle.addWidget(self.viewer, 1)
        middle.addLayout(self.below)
        columns = QHBoxLayout()
        columns.setSpacing(10)
        columns.addWidget(self.tabs)
        columns.addLayout(middle, 1)
        columns.addWidget(self._right)
        self.message = QLabel("")
        self.message.setObjectName("message")
        self.message.setWordWrap(True)
        self.message.setMinimumWidth(200)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.under_mouse = ElidedLabel("")
        self.under_mouse.setObjectName("message")
        self.under_mouse.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.under_mouse.setMinimumHeight(24)
        bottom = QHBoxLayout()
        bottom.addWidget(self.message, 3)
        bottom.addWidget(self.under_mouse, 2)
        central = QWidget()
        central.setObjectName("root")
        central.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        whole = QVBoxLayout(central)
        whole.setContentsMargins(10, 4, 10, 6)
        whole.setSpacing(6)
        whole.addLayout(columns, 1)
        whole.addLayout(bottom)
        self.setCentralWidget(central)
        self._build_menu(source)

    def _build_menu(self, source: Source) -> None:
        bar = self.menuBar()
        bar.setNativeMenuBar(False)
        self.file_menu: QMenu = bar.addMenu("&File")
        self.view_menu: QMenu = bar.addMenu("&View")
        self.help_menu: QMenu = bar.addMenu("&Help")
        self._corner = corner = QWidget(bar)
        row = QHBoxLayout(corner)
        row.setContentsMargins(0, 3, 10, 3)
        row.setSpacing(12)
        self.subtitle = QLabel(source.name.replace("_", " "))
        self.subtitle.setObjectName("subtitle")
        self.state = Pill("ready")
        self.state.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        # The corner of a menu bar keeps its first width: room for the longest state from the start.
        self.state.setMinimumWidth(self.state.fontMetrics().horizontalAdvance("M" * 16))
        row.addWidget(self.subtitle)
        row.addWidget(self.state)
        bar.setCornerWidget(corner, Qt.Corner.TopRightCorner)
        self.action(self.view_menu, "Whole field", "F", self.viewer.view.show_everything)
        self.action(self.view_menu, "Contrast from this image", "A", self.set_contrast)
        self.action(self.view_menu, "Undo contrast", "Ctrl+Z", self.undo_contrast)
        self.action(self.view_menu, "Next channel", "C", self.next_channel)
        self.action(self.view_menu, "Merge channels", "M", self.controls.merge.toggle)
        self.action(self.view_menu, "Hide the unsure parts", "H", self.controls.mask.toggle)
        compare = self.controls.wanted[COMPARE]
        self.action(self.view_menu, "Wide field | super-resolution", "S", compare.toggle)
        self.view_menu.addSeparator()
        self.action(self.view_menu, "Dark or light", "D", self.other_theme)
        self.action(self.view_menu, "Full screen", "F11", self.full_screen)
        self.action(self.help_menu, "Keyboard shortcuts", "?", self.show_shortcuts)

    def action(self, menu: QMenu, text: str, keys: str, call: Callable[[], object]) -> QAction:
        """Entry of a menu with its shortcut; the list of shortcuts is made from these."""
        entry = QAction(text, self)
        entry.setShortcut(QKeySequence(keys))
        entry.triggered.connect(lambda *_: call())
        menu.addAction(entry)
        return entry

    def _connect(self) -> None:
        controls = self.controls
        controls.channel_changed.connect(self.show_channel)
        controls.merge_changed.connect(self._merge)
        controls.panel_wanted.connect(self._want)
        controls.contrast_edited.connect(self._contrast_edited)
        controls.auto_asked.connect(self.set_contrast)
        controls.undo_asked.connect(self.undo_contrast)
        controls.lock_changed.connect(self._lock)
        controls.kind_changed.connect(self.show_contrast)
        controls.overlay_changed.connect(self._overlay_changed)
        self.viewer.hovered.connect(self.under_mouse.setText)

    @property
    def panels(self) -> list[ImagePanel]:
        """Panels that have a place now."""
        return self.viewer.grid.shown()

    # ------------------------------------------------------------------------------- what to see

    def show_channel(self, channel: int) -> None:
        """Look at another channel."""
        self.display.channel = channel
        self.viewer.redraw()
        self.show_contrast()

    def next_channel(self) -> None:
        """Look at the next channel."""
        box = self.controls.channel
        box.setCurrentIndex((box.currentIndex() + 1) % box.count())

    def _merge(self, on: bool) -> None:
        self.display.merge = on
        self.viewer.redraw()

    def _want(self, title: str, on: bool) -> None:
        self.viewer.grid.want(self.viewer.panels[title], on)
        self.viewer.redraw()

    def _overlay_changed(self) -> None:
        self.display.steps = int(self.controls.steps.value)
        self.display.mask = self.controls.mask.isChecked()
        self.display.threshold = self.controls.threshold.value / 100
        self.viewer.redraw()

    def set_contrast(self) -> None:
        """Set the contrast of every image from the ones shown now."""
        shown = self.viewer.shown
        if shown is None:
            return
        kinds: tuple[Kind, ...] = ("widefield", "sr", "sim")
        images = {
            (channel, kind): image
            for channel, of_channel in shown.channels.items()
            for kind in kinds
            if (image := image_of(of_channel, kind)) is not None
        }
        self.display.contrasts.set_from(images)
        self.viewer.redraw()
        self.show_contrast()

    def undo_contrast(self) -> None:
        """Take the last change of contrast back."""
        if self.display.contrasts.undo():
            self.viewer.redraw()
            self.show_contrast()

    def _contrast_edited(self) -> None:
        channel, kind = self.display.channel, self.controls.chosen_kind
        self.display.contrasts.change(channel, kind, self.controls.contrast())
        self.viewer.redraw()
        self._show_limits()

    def _show_limits(self) -> None:
        histogram, contrast = self.controls.histogram, self.controls.contrast()
        histogram.low, histogram.high = contrast.low, contrast.high
        histogram.update()

    def _lock(self, on: bool) -> None:
        locked = self.display.contrasts.locked
        (locked.add if on else locked.discard)(self.display.channel)

    def show_contrast(self) -> None:
        """Bring histogram and limits of the chosen kind of image up to date."""
        shown = self.viewer.shown
        if shown is None:
            return
        channel, kind = self.display.channel, self.controls.chosen_kind
        image = image_of(shown.channels[channel], kind)
        if image is None:
            return
        contrast = self.display.contrasts.of(channel, kind, image)
        self.controls.show_contrast(contrast, channel in self.display.contrasts.locked)
        self.controls.histogram.show_image(image, contrast.low, contrast.high)

    # ------------------------------------------------------------------------------------ habits

    def other_theme(self) -> None:
        """Change between dark and light."""
        self.set_theme("light" if self.theme == "dark" else "dark")

    def set_theme(self, name: str) -> None:
        """Dark or light surroundings; images always lie on black."""
        self.theme = name if name in THEMES else "dark"
        theme = choose(self.theme)
        # Of the application: a style sheet hides the palette of a single window from its fields.
        QApplication.setPalette(theme.palette())
        self.setStyleSheet(sheet(theme))
        self._settings.setValue("theme", self.theme)

    def full_screen(self) -> None:
        """Fill the screen, or go back."""
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def shortcuts(self) -> list[tuple[str, str]]:
        """Every shortcut: keys, and what they do."""
        entries = [entry for menu in (self.file_menu, self.view_menu, self.help_menu)
                   for entry in menu.actions()]  # fmt: skip
        return [
            (entry.shortcut().toString(), entry.text())
            for entry in entries
            if not entry.shortcut().isEmpty()
        ]

    def show_shortcuts(self) -> None:
        """List the shortcuts, and what the mouse does."""
        rows = "".join(
            f"<tr><td><b>{keys}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>"
            for keys, text in self.shortcuts()
        )
        mouse = (
            "<p>The wheel zooms where the mouse is, dragging moves, a double click shows the whole "
            "field. A double click on a title shows that image alone.</p>"
        )
        box = QMessageBox(self)
        box.setWindowTitle("Keyboard shortcuts")
        box.setTextFormat(Qt.TextFormat.RichText)
        box.setText(f"<table>{rows}</table>{mouse}")
        box.open()

    def _restore(self) -> None:
        screen = QGuiApplication.primaryScreen().availableGeometry()
        self.resize(min(1600, screen.width()), min(900, screen.height()))
        geometry = self._settings.value(f"geometry/{self._key}")
        if geometry is not None:
            self.restoreGeometry(geometry)

    @override
    def resizeEvent(self, event: QResizeEvent) -> None:
        """Numbers go to the right where there is room, else into a tab."""
        super().resizeEvent(event)
        left = self.width() < WIDE_PX
        if left == self._numbers_left:
            return
        self._numbers_left = left
        if left:
            self.tabs.addTab(self._right, "Numbers")
        else:
            self.tabs.removeTab(self.tabs.indexOf(self._right))
            central = self.centralWidget().layout().itemAt(0).layout()
            central.addWidget(self._right)
            self._right.show()

    # --------------------------------------------------------------------------------- messages

    def say(self, text: str, kind: str = "plain") -> None:
        """Say something below the images: plain, warning or error."""
        shown = " – ".join(line.strip() for line in text.splitlines())
        # Long names may be broken, so that they neither widen the window nor are cut.
        shown = re.sub(r"\S{30,}", lambda word: re.sub(r"([/\\_-])", "\\1\u200b", word[0]), shown)
        if shown != self.message.text():
            self.message.setText(shown)
            self.message.setToolTip(text)
        restyle(self.message, kind)

    def save_picture(self, path: Path) -> None:
        """Save what the window looks like.

        Raises
        ------
        DisplayError
            If the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self.grab().save(str(path)):
            raise DisplayError("the picture of the window cannot be written", where=str(path))

    def abandon(self) -> None:
        """The process ends under the window: leave everything safe; Qt is not to be used."""

    @override
    def closeEvent(self, event: QCloseEvent) -> None:
        """Remember the place of the window."""
        self._settings.setValue(f"geometry/{self._key}", self.saveGeometry())
        event.accept()


def scrolled(column: QWidget) -> QScrollArea:
    """A column that scrolls up and down where the window is too low for it."""
    area = QScrollArea()
    area.setWidget(column)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area
