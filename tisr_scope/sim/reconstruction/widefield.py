"""The diffraction-limited image that the raw SIM frames contain."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import ReconstructionError


def widefield(
    frames: Float[np.ndarray, ...],
) -> Float[np.ndarray, "*time y x"]:
    """Mean over orientations and phases: evenly stepped stripes add up to even light.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x) or without time

    Raises
    ------
    ReconstructionError
        If there are no orientation and phase axes.
    """
    if frames.ndim < 4 or 0 in frames.shape:
        raise ReconstructionError(
            f"frames of shape {frames.shape} have no orientations and phases",
            remedy="give (time, orientation, phase, y, x)",
        )
    mean = np.asarray(np.mean(frames, axis=(-4, -3), dtype=np.float64))
    return mean.astype(np.float32)
