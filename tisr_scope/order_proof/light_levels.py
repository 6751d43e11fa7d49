"""Whether the light rises from level to level as it was commanded.

The light of a frame is its slope over the mean of all frames: free of camera offset and ambient
light.  Levels of one pattern are compared with each other only, so neither the sample nor the
pattern matters; what the mean cannot explain of a frame (noise, fringes, motion) is its error.

Two things are proof: within a pattern, a higher level that is darker than a lower one by more than
noise, bleaching and a laser's steadiness allow; and a pattern whose light changes from level to
level in other steps than that of the other patterns.  Which frames are wrong is then told by the
slip that fits best.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import erfcinv

from tisr_scope.order_proof.commanded import Commanded, Fault
from tisr_scope.order_proof.slips import slips

STEADY = 0.05
"""Share by which the light of a laser may vary from frame to frame."""
MOST_BLEACHED = 0.1
"""Share of the light that may be lost from one pattern to the next: 60 % in nine."""
SPREADS = 8.0
"""Robust standard deviations of all patterns by which one must be off."""
FALSE_ALARMS = 1e-8
"""Probability that noise alone contradicts a time point."""


def light_faults(
    frames: Float[np.ndarray, "frame y x"], commanded: Commanded
) -> tuple[tuple[Fault, ...], bool]:
    """Contradictions between light and command, and whether levels can be told apart.

    Parameters
    ----------
    frames : array, shape (frame, y, x)
        Of one time point in the order of exposure, offset removed.
    commanded : Commanded
        What was asked for.
    """
    patterns, levels = commanded.patterns, commanded.levels
    if levels < 2:
        return (), False
    light, error = frame_light(frames)
    light, error = (a.reshape(patterns, levels) for a in (light, error))
    powers = np.array(commanded.powers_mw)
    pairs = [(a, b) for a in range(levels) for b in range(a + 1, levels)]
    z_least = float(np.sqrt(2) * erfcinv(2 * FALSE_ALARMS / (2 * patterns * len(pairs))))
    lost = _bleached(light[:, -1])
    wrong = np.zeros((patterns, levels), bool)
    for a, b in pairs:
        wrong |= _reversed(light, error, a, b, z_least, lost)
    shaped = frames.reshape(patterns, levels, *frames.shape[1:])
    wrong |= _change_of_light(shaped, powers, z_least, lost)
    seen = light.sum(axis=1) > z_least * np.sqrt((error**2).sum(axis=1))
    if wrong.any():
        return (_named(light, error, powers, wrong, commanded),), True
    if not seen.all():
        return (), False
    return _response(light, error, powers, z_least), True


def frame_light(
    frames: Float[np.ndarray, "frame y x"],
) -> tuple[Float[np.ndarray, " frame"], Float[np.ndarray, " frame"]]:
    """Light of every frame in units of their mean, and its standard error.

    The slope over the mean image where that has structure, else the mean count.  The error is that
    of a regression whose residuals need not be alike (White's sandwich).
    """
    mean = frames.mean(axis=0)
    structure = mean - mean.mean()
    power = float((structure**2).sum())
    flat = frames.reshape(len(frames), -1)
    slope = flat @ structure.ravel() / max(power, 1e-30)
    residual = frames - frames.mean(axis=(1, 2), keepdims=True) - slope[:, None, None] * structure
    error = np.sqrt(((structure * residual) ** 2).sum(axis=(1, 2))) / max(power, 1e-30)
    level = frames.mean(axis=(1, 2)) / max(float(mean.mean()), 1e-30)
    level_error = frames.std(axis=(1, 2)) / np.sqrt(mean.size) / max(float(mean.mean()), 1e-30)
    structured = np.median(np.abs(slope) / error) > np.median(np.abs(level) / level_error) / 4
    return (slope, error) if structured else (level, level_error)


# ------------------------------------------------------------------------------------- inside


def _bleached(light: Float[np.ndarray, " pattern"]) -> float:
    """Share of the light that is lost from one pattern to the next, at the highest level."""
    if len(light) < 3 or not (light > 0).all():
        return 0.0
    steps = np.subtract.outer(np.log(light), np.log(light))
    apart = np.subtract.outer(np.arange(len(light)), np.arange(len(light)))
    slope = float(np.median(steps[apart > 0] / apart[apart > 0]))
    return min(float(1 - np.exp(min(slope, 0.0))), MOST_BLEACHED)


def _reversed(
    light: Float[np.ndarray, "pattern level"],
    error: Float[np.ndarray, "pattern level"],
    a: int,
    b: int,
    z_least: float,
    lost: float,
) -> Bool[np.ndarray, "pattern level"]:
    """Patterns in which the higher level is the darker one."""
    least = light[:, a] * (1 - STEADY) * (1 - 3 * lost)
    short = least - light[:, b]
    proven = short > z_least * np.hypot(error[:, a], error[:, b])
    wrong = np.zeros(light.shape, bool)
    wrong[proven, a] = wrong[proven, b] = True
    return wrong


def _change_of_light(
    frames: Float[np.ndarray, "pattern level y x"],
    powers: Float[np.ndarray, " level"],
    z_least: float,
    lost: float,
) -> Bool[np.ndarray, "pattern level"]:
    """Patterns whose light changes from level to level unlike that of most patterns.

    The change from the lowest level is compared with the mean change of all patterns, as images:
    what the sample and the pattern make of the light scales all changes of a pattern alike.
    """
    patterns, levels = frames.shape[:2]
    wrong = np.zeros((patterns, levels), bool)
    if patterns < 3:
        return wrong
    usable = [n for n in range(1, levels) if powers[n] / powers[0] > 1 + 4 * (STEADY + lost)]
    share = np.zeros((patterns, len(usable)))
    error = np.zeros_like(share)
    for column, n in enumerate(usable):
        change = frames[:, n] - frames[:, 0]
        usual = change.mean(axis=0)
        power = max(float((usual**2).sum()), 1e-30)
        share[:, column] = (change * usual).sum(axis=(1, 2)) / power
        rest = usual * (change - share[:, column, None, None] * usual)
        error[:, column] = np.sqrt((rest**2).sum(axis=(1, 2))) / power
    if not usable or np.median(1 / np.maximum(error, 1e-30)) < 2 * z_least:
        return wrong
    high, low = share.max(axis=1), share.min(axis=1)
    noise = np.sqrt((error**2).sum(axis=1))
    apart = high - low - 0.5 * np.maximum(np.abs(high), np.abs(low))
    # How much samples and patterns make the patterns differ is seen from the patterns.
    away = np.abs(share[:, -1] - np.median(share[:, -1]))
    usual_spread = SPREADS * 1.4826 * float(np.median(away))
    against = (apart > z_least * noise) | (
        away > np.maximum(0.5, usual_spread) + z_least * error[:, -1]
    )
    wrong[against] = True
    return wrong


def _response(
    light: Float[np.ndarray, "pattern level"],
    error: Float[np.ndarray, "pattern level"],
    powers: Float[np.ndarray, " level"],
    z_least: float,
) -> tuple[Fault, ...]:
    """A doubt where the light hardly rises from the lowest level to the highest."""
    low, high = light[:, 0].mean(), light[:, -1].mean()
    noise = np.hypot(np.sqrt((error[:, 0] ** 2).mean()), np.sqrt((error[:, -1] ** 2).mean()))
    asked = powers[-1] / powers[0]
    most = low * np.sqrt(asked) - high
    if asked < (1 + STEADY) ** 4 or most < z_least * noise * np.sqrt(asked):
        return ()
    text = (
        f"the light of the highest level is {high / max(low, 1e-12):.3g} times that of the lowest, "
        f"{asked:.3g} times was commanded"
    )
    return (Fault("ratio", text, ()),)


def _named(
    light: Float[np.ndarray, "pattern level"],
    error: Float[np.ndarray, "pattern level"],
    powers: Float[np.ndarray, " level"],
    wrong: Bool[np.ndarray, "pattern level"],
    commanded: Commanded,
) -> Fault:
    """The slip that explains the light best, or the frames that contradict it if none does."""
    known = slips(commanded.patterns, commanded.levels, exchanges=True)
    shown = powers[known.shown % commanded.levels].reshape(-1, *light.shape)
    weight = 1 / (error**2 + (2 * STEADY * light) ** 2)
    # One brightness for each pattern, whatever the sample makes of it.
    gain = (weight * shown * light).sum(axis=2) / (weight * shown**2).sum(axis=2)
    misfit = (weight * (light - gain[:, :, None] * shown) ** 2).clip(max=25).sum(axis=(1, 2))
    best = int(np.argmin(misfit))
    explained = bool(misfit[best] < min(0.2 * misfit[0], 2.0 * light.size))
    moved = shown[best] != shown[0]
    # Where few patterns are unlike the others, a slip that moves others than these is not it.
    alone = 3 * int(wrong.any(axis=1).sum()) <= len(wrong)
    explained &= not alone or int((moved.any(axis=1) != wrong.any(axis=1)).sum()) <= 1
    if explained:
        worst = np.flatnonzero(moved.ravel())
        told = f"laser: {known.names[best]}, "
    else:
        worst = np.flatnonzero(wrong.ravel())
        told = "laser: "
    first = worst[0]
    pattern = int(first) // commanded.levels
    others = ", ".join(f"{v:.3g}" for v in light[pattern] / light[pattern].max())
    asked = ", ".join(f"{v:.3g}" for v in powers / powers.max())
    text = (
        f"{told}{commanded.place(int(first))} is the first of {len(worst)} with the wrong light; "
        f"the levels of its pattern shine as {others}, commanded were {asked}"
    )
    return Fault("light", text, tuple(int(n) for n in worst))
