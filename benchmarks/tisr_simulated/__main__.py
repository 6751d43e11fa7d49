"""Networks compared on simulated tubes: sequences, training, test, tables and figures.

    python -m benchmarks.tisr_simulated runs/simulated --scale tiny --seeds 3
    python -m benchmarks.tisr_simulated runs/simulated --scale tiny --minutes 60
    python -m benchmarks.tisr_simulated runs/simulated --models "single image" "recurrent, DPA"
    python -m benchmarks.tisr_simulated runs/simulated --report

Every model sees the same sequences, patches, steps and optimiser.  The seeds run in the outer loop,
and the same command goes on where a run was stopped (Ctrl-C).  ``--report`` makes tables and
figures of what is there by now, while another process trains.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.tisr_simulated.models import MODELS
from benchmarks.tisr_simulated.report import write_report
from benchmarks.tisr_simulated.scales import SCALES
from benchmarks.tisr_simulated.study import Data, Study, affordable_steps
from tisr_scope.cli.common import cancellable, progress_bar

PARTS = 1000
"""Of the progress bar."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="runs, tables and figures")
    parser.add_argument("--scale", choices=SCALES, default="tiny")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings of each model")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of each training [default: of the scale]")
    parser.add_argument("--minutes", type=float, help="choose the steps so that all takes so long")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--report", action="store_true", help="train nothing, show what is there")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    scale, console = SCALES[chosen.scale], Console(stderr=True)
    seeds = tuple(range(chosen.first_seed, chosen.first_seed + chosen.seeds))
    console.print(f"simulating the sequences of scale {scale.name}")
    data = Data.simulate(scale)

    def steps(study: Study) -> int:
        if chosen.steps or not chosen.minutes:
            return int(chosen.steps or scale.steps)
        return affordable_steps(study, data, chosen.minutes)

    study = Study.open(scale, chosen.models, seeds, chosen.folder, chosen.device, steps)
    if not chosen.report:
        console.print(f"{len(study.models)} models, {len(seeds)} seeds, {study.steps} steps each")
        with cancellable() as cancel, progress_bar("training") as bar:

            def report(share: float, text: str) -> None:
                bar(round(PARTS * share), PARTS)

            if not study.run(data, report, cancel):
                console.print("stopped; the same command goes on from here")
    print(write_report(study, data))


if __name__ == "__main__":
    main()
