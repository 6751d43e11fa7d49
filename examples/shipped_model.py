"""Make the shipped model again, from an empty folder to a calibrated bundle.

Every step is a ``tisr`` command that works the same on a real microscope; here the microscope is
the simulated one.  Steps whose result is there already are skipped, so the script can be stopped
and started again.

    python examples/shipped_model.py work_folder            # about 1.5 hours on 2 cores
    python examples/shipped_model.py work_folder --quick    # minutes: the whole line, a poor model
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PROFILE = "simulated_microtubules"
# Seeds of whole recordings: a specimen is in exactly one of the three sets.
TRAINING = range(1000, 1040)
VALIDATION = range(2000, 2006)
TEST = range(3000, 3010)


def tisr(*words: object) -> None:
    command = [sys.executable, "-m", "tisr_scope", *map(str, words)]
    print("$ tisr " + " ".join(map(str, words)), flush=True)
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="few recordings, few steps")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    sets = {"training": TRAINING, "validation": VALIDATION, "test": TEST}
    if arguments.quick:
        sets = {name: seeds[:2] for name, seeds in sets.items()}

    recordings = folder / "recordings"
    for name, seeds in sets.items():
        for seed in seeds:
            target = recordings / f"{name}_{seed}"
            if not (target / "summary.json").exists():
                resume = ["--resume"] if target.exists() else []
                tisr("acquire", PROFILE, target, "--set", f"World.Seed={seed}", *resume)
    pairs = folder / "pairs"
    tisr("prepare", recordings, pairs, "--split-by-name")

    steps = ["--steps", 40] if arguments.quick else []
    for model in ("small", "small_single_frame"):
        tisr("train", pairs, folder / model, "--preset", model, "--resume", *steps)
    calibrated = folder / "microtubules_small"
    if not calibrated.exists():
        tisr("calibrate", folder / "small" / "bundle", pairs, calibrated)
    models = [calibrated, folder / "small" / "bundle", folder / "small_single_frame" / "bundle"]
    tisr("evaluate", pairs, folder / "evaluation", *models)


if __name__ == "__main__":
    main()
