"""The three things that flow through the package, with their axes and units.

``Recording`` (raw frames on disk) lives in :mod:`tisr_scope.recording.recording`; the two in-memory
ones are here.  Arrays are NumPy at the edges and torch inside the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import DataError

CALIBRATED = "calibrated"
"""What a confidence is called to which nothing is objected."""

InputMode = Literal["pattern_mean", "single"]
"""What a wide-field image is: the mean over the illumination patterns, or one exposure."""


def calibration_label(objections: Sequence[str]) -> str:
    """Say "calibrated", or "uncalibrated" with every reason."""
    return "uncalibrated: " + "; ".join(objections) if objections else CALIBRATED


@dataclass(frozen=True)
class PairedStack:
    """Wide-field inputs at every laser level and the SIM target of one region and channel.

    Its time points follow each other without a gap: where one was dropped, another stack begins.

    Attributes
    ----------
    name : str
        Name of the recording the pair comes from; splits are made by it.
    channel : str
        Channel name of the profile.
    widefield : array, shape (level, time, y, x), float32
        Mean over the illumination patterns, in photo-electrons, lowest level first.
    target : array, shape (time, f*y, f*x), float32
        SIM reconstruction of the highest level, in photo-electrons.
    pixel_size_um : float
        Pixel size of ``widefield`` in the sample, in micrometres.
    interval_s : float
        Time between time points, in seconds.
    position : int
        Stage position, counted from 0.
    first_time : int
        Time point of the recording that the first one here is.
    raw_frames : int, optional
        Number of raw frames each wide-field image is the mean of, where it is known.
    numerical_aperture, emission_nm : float, optional
        Of the microscope, where they are known.
    same_unit : bool
        Whether the target is in the unit of ``widefield``; published ones rarely are.
    """

    name: str
    channel: str
    widefield: Float[np.ndarray, "level time y x"]
    target: Float[np.ndarray, "time fy fx"]
    pixel_size_um: float
    interval_s: float
    position: int = 0
    first_time: int = 0
    raw_frames: int | None = None
    numerical_aperture: float | None = None
    emission_nm: float | None = None
    same_unit: bool = True

    def __post_init__(self) -> None:
        _, time, height, width = self.widefield.shape
        fits = self.target.shape[0] == time and self.target.shape[1] % height == 0
        if not fits or self.target.shape[1] // height != self.target.shape[2] / width:
            raise DataError(
                f"target {self.target.shape} does not belong to wide-field {self.widefield.shape}",
                where=self.name,
                remedy="make the pair again with 'tisr prepare'",
            )

    @property
    def upscale(self) -> int:
        """Enlargement of the target over the input (2 linear, 3 nonlinear SIM)."""
        return int(self.target.shape[1] // self.widefield.shape[2])


@dataclass(frozen=True)
class Prediction:
    """One super-resolved frame with its uncertainty.

    All images have shape (f*y, f*x) and are on the normalised intensity scale of the model
    bundle, on which the credible half-width epsilon is defined.

    Attributes
    ----------
    time_index : int
        Index ``t`` of the frame that is shown.
    mean : float32 array
        Mean over the Monte Carlo passes (Paper: eq. 25).
    epistemic : float32 array
        Standard deviation over the passes, the model uncertainty (Paper: eq. 26).
    aleatoric : float32 array
        Root mean square of the predicted scales, the data uncertainty (Paper: eq. 27).
    confidence : float32 array, 0 to 1
        Probability that the truth lies in the credible interval (Paper: eq. 29-30).
    calibrated : bool
        Whether a calibration valid for this very use was applied.
    """

    time_index: int
    mean: Float[np.ndarray, "y x"]
    epistemic: Float[np.ndarray, "y x"]
    aleatoric: Float[np.ndarray, "y x"]
    confidence: Float[np.ndarray, "y x"]
    calibrated: bool
