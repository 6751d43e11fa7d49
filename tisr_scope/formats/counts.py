"""Stored numbers of foreign files as camera counts, without changing a single one of them.

A recording keeps unsigned 16-bit counts.  Other software stores the same counts as signed
integers (so that everything above 32767 comes out negative), as floats, or after a background was
taken off (so that some are truly negative).  The rule found here is one shift for all levels of a
region; the camera offset of the imported profile moves with it, and electrons stay the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num, UInt16

from tisr_scope.errors import DataError

LARGEST = 2**16 - 1
WRAPPED_BEYOND = 2**14
"""A stack that reaches both this and its negative cannot be a background-subtracted one."""


@dataclass(frozen=True)
class CountsRule:
    """Counts are the stored numbers, read as unsigned if ``wrapped``, plus ``pedestal``."""

    wrapped: bool = False
    pedestal: int = 0

    def counts(self, stored: Num[np.ndarray, "*axes y x"]) -> UInt16[np.ndarray, "*axes y x"]:
        """Camera counts; numbers are known to fit."""
        native = np.asarray(stored, stored.dtype.newbyteorder("="))
        if self.wrapped:
            return native.astype(np.int16).view(np.uint16)
        if native.dtype == np.uint16 and not self.pedestal:
            return native
        shifted: UInt16[np.ndarray, "*axes y x"] = (native + np.float64(self.pedestal)).astype(
            np.uint16
        )
        return shifted

    def stored(
        self, counts: UInt16[np.ndarray, "*axes y x"], dtype: np.dtype[np.generic]
    ) -> Num[np.ndarray, "*axes y x"]:
        """Inverse of :meth:`counts`."""
        if self.wrapped:
            return counts.view(np.int16).astype(dtype)
        return (counts.astype(np.int64) - self.pedestal).astype(dtype)


def counts_rule(
    blocks: Iterable[Num[np.ndarray, "*axes y x"]],
    *,
    unsigned: bool | None = None,
    where: str = "stack",
) -> CountsRule:
    """Rule for all blocks of frames together.

    Parameters
    ----------
    blocks : iterable of array
        Stored frames of every level, in pieces that fit into memory.
    unsigned : bool, optional
        What negative numbers are: large counts stored as signed (True), or counts below a
        background that was taken off (False).  Decided from the data only where it is beyond
        doubt.
    where : str
        Named in errors.

    Raises
    ------
    DataError
        If numbers are not finite, not whole, beyond 16 bits, or negative for an unknown reason.
    """
    low, high, sixteen_bit = 0.0, 0.0, True
    for number, block in enumerate(blocks):
        if block.dtype.kind == "u" and block.dtype.itemsize <= 2:
            high = max(high, float(block.max()))
            continue
        _require_whole(block, f"{where}, part {number + 1}")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        sixteen_bit &= block.dtype.kind == "i" and block.dtype.itemsize == 2
    if low >= 0:
        rule = CountsRule()
    elif unsigned is None and sixteen_bit and low < -WRAPPED_BEYOND and high > WRAPPED_BEYOND:
        rule = CountsRule(wrapped=True)
    elif unsigned is None:
        raise DataError(
            f"raw frames hold negative numbers, down to {low:g} (the largest is {high:g})",
            where=where,
            remedy="say --unsigned if counts above 32767 were stored as signed 16-bit integers, "
            "or --signed if a background was taken off",
        )
    elif unsigned and not sixteen_bit:
        raise DataError(
            f"negative numbers down to {low:g} are no 16-bit counts stored as signed",
            where=where,
            remedy="say --signed if a background was taken off",
        )
    else:
        rule = CountsRule(wrapped=True) if unsigned else CountsRule(pedestal=-int(low))
    if not rule.wrapped and high + rule.pedestal > LARGEST:
        raise DataError(
            f"counts up to {high + rule.pedestal:g} do not fit 16 bits",
            where=where,
            remedy="import the frames as pairs (--to pairs), which keep floats, or export the raw "
            "counts again",
        )
    return rule


def require_finite(values: Num[np.ndarray, "*axes y x"], where: str) -> None:
    """Refuse NaN and infinite values.

    Raises
    ------
    DataError
        With their number and the first place.
    """
    if values.dtype.kind not in "fc":
        return
    bad = ~np.isfinite(values)
    if bad.any():
        first = tuple(int(axis[0]) for axis in np.nonzero(bad))
        raise DataError(
            f"{int(bad.sum())} pixels are NaN or infinite, the first at {_place(first)}",
            where=where,
            remedy="download or export the file again, or leave the region out with --cells",
        )


# ------------------------------------------------------------------------------------- inside


def _require_whole(block: Num[np.ndarray, "*axes y x"], where: str) -> None:
    require_finite(block, where)
    if block.dtype.kind == "f" and not np.array_equal(np.rint(block), block):
        raise DataError(
            "raw frames are not whole camera counts",
            where=where,
            remedy="import them as pairs (--to pairs), which keep floats, or export the raw counts",
        )


def _place(index: Sequence[int]) -> str:
    return f"index {tuple(index)} (counted from 0, y and x last)"
