"""What bundles say of themselves, as one table: for the terminal and for the readme."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tisr_scope.bundles.bundle_description import (
    CALIBRATION,
    DESCRIPTION,
    WEIGHTS,
    find_bundle,
    read_calibration,
    read_description,
    stored_parameters,
)

if TYPE_CHECKING:
    from tisr_scope.bundles.bundle import Bundle

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


def model_row(name_or_path: str | Path) -> tuple[str, ...]:
    """One bundle in words, in the order of :data:`COLUMNS`; its weights are not read.

    Figures are those measured on recordings that nothing was fitted to.

    Raises
    ------
    BundleError
        If there is no such bundle, or its description cannot be read.
    """
    folder = find_bundle(name_or_path)
    bundle = read_description(folder / DESCRIPTION)
    training, calibration = bundle.training, read_calibration(folder / CALIBRATION) or {}
    recordings = training.get("recordings")
    counted = len(recordings["train"]) if isinstance(recordings, dict) else 0
    trained = f"{counted} recordings" if counted else "said in its card"
    kind = training.get("specimen") or training.get("simulated")
    if kind:
        trained = f"{trained}, {kind}" if counted else str(kind)
    optics = bundle.optics
    if optics is not None:
        trained += f", NA {optics.numerical_aperture:g}, {1e3 * optics.pixel_size_um:.1f} nm px"
    return (
        bundle.name,
        trained,
        f"x{bundle.architecture.upscale}",
        f"{stored_parameters(folder / WEIGHTS):,}",
        f"{(folder / WEIGHTS).stat().st_size / 2**20:.1f} MiB",
        _psnr(calibration),
        _errors(calibration),
        bundle.licence,
    )


def facts(bundle: Bundle) -> dict[str, str]:
    """What the files of a bundle say beside its card."""
    rule, optics = bundle.normalisation, bundle.optics
    percentile = f" {rule.percentile:g}" if rule.reference == "percentile" else ""
    told_at_import = bundle.training.get("imported_from")
    origin = told_at_import if isinstance(told_at_import, dict) else {}
    told = {
        "licence": bundle.licence,
        "copyright": origin.get("copyright"),
        "imported from": origin.get("file"),
        "file's SHA-256": origin.get("sha256"),
        "published at": origin.get("source"),
        "normalisation": f"{rule.reference}{percentile}",
        "optics": ", ".join(f"{k} {v:g}" for k, v in optics.model_dump(exclude_none=True).items())
        if optics
        else "not said",
        "dropout": f"{bundle.config.dropout_rate:g} in "
        + (", ".join(bundle.config.dropout_in) or "no stage"),
        "confidence": "calibrated" if bundle.calibration else "uncalibrated",
        "weights": f"{stored_parameters(bundle.path / WEIGHTS):,} values",
        "SHA-256": bundle.weights_hash,
    }
    return {name: str(value) for name, value in told.items() if value is not None}


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


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Table for a readme."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
