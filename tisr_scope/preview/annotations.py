"""What is written onto images, on the screen and in snapshots and movies alike."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFont, QPainter, QPen

LIGHT = QColor("#f2f4f8")
SHADOW = QColor(0, 0, 0, 190)


def nice_length(span_um: float, part: float = 0.24) -> float:
    """Round length (1, 2 or 5 times a power of ten) near a part of the visible width."""
    wanted = max(span_um * part, 1e-6)
    power = 10.0 ** math.floor(math.log10(wanted))
    return max((m * power for m in (1, 2, 5) if m * power <= wanted), default=power)


def length_label(length_um: float) -> str:
    """A length with its unit: "500 nm", "2 µm"."""
    return f"{length_um * 1000:g} nm" if length_um < 1 else f"{length_um:g} µm"


def time_label(seconds: float) -> str:
    """Time on an image: "0.35 s", "2:05.0", "1:02:03"."""
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{int(minutes)}:{rest:04.1f}"
    return f"{int(minutes) // 60}:{int(minutes) % 60:02}:{int(rest):02}"


def font_of(painter: QPainter, pixels: float) -> QFont:
    """Font of a height in pixels of the painter."""
    font = QFont(painter.font())
    font.setPixelSize(max(round(pixels), 6))
    font.setWeight(QFont.Weight.Medium)
    return font


def draw_scale_bar(painter: QPainter, visible: QRectF, px_per_um: float, size: float = 13) -> None:
    """Scale bar in the lower right corner of ``visible`` (painter pixels); ``size`` of the text."""
    length_um = nice_length(visible.width() / px_per_um)
    length = length_um * px_per_um
    right, bottom = visible.right() - size, visible.bottom() - size
    painter.setFont(font_of(painter, size))
    text = length_label(length_um)
    wide = max(length, painter.fontMetrics().horizontalAdvance(text) + 6.0)
    box = QRectF(right - wide, bottom - 1.9 * size, wide, 1.6 * size)
    side = Qt.AlignmentFlag.AlignHCenter if wide == length else Qt.AlignmentFlag.AlignRight
    for colour, width, grow, shift in (
        (SHADOW, 0.45 * size, 0.1 * size, 0.08 * size),
        (LIGHT, 0.23 * size, 0.0, 0.0),
    ):
        painter.setPen(QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap))
        painter.drawLine(QPointF(right - length - grow, bottom), QPointF(right + grow, bottom))
        painter.drawText(box.translated(shift, shift), int(side), text)


def draw_words(
    painter: QPainter,
    box: QRectF,
    text: str,
    size: float = 13,
    where: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop,
) -> None:
    """Words over an image, legible on bright and on dark."""
    painter.setFont(font_of(painter, size))
    inner = box.adjusted(0.8 * size, 0.6 * size, -0.8 * size, -0.6 * size)
    flags = int(where) | int(Qt.TextFlag.TextWordWrap)
    for colour, shift in ((SHADOW, 0.08 * size), (LIGHT, 0.0)):
        painter.setPen(colour)
        painter.drawText(inner.translated(shift, shift), flags, text)
