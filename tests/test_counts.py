"""Foreign numbers as counts: none is changed, and none is guessed."""

from __future__ import annotations

import numpy as np
import pytest

from tisr_scope.errors import DataError
from tisr_scope.formats.counts import counts_rule


def camera(low: int, high: int) -> np.ndarray:
    """Counts that run through the whole range, as an image does."""
    return np.linspace(low, high, 4 * 16 * 16).round().astype(np.uint16).reshape(4, 16, 16)


@pytest.mark.parametrize("kind", ["u2", "i2", "i4", "f4", ">u2", ">f4"])
def test_whole_counts_stay_as_they_are(kind: str) -> None:
    counts = camera(90, 30000)
    stored = counts.astype(kind)
    rule = counts_rule([stored])
    np.testing.assert_array_equal(rule.counts(stored), counts)
    assert rule.counts(stored).dtype == np.uint16
    np.testing.assert_array_equal(rule.stored(counts, stored.dtype), stored)


def test_large_counts_stored_as_signed_are_taken_as_unsigned() -> None:
    counts = camera(90, 60000)
    stored = counts.view(np.int16)
    assert stored.min() < 0
    rule = counts_rule([stored])
    np.testing.assert_array_equal(rule.counts(stored), counts)
    np.testing.assert_array_equal(rule.stored(counts, stored.dtype), stored)


def test_one_rule_for_all_levels() -> None:
    """The dim level alone would not tell that the bright one is wrapped."""
    dim, bright = camera(90, 2000), camera(90, 65535)
    rule = counts_rule([dim.view(np.int16), bright.view(np.int16)])
    np.testing.assert_array_equal(rule.counts(dim.view(np.int16)), dim)
    np.testing.assert_array_equal(rule.counts(bright.view(np.int16)), bright)


def test_a_background_that_was_taken_off_moves_the_offset_instead() -> None:
    stored = camera(90, 2000).astype(np.int16) - 100
    with pytest.raises(DataError, match="negative numbers, down to -10"):
        counts_rule([stored])
    rule = counts_rule([stored], unsigned=False)
    assert (rule.wrapped, rule.pedestal) == (False, 10)
    counts = rule.counts(stored)
    np.testing.assert_array_equal(counts.astype(int) - rule.pedestal, stored)
    np.testing.assert_array_equal(rule.stored(counts, stored.dtype), stored)


def test_one_saturated_pixel_is_doubtful_and_so_refused() -> None:
    counts = camera(90, 2000)
    counts[0, 0, 0] = 65535
    stored = counts.view(np.int16)
    with pytest.raises(DataError, match="--unsigned"):
        counts_rule([stored])
    rule = counts_rule([stored], unsigned=True)
    np.testing.assert_array_equal(rule.counts(stored), counts)


def test_numbers_that_are_no_counts() -> None:
    with pytest.raises(DataError, match="not whole"):
        counts_rule([camera(0, 10) + np.float32(0.25)])
    damaged = camera(0, 10).astype(np.float32)
    damaged[2, 3, 4] = np.nan
    with pytest.raises(DataError, match=r"1 pixels are NaN or infinite.*\(2, 3, 4\)"):
        counts_rule([damaged])
    with pytest.raises(DataError, match="do not fit 16 bits"):
        counts_rule([camera(0, 60000).astype(np.int32) * 2])
    with pytest.raises(DataError, match="no 16-bit counts"):
        counts_rule([camera(0, 10).astype(np.float32) - 5], unsigned=True)
