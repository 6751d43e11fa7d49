"""Colours of the two themes and the style sheet of the window.

Images always lie on black: the theme changes what is around them.  No state is told by colour
alone, and no pair of colours that tells two states apart is red against green.
"""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtGui import QColor, QPalette

IMAGE_BACKGROUND = "#0b0c0f"


@dataclass(frozen=True)
class Theme:
    """Colours by what they are for."""

    window: str
    card: str
    edge: str
    text: str
    soft: str
    faint: str
    button: str
    button_edge: str
    hover: str
    handle: str
    accent: str
    accent_hover: str
    on_accent: str
    good: str
    good_back: str
    warn: str
    warn_back: str
    bad: str
    bad_back: str

    def palette(self) -> QPalette:
        """The same colours for what the style sheet does not reach, as ticks."""
        palette = QPalette()
        role = QPalette.ColorRole
        for which, name in (
            (role.Window, self.window),
            (role.Base, self.card),
            (role.Button, self.button),
            (role.WindowText, self.text),
            (role.Text, self.text),
            (role.ButtonText, self.text),
            (role.PlaceholderText, self.soft),
            (role.Mid, self.edge),
            (role.Highlight, self.accent),
            (role.HighlightedText, self.on_accent),
        ):
            palette.setColor(which, QColor(name))
        return palette


DARK = Theme(
    window="#14161b", card="#1b1e25", edge="#2a2e38", text="#e6e9ef", soft="#97a0b0",
    faint="#5b6373", button="#272b35", button_edge="#353a46", hover="#303542", handle="#d5d9e2",
    accent="#e3c45b", accent_hover="#efd476", on_accent="#1a1708",
    good="#6fc3d8", good_back="#1d3440", warn="#e6a15c", warn_back="#3d2f20",
    bad="#f08a80", bad_back="#44262a",
)  # fmt: skip
"""Calm, for a dark room: the images are the brightest things in it."""
LIGHT = Theme(
    window="#eef0f4", card="#ffffff", edge="#d5d9e1", text="#1c2028", soft="#5a6372",
    faint="#a3abb8", button="#ffffff", button_edge="#c3c9d4", hover="#e3e7ee", handle="#4a5262",
    accent="#d8a21b", accent_hover="#e6b43a", on_accent="#1a1708",
    good="#0b6a86", good_back="#d5ecf4", warn="#8f4e00", warn_back="#fbe6cd",
    bad="#b3261e", bad_back="#fbdcd9",
)  # fmt: skip
THEMES = {"dark": DARK, "light": LIGHT}


_chosen = [DARK]


def theme() -> Theme:
    """Theme that is in use, for what paints itself."""
    return _chosen[0]


def choose(name: str) -> Theme:
    """Use a theme."""
    _chosen[0] = THEMES[name]
    return _chosen[0]


