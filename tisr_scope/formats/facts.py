"""What is known of a stack beside its pixels, and who says so: the file, the user, or nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from tisr_scope.errors import DataError

T = TypeVar("T")
Source = Literal["file", "user", "profile", "assumed"]
SAID = {
    "file": "says the file",
    "user": "as stated",
    "profile": "from the profile",
    "assumed": "assumed",
}
SMALLEST_PIXEL_UM, LARGEST_PIXEL_UM = 0.005, 1.0
"""A camera pixel in the sample of a microscope that resolves cells; 1 stands for no calibration."""
SAME_PIXEL = 0.01
"""Relative difference of sizes that are taken as one: headers round."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """A value and where it comes from."""

    value: T
    source: Source

    def __str__(self) -> str:
        shown = f"{self.value:.5g}" if isinstance(self.value, float) else str(self.value)
        return f"{shown} ({SAID[self.source]})"


def settle(
    *, user: T | None = None, file: Fact[T] | None = None, profile: T | None = None, assumed: T
) -> Fact[T]:
    """The value that counts: the user's, then the file's, the profile's, and what is assumed."""
    if user is not None:
        return Fact(user, "user")
    if file is not None:
        return file
    return Fact(assumed, "assumed") if profile is None else Fact(profile, "profile")


def settle_pixel(
    told: Fact[tuple[float, float]] | None,
    *,
    user: float | None = None,
    profile: float | None = None,
    assumed: float | None = None,
    where: str = "stack",
) -> Fact[float]:
    """Side of the square camera pixel in the sample, in micrometres.

    Parameters
    ----------
    told : Fact, optional
        Height and width of a pixel in the file.
    user, profile, assumed : float, optional
        The user's value stands above the file's, which must agree with the profile's.

    Raises
    ------
    DataError
        If nobody says, or what is said is oblong, contradicted, or no pixel in the sample.
    """
    remedy = "state the size of a camera pixel in the sample with --pixel-size-um"
    if user is not None:
        return Fact(_plausible(user, "the stated pixel", where, "give micrometres"), "user")
    if told is not None:
        y, x = told.value
        if abs(y - x) > SAME_PIXEL * x:
            raise DataError(
                f"the file says pixels of {y:.5g} x {x:.5g} um, which are not square",
                where=where,
                remedy=f"resample the stack to square pixels; if the file is wrong, {remedy}",
            )
        _plausible(x, "the file's pixel", where, remedy)
        if profile is not None and abs(x - profile) > SAME_PIXEL * profile:
            raise DataError(
                f"the file says a pixel of {x:.5g} um, the profile one of {profile:.5g} um",
                where=where,
                remedy="choose the profile of this recording, or " + remedy,
            )
        # Files round to single precision; the profile knows the same number exactly.
        return Fact(x, "file") if profile is None else Fact(profile, "file")
    if profile is not None:
        return Fact(profile, "profile")
    if assumed is None:
        raise DataError("the file does not say its pixel size", where=where, remedy=remedy)
    return Fact(assumed, "assumed")


def _plausible(pixel_um: float, what: str, where: str, remedy: str) -> float:
    if not SMALLEST_PIXEL_UM <= pixel_um < LARGEST_PIXEL_UM:
        raise DataError(
            f"{what} of {pixel_um:.5g} um is no camera pixel in the sample "
            f"({SMALLEST_PIXEL_UM:g} to {LARGEST_PIXEL_UM:g} um)",
            where=where,
            remedy=remedy,
        )
    return pixel_um
