"""The window, drawn offscreen: what it shows, what it starts and stops, and its colours."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_session import SIZE, FakeSession

from tisr_scope.errors import DisplayError
from tisr_scope.live.live_records import SessionStatus
from tisr_scope.preview import colour
from tisr_scope.preview.app import application, dispose, missing_display, show

pytest.importorskip("qtpy")
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from tisr_scope.preview.annotations import length_label, nice_length, time_label
from tisr_scope.preview.readings import dose, duration, of_limit
from tisr_scope.preview.window import LiveWindow


@pytest.fixture
def window() -> Iterator[LiveWindow]:
    application()
    shown = LiveWindow(FakeSession())
    yield shown
    dispose(shown)


def session_of(window: LiveWindow) -> FakeSession:
    assert isinstance(window.session, FakeSession)
    return window.session


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Relative luminance of sRGB bytes (IEC 61966-2-1)."""
    c = rgb[..., :3] / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


# ------------------------------------------------------------------------------------- colours


def test_overlay_of_low_confidence_is_never_black() -> None:
    for steps in range(4, 9):
        legend = colour.legend_rgba(steps)
        assert legend.shape == (steps, 256, 4)
        assert (legend[..., 3] == 255).all()
        # Last row: least confidence.  Dark grey of a screen at 10 % luminance, or brighter.
        assert luminance(legend[-1]).min() > 0.08
        # First row: full confidence, from black to bright.
        assert luminance(legend[0])[0] == 0
        assert luminance(legend[0])[-1] > 0.7


def test_overlay_keeps_brightness_order_and_fades_colour() -> None:
    table = colour.overlay_table(6).reshape(6, 256)
    rgba = colour.unpack(table).astype(float)
    light = luminance(rgba)
    assert (np.diff(light, axis=1) > -2e-3).all(), "a brighter pixel must not look darker"
    contrast = light[:, -1] - light[:, 0]
    assert (np.diff(contrast) > 0).all(), "contrast must rise with confidence"
    spread = rgba[..., :3].max(axis=-1) - rgba[..., :3].min(axis=-1)
    assert spread[-1].max() > 4 * spread[0].max(), "low confidence must be nearly neutral"


def test_overlay_pixels_are_those_of_the_legend() -> None:
    image = np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
    confidence = np.array([[0.0, 0.0], [1.0, 1.0]], np.float32)
    shown = colour.overlay_rgba(image, confidence, 0.0, 1.0, steps=5)
    legend = colour.legend_rgba(5)
    np.testing.assert_array_equal(shown[0, 0], legend[-1, 0])
    np.testing.assert_array_equal(shown[0, 1], legend[-1, 255])
    np.testing.assert_array_equal(shown[1, 0], legend[0, 0])
    np.testing.assert_array_equal(shown[1, 1], legend[0, 255])


def test_intensity_is_grey_and_linear_between_the_limits() -> None:
    image = np.linspace(-1, 3, 101, dtype=np.float32)[None]
    rgba = colour.intensity_rgba(image, 0.0, 2.0)
    expected = np.clip(image[0] * 127.5, 0, 255)
    assert np.abs(rgba[0, :, 0] - expected).max() <= 1
    assert (rgba[..., 0] == rgba[..., 1]).all()
    assert (rgba[..., 1] == rgba[..., 2]).all()


def test_confidence_map_is_ordered_and_calm() -> None:
    rgba = colour.confidence_rgba(np.linspace(0, 1, 256, dtype=np.float32)[None])
    light = luminance(rgba[0])
    assert (np.diff(light) > -1e-3).all()
    assert light[-1] < 0.5, "a sure background must not dazzle"


