"""What is wrong with the geometry of a window: cut words, overlaps, things out of their place."""

from __future__ import annotations

from itertools import combinations

from qtpy.QtCore import QRect
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QComboBox,
    QLabel,
    QMainWindow,
    QTabWidget,
    QWidget,
)

from tisr_scope.preview.widgets import ElidedLabel


def faults(window: QMainWindow) -> list[str]:
    """Every fault in words; empty where all is well."""
    found: list[str] = []
    for widget in window.findChildren(QWidget):
        if widget.isVisible() and not widget.objectName().startswith("qt_"):
            found += _cut(widget) + _outside(widget) + _overlaps(widget)
    return found


def _name(widget: QWidget) -> str:
    text = widget.text() if isinstance(widget, QLabel | QAbstractButton) else ""
    return f"{type(widget).__name__} {widget.objectName()} {text!r}"


def _cut(widget: QWidget) -> list[str]:
    if isinstance(widget, ElidedLabel) or not isinstance(
        widget, QLabel | QAbstractButton | QComboBox
    ):
        return []
    if isinstance(widget, QLabel) and widget.wordWrap():
        longest = max(widget.text().replace("\u200b", " ").split(), key=len, default="")
        wide = widget.fontMetrics().horizontalAdvance(longest) <= widget.width()
        high = widget.heightForWidth(widget.width()) <= widget.height() + 1
        return [] if wide and high else [f"cut: {_name(widget)} in {widget.size().toTuple()}"]
    needed = widget.minimumSizeHint()
    if widget.width() + 1 < needed.width() or widget.height() + 1 < needed.height():
        return [f"cut: {_name(widget)} {widget.size().toTuple()} < {needed.toTuple()}"]
    return []


def _outside(widget: QWidget) -> list[str]:
    parent = widget.parentWidget()
    if parent is None or widget.isWindow():
        return []
    area = parent.parentWidget()
    place = widget.geometry()
    if isinstance(area, QAbstractScrollArea) and area.viewport() is parent:
        # A column may be longer than its viewport, and then scrolls; never wider.
        fits = place.left() >= 0 and place.width() <= parent.width()
    else:
        fits = QRect(-1, -1, parent.width() + 2, parent.height() + 2).contains(place)
    return [] if fits else [f"outside: {_name(widget)} {place.getRect()} of {_name(parent)}"]


def _overlaps(parent: QWidget) -> list[str]:
    if isinstance(parent, QTabWidget | QAbstractScrollArea):
        return []
    children = [
        child
        for child in parent.children()
        if isinstance(child, QWidget)
        and child.isVisible()
        and not child.isWindow()
        and not child.objectName().startswith("qt_")
    ]
    return [
        f"overlap: {_name(a)} {a.geometry().getRect()} and {_name(b)} {b.geometry().getRect()}"
        for a, b in combinations(children, 2)
        if a.geometry().intersects(b.geometry())
    ]
