"""Resolution and error metrics beside NanoPyx on the same images, as JSON.

    python -m benchmarks.metric_peers

NanoPyx (CC BY 4.0) is a peer for this comparison only and no dependency: it brings OpenCL, OpenCV,
scikit-learn and a dozen more packages.  ``pip install nanopyx`` beforehand; without it the figures
of this package are printed beside those that are known from how the images were made.

Images: filaments blurred to a known cut-off, with photon noise; the known resolution of the ring
correlation is that at which the expected correlation of signal and noise power is 1/7, computed
from the noiseless spectrum.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from tisr_scope.metrics.decorrelation import decorrelation_analysis
from tisr_scope.metrics.resolution_scaled_error import resolution_scaled_error
from tisr_scope.metrics.ring_correlation import ring_correlation

PIXEL_UM = 0.04


def filaments(n: int, rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((n, n))
    for _ in range(n // 8):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.02, 2 * n))
        line = rng.uniform(0, n, 2)[:, None] + np.cumsum([np.sin(heading), np.cos(heading)], axis=1)
        y, x = np.rint(line).astype(int) % n
        np.add.at(image, (y, x), 1.0)
    return image


def optics(image: np.ndarray, cutoff: float) -> np.ndarray:
    """In-focus incoherent transfer function."""
    f = np.fft.fftfreq(image.shape[0], PIXEL_UM)
    s = np.clip(np.hypot(f[:, None], f[None, :]) / cutoff, 0, 1)
    transfer = 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))
    return np.fft.ifft2(np.fft.fft2(image) * transfer).real.clip(min=0)


def known_resolution(mean: np.ndarray) -> float:
    """Period at which signal power over signal and shot noise power falls through 1/7."""
    n = mean.shape[0]
    power = np.abs(np.fft.fft2(mean - mean.mean())) ** 2
    f = np.fft.fftfreq(n, PIXEL_UM)
    ring = np.rint(np.hypot(f[:, None], f[None, :]) * n * PIXEL_UM).astype(int)
    signal = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    smooth = np.convolve(signal, np.ones(5) / 5, "same")[: n // 2]
    crossing = int((smooth / (smooth + mean.sum()) < 1 / 7)[3:].argmax()) + 3
    return n * PIXEL_UM / crossing


def peer() -> dict[str, Callable[..., float]] | None:
    try:
        from nanopyx.core.analysis.decorr import DecorrAnalysis
        from nanopyx.core.analysis.frc import FIRECalculator
        from nanopyx.core.transform.error_map import ErrorMap
    except ImportError:
        return None

    def ring(a: np.ndarray, b: np.ndarray) -> float:
        calculator = FIRECalculator(pixel_size=PIXEL_UM, units="um")
        return float(calculator.calculate_fire_number(a.astype(np.float32), b.astype(np.float32)))

    def decorrelation(a: np.ndarray) -> float:
        calculator = DecorrAnalysis(pixel_size=PIXEL_UM, units="um")
        calculator.run_analysis(a.astype(np.float32))
        return float(calculator.resolution)

    def error(wide: np.ndarray, fine: np.ndarray) -> tuple[float, float, float]:
        calculator = ErrorMap()
        calculator.optimise(wide.astype(np.float32), fine.astype(np.float32))
        return calculator.getRSE(), calculator.getRSP(), calculator.get_sigma()

    return {"ring": ring, "decorrelation": decorrelation, "error": error}


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call(*arguments)
    return result, round(time.perf_counter() - start, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    other = peer()
    rows = []
    for seed in range(arguments.seeds):
        for cutoff, photons in ((5.6, 30), (5.6, 300), (9.0, 300)):
            rng = np.random.default_rng(seed)
            sample = filaments(arguments.size, rng)
            mean = optics(sample, cutoff)
            mean *= photons / np.percentile(mean, 99.5)
            a, b = (rng.poisson(mean + 0.5).astype(np.float64) for _ in range(2))
            curve, seconds = timed(ring_correlation, a, b, PIXEL_UM)
            ours = curve.resolution("1/7").um
            row: dict[str, Any] = {
                "seed": seed,
                "cutoff_period_um": round(1 / cutoff, 4),
                "photons": photons,
                "ring_um": {"known": known_resolution(mean + 0.5), "ours": ours},
                "decorrelation_um": {
                    "ours": decorrelation_analysis(a, PIXEL_UM).resolution_um,
                },
                "seconds": {"ring_ours": seconds},
            }
            wide = gaussian_filter(mean, 3.0, mode="wrap")
            false = mean.copy()
            false[100:110, 100:110] += mean.max()
            row["error"] = {}
            for name, image in (("true", mean), ("false", false)):
                found = resolution_scaled_error(image, wide, PIXEL_UM)
                row["error"][name] = {
                    "known_sigma_px": 3.0,
                    "ours_rse_rsp_sigma_px": [
                        round(found.rse, 4),
                        round(found.rsp, 5),
                        round((found.sigma_um or 0) / PIXEL_UM, 3),
                    ],
                }
                if other:
                    row["error"][name]["nanopyx_rse_rsp_sigma_px"] = np.round(
                        other["error"](wide, image), 5
                    ).tolist()
            if other:
                row["ring_um"]["nanopyx"], row["seconds"]["ring_nanopyx"] = timed(
                    other["ring"], a, b
                )
                row["decorrelation_um"]["nanopyx"] = other["decorrelation"](a)
            rows.append(row)
    print(json.dumps({"size": arguments.size, "peer": other is not None, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
