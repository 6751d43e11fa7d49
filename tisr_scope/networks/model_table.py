"""What bundles say of themselves, as one table: for the terminal and for the readme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tisr_scope.networks.bundle import Bundle
from tisr_scope.networks.bundle_files import WEIGHTS
from tisr_scope.networks.dpa_tisr import parameter_count

COLUMNS = (
    "model",
    "trained on",
    "enlarges",
    "parameters",
    "size",
    "PSNR, test (dB)",
    "calibration error, test",
    "licence",
)


@dataclass(frozen=True)
class ModelRow:
    """One bundle in words, in the order of :data:`COLUMNS`."""

    cells: tuple[str, ...]


def model_row(bundle: Bundle) -> ModelRow:
    """Row of a bundle; figures are those measured on recordings nothing was fitted to."""
    training, calibration = bundle.training, bundle.calibration or {}
    recordings = training.get("recordings")
    counted = len(recordings["train"]) if isinstance(recordings, dict) else 0
    trained = f"{counted} recordings" if counted else "said in its card"
    kind = training.get("specimen") or training.get("simulated")
    if kind:
        trained = f"{trained}, {kind}" if counted else str(kind)
    optics = bundle.optics
    if optics is not None:
        trained += f", NA {optics.numerical_aperture:g}, {1e3 * optics.pixel_size_um:.1f} nm px"
    megabytes = (bundle.path / WEIGHTS).stat().st_size / 2**20
    return ModelRow(
        (
            bundle.name,
            trained,
            f"x{bundle.config.upscale}",
            f"{parameter_count(bundle.network()):,}",
            f"{megabytes:.1f} MiB",
            _psnr(calibration),
            _errors(calibration),
            bundle.licence,
        )
    )


def _psnr(calibration: dict[str, Any]) -> str:
    found = calibration.get("psnr_test")
    return f"{found[-1]:.2f}" if found else "not measured"


def _errors(calibration: dict[str, Any]) -> str:
    """Expected calibration error of the first interval: before and after."""
    for entry in calibration.get("intervals", ())[:1]:
        errors = entry.get("ece_test")
        if errors:
            return f"{errors[0]:.4f}, now {errors[-1]:.4f}"
    return "uncalibrated"


def markdown(rows: Sequence[ModelRow]) -> str:
    """Table for the readme."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
