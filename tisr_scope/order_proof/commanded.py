"""What was commanded for one time point, and what was found out about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tisr_scope.running_order.run_plan import RunPlan

Kind = Literal["frames", "light", "pattern", "ratio"]


@dataclass(frozen=True)
class Commanded:
    """The exposures of one time point, channel and position, and the optics they are seen with.

    Attributes
    ----------
    orientations, phases : int
        Patterns, phase faster; one of each for even light.
    powers_mw : tuple of float
        Laser power at each level, in the order of exposure.
    carriers : tuple of (float, float)
        Nominal kx, ky of each orientation, cycles per micrometre; empty where there are none.
    pixel_um : float
        Camera pixel in the sample.
    cutoff_per_um : float
        Of the detection OTF.
    offset_adu, saturation_adu : float
        Counts without light, and counts of a full pixel.
    """

    orientations: int
    phases: int
    powers_mw: tuple[float, ...]
    carriers: tuple[tuple[float, float], ...]
    pixel_um: float
    cutoff_per_um: float
    offset_adu: float
    saturation_adu: float = 65535.0

    @classmethod
    def of_plan(cls, plan: RunPlan, channel: int) -> Commanded:
        """What a run asks for at every time point of a channel."""
        light, optics = plan.channels[channel], plan.profile.optics
        period = light.pattern_period_um or math.inf
        return cls(
            orientations=plan.orientations,
            phases=plan.phases,
            powers_mw=light.powers_mw,
            carriers=tuple((math.cos(a) / period, math.sin(a) / period) for a in plan.angles_rad),
            pixel_um=optics.pixel_size_um,
            cutoff_per_um=2e3
            * optics.numerical_aperture
            / plan.profile.channels[channel].emission_nm,
            offset_adu=plan.profile.microscope.camera.offset_adu,
            saturation_adu=plan.profile.microscope.camera.saturation_adu,
        )

    @property
    def patterns(self) -> int:
        """Orientations times phases."""
        return self.orientations * self.phases

    @property
    def levels(self) -> int:
        """Number of laser levels."""
        return len(self.powers_mw)

    @property
    def exposures(self) -> int:
        """Frames of a time point."""
        return self.patterns * self.levels

    def place(self, frame: int) -> str:
        """Name a frame by its place in the order, counted from 1 as people do."""
        pattern, level = divmod(frame, self.levels)
        orientation, phase = divmod(pattern, self.phases)
        parts = [f"orientation {orientation + 1}"] if self.orientations > 1 else []
        parts += [f"phase {phase + 1}"] if self.phases > 1 else []
        parts += [f"level {level + 1}"] if self.levels > 1 else []
        return f"frame {frame + 1}" + (f" ({', '.join(parts)})" if parts else "")


@dataclass(frozen=True)
class Fault:
    """One thing that is not as commanded, and the frames (counted from 0) that show it.

    ``ratio`` faults are doubts: the images do not follow the light at all, so that neither order
    can be shown.  The others are proven wrong.
    """

    kind: Kind
    text: str
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """What the images of one time point say.

    Attributes
    ----------
    faults : tuple of Fault
        Empty where nothing contradicts what was commanded.
    light_seen, pattern_seen : bool
        Whether levels and patterns stand out enough to be told apart; where they do not, no
        fault is found and none is excluded.
    """

    faults: tuple[Fault, ...]
    light_seen: bool
    pattern_seen: bool

    @property
    def wrong(self) -> tuple[Fault, ...]:
        """Faults that are proven."""
        return tuple(fault for fault in self.faults if fault.kind != "ratio")
