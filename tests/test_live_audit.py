"""The audit beside a recording: right, never in the way, and heard where it counts."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_session import FakeSession
from scipy.ndimage import gaussian_filter
from sim_truth import EMISSION_UM, NA, PIXEL_UM, Stack, make_stack
from tiny_model import tiny_bundle

from tisr_scope.confidence.audit_alarm import POOLED, AuditAlarm
from tisr_scope.confidence.side_band_audit import AuditSums
from tisr_scope.live.live_audit import LiveAudit
from tisr_scope.live.live_records import AuditStatus
from tisr_scope.live.run_live import LiveOptions, run_live
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.sim.optics.otf import incoherent_otf

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)
SIZE = 96


@pytest.fixture(scope="module")
def stack() -> Stack:
    return make_stack(n=SIZE, ratio=0.95, seed=2)


def beside(stack: Stack, held: range) -> LiveAudit:
    """With the frames of some time points."""

    def frames(t: int) -> np.ndarray | None:
        return stack.frames(100, seed=t).astype(np.float32) if t in held else None

    return LiveAudit(
        frames,
        (SIZE, SIZE),
        2,
        OTF,
        PIXEL_UM,
        stack.carrier,
        threads=1,
    )


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


def test_true_images_pass_and_made_up_ones_alarm(stack: Stack, tmp_path: Path) -> None:
    truth = stack.truth().astype(np.float32)
    made_up = gaussian_filter(truth, 3)
    live = beside(stack, range(100))
    live.start()
    for t in range(6, 6 + 2 * POOLED + 2):
        done = live.status().audited
        live.on_result(t - 3, truth if t < 6 + POOLED + 1 else made_up)
        until(lambda done=done: live.status().audited > done)  # type: ignore[misc]
        if t == 6 + POOLED:
            good = live.status()
    live.finish()
    assert good.alarm is None and good.correlation is not None and good.correlation > 0.93
    status = live.status()
    assert status.alarm is not None and status.correlation is not None
    assert status.correlation < good.correlation - 0.15
    live.write(tmp_path / "audit.csv")
    with (tmp_path / "audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["time_point"]) for row in rows] == list(range(3, 3 + status.audited))
    assert rows[0]["alarm"] == "" and rows[-1]["alarm"] == status.alarm


def test_results_whose_frames_are_gone_are_passed_over(stack: Stack) -> None:
    live = beside(stack, range(8, 20))
    live.start()
    truth = stack.truth().astype(np.float32)
    live.on_result(2, truth)
    time.sleep(0.5)
    live.on_result(20, truth)
    live.on_result(19, truth)
    until(lambda: live.status().audited > 0)
    live.finish()
    assert [t for t, _ in live.status().history] == [19]


def sums(correlation: float, error: float = 0.02) -> AuditSums:
    """Of one time point: noise that gives this standard error of a signal of 1."""
    samples = 1000.0
    noise = samples * 2 * error**2
    parts = (correlation, 1.0, 1.0 + noise, noise, samples)
    return AuditSums(*(np.array(part) for part in parts))


def test_alarm_needs_more_than_chance() -> None:
    steady = AuditAlarm()
    random = np.random.default_rng(0)
    assert not any(steady.add(sums(0.8 + random.normal(0, 0.05), 0.05)) for _ in range(300))
    falling = AuditAlarm()
    reasons = [falling.add(sums(c)) for c in [0.9] * 6 + [0.6] * 6]
    assert reasons[:6] == [None] * 6
    assert reasons[-1] is not None and "than at the start: 0.60, it was 0.90" in reasons[-1]
    low = AuditAlarm().add(sums(0.03))
    assert low is not None and "not of the sample" in low
    assert AuditAlarm().add(sums(0.3, error=0.2)) is None  # too dim to say
    dark = AuditSums(*(np.array(part) for part in (0.0, 1.0, 1.0, 1.0, 100.0)))
    assert AuditAlarm().add(dark) is None and np.isnan(dark.correlation)


def test_a_network_that_only_enlarges_is_found_out_live(tmp_path: Path) -> None:
    """Untrained, it adds no true detail: said in label, summary, result and per time point."""
    bundle = tiny_bundle(tmp_path / "tiny").path
    summary = run_live(
        load_profile("simulated_microtubules"),
        tmp_path / "run",
        bundle,
        options=LiveOptions(threads=1, passes=1, warm_up=8, patience=40, drain_s=120),
        profile_path=find_profile("simulated_microtubules"),
        time_points=24,
    )
    assert summary.inference_error is None and summary.missing_on_disk == 0
    assert "not of the sample" in summary.audit["488"]
    assert "not of the sample" in summary.calibration["488"]
    folder = tmp_path / "run" / "super_resolution" / "488"
    assert "not of the sample" in json.loads((folder / "result.json").read_text())["calibration"]
    with (folder / "audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows and all(abs(float(row["correlation"])) < 0.3 for row in rows)


def test_window_shows_how_much_is_true() -> None:
    pytest.importorskip("pyqtgraph")
    from tisr_scope.preview.app import application, dispose
    from tisr_scope.preview.window import LiveWindow

    application()
    session = FakeSession()
    window = LiveWindow(session)
    try:
        window.count()
        assert window.readings.audit.isHidden()
        session.audit = AuditStatus(
            "true beyond the diffraction limit: 0.86 ± 0.04",
            0.86,
            0.02,
            None,
            2,
            ((3, 0.85), (4, 0.87)),
        )
        window.count()
        assert not window.readings.audit.isHidden()
        assert window.readings.audit.value == "0.86 ± 0.04"
    finally:
        dispose(window)
