"""Windows of paired stacks, with the features that dropout does not touch computed once.

Where dropout stands only in the reconstruction, everything before it is the same for every pass
and, while only the reconstruction is fine-tuned, for every trial of k.  The features of the centre
frame are then cached, and a trial costs seconds instead of minutes.  Other networks keep the
windows themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import CalibrationError
from tisr_scope.networks.config import WINDOW
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.normalise import Normalisation
from tisr_scope.types import PairedStack

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examples:
    """Centre frames of one recording with their targets, on the normalised scale.

    Attributes
    ----------
    name : str
        Recording they come from.
    frames : tensor, shape (n, time, 1, y, x)
        Windows; only the centre frame where features are cached.
    target : tensor, shape (n, fy, fx)
        Normalised target of the centre frames.
    features : tensor, shape (n, k, y, x), optional
        What the reconstruction reads; None for networks with dropout before it.
    margin : int
        Pixels of the target along each side that are not judged.
    input_scale : float
        Electrons of the wide-field stack that became 1.
    carried : tensor, optional
        Background that is given back to the predictions.
    """

    name: str
    frames: Float[Tensor, "n time 1 y x"]
    target: Float[Tensor, "n fy fx"]
    features: Float[Tensor, "n k y x"] | None
    margin: int
    input_scale: float
    carried: Float[Tensor, "n fy fx"] | None = None

    def __len__(self) -> int:
        return len(self.target)

    def passes(
        self, network: DpaTisr, index: int, copies: int
    ) -> tuple[Float[Tensor, "m fy fx"], Float[Tensor, "m fy fx"]]:
        """Means and Laplace scales of ``copies`` passes over one example, masks as they fall."""
        frames = self.frames[index : index + 1]
        if self.features is not None:
            out = network.reconstruct(self.features[index : index + 1], frames[:, 0], copies)
        else:
            out = network(frames.expand(copies, -1, -1, -1, -1))[:, frames.shape[1] // 2]
        means = out[:, 0] if self.carried is None else out[:, 0] + self.carried[index]
        return self.judged(means), self.judged(out[:, 1])

    def truth(self, index: int) -> Float[Tensor, "fy fx"]:
        """Target of one example, without its margin."""
        return self.judged(self.target[index])

    def judged(self, image: Float[Tensor, "*n fy fx"]) -> Float[Tensor, "*n y x"]:
        """Part of an image that is judged."""
        m = self.margin
        return image[..., m:-m, m:-m] if m else image


def cacheable(network: DpaTisr) -> bool:
    """Whether all before the reconstruction is the same in every pass."""
    return network.config.rate("extraction") == 0 and network.config.rate("propagation") == 0


def halo_px(network: DpaTisr) -> int:
    """Reach of the reconstruction in input pixels: what a cut-out patch cannot judge."""
    return 2 * network.config.reconstruction_blocks + 4


def centre_features(
    network: DpaTisr, window: Float[Tensor, "batch time 1 y x"]
) -> Float[Tensor, "batch k y x"]:
    """Extracted and propagated features of the centre frame of a window.

    The same numbers as in the network's forward, whose last branch is stopped at the centre.
    """
    features: Tensor = network.hierarchy(window, [window.shape[1] // 2])[:, 0]
    return features


def centres(time_points: int, window: int, most: int | None) -> list[int]:
    """Time points with a whole window around them, at most so many, evenly spread."""
    first, last = window // 2, time_points - window // 2 - 1
    if last < first:
        return []
    if most is None or last - first + 1 <= most:
        return list(range(first, last + 1))
    if most == 1:
        return [(first + last) // 2]
    return sorted({round(float(t)) for t in np.linspace(first, last, most)})


def make_examples(
    network: DpaTisr,
    pair: PairedStack,
    normalisation: Normalisation,
    level: int,
    *,
    most: int | None = None,
    patch_px: int | None = 128,
    seed: int = 0,
    window: int = WINDOW,
    cache: bool = True,
) -> Examples:
    """Examples of one recording at one laser level.

    Parameters
    ----------
    network : DpaTisr
        Whose features are cached; on the device that will be used.
    pair : PairedStack
    normalisation : Normalisation
        Rule of the model bundle.
    level : int
        Index of the laser level of the input, lowest first; negative counts from the highest.
    most : int, optional
        Largest number of centre frames, evenly spread over time.
    patch_px : int, optional
        Largest height and width kept of a frame, in input pixels; the place is drawn anew for
        each frame.  The features are always computed on the whole frame.

    cache : bool
        Keep features instead of windows where the network allows it.

    Raises
    ------
    CalibrationError
        If there is no such level, or the recording is shorter than a window.
    """
    levels, time_points, height, width = pair.widefield.shape
    if not -levels <= level < levels:
        raise CalibrationError(
            f"there is no laser level {level}: the pair has {levels}",
            where=pair.name,
            remedy=f"choose a level from 0 (lowest) to {levels - 1}",
        )
    chosen = centres(time_points, window, most)
    if not chosen:
        raise CalibrationError(
            f"{time_points} time points hold no window of {window}",
            where=pair.name,
            remedy=f"record at least {window} time points",
        )
    network.check_frames((height, width), pair.name)
    device = next(network.parameters()).device
    scale = normalisation.scale(pair.widefield[level], pair.name)
    stack = torch.from_numpy(normalisation.normalise_input(pair.widefield[level], scale))
    target = torch.from_numpy(normalisation.target_of(pair))
    f, random = pair.upscale, np.random.default_rng(seed)
    cache = cache and cacheable(network)
    cut = cache and patch_px is not None and max(height, width) > patch_px
    h, w = (min(n, patch_px or n) if cut else n for n in (height, width))
    background = normalisation.carried(pair.widefield[level], scale, f)
    frames, targets, features, carried = [], [], [], []
    with torch.inference_mode():
        for t in chosen:
            y, x = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
            around = stack[t - window // 2 : t + window // 2 + 1, None].to(device)
            if cache:
                whole = centre_features(network, around[None])[0]
                features.append(whole[:, y : y + h, x : x + w].clone())
                around = around[window // 2, None]
            frames.append(around[..., y : y + h, x : x + w].clone())
            fine = (slice(f * y, f * (y + h)), slice(f * x, f * (x + w)))
            targets.append(target[t][fine].to(device))
            if background is not None:
                carried.append(torch.from_numpy(background[t][fine]).to(device))
    return Examples(
        name=pair.name,
        frames=torch.stack(frames),
        target=torch.stack(targets),
        features=torch.stack(features) if cache else None,
        margin=f * halo_px(network) if cut else 0,
        input_scale=scale,
        carried=torch.stack(carried) if carried else None,
    )


def make_all(
    network: DpaTisr,
    pairs: Sequence[PairedStack],
    normalisation: Normalisation,
    level: int,
    *,
    most: int | None,
    patch_px: int | None,
    seed: int,
    cache: bool = True,
    progress: Progress | None = None,
) -> list[Examples]:
    """Examples of several recordings."""
    made = []
    for number, pair in enumerate(pairs):
        made.append(
            make_examples(
                network,
                pair,
                normalisation,
                level,
                most=most,
                patch_px=patch_px,
                seed=seed + number,
                cache=cache,
            )
        )
        if progress is not None:
            progress(number + 1, len(pairs))
    return made
