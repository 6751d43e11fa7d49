"""Second-order propagation of features through time, one branch after the other.

Pure functions over lists of per-frame tensors: the plain forward pass and the streaming window
call the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tisr_scope.networks.alignment import DeformableAlignment
from tisr_scope.networks.optical_flow import warp
from tisr_scope.networks.phase_space import PhaseAlignment, Spectrum

Map = Float[Tensor, "n c y x"]
Flow = Float[Tensor, "n 2 y x"]


@dataclass(frozen=True)
class BranchModules:
    """What one branch is made of; ``phase`` may be left out."""

    deformable: DeformableAlignment
    phase: PhaseAlignment | None
    backbone: nn.Module


@dataclass(frozen=True)
class Flows:
    """Flows towards the states of one direction, in the order the branch visits the frames.

    Attributes
    ----------
    first : sequence
        ``first[s]``: from the frame of step ``s + 1`` to that of step ``s``.
    second : sequence
        ``second[s]``: from the frame of step ``s + 2`` to that of step ``s``.
    """

    first: Sequence[Flow]
    second: Sequence[Flow]


def compose(near: Flow, far: Flow) -> Flow:
    """Flow over two steps: first ``near``, then ``far`` from where it ends."""
    return near + warp(far, near)


def step(
    modules: BranchModules,
    current: Map,
    spectrum: Spectrum | None,
    earlier: Sequence[Map],
    states: Sequence[tuple[Map, Spectrum | None]],
    flow1: Flow | None,
    flow2: Flow | None,
) -> Map:
    """State of one frame (Paper: eq. 6).

    Parameters
    ----------
    modules : BranchModules
    current : tensor
        Extracted features of the frame.
    spectrum : Spectrum, optional
        Of ``current``, with the share of this branch.
    earlier : sequence of tensors
        States of the earlier branches at this frame.
    states : sequence
        This branch's states one and two steps back, as many as there are, nearest first.
    flow1, flow2 : tensor, optional
        Flows from this frame to those of the states.
    """
    if not states or flow1 is None:
        aligned = torch.zeros_like(current)
    else:
        nearest = states[0][0]
        nothing = torch.zeros_like(current)
        warped1 = warp(nearest, flow1)
        if len(states) > 1 and flow2 is not None:
            warped2 = warp(states[1][0], flow2)
        else:
            warped2, flow2 = nothing, torch.zeros_like(flow1)
        if modules.phase is not None and spectrum is not None:
            size = (current.shape[-2], current.shape[-1])
            turned = modules.phase([s for _, s in states if s is not None], spectrum, size)
        else:
            turned = [features for features, _ in states]
        # A neighbour that does not exist is zero, and zero keeps no phase to align.
        neighbours = torch.cat([*turned, *[nothing] * (2 - len(turned))], dim=1)
        condition = torch.cat((warped1, current, warped2), dim=1)
        aligned = modules.deformable(neighbours, condition, flow1, flow2)
    refined: Tensor = modules.backbone(torch.cat((current, *earlier, aligned), dim=1))
    return aligned + refined


def run_branch(
    modules: BranchModules,
    current: Sequence[Map],
    spectra: Sequence[Spectrum | None],
    earlier: Sequence[Sequence[Map]],
    flows: Flows,
    *,
    backward: bool,
    stop: int | None = None,
    recompute: bool = False,
) -> list[Map]:
    """States of one branch for each frame, in the order of time.

    Parameters
    ----------
    modules : BranchModules
    current, spectra : sequences over frames
    earlier : sequence over branches of sequences over frames
    flows : Flows
        In the order of the visit.
    backward : bool
        From the last frame to the first.
    stop : int, optional
        Number of frames visited; the others are not needed by anyone.
    recompute : bool
        Keep no activations inside a step for the gradient; compute them again.
    """
    order = list(range(len(current)))
    if backward:
        order.reverse()
    order = order[:stop]
    states: list[tuple[Map, Spectrum | None]] = []
    for visited, frame in enumerate(order):
        arguments = (
            modules,
            current[frame],
            spectra[frame],
            [branch[frame] for branch in earlier],
            states[-1:-3:-1],
            flows.first[visited - 1] if visited else None,
            flows.second[visited - 2] if visited > 1 else None,
        )
        state = checkpoint(step, *arguments, use_reentrant=False) if recompute else step(*arguments)
        last = visited == len(order) - 1
        read = None if modules.phase is None or last else modules.phase.read(state)
        states.append((state, read))
    features = [state for state, _ in states]
    return features[::-1] if backward else features
