"""Every choice of the network in one frozen model, and the presets.

``released`` is the authors' code, ``paper`` the authors' text, ``compared`` the template of the
paper's comparison, ``basicvsr_plus_plus`` its published ancestor, ``small`` the same ideas within
reach of a laptop's processor.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from tisr_scope.profiles.schema import Frozen

WINDOW = 7
"""Frames of a window (Paper: "the input length of 7 was optimal")."""

Shown = Literal["centre", "central-3", "central-5", "central-7", "newest"]
"""Frames of a window that become results: the centre one, of best quality; several central ones
of windows further apart, for less work each; or the newest one, without delay."""
SHOWN: tuple[Shown, ...] = get_args(Shown)


def shown_places(shown: Shown, length: int = WINDOW) -> range:
    """Places in the window of the frames that are shown, from 0, the oldest.

    A window moves on by as many frames as it shows.
    """
    if shown == "newest":
        return range(length - 1, length)
    count = 1 if shown == "centre" else int(shown.removeprefix("central-"))
    first = max(length // 2 - count // 2, 0)
    return range(first, min(first + count, length))


Count = Annotated[int, Field(ge=1)]
Activation = Literal["relu", "leaky_relu"]
FlowKind = Literal["spynet", "light"]
PhaseKind = Literal["convolutions", "residual"]
PhaseEncoding = Literal["angle", "phasor", "cross"]
SpectrumPart = Literal["phase", "amplitude", "both"]
DropoutPlace = Literal["extraction", "propagation", "reconstruction"]
Propagation = Literal["recurrent", "sliding_window"]
Alignment = Literal["dpa", "deformable", "optical_flow", "neighbourhood_attention"]


class DpaTisrConfig(Frozen):
    """Architecture of a :class:`~tisr_scope.networks.dpa_tisr.DpaTisr`; defaults as released."""

    upscale: Literal[2, 3] = 2
    bayesian: bool = True
    """Predict a mean and a Laplace scale instead of a mean alone."""
    temporal: bool = True
    """False: the single-frame counterpart, without alignment and propagation."""
    propagation: Propagation = "recurrent"
    """Recurrent, second order (Paper: eq. 6), or a window around every frame (Paper: eq. 5)."""
    alignment: Alignment = "dpa"
    """``dpa`` is ``deformable`` after an alignment in phase space (Paper: eq. 7-17)."""
    window_radius: Count = 3
    """Neighbours on either side; of the sliding window only."""
    channels: Count = 64
    output_channels: Count = 64
    """Channels after the pixel shuffle, at full resolution."""
    extraction_blocks: Count = 3
    propagation_blocks: Count = 3
    reconstruction_blocks: Count = 5
    branches: Literal[2, 4] = 4
    """Two: backward, forward (Paper: eq. 6).  Four: both twice, as released."""
    block_activation: Activation = "relu"
    extraction_skip: bool = False
    flow: FlowKind = "spynet"
    flow_channels: Count = 16
    flow_levels: Count = 4
    """Both of the light flow network only."""
    attention_size: Annotated[int, Field(ge=3, le=15)] = 7
    """Side of the neighbourhood, odd; of neighbourhood attention only."""
    deformable_groups: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    """Over both neighbours."""
    deformable_kernel: Literal[1, 3] = 3
    offset_layers: Annotated[int, Field(ge=2)] = 4
    offset_reach_px: Annotated[float, Field(gt=0)] = 10.0
    phase: PhaseKind = "convolutions"
    phase_part: SpectrumPart = "phase"
    """What of the spectrum is aligned."""
    phase_encoding: PhaseEncoding = "angle"
    phase_zero_start: bool = False
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.5
    dropout_in: tuple[DropoutPlace, ...] = ("extraction", "propagation", "reconstruction")
    initial_scale: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """Laplace scale that an untrained Bayesian network predicts."""

    @model_validator(mode="after")
    def _groups_fit(self) -> DpaTisrConfig:
        if (2 * self.channels) % self.deformable_groups:
            raise ValueError(
                f"{self.deformable_groups} deformable groups do not divide "
                f"{2 * self.channels} channels"
            )
        if self.attention_size % 2 == 0:
            raise ValueError(f"an attention of size {self.attention_size} has no centre")
        if len(set(self.dropout_in)) != len(self.dropout_in):
            raise ValueError("dropout_in names a stage twice")
        return self

    def rate(self, stage: DropoutPlace) -> float:
        """Dropout rate of a stage."""
        return self.dropout_rate if stage in self.dropout_in else 0.0

    @property
    def has_flow(self) -> bool:
        """Whether there is a flow network; attention finds its neighbours by itself."""
        return self.temporal and self.alignment != "neighbourhood_attention"

    @property
    def block_names(self) -> tuple[str, ...]:
        """Alignment blocks of the sliding window, by the distance of the neighbour in frames."""
        past = [f"minus_{n}" for n in range(self.window_radius, 0, -1)]
        return (*past, *(f"plus_{n}" for n in range(1, self.window_radius + 1)))

    @property
    def branch_names(self) -> tuple[str, ...]:
        """Branches in the order they run."""
        return ("backward_1", "forward_1", "backward_2", "forward_2")[: self.branches]


def released(*, upscale: Literal[2, 3] = 2, bayesian: bool = True) -> DpaTisrConfig:
    """The network the authors published (code and weights)."""
    return DpaTisrConfig(upscale=upscale, bayesian=bayesian)


def paper(*, upscale: Literal[2, 3] = 2, bayesian: bool = True) -> DpaTisrConfig:
    """The network as the text describes it (Paper: eq. 3-17; Bayesian: after eq. 30)."""
    return DpaTisrConfig(
        upscale=upscale,
        bayesian=bayesian,
        branches=2,
        reconstruction_blocks=3,
        block_activation="leaky_relu",
        extraction_skip=True,
        phase="residual",
        dropout_in=("extraction", "reconstruction") if bayesian else (),
    )


def compared(
    propagation: Propagation = "recurrent",
    alignment: Alignment = "deformable",
    *,
    upscale: Literal[2, 3] = 2,
    bayesian: bool = False,
) -> DpaTisrConfig:
    """The template in which the paper exchanges propagation and alignment (Paper: eq. 3-13).

    Four branches and two convolutions that predict the offsets are not in the text but in the
    parameter numbers it gives: 3.95 million (recurrent, optical flow) and 5.40 million
    (recurrent, deformable) come out to the digit.  3.71 million (recurrent, attention) do with the
    1.44 million of a flow network, which attention never asks and which is not built.

    The sliding window deviates, in millions: 3.69 of 5.58 (optical flow), 2.30 of 5.59 (attention;
    3.74 with a flow network) and 5.10 of 7.97 (deformable).  With seven frames, 5.58 needs about
    15.5 convolutions of 64 to 64 channels for each neighbour, where a convolution and three
    residual blocks (Paper: before eq. 5) are seven.
    """
    return DpaTisrConfig(
        upscale=upscale,
        bayesian=bayesian,
        propagation=propagation,
        alignment=alignment,
        reconstruction_blocks=3,
        block_activation="leaky_relu",
        extraction_skip=True,
        offset_layers=2,
        phase="residual",
        dropout_in=("extraction", "reconstruction") if bayesian else (),
    )


def basicvsr_plus_plus(*, upscale: Literal[2, 3] = 2, bayesian: bool = False) -> DpaTisrConfig:
    """BasicVSR++ as published (Chan et al., CVPR 2022), for one channel and 2 or 3 times.

    Four branches of seven blocks, second-order propagation, flow-guided deformable alignment, no
    dropout.  The published one enlarges four times in two pixel shuffles; here it is one shuffle.
    """
    return DpaTisrConfig(
        upscale=upscale,
        bayesian=bayesian,
        alignment="deformable",
        extraction_blocks=5,
        propagation_blocks=7,
        reconstruction_blocks=5,
        dropout_in=(),
    )


def small(*, upscale: Literal[2, 3] = 2, bayesian: bool = True) -> DpaTisrConfig:
    """A network that trains and runs live on two processor cores.

    Three choices are neither published nor in the text: dropout stands in the reconstruction
    only, so that the passes share all before it; neighbours are sampled at one point a group
    instead of nine; and the phase module reads the cross-power spectrum, whose gradient stays
    bounded where a spectrum is near zero.
    """
    return DpaTisrConfig(
        upscale=upscale,
        bayesian=bayesian,
        channels=16,
        output_channels=8,
        extraction_blocks=2,
        propagation_blocks=1,
        reconstruction_blocks=2,
        branches=2,
        block_activation="leaky_relu",
        extraction_skip=True,
        flow="light",
        flow_channels=16,
        flow_levels=4,
        deformable_groups=8,
        deformable_kernel=1,
        offset_layers=2,
        phase="residual",
        phase_encoding="cross",
        phase_zero_start=True,
        dropout_rate=0.1,
        dropout_in=("reconstruction",) if bayesian else (),
    )
