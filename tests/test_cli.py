"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tisr_scope.cli import app, main

VERBS = [
    "demo",
    "acquire",
    "live",
    "infer",
    "reconstruct",
    "prepare",
    "train",
    "calibrate",
    "evaluate",
]
runner = CliRunner()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps_with_an_example(verb: str) -> None:
    result = runner.invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert f"tisr {verb}" in result.output


def test_help_needs_neither_torch_nor_qt() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from tisr_scope.cli import app; "
        "CliRunner().invoke(app, ['--help']); import tisr_scope; "
        "print([m for m in ('torch', 'qtpy', 'PySide6', 'pymmcore_plus') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_profiles_are_listed_shown_and_explained() -> None:
    assert "simulated_microtubules" in runner.invoke(app, ["profiles", "list"]).output
    shown = runner.invoke(app, ["profiles", "show", "example_hardware"]).output
    assert "#" in shown and "channels:" in shown
    explained = runner.invoke(app, ["profiles", "explain", "simulated_microtubules"]).output
    # 3 orientations x 3 phases x 3 levels x 20 time points
    assert "540" in explained


def test_a_whole_recording_and_its_pairs(tmp_path: Path) -> None:
    recording = tmp_path / "recordings" / "training_1"
    made = runner.invoke(
        app,
        [
            "acquire",
            "simulated_microtubules",
            str(recording),
            "--time-points",
            "2",
            "--set",
            "World.Seed=5",
        ],
    )
    assert made.exit_code == 0, made.output
    assert "54" in made.output
    again = runner.invoke(app, ["acquire", "simulated_microtubules", str(recording)])
    assert again.exit_code != 0
    pairs = runner.invoke(
        app, ["prepare", str(recording.parent), str(tmp_path / "pairs"), "--split-by-name"]
    )
    assert pairs.exit_code == 0, pairs.output
    assert (tmp_path / "pairs" / "training_1_488" / "target.ome.tif").is_file()
    image = runner.invoke(app, ["reconstruct", str(recording), str(tmp_path / "sim"), "--report"])
    assert image.exit_code == 0, image.output
    assert "report in" in image.output
    content = json.loads((tmp_path / "sim" / "488_report.json").read_text())
    assert content["saturated"] == 0
    assert content["residual"]["score"] < 1.8  # the simulated sample moves between raw frames
    assert content["verdict"] in image.output


@pytest.mark.parametrize("text", ["World.Seed", "World=3", "Seed=3", ".Seed=3"])
def test_settings_are_device_property_value(tmp_path: Path, text: str) -> None:
    refused = runner.invoke(
        app, ["acquire", "simulated_microtubules", str(tmp_path / "r"), "--set", text]
    )
    assert refused.exit_code == 2
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["acquire", "microtubles"], "no shipped profile"),
        (["acquire", "missing.yaml"], "no such profile file"),
        (["prepare", "nowhere", "pairs"], "no recordings"),
        (["live", "simulated_microtubules", "--model", "nobody", "--headless"], "no model bundle"),
        (["models", "check", "nobody"], "no model bundle"),
        (["infer", "nobody", "a.tif", "out"], "no model bundle"),
    ],
)
def test_errors_are_words_not_tracebacks(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tisr", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr().err
    assert ended.value.code == 1
    assert message in " ".join(printed.split())
    assert "what to do" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("verb", [[], ["infer"], ["profiles", "explain"]])
def test_help_by_either_name(verb: list[str], option: str) -> None:
    result = CliRunner().invoke(app, [*verb, option])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output.split() == ["tisr_scope", importlib.metadata.version("tisr-scope")]


@pytest.mark.parametrize("verb", [["models", "list"], ["models", "architectures"]])
def test_tables_need_no_network_library(verb: list[str]) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from tisr_scope.cli import app; "
        f"result = CliRunner().invoke(app, {verb!r}); assert result.exit_code == 0, result; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_the_system_refuses_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "//server/share/x")

    monkeypatch.setattr("tisr_scope.cli.app", refuse)
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert "//server/share/x" in told
    assert "Permission denied" in told
