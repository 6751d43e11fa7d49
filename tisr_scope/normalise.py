"""The only place where intensities are scaled.

A network sees wide-field electrons divided by one number and predicts a target divided by
another; epsilon of the credible interval has a meaning only on that scale, so the rule travels
in the model bundle.  Both numbers are fixed for a whole stack (offline) or for a whole run
(live, from a warm-up), never per frame or patch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.ndimage import gaussian_filter

from tisr_scope.errors import DataError
from tisr_scope.profiles.schema import Frozen


class Normalisation(Frozen):
    """Rule that turns a stack into the scale of the network.

    ``maximum`` is the published rule (Paper: eq. 18).  ``percentile`` takes a high percentile
    instead, which a single hot pixel cannot move and which a short warm-up estimates well.
    """

    reference: Literal["maximum", "percentile"] = "percentile"
    percentile: float = Field(default=99.9, gt=50, le=100)
    target_blur_sigma_px: float = Field(default=0.4, ge=0)
    """Gaussian, 3 x 3, that mitigates reconstruction artefacts in the target."""

    def scale(self, stack: Float[np.ndarray, "*axes y x"], where: str = "stack") -> float:
        """Value that becomes 1.

        Raises
        ------
        DataError
            If the stack is empty, has a value that is not finite, or holds no light.
        """
        if stack.size == 0:
            raise DataError("there are no frames to take the intensity scale from", where=where)
        if not np.isfinite(stack).all():
            raise DataError(
                "frames hold NaN or infinite values",
                where=where,
                remedy="find the frames with 'tisr prepare --report' or record them again",
            )
        if self.reference == "maximum":
            value = float(stack.max())
        else:
            value = float(np.percentile(stack, self.percentile))
        if value <= 0:
            raise DataError(
                "the frames hold no light above the camera offset",
                where=where,
                remedy="check laser, shutter and the camera offset in the profile",
            )
        return value

    def normalise_input(
        self, stack: Float[np.ndarray, "*axes y x"], scale: float
    ) -> Float[np.ndarray, "*axes y x"]:
        """Wide-field electrons on the network's scale."""
        return (stack / scale).astype(np.float32)

    def normalise_target(
        self, stack: Float[np.ndarray, "time y x"], scale: float
    ) -> Float[np.ndarray, "time y x"]:
        """Target on the network's scale, slightly blurred (Paper: eq. 18)."""
        sigma = self.target_blur_sigma_px
        blurred = gaussian_filter(stack, (0, sigma, sigma), radius=(0, 1, 1)) if sigma else stack
        return (blurred / scale).astype(np.float32)
