"""Whether images have the optics that a model knows: one comparison with one tolerance.

Training, calibration, evaluation and inference all ask here.  What is not known counts as a
difference for a calibration, for nothing unproven is called calibrated, and does not for a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field

from tisr_scope.profiles.schema import Frozen, Profile

OPTICS_TOLERANCE = 0.02
"""Relative difference of pixel size, numerical aperture and emission that no network notices."""

Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@runtime_checkable
class Optical(Protocol):
    """Whatever knows its optics, wholly or in part."""

    @property
    def numerical_aperture(self) -> float | None:
        """Of the objective."""

    @property
    def emission_nm(self) -> float | None:
        """Wavelength of the detected light."""

    @property
    def pixel_size_um(self) -> float | None:
        """Camera pixel in the sample."""


class KnownOptics(Frozen):
    """Optics of images as far as they are known; None where they are not."""

    numerical_aperture: Size | None = None
    emission_nm: Size | None = None
    pixel_size_um: Size | None = None

    @classmethod
    def of(cls, optics: Optical | None) -> KnownOptics:
        """The three that are compared, of anything that has them."""
        if optics is None:
            return cls()
        return cls(
            numerical_aperture=optics.numerical_aperture,
            emission_nm=optics.emission_nm,
            pixel_size_um=optics.pixel_size_um,
        )

    @classmethod
    def of_profile(cls, profile: Profile, channel: int) -> KnownOptics:
        """Those of one channel of a microscope."""
        return cls(
            numerical_aperture=profile.optics.numerical_aperture,
            emission_nm=profile.channels[channel].emission_nm,
            pixel_size_um=profile.optics.pixel_size_um,
        )


def optics_differ(here: Optical, there: Optical, known_as: str) -> list[str]:
    """In words, what differs by more than the tolerance between optics that both know.

    Parameters
    ----------
    here : Optical
        Of the images.
    there : Optical
        Of the model.
    known_as : str
        What the model's optics are: "trained at", "calibrated at".
    """
    return [
        f"{name} {a:g}{unit}, {known_as} {b:g}{unit}"
        for name, unit, a, b in _compared(here, there)
        if a is not None and b is not None and not optics_near(a, b)
    ]


def optics_unknown(here: Optical, there: Optical, known_as: str) -> list[str]:
    """In words, what one of the two does not know, so that nothing can be said."""
    reasons = []
    for name, unit, a, b in _compared(here, there):
        if b is None:
            given = "of the images unknown" if a is None else f"{a:g}{unit}"
            reasons.append(f"{name} {given}, that of the model unknown")
        elif a is None:
            reasons.append(f"{name} of the images unknown, {known_as} {b:g}{unit}")
    return reasons


def optics_near(a: float, b: float) -> bool:
    """Whether two sizes agree within the tolerance, whichever comes first."""
    return abs(a - b) <= OPTICS_TOLERANCE * max(abs(a), abs(b))


def _compared(
    here: Optical, there: Optical
) -> Iterator[tuple[str, str, float | None, float | None]]:
    yield "emission", " nm", here.emission_nm, there.emission_nm
    yield "NA", "", here.numerical_aperture, there.numerical_aperture
    yield "camera pixel", " µm", here.pixel_size_um, there.pixel_size_um
