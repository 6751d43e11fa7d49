"""How devices that step by triggers go wrong: which exposure's setting each frame really shows.

A slip is a permutation of settings in the order of exposure: frame ``f`` shows what was commanded
for exposure ``shown[f]``.  A trigger lost at frame n leaves every later frame one setting behind,
a doubled one puts it ahead, a device that starts late shows the last setting first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Slips:
    """Every slip that is told apart, the orderly one first.

    Attributes
    ----------
    shown : int array, shape (slip, frame)
        Exposure whose setting a frame shows.
    names : tuple of str
        What happened, in words.
    """

    shown: Int[np.ndarray, "slip frame"]
    names: tuple[str, ...]


@lru_cache(maxsize=32)
def slips(patterns: int, levels: int, *, exchanges: bool) -> Slips:
    """Slips of one time point of ``patterns`` x ``levels`` exposures.

    Parameters
    ----------
    patterns, levels : int
        Exposures of a time point, level fastest.
    exchanges : bool
        Whether levels may be exchanged, the same way in every pattern, or stand still.  Patterns
        cannot be told to: what an unmoving sample adds to every frame looks the same.
    """
    frames = patterns * levels
    order = np.arange(frames)
    rows, names = [order], ["as commanded"]
    for behind in range(1, levels + 1):
        for start in range(frames):
            late = np.where(order >= start, (order - behind) % frames, order)
            early = np.where(order >= start, (order + behind) % frames, order)
            rows += [late, early]
            lost = _steps(behind, "lost") if start else f"begins {behind} frame(s) late"
            more = _steps(behind, "too many") if start else f"begins {behind} frame(s) early"
            names += [lost, more]
    if exchanges:
        for start in range(frames - 1):
            rows.append(np.minimum(order, start))
            names.append("stands still")
        level = order % levels
        for other in list(permutations(range(levels)))[1:]:
            rows.append(order - level + np.array(other)[level])
            names.append("levels exchanged")
    return Slips(np.array(rows), tuple(names))


def _steps(count: int, what: str) -> str:
    return f"{count} trigger{'s' if count > 1 else ''} {what}"
