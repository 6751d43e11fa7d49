"""A stack as its file describes it: pixels, named axes, and what the file says of the optics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Num

from tisr_scope.errors import DataError
from tisr_scope.formats.facts import Fact

AXIS_NAMES = {
    "T": "time points",
    "C": "channels",
    "Z": "sections",
    "O": "orientations",
    "P": "phases",
    "Q": "frames",
    "S": "colour samples",
}
"""``Q`` is an axis that the file has and does not name."""


@dataclass(frozen=True)
class Stack:
    """Pixels with the axes of the file; they may still lie on disk.

    Attributes
    ----------
    path : Path
        File or folder.
    data : array, shape as ``axes`` says
        As stored; axes of length 1 are left out.
    axes : str
        One letter an axis, slowest first, ending in ``YX``; see :data:`AXIS_NAMES`.
    format : str
        What kind of file it is, in words.
    pixel_size_um : Fact of (float, float), optional
        Height and width of a pixel.
    section_um, interval_s, exposure_ms : Fact of float, optional
        Distance of sections, time from one time point to the next, exposure.
    emission_nm, excitation_nm : Fact of tuple of float, optional
        One for each channel.
    numerical_aperture, refractive_index : Fact of float, optional
        Of the objective and its immersion.
    channels : tuple of str
        Names, where the file gives any.
    """

    path: Path
    data: Num[np.ndarray, "*axes y x"]
    axes: str
    format: str
    pixel_size_um: Fact[tuple[float, float]] | None = None
    section_um: Fact[float] | None = None
    interval_s: Fact[float] | None = None
    exposure_ms: Fact[float] | None = None
    emission_nm: Fact[tuple[float, ...]] | None = None
    excitation_nm: Fact[tuple[float, ...]] | None = None
    numerical_aperture: Fact[float] | None = None
    refractive_index: Fact[float] | None = None
    channels: tuple[str, ...] = ()

    @property
    def lengths(self) -> dict[str, int]:
        """Length of every axis before y and x, slowest first."""
        return dict(zip(self.axes[:-2], self.data.shape[:-2], strict=True))

    def emission_of(self, channel: int) -> Fact[float] | None:
        """Emission wavelength of a channel, where the file says."""
        return _of(self.emission_nm, channel)

    def excitation_of(self, channel: int) -> Fact[float] | None:
        """Excitation wavelength of a channel, where the file says."""
        return _of(self.excitation_nm, channel)

    def one_channel(self, number: int | None) -> tuple[Stack, int]:
        """Stack of one channel, and which it is, counted from 0.

        Parameters
        ----------
        number : int, optional
            Counted from 1; must be given where there are several.

        Raises
        ------
        DataError
            If there are several and none is chosen, or there is no such one.
        """
        count = self.lengths.get("C", 1)
        if number is None and count > 1:
            names = f" ({', '.join(self.channels)})" if len(self.channels) == count else ""
            raise DataError(
                f"the file holds {count} channels{names}",
                where=str(self.path),
                remedy=f"choose one with --channel 1 to --channel {count}",
            )
        index = (number or 1) - 1
        if not 0 <= index < count:
            raise DataError(
                f"there is no channel {number}, the file holds {count}",
                where=str(self.path),
                remedy=f"choose a channel from 1 to {count}",
            )
        if "C" not in self.axes:
            return self, index
        place = self.axes.index("C")
        taken = self.data[(slice(None),) * place + (index,)]
        return replace(self, data=taken, axes=self.axes.replace("C", "")), index

    def facts(self) -> dict[str, str]:
        """What the file says, in words."""
        told: dict[str, str] = {
            "file": f"{self.format}, {self.described()}, {self.data.dtype}",
        }
        if self.pixel_size_um is not None:
            y, x = self.pixel_size_um.value
            told["pixel in the file"] = f"{y:.5g} x {x:.5g} um"
        for name, unit in (("section", "um"), ("interval", "s"), ("exposure", "ms")):
            fact = getattr(self, f"{name}_{unit}")
            if fact is not None:
                told[f"{name} in the file"] = f"{fact.value:.5g} {unit}"
        return told

    def described(self) -> str:
        """Axes and their lengths, in words."""
        parts = [f"{n} {AXIS_NAMES.get(axis, axis)}" for axis, n in self.lengths.items()]
        height, width = self.data.shape[-2:]
        return " x ".join([*parts, f"{height} x {width} pixels"])


def squeezed(
    data: Num[np.ndarray, "*axes"], axes: Sequence[str]
) -> tuple[Num[np.ndarray, "*kept"], str]:
    """Leave out axes of length 1 before y and x."""
    kept = [n for n, length in enumerate(data.shape) if length > 1 or axes[n] in "YX"]
    return data.reshape([data.shape[n] for n in kept]), "".join(axes[n] for n in kept)


def require_frames(data: Num[np.ndarray, "*axes"], path: Path) -> None:
    """Refuse what is no series of real frames.

    Raises
    ------
    DataError
    """
    if data.ndim < 2 or np.iscomplexobj(data) or data.size == 0 or data.dtype.kind not in "uif":
        raise DataError(
            f"an array of shape {data.shape}, {data.dtype} is no series of frames",
            where=str(path),
            remedy="give the raw frames as one stack",
        )


def _of(fact: Fact[tuple[float, ...]] | None, channel: int) -> Fact[float] | None:
    if fact is None or channel >= len(fact.value) or not fact.value[channel] > 0:
        return None
    return Fact(float(fact.value[channel]), fact.source)
