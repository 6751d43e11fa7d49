"""The window, drawn offscreen: what it shows, what it starts and stops, and its colours."""

from __future__ import annotations

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
from tisr_scope.live.run_live import SessionStatus
from tisr_scope.preview import colour
from tisr_scope.preview.app import application, dispose, missing_display, show

pytest.importorskip("pyqtgraph")
from tisr_scope.preview.panels import length_label, nice_length
from tisr_scope.preview.readings import dose, duration
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
    assert [dose(d) for d in (0.09, 27.0, 1800.0)] == ["90 µJ", "27 mJ", "1.8 J"]


# -------------------------------------------------------------------------------------- window


def test_window_starts_the_run_and_closing_stops_it(window: LiveWindow) -> None:
    session = session_of(window)
    assert session.calls == ["start"]
    assert session.light_on
    window.close()
    assert not session.light_on, "the light must be off when the window is closed"
    assert session.calls[1:3] == ["stop", "join"]


def test_images_and_numbers_follow_the_session(window: LiveWindow) -> None:
    session = session_of(window)
    session.t = 120
    window.draw()
    window.count()
    assert [p.image() is not None for p in window.panels] == [True] * 4
    assert window.camera.note == "frame 121"
    assert window.sr.note == "frame 120"
    first = window.sr.image().copy()
    assert first.shape == (2 * SIZE, 2 * SIZE, 4)
    assert first.dtype == np.uint8
    readings = window.readings
    assert readings.recorded.value == "240 of 1600"
    assert readings.camera.value == "20.0 /s"
    assert readings.sr.value == "5.1 /s"
    assert readings.lag.value == "0.35 s"
    assert readings.skipped.value == "90 frames"
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
    window = LiveWindow(FakeSession(calibrated=False))
    session_of(window).t = 10
    window.draw()
    window.count()
    assert window.readings.calibration.text() == "not calibrated"
    assert "passes" in window.readings.reason.text()
    assert "not calibrated" in window.confidence.note
    dispose(window)


def test_panels_zoom_and_move_together(window: LiveWindow) -> None:
    window.show()
    application().processEvents()
    window.camera.view.setRange(xRange=(1, 3), yRange=(2, 4), padding=0)
    application().processEvents()
    expected = window.camera.view.viewRect()
    for panel in window.panels[1:]:
        rect = panel.view.viewRect()
        assert rect.center().x() == pytest.approx(expected.center().x(), abs=0.05)
        assert rect.center().y() == pytest.approx(expected.center().y(), abs=0.05)
        assert rect.width() == pytest.approx(expected.width(), rel=0.05)


def test_contrast_stays_until_it_is_asked_for(window: LiveWindow) -> None:
    session = session_of(window)
    session.t = 5
    window.draw()
    limits = dict(window._limits)
    session.t = 90
    window.draw()
    assert window._limits == limits, "contrast that follows every frame flickers"
    window.controls.auto.click()
    assert window._limits != limits
    window.controls.high.set_value(97)
    assert window._limits["camera"][1] < limits["camera"][1]


def test_overlay_options(window: LiveWindow) -> None:
    session_of(window).t = 5
    window.draw()
    colourful = window.overlay.image().copy()
    window.controls.mask.click()
    masked = window.overlay.image()
    assert (masked != colourful).any()
    assert "hidden" in window.overlay.note
    tint = np.array(colour.MASK_TINTS[0])
    assert (masked[..., :3] == tint).all(axis=-1).any()
    window.controls.mask.click()
    window.controls.steps.set_value(8)
    assert len(np.unique(window.overlay.image().reshape(-1, 4), axis=0)) > 100


def test_other_channel(window: LiveWindow) -> None:
    session_of(window).t = 5
    window.draw()
    first = window.sr.image().copy()
    window.controls.channel.setCurrentIndex(1)
    assert window.sr.image() is None, "images of another channel must not linger"
    window.draw()
    window.count()
    assert (window.sr.image() != first).any()
    assert window.readings.camera.value == "10.0 /s"


def test_stop_and_start_again(window: LiveWindow) -> None:
    session = session_of(window)
    session.t = 30
    window.controls.stop_button.click()
    window.count()
    assert not session.light_on
    assert window.controls.start_button.isEnabled()
    assert not window.controls.stop_button.isEnabled()
    assert "saved in" in window.message.text()
    window.controls.start_button.click()
    assert window.session is session.successor
    assert session_of(window).light_on


def test_failed_inference_is_a_warning_and_recording_goes_on(window: LiveWindow) -> None:
    session = session_of(window)
    session.t, session.live_error = 9, "RuntimeError: out of memory"
    window.count()
    assert window.message.property("kind") == "warning"
    assert "recording goes on" in window.message.text()
    assert session.light_on


def test_failed_recording_is_an_error(window: LiveWindow) -> None:
    session = session_of(window)
    session.error, session.light_on = "camera unplugged\n  what to do: plug it in", False
    window.count()
    assert window.message.property("kind") == "error"
    assert "plug it in" in window.message.text()
    assert window.state.text() == "stopped by an error"


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
    show(session, close_when_done=True, picture=tmp_path / "end.png")
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
show(Ending(), close_when_done=True)
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
show(session, close_when_done=True, picture=Path({str(tmp_path / "window.png")!r}))
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
