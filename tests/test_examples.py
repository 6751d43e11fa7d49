"""The examples run, and the whole line from microscope to evaluated model holds together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.timeout(900)
def test_from_empty_folder_to_calibrated_and_evaluated_model(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "shipped_model.py", tmp_path, "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "microtubules_small" / "calibration.json").is_file()
    evaluation = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    # Whatever two training steps are worth: SIM at the highest level is closer to the truth than
    # the enlarged wide field at the lowest, on a sample that nothing was fitted to.
    methods = evaluation["methods"]
    metric = next(m for m in methods["wide field"] if "PSNR" in m and "truth" in m)
    assert methods["SIM"][metric]["mean"] > methods["wide field"][metric]["mean"] + 3
