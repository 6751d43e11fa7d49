"""The doctor finds what is there, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tisr_scope.doctor import examine


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    findings = {finding.topic: finding for finding in examine(tmp_path)}
    assert set(findings) == {
        "versions",
        "device adapters",
        "compute",
        "deformable convolution",
        "window",
        "disk",
    }
    assert findings["versions"].verdict == "ok"
    assert "pymmcore" in findings["versions"].text
    assert Path(findings["device adapters"].text).exists()
    assert "MiB/s" in findings["disk"].text
    assert not list(tmp_path.iterdir()), "the speed test leaves nothing behind"


def test_no_adapters_is_a_problem_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pymmcore_plus.find_micromanager", lambda: None)
    findings = {finding.topic: finding for finding in examine(tmp_path)}
    assert findings["device adapters"].verdict == "problem"
    assert "mmcore install" in findings["device adapters"].text
