"""Whether the levels of a pattern show the same pattern, image against image.

Where fringes are seen but a single dim frame has too few of them to tell its phase, it can still
be compared with the two patterns it may show: its own at the highest level, and the one before.
On the line from the one image to the other an orderly frame lies at 0 and a late one at 1; noise
of the images alone pulls it to one half, and no further.  Only what lies beyond one half by more
than its error is proof, summed over all frames that a trigger lost at one place would make late.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import fft
from scipy.special import erfcinv

from tisr_scope.order_proof.commanded import Commanded, Fault
from tisr_scope.order_proof.fringes import FALSE_ALARMS, optical_transfer

LEAST_BEYOND = 0.35
"""Of the way, beyond the middle, on average: samples that move pull a frame up to a quarter, for
the pattern before was exposed nearer in time than its own at the highest level."""


def late_levels(frames: Float[np.ndarray, "frame y x"], commanded: Commanded) -> tuple[Fault, ...]:
    """Lower levels that show the pattern before their own, offset removed."""
    patterns, levels = commanded.patterns, commanded.levels
    if levels < 2 or patterns < 2:
        return ()
    excess, variance = _table(frames, commanded)
    best: tuple[float, int, int] = (0.0, 0, 0)
    for behind in range(1, levels):
        # Summed from the end: a trigger lost at a pattern makes every later one late.
        lag = excess[::-1, :behind].sum(axis=1).cumsum()[::-1]
        noise = variance[::-1, :behind].sum(axis=1).cumsum()[::-1]
        z = lag / np.sqrt(np.maximum(noise, 1e-30))
        frames_late = behind * np.arange(patterns, 0, -1)
        z = np.where(lag > LEAST_BEYOND * frames_late, z, 0.0)
        start = int(np.argmax(z))
        best = max(best, (float(z[start]), behind, start))
    z, behind, start = best
    if z <= float(np.sqrt(2) * erfcinv(2 * FALSE_ALARMS / (patterns * levels))):
        return ()
    late = [p * levels + level for p in range(start, patterns) for level in range(behind)]
    told = f"{behind} trigger{'s' if behind > 1 else ''} lost" if start else "begins late"
    text = (
        f"patterns: {told}, {commanded.place(late[0])} is the first of {len(late)} that show the "
        f"pattern before their own ({z:.1f} standard errors)"
    )
    return (Fault("pattern", text, tuple(late)),)


def _table(
    frames: Float[np.ndarray, "frame y x"], commanded: Commanded
) -> tuple[Float[np.ndarray, "pattern level"], Float[np.ndarray, "pattern level"]]:
    """How far each lower level lies beyond the middle, and the variance of that."""
    shape = (frames.shape[-2], frames.shape[-1])
    otf = optical_transfer(shape, commanded.pixel_um, commanded.cutoff_per_um)
    mean = frames.mean(axis=0)
    power = max(float((mean**2).sum()), 1e-30)
    scale = frames.reshape(len(frames), -1) @ mean.ravel() / power
    scale = np.maximum(scale, 1e-3 * max(float(scale.max()), 1e-9))
    bright = (frames / scale[:, None, None]).reshape(commanded.patterns, commanded.levels, *shape)
    top = bright[:, -1]
    seen = fft.irfft2(fft.rfft2(top) * otf**2, s=shape)
    step = np.roll(seen, 1, axis=0) - seen  # to the pattern before
    excess = np.zeros((commanded.patterns, commanded.levels))
    variance = np.zeros_like(excess)
    middle = (np.roll(top, 1, axis=0) + top) / 2
    for level in range(commanded.levels - 1):
        beyond = step * (bright[:, level] - middle)
        excess[:, level] = beyond.sum(axis=(1, 2))
        variance[:, level] = (beyond**2).sum(axis=(1, 2))
    # In units of the distance of the two images, so that no frame outweighs the others.
    length = np.maximum((step**2).sum(axis=(1, 2)), 1e-30)[:, None]
    return excess / length, variance / length**2
