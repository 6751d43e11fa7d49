"""What a network must know of the images before it sees one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.running_order.run_plan import RunPlan
from tisr_scope.types import InputMode


@dataclass(frozen=True)
class ImageFacts:
    """Wide-field images of a run, planned, growing or finished.

    Attributes
    ----------
    name : str
        Of the profile or the file, for messages.
    channels : tuple of str
        Names.
    positions : int
        Stage positions, at least 1.
    frame_shape : (height, width)
        In camera pixels.
    optics : tuple of KnownOptics
        Of each channel; the pixel size is always known.
    input_mode : {"pattern_mean", "single"}
        What an image is.
    level : int, optional
        Laser level of a running order the images come from, where it has several.
    interval_s : float
        Planned time between time points.
    """

    name: str
    channels: tuple[str, ...]
    positions: int
    frame_shape: tuple[int, int]
    optics: tuple[KnownOptics, ...]
    input_mode: InputMode
    level: int | None
    interval_s: float

    @classmethod
    def of_plan(cls, plan: RunPlan, level: int = 0) -> Self:
        """Those of a run of ours."""
        channels = tuple(channel.name for channel in plan.channels)
        return cls(
            name=plan.profile.name,
            channels=channels,
            positions=plan.positions,
            frame_shape=plan.frame_shape,
            optics=tuple(KnownOptics.of_profile(plan.profile, c) for c in range(len(channels))),
            input_mode="pattern_mean" if plan.patterned else "single",
            level=level if plan.mode == "paired" else None,
            interval_s=plan.nominal_interval_s,
        )

    @property
    def pixel_size_um(self) -> float:
        """Camera pixel in the sample."""
        size = self.optics[0].pixel_size_um
        assert size is not None  # whoever makes the facts asks for it
        return size

    def place_name(self, channel: int, position: int) -> str:
        """Folder of the results of a channel at a position."""
        name = self.channels[channel]
        return name if self.positions == 1 else f"{name}_p{position}"
