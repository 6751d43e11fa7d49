"""Live super-resolution with calibrated confidence for SIM microscopes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Resolved on first use, so that ``import tisr_scope`` loads neither torch nor Qt.
_PUBLIC = {
    "Profile": "tisr_scope.profiles.schema",
    "load_profile": "tisr_scope.profiles.library",
    "RunPlan": "tisr_scope.running_order.run_plan",
    "acquire": "tisr_scope.acquisition.acquire",
    "Recording": "tisr_scope.recording.recording",
    "PairedStack": "tisr_scope.types",
    "Prediction": "tisr_scope.types",
    "Bundle": "tisr_scope.bundles.bundle",
    "load_bundle": "tisr_scope.bundles.bundle",
    "TisrScopeError": "tisr_scope.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tisr_scope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
