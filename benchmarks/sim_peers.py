"""SIM reconstruction beside napari-sim-processor, on the same stacks in the same run, as JSON.

    python -m benchmarks.sim_peers                         # 6 stacks of 256 px, timings at 512 px
    python -m benchmarks.sim_peers --figure docs/figures/sim_comparison.png
    python -m benchmarks.sim_peers --device cuda

Quality: PSNR against the noiseless sample after the best gain per frequency ring, which takes
away every difference of filter and apodisation; the peer's image is registered first and gets the
best of several Wiener parameters, ours is used as it comes: the linear image, and the one without
negative light (``positivity=10``).  ``peer_clipped`` is the peer's image with its negative values
set to 0, the least that the same knowledge gives it.  Time: the quickest of several runs, the two
in turn; the peer by the quicker of its NumPy and PyTorch routes.  Nonlinear: resolution by Fourier
ring correlation with the sample at 1/7, with the true and with estimated parameters.

The stacks come from ``tests/sim_truth.py``, plain NumPy that shares no code with either.  The peer
is optional (``pip install --no-deps napari-sim-processor``); without it its rows are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import platform
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import fourier_shift, zoom
from skimage.registration import phase_cross_correlation

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from sim_truth import CUTOFF, EMISSION_UM, NA, PIXEL_UM, Stack, make_stack

from tisr_scope.figures import busiest, scale_bar
from tisr_scope.sim.optics.otf import edge_taper, incoherent_otf
from tisr_scope.sim.parameters.estimate import SimParameters, estimate_parameters
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings, reconstruct
from tisr_scope.sim.reconstruction.widefield import widefield
from tisr_scope.sim.reconstruction.wiener import WienerPlan

OTF = incoherent_otf(NA, 1e3 * EMISSION_UM)
PEER = "napari_sim_processor"
PEER_WIENER = (0.01, 0.02, 0.05, 0.1, 0.2)
POSITIVITY = 10
TARGETS = {
    "gain_over_peer_db": 1.5,
    "positive_gain_over_peer_db": 1.5,
    "cached_speed_ratio": 2.0,
    "calibration_speed_ratio": 1.0,
    "nonlinear_frc_nm": 66.0,
}


def load_peer() -> Any:
    """Processor class of the peer without its package's ``__init__``, which starts Qt; or None."""
    spec = importlib.util.find_spec(PEER)
    if spec is None or spec.submodule_search_locations is None:
        return None
    package = types.ModuleType(PEER)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[PEER] = package
    with contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module(f"{PEER}.processors.convSimProcessor").ConvSimProcessor


def peer_processor(kind: Any, wiener: float, device: str) -> Any:
    peer = kind()
    peer.debug = False
    peer.magnification, peer.pixelsize = 1.0, PIXEL_UM
    peer.NA, peer.wavelength, peer.w = NA, EMISSION_UM, wiener
    peer.tdev = torch.device(device)
    return peer


def inner(image: np.ndarray, border: int = 16) -> np.ndarray:
    return image[border:-border, border:-border]


def spectrum_rings(shape: tuple[int, int]) -> np.ndarray:
    fy, fx = (np.fft.fftfreq(n) * n for n in shape)
    return np.rint(np.hypot(fy[:, None] * shape[1] / shape[0], fx[None, :])).astype(int)


def ring_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR of the middle of the field after the least-squares gain of every frequency ring."""
    image, truth = inner(image), inner(truth)
    taper = edge_taper(image.shape, 10).numpy()
    a, b = (np.fft.fft2((part - part.mean()) * taper) for part in (image, truth))
    rings = spectrum_rings(image.shape).ravel()
    cross = np.bincount(rings, (a.conj() * b).real.ravel())
    power = np.bincount(rings, np.abs(a).ravel() ** 2)
    gain = np.where(power > 0, cross / np.maximum(power, 1e-30), 0)[rings].reshape(a.shape)
    error = inner(np.fft.ifft2(gain * a - b).real, 10)
    return float(20 * np.log10((truth.max() - truth.min()) / np.sqrt(np.mean(error**2))))


def registered(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Image moved onto the truth: grids of other programs lie a quarter pixel beside ours."""
    shift, _, _ = phase_cross_correlation(truth, image, upsample_factor=100, normalization=None)
    moved: np.ndarray = np.fft.ifft2(fourier_shift(np.fft.fft2(image), shift)).real
    return moved


