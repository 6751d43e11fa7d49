"""Picture of the live window for the documentation, from a real run of the simulated microscope.

Needs a display, or ``xvfb-run -a -s "-screen 0 1600x900x24" python -m benchmarks.window_picture``.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import chdir
from pathlib import Path

from tisr_scope.live.run_live import run_live
from tisr_scope.preview.app import showing
from tisr_scope.profiles.library import find_profile, load_profile
from tisr_scope.profiles.schema import DeviceSetting

PROFILE = "simulated_microtubules"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="bundle; by default the profile's")
    parser.add_argument("--time-points", type=int, default=60)
    parser.add_argument("--seed", type=int, default=4001)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/window.png"))
    arguments = parser.parse_args()
    picture = arguments.out.absolute()
    # A relative folder, so that the picture names no path of this computer.
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        run_live(
            load_profile(PROFILE),
            Path("recordings/cell_01"),
            arguments.model,
            profile_path=find_profile(PROFILE),
            settings=[
                DeviceSetting(device="World", property="Realtime", value=1),
                DeviceSetting(device="World", property="Seed", value=arguments.seed),
            ],
            time_points=arguments.time_points,
            display=showing(autostart=True, close_when_done=True, picture=picture),
        )


if __name__ == "__main__":
    main()
