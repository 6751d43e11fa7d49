"""Random numbers that can be asked for in any order.

A specimen must answer "where were you at time t?" for any t, so chance events (the height of the
n-th growth phase of filament f) come from a hash of their indices, not from a running generator.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, *indices: np.ndarray | int) -> Float[np.ndarray, "*shape"]:
    """Uniform numbers in [0, 1), a pure function of the seed and the indices (splitmix64).

    Parameters
    ----------
    seed : int
        Any integer.
    *indices : integer arrays or integers
        Broadcast together; every combination of indices has its own number.
    """
    with np.errstate(over="ignore"):
        state = _mixed(np.array([seed], np.int64).astype(np.uint64) + _STEP)
        for index in indices:
            state = _mixed((state ^ np.asarray(index, np.int64).astype(np.uint64)) + _STEP)
    shape = np.broadcast_shapes(*(np.shape(index) for index in indices))
    numbers: Float[np.ndarray, "*shape"] = np.asarray(
        (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    ).reshape(shape)
    return numbers


def generator(seed: int, *keys: int) -> np.random.Generator:
    """Fast generator whose stream is set by the seed and the keys, which may be negative."""
    entropy = [int(k) & 0xFFFFFFFFFFFFFFFF for k in (seed, *keys)]
    return np.random.Generator(np.random.SFC64(entropy))


def _mixed(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = state ^ (state >> np.uint64(31))
    return mixed
