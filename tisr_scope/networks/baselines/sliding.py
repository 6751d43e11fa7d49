"""Sliding-window propagation: all neighbours of a frame are aligned with it, each on its own.

Paper: eq. 5.  A neighbour at each distance has an alignment block of its own (alignment,
convolution, residual blocks); a 1 x 1 convolution merges what they give.  Where the recording
ends the text says nothing: the frame next to the missing one stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tisr_scope.networks.activation_checkpointing import recomputed
from tisr_scope.networks.alignment import Flow, Map
from tisr_scope.networks.deformable_phase_alignment import Spectrum, concatenate
from tisr_scope.networks.second_order_propagation import BlockModules

Pair = tuple[int, int]


def neighbour(frame: int, distance: int, frames: int) -> int:
    """Number of the frame at a distance, or of the last one there is in its direction."""
    return min(max(frame + distance, 0), frames - 1)


def flow_pairs(shown: Sequence[int], frames: int, radius: int) -> list[Pair]:
    """Frames between which flows are needed, each pair once: (frame shown, its neighbour)."""
    return [
        (frame, other)
        for frame in shown
        for other in range(max(frame - radius, 0), min(frame + radius, frames - 1) + 1)
        if other != frame
    ]


def align_block(
    modules: BlockModules,
    current: Map,
    spectrum: Spectrum | None,
    state: Map,
    state_spectrum: Spectrum | None,
    flows: Sequence[Flow],
) -> Map:
    """A neighbour, aligned and refined: ``AB`` of Paper: eq. 5."""
    turned = [state]
    if modules.phase is not None and spectrum is not None and state_spectrum is not None:
        size = (current.shape[-2], current.shape[-1])
        turned = modules.phase([state_spectrum], spectrum, size)
    aligned: Tensor = modules.alignment([state], current, flows, turned)
    refined: Tensor = modules.backbone(aligned)
    return aligned + refined


def slide(
    blocks: Sequence[BlockModules],
    fusion: nn.Module,
    current: Sequence[Map],
    spectra: Sequence[Spectrum | None],
    flows: Mapping[Pair, Flow] | None,
    shown: Sequence[int],
    *,
    recompute: bool = False,
) -> list[Map]:
    """Merged features of the shown frames (Paper: eq. 5).

    Parameters
    ----------
    blocks : sequence of BlockModules
        By distance: the oldest neighbour first, the frame itself left out.
    fusion : Module
        From the features of all neighbours and of the frame itself to those of one frame.
    current, spectra : sequences over frames
    flows : mapping, optional
        Of :func:`flow_pairs`; None for a network without flow.
    shown : sequence of int
        Frames whose features are wanted.
    recompute : bool
        Keep no activations inside a block for the gradient; compute them again.
    """
    radius, frames = len(blocks) // 2, len(current)
    centre = torch.cat([current[frame] for frame in shown])
    spectrum = concatenate([spectra[frame] for frame in shown])
    still = torch.zeros_like(current[0][:, :1]).expand(-1, 2, -1, -1)
    gathered: list[Map] = []
    for place, distance in enumerate(d for d in range(-radius, radius + 1) if d):
        others = [neighbour(frame, distance, frames) for frame in shown]
        pairs = list(zip(shown, others, strict=True))
        towards = [] if flows is None else [torch.cat([flows.get(pair, still) for pair in pairs])]
        arguments = (
            blocks[place],
            centre,
            spectrum,
            torch.cat([current[other] for other in others]),
            concatenate([spectra[other] for other in others]),
            towards,
        )
        gathered.append(
            recomputed(align_block, blocks[place].backbone, *arguments, active=recompute)
        )
    gathered.insert(radius, centre)
    return list(fusion(torch.cat(gathered, dim=1)).chunk(len(shown)))
