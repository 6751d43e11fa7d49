"""Confidence correction: the fine-tuning objective and the search for the suppression factor k.

A fine-tuned network is judged by its calibration error.  The search tries values of k in steps
along the descending direction until the error rises, then takes the vertex of the parabola
through the last three trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.confidence.credible_interval import confidence, half_width
from tisr_scope.confidence.expected_calibration_error import confidence_bin
from tisr_scope.errors import CalibrationError


@dataclass(frozen=True)
class Trial:
    """One fine-tuning with suppression factor ``k`` and the error of its network."""

    k: float
    ece: float


@dataclass(frozen=True)
class KSearch:
    """Outcome of the search.

    Attributes
    ----------
    k : float
        Suppression factor for the final fine-tuning.
    source : "parabola" or "best tried"
        Whether ``k`` is the vertex of the parabola or the best of the trials.
    trials : tuple of Trial
        In the order they were run.
    reason : str
        Why the search ended as it did, in a sentence.
    """

    k: float
    source: Literal["parabola", "best tried"]
    trials: tuple[Trial, ...]
    reason: str


def sgn(value: float) -> int:
    """Sign that counts zero as positive (Paper: eq. 39)."""
    return 1 if value >= 0 else -1


def parabola_vertex(last: Trial, middle: Trial, first: Trial) -> tuple[float, float]:
    """Vertex of the parabola through three trials, and its curvature (Paper: eq. 41-44).

    Returns
    -------
    k, curvature : float
        ``curvature`` is the derivative of the slope; k is NaN where it is zero.
    """
    middle_1 = (last.k + middle.k) / 2
    middle_2 = (middle.k + first.k) / 2
    slope_1 = (last.ece - middle.ece) / (last.k - middle.k)
    slope_2 = (middle.ece - first.ece) / (middle.k - first.k)
    curvature = (slope_1 - slope_2) / (middle_1 - middle_2)
    return (middle_2 - slope_2 / curvature if curvature else float("nan")), curvature


def search_k(
    evaluate: Callable[[float], float],
    relative_ece0: float,
    delta: float = 0.1,
    max_steps: int = 8,
) -> KSearch:
    """Find the suppression factor k with the least calibration error (Paper: eq. 37-44).

    Two rules are added to the published search: it stops after ``max_steps`` trials, and a
    parabola that opens downwards or whose vertex lies outside the three trials is not believed;
    then the best k tried is taken, and ``reason`` says so.

    Parameters
    ----------
    evaluate : callable
        Fine-tunes the original network with k and returns the ECE of the result.
    relative_ece0 : float
        rECE of the original network (Paper: eq. 36); its sign gives the direction.
    delta : float
        Step of k.
    max_steps : int
        Largest number of trials, at least 3.

    Raises
    ------
    CalibrationError
        If a setting is impossible or an error is not a finite number.
    """
    if not delta > 0 or max_steps < 3:
        raise CalibrationError(
            f"the search needs delta > 0 and max_steps >= 3, got {delta} and {max_steps}",
            remedy="the published step is 0.1; 8 trials are usually enough",
        )
    trials: list[Trial] = []

    def run(k: float) -> Trial:
        trial = Trial(k, float(evaluate(k)))
        if not abs(trial.ece) < float("inf"):
            raise CalibrationError(
                f"the calibration error of the trial k = {k:.3g} is {trial.ece}",
                remedy="lower the learning rate; the fine-tuning has diverged",
            )
        trials.append(trial)
        return trial

    sign = sgn(relative_ece0)
    previous = run(0.5 * sign)
    latest = run(previous.k - delta * sign)
    if previous.ece < latest.ece:
        previous, latest = latest, previous
        delta = -delta
    while len(trials) < max_steps:
        oldest, previous = previous, latest
        latest = run(round(previous.k - delta * sign, 12))
        if latest.ece > previous.ece:
            k, curvature = parabola_vertex(latest, previous, oldest)
            low, high = sorted((oldest.k, latest.k))
            if curvature > 0 and low <= k <= high:
                reason = f"the error rose after {len(trials)} trials"
                return KSearch(k, "parabola", tuple(trials), reason)
            return _best(trials, "the parabola has no minimum between the last three trials")
    return _best(trials, f"the error did not rise again within {max_steps} trials")


def _best(trials: list[Trial], reason: str) -> KSearch:
    best = min(trials, key=lambda trial: trial.ece)
    return KSearch(best.k, "best tried", tuple(trials), reason)


def calibration_loss(
    means: Float[Tensor, "m ..."],
    scales: Float[Tensor, "m ..."],
    truth: Float[Tensor, "*pixels"],
    *,
    k: float,
    epsilon: float,
    gamma: float | None,
    bins: int = 20,
    softness: float | None = None,
) -> Float[Tensor, ""]:
    """Confidence regularisation ECE + k * confidence of a batch (Paper: eq. 35).

    Parameters
    ----------
    means, scales : tensor, shape (m, ...)
        Passes of the batch; with m = 1 the confidence depends on the scale only.
    truth : tensor, shape (...)
        Normalised target.
    k : float
        Suppression factor; positive values lower the confidence.
    epsilon, gamma : float
        Credible interval, see :func:`~tisr_scope.confidence.credible_interval.half_width`.
    bins : int
        Groups of the ECE.
    softness : float, optional
        None counts hits with the indicator of eq. 31, whose gradient is zero, so the loss acts
        through the confidence only.  A value tau replaces it by sigmoid((half - |error|) / tau).
    """
    centre = means.mean(dim=0)
    half = half_width(centre, epsilon, gamma)
    predicted = confidence(means, scales, half, centre).flatten()
    error = (truth - centre).abs()
    if softness is None:
        hit = (error <= half).to(predicted.dtype).flatten()
    else:
        hit = torch.sigmoid((half - error) / softness).flatten()
    gap = torch.zeros(bins, dtype=predicted.dtype, device=predicted.device)
    gap = gap.index_add(0, confidence_bin(predicted.detach(), bins), predicted - hit)
    return gap.abs().sum() / predicted.numel() + k * predicted.mean()
