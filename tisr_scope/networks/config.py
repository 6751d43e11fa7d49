"""Every choice of the network in one frozen model, and the presets.

``released`` is the authors' code, ``paper`` the authors' text, ``small`` the same ideas within
reach of a laptop's processor.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tisr_scope.networks.blocks import Activation
from tisr_scope.networks.optical_flow import FlowKind
from tisr_scope.networks.phase_space import PhaseEncoding, PhaseKind
from tisr_scope.profiles.schema import Frozen

Count = Annotated[int, Field(ge=1)]
DropoutPlace = Literal["extraction", "propagation", "reconstruction"]


class DpaTisrConfig(Frozen):
    """Architecture of a :class:`~tisr_scope.networks.dpa_tisr.DpaTisr`; defaults as released."""

    upscale: Literal[2, 3] = 2
    bayesian: bool = True
    """Predict a mean and a Laplace scale instead of a mean alone."""
    temporal: bool = True
    """False: the single-frame counterpart, without alignment and propagation."""
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
    deformable_groups: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    """Over both neighbours."""
    deformable_kernel: Literal[1, 3] = 3
    offset_layers: Annotated[int, Field(ge=2)] = 4
    offset_reach_px: Annotated[float, Field(gt=0)] = 10.0
    phase: PhaseKind = "convolutions"
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
        if len(set(self.dropout_in)) != len(self.dropout_in):
            raise ValueError("dropout_in names a stage twice")
        return self

    def rate(self, stage: DropoutPlace) -> float:
        """Dropout rate of a stage."""
        return self.dropout_rate if stage in self.dropout_in else 0.0

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
