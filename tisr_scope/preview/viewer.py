"""The images of one time point, side by side, and what is under the mouse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from qtpy.QtCore import QPointF, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from tisr_scope.preview import colour, picture
from tisr_scope.preview.annotations import time_label
from tisr_scope.preview.contrast import MERGE_COLOURS, ContrastBook, Kind
from tisr_scope.preview.experiment import ChannelImages, Image, TimePoint
from tisr_scope.preview.marks import Marks
from tisr_scope.preview.panels import ImagePanel, PanelGrid
from tisr_scope.preview.picture import Contrast, Picture
from tisr_scope.preview.shared_view import SharedView

WIDEFIELD, SR, CONFIDENCE, OVERLAY, SIM, COMPARE = (
    "Wide field",
    "Super-resolution",
    "Confidence",
    "Overlay",
    "Conventional SIM",
    "Wide field | SR",
)


@dataclass
class Display:
    """What is chosen in the controls."""

    channel: int = 0
    merge: bool = False
    steps: int = 5
    mask: bool = False
    threshold: float = 0.5
    contrasts: ContrastBook = field(default_factory=ContrastBook)


class Viewer(QWidget):
    """Panels for wide field, super-resolution, confidence, overlay, conventional SIM, and a split.

    Parameters
    ----------
    field_um : tuple of float
        Height and width of the field of view in micrometres.
    display : Display
        Read whenever something is drawn.
    sim : bool
        Whether conventional SIM can be shown.
    """

    hovered = Signal(str)
    """What is under the mouse, in words."""

    def __init__(self, field_um: tuple[float, float], display: Display, *, sim: bool) -> None:
        super().__init__()
        self.display = display
        self.view = SharedView(field_um)
        self.marks = Marks()
        self.shown: TimePoint | None = None
        self.stale = ""
        """Why nothing the network made is true any more; empty while it is."""
        self._point: QPointF | None = None
        names = [WIDEFIELD, *([SIM] if sim else []), SR, CONFIDENCE, OVERLAY, COMPARE]
        self.panels = {name: ImagePanel(name, self.view, self.marks) for name in names}
        bar = colour.unpack(colour.confidence_table()[None, :])
        self.panels[CONFIDENCE].add_colour_bar(bar, "0", "1")
        self.grid = PanelGrid(list(self.panels.values()), self.view)
        self.grid.want(self.panels[COMPARE], False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.grid)
        for panel in self.panels.values():
            panel.canvas.hovered.connect(self._hover)

    def clear(self) -> None:
        """Show nothing."""
        self.shown = None
        self.stale = ""
        for panel in self.panels.values():
            panel.clear()

    def show_time_point(self, time_point: TimePoint) -> None:
        """Show other images."""
        self.shown = time_point
        self.redraw()

    def redraw(self) -> None:
        """Draw everything that is wanted again."""
        if self.shown is None:
            return
        images = self.shown.channels[self.display.channel]
        stamp = "" if self.shown.time_s is None else time_label(self.shown.time_s)
        for panel in self.grid.shown():
            panel.set_stamp(stamp)
            self._draw(panel, images)
        if self._point is not None:
            self.hovered.emit(self.reading(self._point))

    def _draw(self, panel: ImagePanel, images: ChannelImages) -> None:
        made = self._picture(panel.title, images)
        if made is None:
            panel.clear()
            panel.set_note(self._absent(panel.title))
            return
        by_network = panel.title in {SR, CONFIDENCE, OVERLAY}
        stale = self.stale if by_network else ""
        beside = self._merged("sr") if panel.title == COMPARE else None
        if self.stale and beside is not None:
            beside = beside.faded()
        panel.show_picture(made.faded() if stale else made, beside, stale)
        panel.set_note(*self._note(panel.title, images))

    def _absent(self, title: str) -> str:
        if title in {WIDEFIELD, SIM, COMPARE}:
            return ""
        return self.stale or "not super-resolved"

    def _picture(self, title: str, images: ChannelImages) -> Picture | None:
        sr, values = images.sr, images.confidence
        if title in {WIDEFIELD, COMPARE}:
            return self._merged("widefield")
        if title == SR:
            return self._merged("sr")
        if title == SIM:
            return self._merged("sim")
        if sr is None or values is None:
            return None
        if title == CONFIDENCE:
            return picture.confidence(values)
        contrast = self.contrast(self.display.channel, "sr", sr)
        if self.display.mask:
            return picture.masked(sr, values, contrast, self.display.threshold)
        return picture.overlay(sr, values, contrast, self.display.steps)

    def _merged(self, kind: Kind) -> Picture | None:
        """Picture of one kind: of the chosen channel, or of all of them."""
        assert self.shown is not None
        chosen = [self.display.channel]
        if self.display.merge:
            chosen = sorted(self.shown.channels)
        layers = []
        for channel in chosen:
            image = image_of(self.shown.channels[channel], kind)
            if image is not None:
                contrast = self.contrast(channel, kind, image)
                if self.display.merge and contrast.lut == "gray":
                    own = MERGE_COLOURS[channel % len(MERGE_COLOURS)]
                    contrast = replace(contrast, lut=own)
                layers.append(picture.intensity(image, contrast))
        return picture.merged(layers) if layers else None

    def contrast(self, channel: int, kind: Kind, image: Image) -> Contrast:
        """Contrast of an image."""
        return self.display.contrasts.of(channel, kind, image)

    def _note(self, title: str, images: ChannelImages) -> tuple[str, str]:
        """Words beside the title, and whether they warn."""
        assert self.shown is not None
        if title == CONFIDENCE and images.confidence is not None:
            mean = f"mean {100 * images.confidence.mean():.0f} %"
            return (mean, "plain") if images.calibrated else (f"{mean}, not calibrated", "warning")
        if title == OVERLAY and images.confidence is not None:
            if not self.display.mask:
                return "brightness and confidence", "plain"
            hidden = float((images.confidence < self.display.threshold).mean())
            return f"{hidden:.1%} hidden", "plain"
        if title == COMPARE:
            return "drag the line", "plain"
        t = {WIDEFIELD: images.widefield_t, SR: images.sr_t, SIM: images.sim_t}[title]
        if t == self.shown.t:
            return f"time point {t + 1}", "plain"
        return f"time point {t + 1}, not {self.shown.t + 1}", "warning"

    # ------------------------------------------------------------------------- under the mouse

    def _hover(self, point: QPointF | None) -> None:
        self._point = point
        self.hovered.emit("" if point is None else self.reading(point))

    def reading(self, point: QPointF) -> str:
        """Place, electrons and confidence at a point of the field."""
        height, width = self.view.field_um
        if self.shown is None or not (0 <= point.x() < width and 0 <= point.y() < height):
            return ""
        images = self.shown.channels[self.display.channel]
        words = [f"x {point.x():.2f}, y {point.y():.2f} µm"]
        if images.widefield is not None:
            words.append(f"wide field {self._value(images.widefield, point):.1f} e⁻")
        if images.sr is not None and images.confidence is not None and not self.stale:
            sr = self._value(images.sr, point)
            scale = images.scale_electrons
            shown = f"{sr:.3f}" if scale is None else f"{sr * scale:.1f} e⁻"
            words.append(f"super-resolution {shown}")
            unsure = "" if images.calibrated else ", not calibrated"
            words.append(f"confidence {100 * self._value(images.confidence, point):.0f} %{unsure}")
        return "   ".join(words)

    def _value(self, image: Image, point: QPointF) -> float:
        height, width = self.view.field_um
        row = min(int(point.y() / height * image.shape[0]), image.shape[0] - 1)
        column = min(int(point.x() / width * image.shape[1]), image.shape[1] - 1)
        return float(image[row, column])


def image_of(images: ChannelImages, kind: Kind) -> Image | None:
    """One kind of image of a channel."""
    return {"widefield": images.widefield, "sr": images.sr, "sim": images.sim}[kind]
