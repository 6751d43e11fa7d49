"""Fine-tuning of a Bayesian network for one suppression factor k, and the judgement of a network.

Every fine-tuning starts from a copy of the same weights and is a pure function of its settings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field

from tisr_scope.confidence.calibration_windows import Examples
from tisr_scope.confidence.confidence_correction import calibration_loss
from tisr_scope.confidence.credible_interval import EPSILON, GAMMA, confidence, half_width
from tisr_scope.confidence.expected_calibration_error import Reliability, inside_interval, merged
from tisr_scope.errors import CalibrationError
from tisr_scope.metrics.fidelity import fitted, psnr
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.networks.dropout import monte_carlo, seeded_generator
from tisr_scope.profiles.schema import Frozen, NonNegative, Positive
from tisr_scope.training.losses import laplace_nll

FINE_BINS = 100
"""Bins of kept counts; reports join them into 20."""


class Interval(Frozen):
    """A credible interval: fixed, or intensity-aware where ``gamma`` is given."""

    epsilon: Positive = EPSILON
    gamma: NonNegative | None = GAMMA

    @property
    def name(self) -> str:
        """Short name for tables and figures."""
        return "fixed" if self.gamma is None else "intensity-aware"


class FineTuning(Frozen):
    """Settings of one fine-tuning (Paper: eq. 34 and its text).

    The paper's ``alpha`` of 0.1 acts over 30 epochs of all data; in a few hundred steps it moves
    the confidence little.  The default is larger: it removes most of the error in that time and
    leaves the likelihood strong enough to hold the mean.
    """

    nll_weight: NonNegative = 1.0
    alpha: NonNegative = 3.0
    """Weight of ECE + k confidence: 0.1 in the paper, 0.9 with ``nll_weight`` 0.1 as released."""
    learning_rate: Positive = 5e-5
    """Of Adam, annealed to zero along a cosine."""
    steps: int = Field(default=200, ge=1)
    batch: int = Field(default=2, ge=1)
    """Examples of a step."""
    passes: int = Field(default=2, ge=1)
    """Passes whose mixture gives the confidence of a step."""
    softness: Positive | None = None
    """Width of the smooth hit of the accuracy; None is the indicator of eq. 31, whose gradient
    reaches the confidence only.  The smooth hit calibrated worse on untouched recordings and cost
    fidelity, so the indicator is the default."""
    whole_network: bool = False
    """Fine-tune all weights and not the reconstruction alone."""
    bins: int = Field(default=20, ge=2)


@dataclass(frozen=True)
class Judgement:
    """How a network does on some recordings.

    ``reliability`` holds the counts of each interval in the order they were asked for, merged
    over the recordings; ``ece`` and ``psnr`` have one value per recording.
    """

    reliability: tuple[Reliability, ...]
    recordings: tuple[str, ...]
    ece: tuple[tuple[float, ...], ...]
    psnr: tuple[float, ...]

    def error(self, place: int = 0) -> float:
        """ECE of one interval over all recordings, in the reported number of bins."""
        return self.reliability[place].coarser().ece

    @property
    def mean_psnr(self) -> float:
        """PSNR in dB, mean over recordings."""
        return float(np.mean(self.psnr))


def judge(
    network: DpaTisr,
    examples: Sequence[Examples],
    intervals: Sequence[Interval],
    passes: int,
    seed: int = 0,
    recalibrate: Sequence[Callable[[torch.Tensor], torch.Tensor] | None] | None = None,
) -> Judgement:
    """Reliability and PSNR of the M-pass mixture against the targets.

    The masks depend on the seed, the recording and the example only, so that two networks are
    compared with the same masks.

    Parameters
    ----------
    network : DpaTisr
    examples : sequence of Examples
    intervals : sequence of Interval
    passes : int
        Monte Carlo passes M.
    recalibrate : sequence, optional
        For each interval, a map applied to its confidence.
    """
    maps = [None] * len(intervals) if recalibrate is None else list(recalibrate)
    per_recording: list[list[Reliability]] = []
    fidelity = []
    for number, part in enumerate(examples):
        counts = [Reliability.empty(FINE_BINS) for _ in intervals]
        shown = []
        for index in range(len(part)):
            generator = seeded_generator(part.target.device, seed, number, index)
            with torch.inference_mode(), monte_carlo(network, generator):
                means, scales = part.passes(network, index, passes)
            truth, centre = part.truth(index), means.mean(dim=0)
            shown.append(centre.cpu())
            for place, (interval, remap) in enumerate(zip(intervals, maps, strict=True)):
                half = half_width(centre, interval.epsilon, interval.gamma)
                stated = confidence(means, scales, half, centre)
                stated = stated if remap is None else remap(stated)
                inside = inside_interval(truth, centre, half)
                counts[place] = counts[place] + Reliability.of(stated, inside, FINE_BINS)
        per_recording.append(counts)
        target = part.judged(part.target).cpu().numpy()
        fidelity.append(psnr(fitted(torch.stack(shown).numpy(), target), target))
    return Judgement(
        reliability=tuple(merged(column) for column in zip(*per_recording, strict=True)),
        recordings=tuple(part.name for part in examples),
        ece=tuple(
            tuple(c.coarser().ece for c in column) for column in zip(*per_recording, strict=True)
        ),
        psnr=tuple(fidelity),
    )


def fine_tune(
    network: DpaTisr,
    examples: Sequence[Examples],
    interval: Interval,
    k: float,
    settings: FineTuning,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DpaTisr:
    """A copy of the network, fine-tuned with NLL + alpha (ECE + k confidence).

    Paper: eq. 34-35, Adam with cosine annealing.

    Raises
    ------
    CalibrationError
        If the loss is no longer a number, or cached features meet ``whole_network``.
    """
    if settings.whole_network and any(part.features is not None for part in examples):
        raise CalibrationError(
            "cached features cannot train the layers they come from",
            remedy="fine-tune the reconstruction only, or make examples that keep their windows",
        )
    tuned = copy.deepcopy(network).eval()
    trained = _trainable(tuned, settings.whole_network)
    optimiser = torch.optim.Adam(trained, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    places = [(part, index) for part in examples for index in range(len(part))]
    generator = seeded_generator(places[0][0].target.device, seed, 1)
    order = np.random.default_rng(seed)
    queue: list[int] = []
    for step in range(settings.steps):
        while len(queue) < settings.batch:
            queue.extend(int(i) for i in order.permutation(len(places)))
        chosen, queue = queue[: settings.batch], queue[settings.batch :]
        optimiser.zero_grad(set_to_none=True)
        with monte_carlo(tuned, generator):
            drawn = [
                (*part.passes(tuned, index, settings.passes), part.truth(index))
                for part, index in (places[i] for i in chosen)
            ]
        shape = {truth.shape for _, _, truth in drawn}
        if len(shape) > 1:
            raise CalibrationError(
                f"recordings of different sizes {sorted(shape)} share a step",
                remedy="calibrate with a patch that fits into the smallest recording",
            )
        means, scales, truth = (torch.stack(column, dim=-3) for column in zip(*drawn, strict=True))
        likelihood = laplace_nll(
            means[:, :, None], scales[:, :, None], truth[None, :, None].expand_as(means[:, :, None])
        )
        loss = settings.nll_weight * likelihood + settings.alpha * calibration_loss(
            means,
            scales,
            truth,
            k=k,
            epsilon=interval.epsilon,
            gamma=interval.gamma,
            bins=settings.bins,
            softness=settings.softness,
        )
        if not torch.isfinite(loss):
            raise CalibrationError(
                f"the loss of the fine-tuning with k = {k:.3g} is {loss.item()} at step {step}",
                remedy="lower the learning rate",
            )
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, settings.steps)
    return tuned.requires_grad_(True)


def _trainable(network: DpaTisr, whole: bool) -> list[torch.nn.Parameter]:
    network.requires_grad_(whole)
    for module in (
        network.reconstruction,
        network.upsamplemodule,
        network.conv_hr,
        network.conv_last,
    ):
        module.requires_grad_(True)
    return [p for p in network.parameters() if p.requires_grad]
