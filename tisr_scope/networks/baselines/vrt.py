"""VRT, the video restoration transformer, as a compact baseline of our own.

Liang et al. (2024): temporal mutual self-attention on several scales, neighbours warped onto each
frame in parallel on every scale, and no recurrence.  This one keeps those mechanisms (a
u-shaped chain of scales, clips of two frames that move on by one in every second block, windows
that move by half, flow-guided deformable alignment of both neighbours) at a size that compares
with the other networks; it is not the published model and does not load its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tisr_scope.errors import DataError
from tisr_scope.networks.alignment import DeformableAlignment
from tisr_scope.networks.baselines.window_attention import CLIP, AttentionBlock
from tisr_scope.networks.blocks import SLOPE, Upsampling, conv3
from tisr_scope.networks.config import FlowKind
from tisr_scope.networks.modules_by_config import chosen_flow, start_at_bilinear
from tisr_scope.profiles.schema import Frozen

Count = Annotated[int, Field(ge=1)]


class VrtConfig(Frozen):
    """Architecture of a :class:`Vrt`."""

    kind: Literal["vrt"] = "vrt"
    upscale: Literal[2, 3] = 2
    bayesian: bool = False
    channels: Count = 64
    output_channels: Count = 64
    scales: Annotated[int, Field(ge=1, le=4)] = 3
    blocks: Count = 4
    """Mutual-attention blocks of a stage; every second one is shifted."""
    refinement_blocks: Annotated[int, Field(ge=0)] = 4
    """Blocks of self attention alone after the chain of scales."""
    heads: Count = 4
    window: Annotated[int, Field(ge=2)] = 8
    """Side of a window in pixels of its scale."""
    deformable_groups: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    """Over both neighbours."""
    offset_reach_px: Annotated[float, Field(gt=0)] = 10.0
    flow: FlowKind = "spynet"
    flow_channels: Count = 16
    flow_levels: Count = 4
    """Both of the light flow network only."""
    initial_scale: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """Laplace scale that an untrained Bayesian network predicts."""

    @model_validator(mode="after")
    def _fits(self) -> VrtConfig:
        if self.channels % self.heads:
            raise ValueError(f"{self.heads} heads do not divide {self.channels} channels")
        if (2 * self.channels) % self.deformable_groups:
            raise ValueError(
                f"{self.deformable_groups} deformable groups do not divide "
                f"{2 * self.channels} channels"
            )
        return self


def vrt(*, upscale: Literal[2, 3] = 2, bayesian: bool = False) -> VrtConfig:
    """A VRT of about the size of the other networks."""
    return VrtConfig(upscale=upscale, bayesian=bayesian)


def neighbours_of(
    features: Float[Tensor, "n t c y x"],
) -> tuple[Float[Tensor, "n t c y x"], Float[Tensor, "n t c y x"]]:
    """Features of the frame before and of the frame after each; zero where there is none."""
    nothing = torch.zeros_like(features[:, :1])
    before = torch.cat((nothing, features[:, :-1]), dim=1)
    after = torch.cat((features[:, 1:], nothing), dim=1)
    return before, after


def coarser(flow: Float[Tensor, "n 2 y x"]) -> Float[Tensor, "n 2 yy xx"]:
    """Flow on a grid of half the size, in pixels of that grid."""
    return functional.avg_pool2d(flow, 2) / 2


class _Stage(nn.Module):
    """Parallel warping of both neighbours, then mutual attention, on one scale."""

    def __init__(self, config: VrtConfig) -> None:
        super().__init__()
        c, cell = config.channels, (CLIP, config.window, config.window)
        self.align = DeformableAlignment(
            c, config.deformable_groups, layers=2, reach_px=config.offset_reach_px
        )
        self.fuse = nn.Conv2d(2 * c, c, 1)
        self.attention = nn.ModuleList(
            AttentionBlock(c, cell, config.heads, mutual=True, shifted=i % 2 == 1)
            for i in range(config.blocks)
        )
        self.out = nn.Linear(c, c)

    def forward(
        self,
        features: Float[Tensor, "n t c y x"],
        to_before: Float[Tensor, "m 2 y x"],
        to_after: Float[Tensor, "m 2 y x"],
    ) -> Float[Tensor, "n t c y x"]:
        """Refined features; flows point from every frame to the one before and after it."""
        n, t = features.shape[:2]
        before, after = (f.flatten(0, 1) for f in neighbours_of(features))
        current = features.flatten(0, 1)
        states, flows = (before, after), (to_before, to_after)
        aligned = self.align(states, current, flows, states)
        fused = self.fuse(torch.cat((current, aligned), dim=1))
        x = fused.view(n, t, *fused.shape[1:]).permute(0, 1, 3, 4, 2)
        mixed = x
        for block in self.attention:
            mixed = block(mixed)
        refined: Tensor = x + self.out(mixed)
        return refined.permute(0, 1, 4, 2, 3)


class Vrt(nn.Module):
    """Time-lapse super-resolution by temporal mutual self-attention and parallel warping.

    Parameters
    ----------
    config : VrtConfig

    Attributes
    ----------
    recompute : bool
        Keep no activations inside a stage for the gradient but compute them again.
    """

    def __init__(self, config: VrtConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        c, fine = config.channels, config.output_channels
        self.spynet = chosen_flow(config.flow, config.flow_channels, config.flow_levels)
        self.feat_extract = conv3(1, c)
        steps = config.scales - 1
        self.down = nn.ModuleList(nn.Conv2d(4 * c, c, 1) for _ in range(steps))
        self.up = nn.ModuleList(nn.Conv2d(c, 4 * c, 1) for _ in range(steps))
        self.stages = nn.ModuleList(_Stage(config) for _ in range(2 * steps + 1))
        cell = (CLIP, config.window, config.window)
        self.refinement = nn.ModuleList(
            AttentionBlock(c, cell, config.heads, mutual=False, shifted=i % 2 == 1)
            for i in range(config.refinement_blocks)
        )
        self.norm = nn.LayerNorm(c)
        self.upsamplemodule = Upsampling(c, fine, config.upscale)
        self.conv_hr = conv3(fine, fine)
        self.conv_last = conv3(fine, 2 if config.bayesian else 1)
        start_at_bilinear(self.conv_last, config.initial_scale)

    @property
    def minimum_size(self) -> int:
        """Smallest height and width of a frame, in pixels."""
        least: int = max(self.spynet.minimum_size, 2**self.config.scales)
        return least

    def flows(
        self, x: Float[Tensor, "n t 1 y x"]
    ) -> tuple[Float[Tensor, "m 2 y x"], Float[Tensor, "m 2 y x"]]:
        """Flows from every frame to the one before and to the one after; zero at the ends."""
        n, t = x.shape[:2]
        still = x.new_zeros(n, 1, 2, *x.shape[-2:])
        if t == 1:
            return still.flatten(0, 1), still.flatten(0, 1)
        early, late = x[:, :-1].flatten(0, 1), x[:, 1:].flatten(0, 1)
        found = self.spynet(torch.cat((late, early)), torch.cat((early, late)))
        back, ahead = (f.view(n, t - 1, *f.shape[1:]) for f in found.chunk(2))
        to_before = torch.cat((still, back), dim=1).flatten(0, 1)
        return to_before, torch.cat((ahead, still), dim=1).flatten(0, 1)

    def _stage(self, number: int, features: Tensor, flows: Sequence[Tensor]) -> Tensor:
        stage = self.stages[number]
        if self.recompute and self.training:
            kept: Tensor = checkpoint(stage, features, *flows, use_reentrant=False)
            return kept
        found: Tensor = stage(features, *flows)
        return found

    def _features(self, x: Float[Tensor, "n t 1 y x"]) -> Float[Tensor, "n t c y x"]:
        n, t = x.shape[:2]

        def framewise(layer: nn.Module, features: Tensor) -> Tensor:
            out: Tensor = layer(features.flatten(0, 1))
            return out.view(n, t, *out.shape[1:])

        flows: list[tuple[Tensor, Tensor]] = [self.flows(x)]
        shallow = framewise(self.feat_extract, x)
        features, kept = shallow, []
        for number, down in enumerate(self.down):
            features = self._stage(number, features, flows[-1])
            kept.append(features)
            features = framewise(
                down,
                functional.pixel_unshuffle(features.flatten(0, 1), 2).view(
                    n, t, -1, features.shape[-2] // 2, features.shape[-1] // 2
                ),
            )
            flows.append((coarser(flows[-1][0]), coarser(flows[-1][1])))
        steps = len(self.down)
        features = self._stage(steps, features, flows[steps])
        for number, up in enumerate(self.up):
            finer = functional.pixel_shuffle(framewise(up, features).flatten(0, 1), 2)
            features = kept.pop() + finer.view(n, t, *finer.shape[1:])
            features = self._stage(steps + 1 + number, features, flows[steps - 1 - number])
        refined = features.permute(0, 1, 3, 4, 2)
        for block in self.refinement:
            refined = block(refined)
        deep: Tensor = self.norm(refined)
        return shallow + deep.permute(0, 1, 4, 2, 3)

    def forward(
        self, x: Float[Tensor, "batch time 1 y x"]
    ) -> Float[Tensor, "batch time out fy fx"]:
        """Super-resolve every frame of a window of any length and size.

        Parameters
        ----------
        x : tensor, shape (batch, time, 1, y, x)
            Frames on the normalised scale.

        Returns
        -------
        tensor, shape (batch, time, out, f*y, f*x)
            Mean and, for a Bayesian network, Laplace scale.

        Raises
        ------
        DataError
            If the shape does not fit.
        """
        if x.dim() != 5 or x.shape[2] != 1 or min(x.shape[-2:]) < self.minimum_size:
            raise DataError(
                f"the network takes (batch, time, 1, y, x), not {tuple(x.shape)}",
                remedy=f"give frames of at least {self.minimum_size} px a side, with all axes",
            )
        height, width = x.shape[-2:]
        step = 2 ** (self.config.scales - 1)
        frames = functional.pad(
            x.flatten(0, 1), (0, -width % step, 0, -height % step), mode="replicate"
        )
        features = self._features(frames.view(*x.shape[:2], *frames.shape[1:]))
        fine = features[..., :height, :width].flatten(0, 1)
        fine = functional.leaky_relu(self.upsamplemodule(fine), SLOPE)
        out = self.conv_last(functional.leaky_relu(self.conv_hr(fine), SLOPE))
        base = functional.interpolate(
            x.flatten(0, 1), scale_factor=self.config.upscale, mode="bilinear", align_corners=False
        )
        mean = out[:, :1] + base
        result = torch.cat((mean, torch.sigmoid(out[:, 1:])), dim=1)
        return result.view(*x.shape[:2], *result.shape[1:])
