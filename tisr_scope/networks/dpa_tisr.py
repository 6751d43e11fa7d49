"""The network: extraction, propagation with an alignment, reconstruction.

One template in which propagation and alignment are exchanged (Paper: eq. 3-17).  Tensor names are
those of the released state dict, wherever the released network has such a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.errors import DataError
from tisr_scope.networks.activation_checkpointing import recomputed
from tisr_scope.networks.alignment import Map
from tisr_scope.networks.baselines.sliding import Pair, flow_pairs, slide
from tisr_scope.networks.blocks import SLOPE, ResidualBlocks, Upsampling, conv3
from tisr_scope.networks.config import DpaTisrConfig, paper, released, small
from tisr_scope.networks.deformable_phase_alignment import PhaseAlignment, Spectrum, transform
from tisr_scope.networks.modules_by_config import chosen_alignment, chosen_flow, start_at_bilinear
from tisr_scope.networks.second_order_propagation import BlockModules, Flows, ordered, run_branch

__all__ = [
    "DpaTisr",
    "DpaTisrConfig",
    "compensated",
    "ordered",
    "paper",
    "parameter_count",
    "released",
    "single_frame",
    "small",
]


class DpaTisr(nn.Module):
    """Time-lapse image super-resolution by the template the paper compares alignments in.

    By default it is DPA-TISR, the deformable phase-space alignment network.

    Parameters
    ----------
    config : DpaTisrConfig
        See :func:`released`, :func:`paper` and :func:`small`.

    Attributes
    ----------
    recompute : bool
        Keep few activations for the gradient and compute the others again, which trades a
        fifth more time for most of the memory.  Gradients are the same to rounding.
    """

    def __init__(self, config: DpaTisrConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        c, kind = config.channels, config.block_activation
        if config.has_flow:
            self.spynet = chosen_flow(config.flow, config.flow_channels, config.flow_levels)
        self.feat_extract = ResidualBlocks(
            1,
            c,
            config.extraction_blocks,
            rate=config.rate("extraction"),
            kind=kind,
            skip=config.extraction_skip,
        )
        if config.temporal:
            # The released name, for whichever alignment.
            self.deform_align = nn.ModuleDict()
            self.phase_align = nn.ModuleDict()
        self.backbone = nn.ModuleDict()
        neighbours = 1 if self.slides else 2
        for index, name in enumerate(config.block_names if self.slides else config.branch_names):
            if config.temporal:
                self.deform_align[name] = chosen_alignment(config, neighbours)
                if config.alignment == "dpa":
                    self.phase_align[name] = PhaseAlignment(
                        c,
                        config.phase,
                        config.phase_encoding,
                        config.phase_part,
                        activation=kind,
                        zero_start=config.phase_zero_start,
                    )
            self.backbone[name] = ResidualBlocks(
                c if self.slides else (1 + index + config.temporal) * c,
                c,
                config.propagation_blocks,
                rate=config.rate("propagation"),
                kind=kind,
            )
        if self.slides:
            self.fusion = nn.Conv2d((1 + len(config.block_names)) * c, c, 1)
        self.reconstruction = ResidualBlocks(
            c if self.slides else (1 + config.branches) * c,
            c,
            config.reconstruction_blocks,
            rate=config.rate("reconstruction"),
            kind=kind,
        )
        fine = config.output_channels
        self.upsamplemodule = Upsampling(c, fine, config.upscale)
        self.conv_hr = conv3(fine, fine)
        self.conv_last = conv3(fine, 2 if config.bayesian else 1)
        start_at_bilinear(self.conv_last, config.initial_scale)

    @property
    def slides(self) -> bool:
        """Whether features come from a window around each frame."""
        return self.config.temporal and self.config.propagation == "sliding_window"

    @property
    def minimum_size(self) -> int:
        """Smallest height and width of a frame, in pixels."""
        return self.spynet.minimum_size if self.config.has_flow else 8

    def check_frames(self, shape: Sequence[int], where: str = "frames") -> None:
        """Refuse frames that are too small for the flow pyramid.

        Raises
        ------
        DataError
            With the smallest size.
        """
        if min(shape[-2:]) < self.minimum_size:
            raise DataError(
                f"frames of {shape[-2]} x {shape[-1]} pixels are too small for this network",
                where=where,
                remedy=f"give frames of at least {self.minimum_size} x {self.minimum_size} pixels",
            )

    # ---------------------------------------------------------------- the stages, also streamed

    def extract(
        self, frames: Float[Tensor, "n 1 y x"], copies: int = 1
    ) -> Float[Tensor, "m c y x"]:
        """Features of single frames (Paper: eq. 3); copies of a frame stand together."""
        features: Tensor = self.feat_extract(frames, copies, recompute=self.recompute)
        return features

    def flow(
        self, reference: Float[Tensor, "n 1 y x"], other: Float[Tensor, "n 1 y x"]
    ) -> Float[Tensor, "n 2 y x"]:
        """Flow from ``reference`` to ``other`` in pixels."""
        found: Tensor = self.spynet(reference, other)
        return found

    def spectrum(self, features: Map) -> Spectrum | None:
        """Spectrum of extracted features; None for a network without a phase module."""
        if not self.config.temporal or self.config.alignment != "dpa":
            return None
        return transform(features, self.config.phase_encoding)

    def block(self, name: str) -> BlockModules:
        """Modules of one branch, or of one block of the sliding window."""
        phase = self.phase_align[name] if self.config.alignment == "dpa" else None
        assert phase is None or isinstance(phase, PhaseAlignment)
        return BlockModules(self.deform_align[name], phase, self.backbone[name])

    def propagate(
        self,
        current: Sequence[Map],
        spectra: Sequence[Spectrum | None],
        backward: Flows,
        forward: Flows,
        stop: int | None = None,
    ) -> list[list[Map]]:
        """States of every branch and frame (Paper: eq. 6).

        Parameters
        ----------
        current, spectra : sequences over frames
        backward, forward : Flows
            In the order each direction visits the frames.
        stop : int, optional
            The last branch visits so many frames only.
        """
        states: list[list[Map]] = []
        for name in self.config.branch_names:
            goes_back = name.startswith("backward")
            states.append(
                run_branch(
                    self.block(name),
                    current,
                    spectra,
                    states,
                    backward if goes_back else forward,
                    backward=goes_back,
                    stop=stop if name == self.config.branch_names[-1] else None,
                    recompute=self.recompute,
                )
            )
        return states

    def slide(
        self,
        current: Sequence[Map],
        spectra: Sequence[Spectrum | None],
        frames: Sequence[Float[Tensor, "batch 1 y x"]],
        shown: Sequence[int],
    ) -> list[Map]:
        """Features of the shown frames from the window around each (Paper: eq. 5).

        Parameters
        ----------
        current, spectra : sequences over frames
            Each may hold several passes of a frame, standing together.
        frames : sequence of tensors
            The frames themselves, for the flow.
        """
        flows: dict[Pair, Tensor] | None = None
        if self.config.has_flow:
            pairs = flow_pairs(shown, len(current), self.config.window_radius)
            copies = len(current[0]) // len(frames[0])
            flows = {}
            if pairs:
                found = self.flow(
                    torch.cat([frames[shown_frame] for shown_frame, _ in pairs]),
                    torch.cat([frames[other] for _, other in pairs]),
                )
                if copies > 1:
                    found = found.repeat_interleave(copies, dim=0)
                flows = dict(zip(pairs, found.chunk(len(pairs)), strict=True))
        return slide(
            [self.block(name) for name in self.config.block_names],
            self.fusion,
            current,
            spectra,
            flows,
            shown,
            recompute=self.recompute,
        )

    def refine_alone(self, current: Map) -> list[Map]:
        """What the single-frame counterpart does in place of the propagation."""
        states: list[Map] = []
        for name in self.config.branch_names:
            states.append(self.backbone[name](torch.cat((current, *states), dim=1)))
        return states

    def reconstruct(
        self,
        hierarchy: Float[Tensor, "n k y x"],
        frames: Float[Tensor, "n 1 y x"],
        copies: int = 1,
    ) -> Float[Tensor, "m out fy fx"]:
        """Super-resolved frames from features of all branches (Paper: eq. 13).

        Parameters
        ----------
        hierarchy : tensor
            Extracted features and the states of every branch, concatenated; or the features
            of the sliding window.
        frames : tensor
            The frames themselves.
        copies : int
            Passes with masks of their own; those of one frame stand together.
        """
        features: Tensor = self.reconstruction(hierarchy, copies, recompute=self.recompute)
        # Activations are largest on the fine grid: one frame's at a time when they are recomputed.
        alone = self.recompute and torch.is_grad_enabled()
        parts = torch.split(features, 1 if alone else len(features))
        out = torch.cat(
            [recomputed(self._enlarge, self.conv_hr, p, active=self.recompute) for p in parts]
        )
        base = functional.interpolate(
            frames, scale_factor=self.config.upscale, mode="bilinear", align_corners=False
        )
        if copies > 1:
            base = base.repeat_interleave(copies, dim=0)
        if not self.config.bayesian:
            return out + base
        return torch.cat((out[:, :1] + base, torch.sigmoid(out[:, 1:])), dim=1)

    def _enlarge(self, features: Float[Tensor, "n c y x"]) -> Float[Tensor, "n out fy fx"]:
        fine = functional.leaky_relu(self.upsamplemodule(features), SLOPE)
        out: Tensor = self.conv_last(functional.leaky_relu(self.conv_hr(fine), SLOPE))
        return out

    # ------------------------------------------------------------------------- the whole of it

    def flows(
        self, x: Float[Tensor, "batch time 1 y x"]
    ) -> tuple[Float[Tensor, "batch pairs 2 y x"], Float[Tensor, "batch pairs 2 y x"]]:
        """Forward flows (frame i + 1 to frame i) and backward flows (frame i to frame i + 1)."""
        batch, time = x.shape[:2]
        shape = (batch, time - 1, 2, *x.shape[-2:])
        if time == 1 or not self.config.has_flow:
            return x.new_zeros(shape), x.new_zeros(shape)
        early = x[:, :-1].flatten(0, 1)
        late = x[:, 1:].flatten(0, 1)
        both = self.flow(torch.cat((late, early)), torch.cat((early, late)))
        forward, backward = both.chunk(2)
        return forward.view(shape), backward.view(shape)

    def hierarchy(
        self, x: Float[Tensor, "batch time 1 y x"], shown: Sequence[int] | None = None
    ) -> Float[Tensor, "batch shown k y x"]:
        """What the reconstruction reads of some frames of a window.

        Parameters
        ----------
        x : tensor, shape (batch, time, 1, y, x)
        shown : sequence of int, optional
            Frames wanted, rising; all by default.
        """
        batch, time = x.shape[:2]
        shown = range(time) if shown is None else shown
        if not self.config.temporal:
            alone = self.extract(x[:, list(shown)].flatten(0, 1))
            together = torch.cat((alone, *self.refine_alone(alone)), dim=1)
            return together.view(batch, len(shown), *together.shape[1:])
        features = self.extract(x.flatten(0, 1))
        current = list(features.view(batch, time, *features.shape[1:]).unbind(1))
        spectra = [self.spectrum(c) for c in current]
        if self.slides:
            return torch.stack(self.slide(current, spectra, list(x.unbind(1)), shown), dim=1)
        forward, backward = (list(f.unbind(1)) for f in self.flows(x))
        states = self.propagate(
            current, spectra, ordered(backward[::-1]), ordered(forward), stop=shown[-1] + 1
        )
        return torch.stack(
            [torch.cat((current[f], *(branch[f] for branch in states)), dim=1) for f in shown],
            dim=1,
        )

    def forward(
        self, x: Float[Tensor, "batch time 1 y x"]
    ) -> Float[Tensor, "batch time out fy fx"]:
        """Super-resolve every frame of a window.

        Parameters
        ----------
        x : tensor, shape (batch, time, 1, y, x)
            Frames on the normalised scale.

        Returns
        -------
        tensor, shape (batch, time, out, f*y, f*x)
            Mean and, for a Bayesian network, Laplace scale (Paper: eq. 23).

        Raises
        ------
        DataError
            If the shape does not fit.
        """
        if x.dim() != 5 or x.shape[2] != 1:
            raise DataError(
                f"the network takes (batch, time, 1, y, x), not {tuple(x.shape)}",
                remedy="add the missing axes",
            )
        self.check_frames(x.shape)
        out = self.reconstruct(self.hierarchy(x).flatten(0, 1), x.flatten(0, 1))
        return out.view(*x.shape[:2], *out.shape[1:])


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())


def single_frame(config: DpaTisrConfig, *, compensate: bool = True) -> DpaTisrConfig:
    """Configuration of the single-frame counterpart of a network.

    Parameters
    ----------
    config : DpaTisrConfig
    compensate : bool
        Replace the parameters of the alignment by residual blocks in the place of the
        propagation, until the size comes closest (Paper: "parameter compensation").
    """
    alone = config.model_copy(update={"temporal": False})
    return compensated(alone, config) if compensate else alone


def compensated(config: DpaTisrConfig, like: DpaTisrConfig) -> DpaTisrConfig:
    """Configuration with more residual blocks, until its size comes closest to another's.

    The blocks go where each branch has its own, so that all branches stay alike.
    """
    with torch.device("meta"):
        missing = parameter_count(DpaTisr(like)) - parameter_count(DpaTisr(config))
    slides = config.temporal and config.propagation == "sliding_window"
    stages = len(config.block_names) if slides else config.branches
    block = 2 * (9 * config.channels**2 + config.channels) * stages
    return config.model_copy(
        update={"propagation_blocks": config.propagation_blocks + max(0, round(missing / block))}
    )
