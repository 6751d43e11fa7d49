"""A follower whose network raises, as a graphics card would, whenever a file is put in its way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tisr_scope.inference.predictor import StreamPredictor
from tisr_scope.live import follower_process
from tisr_scope.types import Prediction

FAULT = Path(os.environ["TISR_TEST_FAULT"])
"""Removed by the fault; ``FAULT.stay`` makes every result fail."""

_advance = StreamPredictor.advance


def advance(self: StreamPredictor, frames: Sequence[np.ndarray]) -> list[Prediction]:
    """Fail where asked to."""
    if FAULT.exists() or FAULT.with_suffix(".stay").exists():
        FAULT.unlink(missing_ok=True)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return _advance(self, frames)


if __name__ == "__main__":
    StreamPredictor.advance = advance  # type: ignore[method-assign]
    follower_process.main()