def test_mask_hides_exactly_the_unsure_pixels() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (40, 50)).astype(np.float32)
    confidence = rng.uniform(0, 1, (40, 50)).astype(np.float32)
    shown = colour.masked_rgba(image, confidence, 0, 1, 0.6)
    plain = colour.intensity_rgba(image, 0, 1)
    sure = confidence >= 0.6
    np.testing.assert_array_equal(shown[sure], plain[sure])
    tints = {tuple(tint) for tint in colour.MASK_TINTS}
    assert {tuple(int(v) for v in pixel[:3]) for pixel in shown[~sure]} == tints


def test_oklab_of_known_colours() -> None:
    """Values from the definition of Oklab (B. Ottosson, 2020): white, red."""
    white, red = colour.oklab(np.array([[1.0, 1, 1], [1.0, 0, 0]]))
    np.testing.assert_allclose(white, [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(red, [0.628, 0.225, 0.126], atol=1e-3)
    rng = np.random.default_rng(1)
    srgb = rng.uniform(0, 1, (50, 3))
    np.testing.assert_allclose(colour.from_oklab(colour.oklab(srgb)), srgb, atol=1e-5)


def test_contrast_of_an_empty_or_constant_image_is_usable() -> None:
    assert colour.contrast_limits(np.full((4, 4), np.nan, np.float32), 1, 99) == (0.0, 1.0)
    low, high = colour.contrast_limits(np.full((4, 4), 3, np.float32), 1, 99)
    assert high > low


# --------------------------------------------------------------------------------- plain words


@pytest.mark.parametrize(
    ("span", "length", "label"),
    [(8.0, 1.0, "1 µm"), (64.0, 10.0, "10 µm"), (2.5, 0.5, "500 nm"), (0.9, 0.2, "200 nm")],
)
def test_scale_bar_lengths_are_round(span: float, length: float, label: str) -> None:
    assert nice_length(span) == pytest.approx(length)
    assert length_label(nice_length(span)) == label


def test_durations_and_doses() -> None:
    assert [duration(s) for s in (0, 42.4, 75, 3723)] == ["0:00", "0:42", "1:15", "1:02:03"]
    assert of_limit(27.0, None) == "27 mJ"
    assert of_limit(27.0, 108.0) == "27 mJ · 25 %"
    assert [time_label(s) for s in (0.35, 65, 3723)] == ["0.35 s", "1:05.0", "1:02:03"]
    assert [dose(d) for d in (0.09, 27.0, 1800.0)] == ["90 µJ", "27 mJ", "1.8 J"]


# -------------------------------------------------------------------------------------- window


def run_to(window: LiveWindow, t: int, since: int = 1) -> None:
    """The run goes on time point by time point, as it is followed."""
    for session_of(window).t in range(since, t + 1):
        window.draw()
    window.count()


def test_the_window_opens_dark_and_closing_stops_the_run(window: LiveWindow) -> None:
    session = session_of(window)
    window.show()
    application().processEvents()
    window.draw()
    window.count()
    assert session.calls == [], "the light must not go on because a window opened"
    assert "dark" in window.state.text()
    assert not window.run_controls.stop_button.isEnabled()
    window.run_controls.start_button.click()
    assert session.calls == ["start"]
    window.close()
    assert not session.light_on, "the light must be off when the window is closed"
    assert session.calls[1:3] == ["stop", "join"]


def test_a_run_can_be_started_with_the_window() -> None:
    application()
    window = LiveWindow(FakeSession(), autostart=True)
    assert session_of(window).light_on
    dispose(window)
    assert not session_of(window).light_on


@pytest.mark.parametrize("answer", [False, True])
def test_a_person_is_asked_before_a_running_experiment_is_closed(
    window: LiveWindow, answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(window)
    window.start()
    window.show()
    asked: list[bool] = []
    monkeypatch.setattr(window, "confirm_end", lambda: asked.append(True) or answer)
    window.quit()
    assert asked == [True]
    assert session.light_on is not answer
    assert window.isVisible() is not answer


def test_all_images_are_of_the_same_time_point(window: LiveWindow) -> None:
    """The camera is ahead of the network; the image shown beside a result is the one it shows."""
    window.start()
    run_to(window, 120, since=100)
    assert window.camera.note == window.sr.note == "time point 120"
    session = session_of(window)
    shown = window.viewer.shown
    assert shown is not None
    session.t = 119  # index 119, which the fake camera and the fake network call by this number
    newest = session.newest_widefield(0)
    assert newest is not None
    np.testing.assert_array_equal(shown.channels[0].widefield, newest[1])
    window.newest.trigger()
    assert window.camera.note == "time point 121"
    assert window.sr.note == "time point 120, not 121"
    assert window.sr.canvas.parent().findChild(type(window.sr._note)).property("kind") == "warning"


def test_an_image_of_another_time_point_is_marked(window: LiveWindow) -> None:
    window.start()
    session_of(window).t = 120  # nothing was seen before, so the camera image of 119 is not held
    window.draw()
    assert window.sr.note == "time point 120"
    assert window.camera.note == "time point 121, not 120"


def test_images_and_numbers_follow_the_session(window: LiveWindow) -> None:
    session = session_of(window)
    window.start()
    run_to(window, 120, since=119)
    assert [p.image() is not None for p in window.panels] == [True] * 4
    first = window.sr.image()
    assert first is not None
    assert first.shape == (2 * SIZE, 2 * SIZE, 4)
    assert first.dtype == np.uint8
    readings = window.readings
    assert readings.recorded.value == "240 of 1600"
    assert readings.camera.value == "20.0 /s"
    assert readings.sr.value == "5.1 /s"
    assert readings.lag.value == "0.35 s"
    assert readings.skipped.value == "90"
    assert readings.remaining.value == "0:34"
    assert readings.dose.value == "10.8 mJ"
    assert readings.calibration.text() == "calibrated"
    session.t = 160
    window.draw()
    window.count()
    assert readings.recorded.value == "320 of 1600"
    assert (window.sr.image() != first).any()


def test_uncalibrated_is_said_in_the_window() -> None:
    application()
    window = LiveWindow(FakeSession(calibrated=False), autostart=True)
    session_of(window).t = 10
    window.draw()
    window.count()
    assert window.readings.calibration.text() == "not calibrated"
    assert "passes" in window.readings.reason.text()
    assert "not calibrated" in window.confidence.note
    dispose(window)


def test_the_bleaching_curve_survives_a_change_of_channel(window: LiveWindow) -> None:
    window.start()
    run_to(window, 30)
    curve = list(window.readings.signal_curve.values)
    assert len(curve) == 30
    window.controls.channel.setCurrentIndex(1)
    assert len(window.readings.signal_curve.values) == 30, "the other channel was followed too"
    window.controls.channel.setCurrentIndex(0)
    run_to(window, 35, since=31)
    assert list(window.readings.signal_curve.values)[:30] == curve


def test_images_fill_their_panels_after_every_resize(window: LiveWindow) -> None:
    window.show()
    for width, height in [(1600, 900), (1280, 720), (1024, 768), (2560, 1440)] * 3:
        window.resize(width, height)
        application().processEvents()
        for panel in window.panels:
            assert panel.canvas.filled() >= 0.8
    window.viewer.view.zoom_at(QPointF(1.0, 2.0), 4.0)
    seen = window.camera.canvas.visible_um().center()
    for size in [(1024, 768), (2560, 1440), (1280, 720)] * 4:
        window.resize(*size)
        application().processEvents()
    centre = window.camera.canvas.visible_um().center()
    assert (centre.x(), centre.y()) == pytest.approx((seen.x(), seen.y()))
    assert window.viewer.view.zoom == 4.0


def test_panels_zoom_and_move_together(window: LiveWindow) -> None:
    window.show()
    application().processEvents()
    place = QPointF(100, 80)
    under = window.sr.canvas.point_um(place)
    wheel(window.sr.canvas, place, 3)
    now = window.sr.canvas.point_um(place)
    assert (now.x(), now.y()) == pytest.approx((under.x(), under.y())), "zooms where the mouse is"
    expected = window.camera.canvas.visible_um()
    assert expected.width() < 8
    for panel in window.panels:
        assert panel.canvas.visible_um() == expected
    QTest.mouseDClick(window.overlay.canvas, Qt.MouseButton.LeftButton)
    assert window.camera.canvas.filled() > 0.8


def wheel(canvas: QWidget, place: QPointF, notches: int) -> None:
    """Turn the wheel over a place."""
    event = QWheelEvent(
        place,
        QPointF(canvas.mapToGlobal(place.toPoint())),
        QPoint(0, 0),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)


def test_what_is_drawn_is_the_part_that_is_looked_at(window: LiveWindow) -> None:
    """Pixels on the screen are those of the image, zoomed in and binned alike."""
    window.start()
    run_to(window, 20)
    window.show()
    window.viewer.view.zoom_at(QPointF(2.0, 5.0), 16.0)
    application().processEvents()
    canvas = window.sr.canvas
    whole = window.sr.image()
    assert whole is not None
    screen = canvas.grab().toImage()
    ratio = screen.width() / canvas.width()
    for place in (QPointF(70, 60), QPointF(150, 200), QPointF(200, 90)):
        point = canvas.point_um(place)
        row, column = int(point.y() / 0.0313), int(point.x() / 0.0313)
        shown = screen.pixelColor(int(place.x() * ratio), int(place.y() * ratio))
        assert shown.red() == whole[row, column, 0]


def test_cursor_reads_electrons_and_per_cent(window: LiveWindow) -> None:
    window.start()
    run_to(window, 20)
    shown = window.viewer.shown
    assert shown is not None
    images = shown.channels[0]
    assert images.widefield is not None and images.confidence is not None
    words = window.viewer.reading(QPointF(3.5 * 0.0626, 10.5 * 0.0626))
    assert "x 0.22, y 0.66 µm" in words
    assert f"wide field {images.widefield[10, 3]:.1f} e⁻" in words
    assert f"confidence {100 * images.confidence[21, 7]:.0f} %" in words
    assert images.sr is not None and images.scale_electrons == 112.0
    assert f"super-resolution {112 * images.sr[21, 7]:.1f} e⁻" in words
    assert window.viewer.reading(QPointF(-1, 0)) == ""


def test_contrast_stays_until_it_is_asked_for(window: LiveWindow) -> None:
    window.start()
    run_to(window, 5)
    book = window.display.contrasts
    first = book.known(0, "widefield")
    run_to(window, 90, since=89)
    assert book.known(0, "widefield") == first, "contrast that follows every image flickers"
    window.controls.auto.click()
    assert book.known(0, "widefield") != first
    window.controls.undo.click()
    assert (book.known(0, "widefield"), book.known(0, "sr")) == (first, book.known(0, "sr"))
    assert first is not None
    window.controls.high.setValue(first.high / 2)
    changed = book.known(0, "widefield")
    assert changed is not None
    assert changed.high == pytest.approx(first.high / 2, abs=0.06)
    window.controls.lock.setChecked(True)
    window.controls.auto.click()
    assert book.known(0, "widefield") == changed, "a locked channel is left alone"


def test_gamma_lut_and_histogram(window: LiveWindow) -> None:
    window.start()
    run_to(window, 5)
    plain = window.camera.image()
    assert plain is not None
    window.controls.gamma.set_value(0.5)
    lifted = window.camera.image()
    assert lifted is not None
    middle = (plain[..., 0] > 20) & (plain[..., 0] < 200)
    assert (lifted[middle][:, 0] > plain[middle][:, 0]).all()
    window.controls.lut.setCurrentText("green")
    green = window.camera.image()
    assert green is not None
    assert not green[..., 0].any() and not green[..., 2].any() and green[..., 1].any()
    histogram = window.controls.histogram
    histogram.resize(258, 72)
    QTest.mousePress(histogram, Qt.MouseButton.LeftButton, pos=QPoint(129, 30))
    QTest.mouseRelease(histogram, Qt.MouseButton.LeftButton, pos=QPoint(129, 30))
    contrast = window.display.contrasts.known(0, "widefield")
    assert contrast is not None
    least, most = histogram.range
    assert min(abs(v - (least + most) / 2) for v in (contrast.low, contrast.high)) < 0.02 * most


def test_overlay_options(window: LiveWindow) -> None:
    window.start()
    run_to(window, 5)
    colourful = window.overlay.image()
    window.controls.mask.click()
    masked = window.overlay.image()
    assert masked is not None and (masked != colourful).any()
    assert "hidden" in window.overlay.note
    tint = np.array(colour.MASK_TINTS[0])
    assert (masked[..., :3] == tint).all(axis=-1).any()
    window.controls.mask.click()
    window.controls.steps.set_value(8)
    assert len(np.unique(window.overlay.image().reshape(-1, 4), axis=0)) > 100  # type: ignore[union-attr]


def test_other_channel(window: LiveWindow) -> None:
    window.start()
    run_to(window, 5)
    first = window.sr.image()
    window.controls.channel.setCurrentIndex(1)
    assert (window.sr.image() != first).any(), "images of another channel must not linger"
    window.count()
    assert window.readings.camera.value == "10.0 /s"


def test_two_channels_merged(window: LiveWindow) -> None:
    window.start()
    run_to(window, 5)
    one = window.camera.image()
    window.controls.channel.setCurrentIndex(1)
    other = window.camera.image()
    window.controls.merge.setChecked(True)
    both = window.camera.image()
    assert one is not None and other is not None and both is not None
    np.testing.assert_array_equal(both[..., 1], one[..., 0])  # green
    np.testing.assert_array_equal(both[..., 0], other[..., 0])  # magenta
    np.testing.assert_array_equal(both[..., 2], other[..., 0])


def test_stop_and_record_again(window: LiveWindow) -> None:
    session = session_of(window)
    window.start()
    run_to(window, 30)
    window.run_controls.stop_button.click()
    window.count()
    assert not session.light_on
    assert window.run_controls.start_button.isEnabled()
    assert not window.run_controls.stop_button.isEnabled()
    assert "saved in" in window.message.text()
    window.run_controls.start_button.click()
    assert window.session is session.successor
    assert session_of(window).light_on
    assert window.sr.image() is None


def test_failed_network_greys_its_pictures_and_recording_goes_on(window: LiveWindow) -> None:
    session = session_of(window)
    window.start()
    run_to(window, 9)
    before = {panel.title: panel.image() for panel in window.panels}
    session.live_error = "RuntimeError: out of memory"
    window.draw()
    for panel in (window.sr, window.confidence, window.overlay):
        image = panel.image()
        assert image is not None
        assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
        assert image[..., 0].min() >= 58, "grey, not dark: dark reads as background"
        assert "stopped" in panel.canvas.notice
    np.testing.assert_array_equal(window.camera.image(), before["Wide field"])
    window.count()
    assert window.message.property("kind") == "warning"
    assert "recording goes on" in window.message.text()
    assert window.readings.calibration.text() != "calibrated"
    assert session.light_on
    assert "confidence" not in window.viewer.reading(QPointF(1, 1))


def test_failed_recording_is_an_error(window: LiveWindow) -> None:
    session = session_of(window)
    window.start()
    session.error, session.light_on = "camera unplugged\n  what to do: plug it in", False
    window.count()
    assert window.message.property("kind") == "error"
    assert "plug it in" in window.message.text()
    assert window.state.text() == "stopped by an error"


def test_every_shortcut_is_listed_and_unique(window: LiveWindow) -> None:
    keys = [key for key, _ in window.shortcuts()]
    assert len(keys) == len(set(keys)) > 10
    assert {"?", "R", "Esc", "Ctrl+Q"} <= set(keys)


def test_place_and_theme_are_remembered() -> None:
    application()
    first = LiveWindow(FakeSession())
    first.show()
    first.resize(first.minimumSizeHint().width(), 702)
    application().processEvents()
    first.set_theme("light")
    dispose(first)
    second = LiveWindow(FakeSession())
    second.show()
    application().processEvents()
    found = (second.height(), second.theme)
    second.set_theme("dark")
    second.resize(1600, 900)
    application().processEvents()
    dispose(second)
    assert found == (702, "light")


def test_a_build_of_qt_that_loses_references_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PySide6 6.12.0 does with Python 3.11: counted here, so that any such build is found."""
    from tisr_scope.doctor import examine

    counts = itertools.cycle([10_000, 9_800])
    monkeypatch.setattr(sys, "getrefcount", lambda _: next(counts))
    with pytest.raises(DisplayError, match=r"loses references(.|\n)*6\.12\.0(.|\n)*--headless"):
        application()
    found = {finding.topic: finding for finding in examine(Path())}["window"]
    assert found.verdict == "problem"
    assert "6.12.0" in found.text


def test_picture_of_the_window(window: LiveWindow, tmp_path: Path) -> None:
    session_of(window).t = 50
    window.draw()
    window.save_picture(tmp_path / "figures" / "window.png")
    assert (tmp_path / "figures" / "window.png").stat().st_size > 20_000
    with pytest.raises(DisplayError, match="cannot be written"):
        window.save_picture(tmp_path / "window.unknown")


def test_show_runs_to_the_end_and_saves_a_picture(tmp_path: Path) -> None:
    class Finishing(FakeSession):
        def status(self) -> SessionStatus:
            self.t += 40
            if self.t >= 200:
                self.light_on, self.ended = False, True
            return super().status()

    session = Finishing()
    show(session, autostart=True, close_when_done=True, picture=tmp_path / "end.png")
    assert (tmp_path / "end.png").exists()
    assert not session.light_on


def test_another_thread_never_destroys_a_window() -> None:
    """A run goes on after its window is closed: garbage of the window must be gone by then."""
    script = """
import gc, sys, threading
from pathlib import Path
from fake_session import FakeSession
from tisr_scope.preview.app import application, show

class Ending(FakeSession):
    def status(self):
        assert not gc.isenabled()
        self.ended, self.light_on = True, False
        return super().status()

application()
show(Ending(), autostart=True, close_when_done=True)
assert gc.isenabled()
collector = threading.Thread(target=lambda: [gc.collect() for _ in range(3)])
collector.start()
collector.join()
sum(range(10**6))
print("alive")
"""
    folder = str(Path(__file__).parent)
    paths = os.pathsep.join([folder, str(Path(folder).parent)])
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr[-2000:]


# ------------------------------------------------------------------------------------- display


def test_no_display_names_headless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert missing_display() is not None
    with pytest.raises(DisplayError, match="--headless"):
        application()
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(DisplayError, match="does not answer"):
        application()


def test_missing_qt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setitem(sys.modules, "qtpy.QtWidgets", None)
    with pytest.raises(DisplayError, match=r"tisr-scope\[gui\]"):
        application()


@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="xvfb is not installed")
def test_window_on_a_real_display(tmp_path: Path) -> None:
    """On an X server, as on a second monitor: the run is shown, saved as a picture and ended."""
    code = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from pathlib import Path
from fake_session import FakeSession
from tisr_scope.preview.app import show
class Short(FakeSession):
    def status(self):
        self.t += 60
        if self.t > 200:
            self.light_on, self.ended = False, True
        return super().status()
session = Short()
show(session, autostart=True, close_when_done=True, picture=Path({str(tmp_path / "window.png")!r}))
sys.exit(session.light_on)
"""
    environment = {k: v for k, v in os.environ.items() if k != "QT_QPA_PLATFORM"}
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1600x900x24"]
    done = subprocess.run(
        [*screen, sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "window.png").stat().st_size > 50_000
