"""When an audit over time says that an image is no longer to be believed."""

from __future__ import annotations

from collections import deque

import numpy as np

from tisr_scope.confidence.side_band_audit import AuditSums

POOLED = 5
"""Audits that are judged together, and that the start is known from."""
LEAST_TRUE = 0.5
"""Correlation below which less than a quarter of the detail's power is of the sample."""
FALL = 0.15
ERRORS = 3.0
"""Standard errors by which a limit must be missed."""


def in_words(sums: AuditSums) -> str:
    """What an audit says: the correlation with its 95 % limits, or that nothing can be told."""
    correlation, error = float(sums.correlation), float(sums.standard_error)
    if not np.isfinite(correlation):
        return "nothing can be told: no detail of the sample stands above the noise"
    return f"true beyond the diffraction limit: {correlation:.2f} ± {1.96 * error:.2f}"


class AuditAlarm:
    """Judges audits in the order of time.

    Two things alarm, once three standard errors exclude chance: detail that is mostly not of the
    sample, and agreement that has fallen since the start of the run.
    """

    def __init__(self) -> None:
        self._recent: deque[AuditSums] = deque(maxlen=POOLED)
        self._start: AuditSums | None = None
        self._count = 0
        self.reason: str | None = None
        """Why the newest audits alarm, in words."""

    @property
    def pooled(self) -> AuditSums | None:
        """The newest audits together; None before the first."""
        if not self._recent:
            return None
        total = self._recent[0]
        for one in list(self._recent)[1:]:
            total = total + one
        return total

    def add(self, sums: AuditSums) -> str | None:
        """Take one audit; why the newest ones alarm, None where they do not."""
        self._recent.append(sums)
        self._count += 1
        pooled = self.pooled
        assert pooled is not None
        if self._count == POOLED:
            self._start = pooled
        self.reason = self._judge(pooled)
        return self.reason

    def _judge(self, now: AuditSums) -> str | None:
        correlation, error = float(now.correlation), float(now.standard_error)
        if not np.isfinite(correlation):
            return None
        if correlation + ERRORS * error < LEAST_TRUE:
            return (
                "most detail beyond the diffraction limit is not of the sample: "
                f"{correlation:.2f} ± {1.96 * error:.2f} of 1"
            )
        if self._start is not None and np.isfinite(self._start.correlation):
            before = float(self._start.correlation)
            margin = max(FALL, ERRORS * float(np.hypot(error, self._start.standard_error)))
            if correlation < before - margin:
                return (
                    "less detail beyond the diffraction limit is true than at the start: "
                    f"{correlation:.2f}, it was {before:.2f}"
                )
        return None
