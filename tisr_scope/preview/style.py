"""Colours and the style sheet of the window."""

from __future__ import annotations

TEXT = "#e6e9ef"
SOFT = "#97a0b0"
FAINT = "#5b6373"
WINDOW = "#14161b"
CARD = "#1b1e25"
EDGE = "#2a2e38"
IMAGE_BACKGROUND = "#0b0c0f"
ACCENT = "#e3c45b"
GOOD = "#7fc8a9"
WARN = "#e6a15c"
BAD = "#e57373"

STYLE = f"""
QWidget {{ color: {TEXT}; font-size: 10pt; }}
QWidget#root {{ background: {WINDOW}; }}
QFrame#card {{ background: {CARD}; border: 1px solid {EDGE}; border-radius: 10px; }}
QFrame#panel {{ background: {CARD}; border: 1px solid {EDGE}; border-radius: 8px; }}
QLabel#panelTitle {{ font-size: 11pt; font-weight: 600; }}
QLabel#panelNote {{ color: {SOFT}; font-size: 9.5pt; }}
QLabel#heading {{ color: {SOFT}; font-size: 8.5pt; font-weight: 600; letter-spacing: 1px; }}
QLabel#readingName {{ color: {SOFT}; font-size: 9pt; }}
QLabel#readingValue {{ font-size: 14pt; font-weight: 500; }}
QLabel#title {{ font-size: 15pt; font-weight: 600; }}
QLabel#subtitle {{ color: {SOFT}; font-size: 10pt; }}
QLabel#hint {{ color: {SOFT}; font-size: 9pt; }}
QLabel#message {{ color: {SOFT}; padding: 2px 4px; }}
QLabel#message[kind="error"] {{ color: {BAD}; }}
QLabel#message[kind="warning"] {{ color: {WARN}; }}
QLabel#pill {{ border-radius: 11px; padding: 3px 12px; font-size: 9.5pt; font-weight: 600; }}
QLabel#pill[kind="good"] {{ background: #20372f; color: {GOOD}; }}
QLabel#pill[kind="warning"] {{ background: #3d2f20; color: {WARN}; }}
QLabel#pill[kind="plain"] {{ background: {EDGE}; color: {SOFT}; }}
QLabel#pill[kind="bad"] {{ background: #3f2427; color: {BAD}; }}
QPushButton {{ background: #272b35; border: 1px solid #353a46; border-radius: 7px;
    padding: 7px 12px; }}
QPushButton:hover {{ background: #303542; }}
QPushButton:disabled {{ color: {FAINT}; background: #1f222a; border-color: {EDGE}; }}
QPushButton#start {{ background: {ACCENT}; color: #1a1708; border: none; font-weight: 600; }}
QPushButton#start:hover {{ background: #efd476; }}
QPushButton#start:disabled {{ background: #2b2a24; color: {FAINT}; }}
QPushButton#stop:enabled {{ color: #ffb4ab; border-color: #6b3a3a; }}
QComboBox {{ background: #272b35; border: 1px solid #353a46; border-radius: 7px;
    padding: 6px 10px; }}
QComboBox::drop-down {{ border: none; width: 24px; }}
QComboBox::down-arrow {{ width: 0; height: 0; border-left: 4px solid #272b35;
    border-right: 4px solid #272b35; border-top: 5px solid {SOFT}; }}
QComboBox QAbstractItemView {{ background: #272b35; selection-background-color: #3a404e;
    border: 1px solid #353a46; outline: none; }}
QCheckBox {{ spacing: 8px; }}
QCheckBox::indicator {{ width: 15px; height: 15px; border-radius: 4px; border: 1px solid #4a5160;
    background: #20242d; }}
QCheckBox::indicator:checked {{ background: {ACCENT}; border-color: {ACCENT}; }}
QSlider::groove:horizontal {{ height: 4px; background: #323743; border-radius: 2px; }}
QSlider::sub-page:horizontal {{ background: #6f778a; border-radius: 2px; }}
QSlider::handle:horizontal {{ width: 14px; margin: -5px 0; border-radius: 7px;
    background: #d5d9e2; }}
QSlider::handle:horizontal:disabled {{ background: #4b515e; }}
QProgressBar {{ background: #2c313c; border: none; border-radius: 4px; max-height: 8px;
    min-height: 8px; }}
QProgressBar::chunk {{ background: {ACCENT}; border-radius: 4px; }}
QToolTip {{ background: #2b303b; color: {TEXT}; border: 1px solid #3d4350; padding: 4px; }}
"""
"""Dark, calm style: the images are the brightest things in the room."""
