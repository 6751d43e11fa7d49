"""Make the shipped model again, from an empty folder to a calibrated bundle.

Every step is a ``tisr`` command that works the same on a real microscope; here the microscope is
the simulated one.  Steps whose result is there already are skipped, so the script can be stopped
and started again.

    python examples/shipped_model.py work_folder            # about 1.5 hours on 2 cores
    python examples/shipped_model.py work_folder --quick    # the whole line in a minute or two
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PROFILE = "simulated_microtubules"
RECIPE = Path(__file__).with_name("small_recipe.yaml")
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
    parser.add_argument(
        "--quick", action="store_true", help="one short recording a set, a model of no use"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    quick: bool = arguments.quick
    recordings, pairs = folder / "recordings", folder / "pairs"

    for name, seeds in {"training": TRAINING, "validation": VALIDATION, "test": TEST}.items():
        for seed in seeds[:1] if quick else seeds:
            target = recordings / f"{name}_{seed}"
            if (target / "summary.json").exists():
                continue
            resume = ["--resume"] if target.exists() else []
            short = ["--time-points", 7] if quick else []
            tisr("acquire", PROFILE, target, "--set", f"World.Seed={seed}", *resume, *short)
    tisr("prepare", recordings, pairs, "--split-by-name")

    length = ["--steps", 2] if quick else ["--recipe", RECIPE]
    raw, single = folder / "small" / "uncalibrated", folder / "single" / "single_frame"
    for preset, bundle in (("small", raw), ("small_single_frame", single)):
        if not bundle.exists():
            run = ["--preset", preset, "--name", bundle.name, "--resume"]
            tisr("train", pairs, bundle.parent, *run, *length)

    calibrated = folder / "microtubules_small"
    if not calibrated.exists():
        effort = ["--steps", 2, "--trials", 3] if quick else []
        tisr("calibrate", raw, pairs, calibrated, *effort)
    tisr("evaluate", pairs, folder / "evaluation", calibrated, raw, single)


if __name__ == "__main__":
    main()