def enlarged(image: np.ndarray) -> np.ndarray:
    """Wide field on the fine grid, by cubic splines about the middle of the field."""
    large: np.ndarray = zoom(image, 2, order=3, mode="nearest", grid_mode=True)
    return large


def frc_resolution_nm(image: np.ndarray, truth: np.ndarray, pixel_um: float) -> float:
    """Where the correlation with the truth, mean of three rings, first falls below 1/7."""
    image, truth = inner(image), inner(truth)
    taper = edge_taper(image.shape, 32).numpy()
    a, b = (np.fft.fft2((part - part.mean()) * taper) for part in (image, truth))
    rings = spectrum_rings(image.shape).ravel()
    sums = [
        np.bincount(rings, values.ravel())
        for values in ((a.conj() * b).real, np.abs(a) ** 2, np.abs(b) ** 2)
    ]
    curve = sums[0] / np.sqrt(np.maximum(sums[1] * sums[2], 1e-30))
    smooth = np.convolve(curve, np.ones(3) / 3, "same")[: image.shape[1] // 2]
    below = np.flatnonzero(smooth[3:] < 1 / 7)
    first = int(below[0]) + 3 if below.size else image.shape[1] // 2
    return 1e3 * image.shape[1] * pixel_um / first


def true_parameters(stack: Stack, depths: tuple[float, ...]) -> SimParameters:
    orientations, phases = stack.mean.shape[:2]
    n = np.arange(1, len(depths) + 1)
    nothing = np.zeros((1, orientations, len(depths)))
    return SimParameters(
        carrier=stack.carrier,
        phase_rad=(stack.phase[:, None] * n)[None],
        steps_rad=np.tile(2 * np.pi * np.arange(phases) / phases, (orientations, 1)),
        modulation=nothing + np.array(depths),
        gain=np.ones((1, orientations)),
        quality=np.full(orientations, np.nan),
        carrier_se=np.zeros((orientations, 2)),
        phase_se_rad=nothing,
        modulation_se=nothing,
        usable=np.ones(orientations, bool),
        pixel_size_um=PIXEL_UM,
    )


def in_turn(repeats: int, device: str, **jobs: Callable[[], object]) -> dict[str, float]:
    """Quickest run of each job in seconds, the jobs taking turns."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if device != "cpu":
                torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def quality(kind: Any, size: int, stacks: int, photons: float, ratio: float) -> dict[str, Any]:
    """Mean PSNR of wide field, peer and ours."""
    results: dict[str, list[float]] = {
        name: [] for name in ("wide_field", "peer", "peer_clipped", "ours", "ours_positive")
    }
    for seed in range(stacks):
        stack = make_stack(n=size, ratio=ratio, seed=seed)
        frames = stack.frames(photons, seed)
        truth = stack.truth(photons)
        found = estimate_parameters(frames, OTF, PIXEL_UM)
        for name, rounds in (("ours", 0), ("ours_positive", POSITIVITY)):
            image = reconstruct(frames, found, OTF, WienerSettings(positivity=rounds))[0]
            results[name].append(ring_psnr(image, truth))
        wide = enlarged(widefield(frames))
        results["wide_field"].append(ring_psnr(wide, truth))
        if kind is not None:
            images = peer_images(kind, frames, truth)
            results["peer"].append(max(ring_psnr(image, truth) for image in images))
            clipped = max(ring_psnr(image.clip(min=0), truth) for image in images)
            results["peer_clipped"].append(clipped)
    row: dict[str, Any] = {"carrier_over_cutoff": ratio, "peak_photons": photons}
    row |= {f"{name}_db": round(float(np.mean(v)), 2) for name, v in results.items() if v}
    if results["peer"]:
        row["gain_over_peer_db"] = round(row["ours_db"] - row["peer_db"], 2)
        row["positive_gain_over_peer_db"] = round(row["ours_positive_db"] - row["peer_db"], 2)
    return row


def peer_images(kind: Any, frames: np.ndarray, truth: np.ndarray) -> list[np.ndarray]:
    """Images of the peer on the grid of the truth, one for each Wiener parameter."""
    raw = frames.reshape(-1, *frames.shape[-2:]).astype(np.float32)
    images = []
    for wiener in PEER_WIENER:
        peer = peer_processor(kind, wiener, "cpu")
        peer.calibrate(raw)
        images.append(registered(np.asarray(peer.reconstruct_pytorch(raw)), truth))
    return images


def speed(kind: Any, size: int, repeats: int, device: str) -> dict[str, Any]:
    """Seconds of calibration and of one image with cached parameters."""
    stack = make_stack(n=size, ratio=0.92, seed=0)
    frames = stack.frames(500, 0)
    raw = frames.reshape(-1, size, size).astype(np.float32)
    found = estimate_parameters(frames, OTF, PIXEL_UM)
    plan = WienerPlan(found, OTF, WienerSettings(), 0.05, (size, size), device=device)
    held = frames[None].astype(np.float32)

    def image() -> object:
        tensor = torch.from_numpy(held).to(device)
        return plan.image(plan.spectrum(tensor)).cpu().numpy()

    positive = WienerPlan(
        found, OTF, WienerSettings(positivity=POSITIVITY), 0.05, (size, size), device=device
    )

    def positive_image() -> object:
        tensor = torch.from_numpy(held).to(device)
        return positive.image(positive.spectrum(tensor)).cpu().numpy()

    jobs: dict[str, Callable[[], object]] = {"ours": image, "ours_positive": positive_image}
    calibrations: dict[str, Callable[[], object]] = {
        "ours": lambda: estimate_parameters(torch.from_numpy(held).to(device), OTF, PIXEL_UM)
    }
    if kind is not None:
        peer = peer_processor(kind, 0.1, device)
        peer.calibrate(raw)
        jobs |= {
            "peer_pytorch": lambda: peer.reconstruct_pytorch(raw),
            "peer_numpy": lambda: peer.reconstruct_rfftw(raw),
        }
        other = peer_processor(kind, 0.1, device)
        # Its PyTorch calibration stops with a TypeError under NumPy 2.
        calibrations["peer_numpy"] = lambda: other.calibrate(raw)
    cached = in_turn(repeats, device, **jobs)
    calibrated = in_turn(max(repeats // 3, 2), device, **calibrations)
    row: dict[str, Any] = {
        "size": size,
        "cached_s": {name: round(s, 4) for name, s in cached.items()},
        "frames_per_s": round(1 / cached["ours"], 1),
        "calibration_s": {name: round(s, 3) for name, s in calibrated.items()},
    }
    for key, times in (("cached", cached), ("calibration", calibrated)):
        others = [s for name, s in times.items() if not name.startswith("ours")]
        if others:
            row[f"{key}_speed_ratio"] = round(min(others) / times["ours"], 2)
    return row


def nonlinear(size: int, stacks: int, photons: float) -> list[dict[str, Any]]:
    """Resolution of 5 x 5 nonlinear SIM with the true and with estimated parameters."""
    depths = (1.333, 0.333)
    values: dict[str, list[float]] = {"true": [], "estimated": []}
    for seed in range(stacks):
        stack = make_stack(
            n=size,
            ratio=0.92,
            modulation=depths[0],
            harmonics=depths[1:],
            seed=seed,
            orientations=5,
            phases=5,
        )
        frames, truth = stack.frames(photons, seed), stack.truth(photons)
        known = {
            "true": true_parameters(stack, depths),
            "estimated": estimate_parameters(frames, OTF, PIXEL_UM, orders=2),
        }
        for name, parameters in known.items():
            image = reconstruct(frames, parameters, OTF)[0]
            values[name].append(frc_resolution_nm(image, truth, PIXEL_UM / 3))
    return [
        {
            "peak_photons": photons,
            "parameters": name,
            "frc_nm": round(float(np.mean(found)), 1),
            "worst_frc_nm": round(max(found), 1),
        }
        for name, found in values.items()
    ]


def draw(kind: Any, size: int, path: Path) -> None:
    """Sample, wide field, peer and ours, with their spectra."""
    photons, ratio = 500.0, 0.92
    stack = make_stack(n=size, ratio=ratio, seed=0)
    frames = stack.frames(photons, 0)
    truth = stack.truth(photons)
    found = estimate_parameters(frames, OTF, PIXEL_UM)
    ours, positive = (
        reconstruct(frames, found, OTF, WienerSettings(positivity=n))[0] for n in (0, POSITIVITY)
    )
    pictures = {"Sample": truth, "Wide field": enlarged(widefield(frames))}
    if kind is not None:
        images = peer_images(kind, frames, truth)
        pictures["napari-sim-processor"] = max(images, key=lambda i: ring_psnr(i, truth))
    pictures["tisr_scope, linear"] = ours
    pictures["tisr_scope, no negative light"] = positive
    side = 96
    top, left = busiest(truth, side)
    part = np.s_[top : top + side, left : left + side]
    figure = Figure(figsize=(3.1 * len(pictures), 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(pictures))
    for column, (name, image) in enumerate(pictures.items()):
        above, below = axes[:, column]
        high = np.percentile(image, 99.8)
        above.imshow(image[part], cmap="gray", vmin=0, vmax=high, interpolation="nearest")
        scale_bar(above, PIXEL_UM / 2)
        known = name == "Sample"
        above.set_title(name if known else f"{name}\n{ring_psnr(image, truth):.1f} dB", fontsize=11)
        power = np.abs(np.fft.fftshift(np.fft.fft2((image - image.mean()) * _hann(image.shape))))
        reach = 1 / PIXEL_UM
        log = np.log10(power / power.max() + 1e-9)
        below.imshow(log, cmap="inferno", vmin=-4, vmax=-0.5, extent=(-reach, reach, reach, -reach))
        turn = np.linspace(0, 2 * np.pi, 200)
        for radius, style in ((CUTOFF, "-"), (CUTOFF * (1 + ratio), "--")):
            below.plot(radius * np.cos(turn), radius * np.sin(turn), style, color="white", lw=0.8)
        below.set_xlim(-13, 13)
        below.set_ylim(13, -13)
        below.set_xlabel("cycles/µm")
        above.set_xticks([])
        above.set_yticks([])
    axes[1, 0].set_ylabel("spectrum, four decades of amplitude")
    figure.suptitle(
        "500 photons at the peak; circles: cut-off of the optics (solid), of SIM (dashed)",
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _hann(shape: tuple[int, int]) -> np.ndarray:
    return np.hanning(shape[0])[:, None] * np.hanning(shape[1])[None, :]


def verdicts(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every target that could be measured, and whether it is met."""
    first, timing = report["quality"][0], report["speed"]
    measured = {
        "gain_over_peer_db": first.get("gain_over_peer_db"),
        "positive_gain_over_peer_db": first.get("positive_gain_over_peer_db"),
        "cached_speed_ratio": timing.get("cached_speed_ratio"),
        "calibration_speed_ratio": timing.get("calibration_speed_ratio"),
        "nonlinear_frc_nm": report["nonlinear"][1]["frc_nm"],
    }
    return {
        name: {
            "target": TARGETS[name],
            "measured": value,
            "met": value <= TARGETS[name] if name.endswith("_nm") else value >= TARGETS[name],
        }
        for name, value in measured.items()
        if value is not None
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stacks", type=int, default=6)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--speed-size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kind = load_peer()
    size, stacks = arguments.size, arguments.stacks
    conditions = [(500, 0.92), (100, 0.92), (500, 0.975)]
    report: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "device": arguments.device,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "peer": None if kind is None else importlib.metadata.version("napari-sim-processor"),
        "size": size,
        "stacks": stacks,
        "quality": [quality(kind, size, stacks, photons, ratio) for photons, ratio in conditions],
        "speed": speed(kind, arguments.speed_size, arguments.repeats, arguments.device),
        "nonlinear": nonlinear(size, min(stacks, 3), 500),
    }
    report["targets"] = verdicts(report)
    print(json.dumps(report, indent=2))
    if arguments.figure is not None:
        draw(kind, size, arguments.figure)


if __name__ == "__main__":
    main()