def sheet(t: Theme) -> str:
    """Style sheet of a theme."""
    return f"""
QWidget {{ color: {t.text}; font-size: 10pt; }}
QWidget#root {{ background: {t.window}; }}
QFrame#card {{ background: {t.card}; border: 1px solid {t.edge}; border-radius: 10px; }}
QFrame#panel {{ background: {t.card}; border: 1px solid {t.edge}; border-radius: 8px; }}
QLabel#panelTitle {{ font-size: 11pt; font-weight: 600; }}
QLabel#panelNote {{ color: {t.soft}; font-size: 9.5pt; }}
QLabel#heading {{ color: {t.soft}; font-size: 8.5pt; font-weight: 600; letter-spacing: 1px; }}
QLabel#readingName {{ color: {t.soft}; font-size: 9pt; }}
QLabel#readingValue {{ font-size: 13pt; font-weight: 500; }}
QLabel#title {{ font-size: 15pt; font-weight: 600; }}
QLabel#subtitle {{ color: {t.soft}; font-size: 10pt; }}
QLabel#hint {{ color: {t.soft}; font-size: 9pt; }}
QLabel#message {{ color: {t.soft}; padding: 2px 4px; }}
QLabel#message[kind="error"] {{ color: {t.bad}; }}
QLabel#message[kind="warning"] {{ color: {t.warn}; }}
QLabel#pill {{ border-radius: 11px; padding: 3px 12px; font-size: 9.5pt; font-weight: 600; }}
QLabel#pill[kind="good"] {{ background: {t.good_back}; color: {t.good}; }}
QLabel#pill[kind="warning"] {{ background: {t.warn_back}; color: {t.warn}; }}
QLabel#pill[kind="plain"] {{ background: {t.edge}; color: {t.soft}; }}
QLabel#pill[kind="bad"] {{ background: {t.bad_back}; color: {t.bad}; }}
QPushButton {{ background: {t.button}; border: 1px solid {t.button_edge}; border-radius: 7px;
    padding: 7px 12px; }}
QPushButton:hover {{ background: {t.hover}; }}
QPushButton:disabled {{ color: {t.faint}; background: {t.window}; border-color: {t.edge}; }}
QPushButton#start {{ background: {t.accent}; color: {t.on_accent}; border: none;
    font-weight: 600; }}
QPushButton#start:hover {{ background: {t.accent_hover}; }}
QPushButton#start:disabled {{ background: {t.edge}; color: {t.faint}; }}
QPushButton#stop:enabled {{ color: {t.bad}; border-color: {t.bad}; }}
QComboBox {{ background: {t.button}; border: 1px solid {t.button_edge}; border-radius: 7px;
    padding: 6px 10px; }}
QComboBox::drop-down {{ border: none; width: 24px; }}
QComboBox::down-arrow {{ width: 0; height: 0; border-left: 4px solid {t.button};
    border-right: 4px solid {t.button}; border-top: 5px solid {t.soft}; }}
QComboBox QAbstractItemView {{ background: {t.button}; selection-background-color: {t.hover};
    border: 1px solid {t.button_edge}; outline: none; }}
QCheckBox {{ spacing: 8px; }}
QSlider::groove:horizontal {{ height: 4px; background: {t.button_edge}; border-radius: 2px; }}
QSlider::sub-page:horizontal {{ background: {t.soft}; border-radius: 2px; }}
QSlider::handle:horizontal {{ width: 14px; margin: -5px 0; border-radius: 7px;
    background: {t.handle}; }}
QSlider::handle:horizontal:disabled {{ background: {t.faint}; }}
QProgressBar {{ background: {t.button_edge}; border: none; border-radius: 4px; max-height: 8px;
    min-height: 8px; }}
QProgressBar::chunk {{ background: {t.accent}; border-radius: 4px; }}
QToolTip {{ background: {t.button}; color: {t.text}; border: 1px solid {t.button_edge};
    padding: 4px; }}
QLabel#panelNote[kind="warning"] {{ color: {t.warn}; font-weight: 600; }}
QPushButton:checked {{ background: {t.hover}; border-color: {t.accent}; }}
QPushButton:focus, QComboBox:focus {{ border-color: {t.accent}; }}
QScrollArea, QScrollArea > QWidget > QWidget#column {{ background: transparent; border: none; }}
QScrollBar:vertical {{ background: transparent; width: 9px; }}
QScrollBar::handle:vertical {{ background: {t.button_edge}; border-radius: 4px; min-height: 30px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ height: 0; }}
QTabWidget::pane {{ border: none; }}
QTabBar {{ qproperty-drawBase: 0; }}
QTabBar::tab {{ color: {t.soft}; padding: 6px 10px; border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {t.text}; border-bottom-color: {t.accent}; }}
QMenuBar {{ background: {t.window}; }}
QMenuBar::item {{ padding: 4px 10px; background: transparent; border-radius: 4px; }}
QMenuBar::item:selected {{ background: {t.hover}; }}
QMenu {{ background: {t.card}; border: 1px solid {t.button_edge}; padding: 4px; }}
QMenu::item {{ padding: 5px 24px 5px 20px; border-radius: 4px; }}
QMenu::item:selected {{ background: {t.hover}; }}
QMenu::item:disabled {{ color: {t.faint}; }}
QDialog, QMessageBox {{ background: {t.window}; }}
"""
