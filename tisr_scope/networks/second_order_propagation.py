"""Second-order propagation of features through time, one branch after the other.

Paper: eq. 6.  Pure functions over lists of per-frame tensors: the plain forward pass and the
streaming window call the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tisr_scope.networks.activation_checkpointing import recomputed
from tisr_scope.networks.alignment import Flow, Map
from tisr_scope.networks.deformable_phase_alignment import PhaseAlignment, Spectrum
from tisr_scope.networks.optical_flow import warp


@dataclass(frozen=True)
class BlockModules:
    """What one branch, or one block of the sliding window, is made of.

    Attributes
    ----------
    alignment : Module
        Called as :mod:`~tisr_scope.networks.alignment` says.
    phase : PhaseAlignment, optional
        What comes before it.
    backbone : Module
        Residual blocks.
    """

    alignment: nn.Module
    phase: PhaseAlignment | None
    backbone: nn.Module


@dataclass(frozen=True)
class Flows:
    """Flows towards the states of one direction, in the order the branch visits the frames.

    Both are empty for a network without flow.

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


def ordered(first: Sequence[Flow]) -> Flows:
    """Flows over one and over two steps, from those over one in the order of the visit."""
    second = [compose(first[i + 1], first[i]) for i in range(len(first) - 1)]
    return Flows(first, second)


def step(
    modules: BlockModules,
    current: Map,
    spectrum: Spectrum | None,
    earlier: Sequence[Map],
    states: Sequence[tuple[Map, Spectrum | None]],
    flows: Sequence[Flow],
) -> Map:
    """State of one frame (Paper: eq. 6).

    Parameters
    ----------
    modules : BlockModules
    current : tensor
        Extracted features of the frame.
    spectrum : Spectrum, optional
        Of ``current``.
    earlier : sequence of tensors
        States of the earlier branches at this frame.
    states : sequence
        This branch's states one and two steps back, as many as there are, nearest first.
    flows : sequence of tensors
        Flows from this frame to those of the states; empty for a network without flow.
    """
    if not states:
        aligned = torch.zeros_like(current)
    else:
        features = [state for state, _ in states]
        read = [s for _, s in states if s is not None]
        turned = features
        if modules.phase is not None and spectrum is not None:
            turned = modules.phase(read, spectrum, (current.shape[-2], current.shape[-1]))
        # A neighbour that does not exist is zero, and zero keeps no phase to align.
        missing = [torch.zeros_like(current)] * (2 - len(states))
        still = [torch.zeros_like(flow) for flow in flows[: len(missing)]]
        aligned = modules.alignment(
            [*features, *missing], current, [*flows, *still], [*turned, *missing]
        )
    refined: Tensor = modules.backbone(torch.cat((current, *earlier, aligned), dim=1))
    return aligned + refined


def run_branch(
    modules: BlockModules,
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
    modules : BlockModules
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
        near = flows.first[max(visited - 1, 0) : visited]
        far = flows.second[max(visited - 2, 0) : max(visited - 1, 0)]
        arguments = (
            modules,
            current[frame],
            spectra[frame],
            [branch[frame] for branch in earlier],
            states[-1:-3:-1],
            [*near, *far],
        )
        state = recomputed(step, modules.backbone, *arguments, active=recompute)
        last = visited == len(order) - 1
        read = None if modules.phase is None or last else modules.phase.read(state)
        states.append((state, read))
    features = [state for state, _ in states]
    return features[::-1] if backward else features
