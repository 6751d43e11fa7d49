"""Quality reports of every 2D mode, for the documentation, and their figures as JSON.

    python -m benchmarks.sim_reports ../shared/data

Linear 2D: the real low-light GI-SIM stack, with the closed form and the measured transfer
function.  TIRF (carrier beyond the cut-off of the optics), nonlinear 5 x 5, and three faults:
stacks of ``tests/sim_truth.py``, plain NumPy that shares no code with the package.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from sim_truth import EMISSION_UM, NA, PIXEL_UM, filaments, make_stack

from tisr_scope.formats.raw_stack import read_raw_stack
from tisr_scope.sim.optics.otf import DetectionOtf, incoherent_otf, measured_otf
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.region import Reconstruction, reconstruct_region
from tisr_scope.sim.report.findings import report
from tisr_scope.sim.report.quality import SimQuality, measure_quality
from tisr_scope.sim.report.quality_figure import write_quality_figure

STACK, OTF = "gi_sim_microtubules_raw.mrc", "otf_2d_488.mrc"
CLOSED = incoherent_otf(NA, 1e3 * EMISSION_UM)
SIZE = 256
DPI = 80


def numbers(quality: SimQuality) -> dict[str, Any]:
    content = report(quality)
    sim, wide = quality.sim_resolution, quality.widefield_resolution
    return {
        "verdict": content["verdict"],
        "findings": [one["kind"] for one in content["findings"]],
        "residual": round(quality.residual.score, 3),
        "slow_residual": round(quality.residual.slow_score, 2),
        "unexplained_percent": round(100 * float(quality.residual.unexplained.max()), 1),
        "modulation_to_noise": np.round(quality.modulation_to_noise, 1).tolist(),
        "widefield_nm": None if wide.um is None else round(1e3 * wide.um, 1),
        "sim_nm": None if sim.um is None else round(1e3 * sim.um, 1),
        "decorrelation_nm": None
        if quality.decorrelation.resolution_um is None
        else round(1e3 * quality.decorrelation.resolution_um, 1),
        "scaled_error_percent": round(100 * quality.scaled_error.relative_rse, 1),
    }


def real(folder: Path, otf: DetectionOtf) -> tuple[np.ndarray, Reconstruction]:
    frames = read_raw_stack(folder / STACK).plane().astype(np.float32)
    result = reconstruct_region(frames, otf, PIXEL_UM, offset_known=False)
    return result.frames, result


def simulated(
    photons: float, orders: int, otf: DetectionOtf = CLOSED, **kind: Any
) -> tuple[np.ndarray, Reconstruction]:
    stack = make_stack(n=SIZE, seed=4, **kind)
    frames = stack.frames(photons, 1).astype(np.float32)[None]
    estimation = Estimation(orders)
    nominal = stack.carrier
    result = reconstruct_region(
        frames, otf, PIXEL_UM, offset_known=True, nominal=nominal, estimation=estimation
    )
    return frames, result


def moved(step_fine_px: int) -> tuple[np.ndarray, Reconstruction]:
    """A sample that moves between orientations, by steps of 15.65 nm."""
    sample = filaments(SIZE, np.random.default_rng(4))
    stacks = [
        make_stack(n=SIZE, ratio=0.92, seed=4, sample=np.roll(sample, step_fine_px * o, 1))
        for o in range(3)
    ]
    mean = np.stack([stack.mean[o] for o, stack in enumerate(stacks)])
    frames = replace(stacks[0], mean=mean).frames(200, 1).astype(np.float32)[None]
    return frames, reconstruct_region(frames, CLOSED, PIXEL_UM, offset_known=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help=f"folder with {STACK} and {OTF}")
    parser.add_argument("--out", type=Path, help="folder of the figures, such as docs/figures")
    arguments = parser.parse_args()
    nonlinear = {"ratio": 0.975, "orientations": 5, "phases": 5, "harmonics": (0.333,)}
    cases: dict[str, tuple[Any, DetectionOtf, str]] = {
        "tirf": (simulated(200, 1, ratio=1.02), CLOSED, "TIRF-SIM, carrier at 1.02 of the cut-off"),
        "nonlinear": (
            simulated(500, 2, modulation=1.333, **nonlinear),
            CLOSED,
            "Nonlinear SIM, 5 x 5, two harmonics",
        ),
        "drift": (moved(3), CLOSED, "Sample that moved 47 nm between orientations"),
    }
    low = incoherent_otf(1.3, 1e3 * EMISSION_UM)
    wrong = simulated(200, 1, low, ratio=0.92)
    cases["wrong_optics"] = (wrong, low, "Reconstructed for an aperture of 1.30, taken at 1.49")
    dim = simulated(5, 1, ratio=0.92)
    cases["too_dim"] = (dim, CLOSED, "Five photons in the brightest pixels")
    if arguments.data is not None:
        for name, otf in (
            ("real", CLOSED),
            ("real_measured", measured_otf(arguments.data / OTF, NA, 1e3 * EMISSION_UM)),
        ):
            how = "closed form" if otf.radial_step is None else "measured transfer function"
            title = f"Microtubules, GI-SIM, 488 nm ({how})"
            cases[name] = (real(arguments.data, otf), otf, title)
    result = {}
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        for name, ((stack, made), otf, title) in cases.items():
            quality = measure_quality(stack, made.image, made.parameters, otf)
            path = out / f"sim_report_{name}.png"
            write_quality_figure(path, quality, otf.cutoff, title, dpi=DPI)
            result[name] = {**numbers(quality), "figure_kb": path.stat().st_size // 1024}
            if name.startswith("real"):
                parameters = made.parameters
                result[name]["cycles_per_um"] = np.round(parameters.frequency, 4).tolist()
                result[name]["angle_rad"] = np.round(parameters.angle_rad % np.pi, 4).tolist()
                result[name]["modulation"] = np.round(parameters.modulation[0, :, 0], 3).tolist()
                result[name]["gain"] = np.round(parameters.gain[0], 3).tolist()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
