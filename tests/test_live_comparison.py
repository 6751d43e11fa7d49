"""Conventional SIM beside the network: right, never in the way, and honest about its state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_session import FakeSession
from sim_truth import EMISSION_UM, NA, PIXEL_UM, Stack, make_stack, psnr
from tiny_model import tiny_bundle

from tisr_scope.live import sim_comparison as comparison
from tisr_scope.live.live_records import SimStatus
from tisr_scope.live.run_live import LiveOptions, LiveSession, run_live
from tisr_scope.live.sim_comparison import SimComparison
from tisr_scope.preview.app import application, dispose, show
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting
from tisr_scope.sim.optics.otf import incoherent_otf

pytest.importorskip("pyqtgraph")
from tisr_scope.preview.window import LiveWindow

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)
FOUND = SimStatus(True, "carrier found, modulation 0.78", 0.1807, (0.8, 0.77, 0.77), 31, 4, 6.2)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack(n=96, ratio=0.95, seed=2)


def beside(stack: Stack) -> SimComparison:
    return SimComparison(
        (3, 3),
        (96, 96),
        OTF,
        PIXEL_UM,
        stack.carrier,
        offset_adu=100.0,
        electrons_per_adu=0.46,
        threads=1,
    )


def feed(live: SimComparison, electrons: np.ndarray, t: int, level: int = 0) -> None:
    counts = np.rint(electrons / 0.46 + 100).clip(0, 65535).astype(np.uint16)
    for o in range(3):
        for p in range(3):
            live.add(t, o, p, level, counts[o, p])


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def fetched(live: SimComparison) -> bool:
    return not live._fresh.any()


def feed_slowly(live: SimComparison, sets: Iterator[np.ndarray]) -> None:
    for t, frames in enumerate(sets):
        feed(live, frames, t)
        until(lambda: fetched(live))


def test_image_is_closer_to_the_sample_than_the_camera(stack: Stack) -> None:
    live = beside(stack)
    live.start()
    feed_slowly(live, (stack.frames(200, seed) for seed in range(5)))
    until(lambda: live.status().found and live._mailbox is not None)
    status, result = live.status(), live.take()
    live.finish()
    assert result is not None
    assert result.image.shape == (192, 192)
    assert status.text.startswith("carrier found, modulation 0.")
    assert status.modulation == pytest.approx([0.8] * 3, abs=0.03)
    assert status.period_um == pytest.approx(1 / np.hypot(*stack.carrier[0]), rel=1e-3)
    assert status.dropped == 0
    truth = stack.truth(200)
    wide = np.kron(stack.frames(200, 4).mean(axis=(0, 1)), np.ones((2, 2)))
    assert psnr(result.image, truth) > psnr(wide, truth) + 3


def test_even_light_is_named_and_gives_no_image(stack: Stack) -> None:
    live = beside(stack)
    live.start()
    even = np.broadcast_to(stack.mean.mean(axis=(0, 1)), stack.mean.shape)
    rng = np.random.default_rng(0)
    feed_slowly(live, (rng.poisson(100 * even).astype(float) for _ in range(4)))
    until(lambda: "no SIM image yet: " in live.status().text)
    status = live.status()
    live.finish()
    assert not status.found
    assert live.take() is None
    assert "stripes" in status.text or "modulation" in status.text


def test_busy_thread_drops_frames_and_counts_them(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording goes on while the parameters are estimated, however long that takes."""
    busy, go_on = threading.Event(), threading.Event()
    estimate = comparison.estimate_parameters

    def slow(*arguments: object, **options: object) -> object:
        busy.set()
        assert go_on.wait(30)
        return estimate(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(comparison, "estimate_parameters", slow)
    live = beside(stack)
    live.start()
    feed_slowly(live, (stack.frames(200, seed) for seed in range(4)))
    assert busy.wait(30)
    for t in range(4, 7):
        feed(live, stack.frames(200, t), t)
    assert live.status().dropped == 2 * 9  # the newest of three sets is kept
    go_on.set()
    until(lambda: live._mailbox is not None)
    live.finish()
    assert live.status().found
    result = live.take()
    assert result is not None
    assert result.time_index == 6


def test_other_levels_and_failures_do_not_matter(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(comparison, "estimate_parameters", broken)
    live = beside(stack)
    live.start()
    feed(live, stack.frames(200), 0, level=1)
    assert not live._fresh.any()
    feed_slowly(live, (stack.frames(200, seed) for seed in range(4)))
    until(lambda: not live._thread.is_alive())
    assert live.status().text == "stopped: RuntimeError: out of memory"
    feed(live, stack.frames(200), 9)  # nobody fetches it, nobody waits
    live.finish()


def test_image_is_computed_only_when_the_last_was_taken(stack: Stack) -> None:
    live = beside(stack)
    live.start()
    feed_slowly(live, (stack.frames(200, seed) for seed in range(8)))
    until(lambda: live.status().images == 1)
    feed_slowly(live, (stack.frames(200, seed) for seed in range(8)))
    assert live.status().images == 1
    assert live.take() is not None
    until(lambda: live.status().images == 2)
    live.finish()


# --------------------------------------------------------------------------------- in the window


def test_window_shows_the_image_and_the_state_of_its_parameters() -> None:
    application()
    session = FakeSession(sim=FOUND)
    window = LiveWindow(session, autostart=True)
    session.t = 12
    window.draw()
    window.count()
    assert [panel.title for panel in window.panels][1] == "Conventional SIM"
    assert window.sim is not None
    assert window.sim.image().shape == (256, 256, 4)  # type: ignore[union-attr]
    assert window.sim_card.state.text() == "carrier found, modulation 0.78"
    assert window.sim_card.dropped.value == "4"
    assert window.sim_card.images.value == "6.2 /s"
    assert window.sim_card.period.value == "180.7 nm"
    session.sim = SimStatus(False, "no SIM image yet: no stripes", None, (), 0, 0, 0.0)
    window.count()
    assert window.sim_card.state.text() == "no SIM image yet"
    assert window.sim_card.reason.text() == "no stripes"
    window.show_channel(1)
    assert window.sim_card.state.text() == "first channel only"
    assert window.sim.image() is None
    dispose(window)


def test_no_panel_without_patterns() -> None:
    application()
    window = LiveWindow(FakeSession())
    assert window.sim is None
    assert len(window.panels) == 4
    dispose(window)


def test_whole_run_in_the_window(tmp_path: Path) -> None:
    """Simulated microscope, nine patterns a time point, network and SIM side by side."""
    profile = load_profile("simulated_microtubules")
    microscope = profile.microscope
    sizes = [DeviceSetting(device="Camera", property=n, value=64) for n in ("Height", "Width")]
    camera = microscope.camera.model_copy(update={"frame_shape": (64, 64)})
    update = {"camera": camera, "settings": (*sizes, *microscope.settings)}
    small = profile.model_copy(update={"microscope": microscope.model_copy(update=update)})
    bundle = tiny_bundle(tmp_path / "tiny").path
    picture = tmp_path / "window.png"
    sessions: list[LiveSession] = []

    def display(session: LiveSession) -> None:
        sessions.append(session)
        show(session, autostart=True, close_when_done=True, picture=picture)

    summary = run_live(
        small,
        tmp_path / "run",
        bundle,
        options=LiveOptions(threads=1, passes=2, warm_up=8),
        display=display,
        profile_path=find_profile("simulated_microtubules"),
        settings=[
            DeviceSetting(device="World", property="Seed", value=3),
            DeviceSetting(device="World", property="PeakPhotons", value=200),
        ],
        time_points=16,
    )
    status = sessions[0].sim_status()
    assert status is not None
    assert status.found, status.text
    assert status.period_um == pytest.approx(0.1807, rel=0.02)
    assert min(status.modulation) > 0.5
    assert status.images > 0
    assert summary.missing_on_disk == 0
    assert summary.exposures_recorded == 16 * 9
    assert picture.stat().st_size > 10_000
