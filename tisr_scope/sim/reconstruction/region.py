"""One region from raw frames to its SIM image: the same steps for every verb.

Background, defective pixels, saturation and drift are dealt with here and nowhere else, so that a
raw stack, a recording and a training pair of the same frames come out the same.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tisr_scope.profiles.schema import Profile
from tisr_scope.sim.optics.defects import Defects, find_defects, repaired
from tisr_scope.sim.optics.otf import DetectionOtf, incoherent_otf, measured_otf
from tisr_scope.sim.parameters.estimate import SimParameters, nominal_carriers
from tisr_scope.sim.parameters.estimation_settings import Estimation
from tisr_scope.sim.reconstruction.reconstruct import WienerSettings, reconstruct
from tisr_scope.sim.reconstruction.widefield import widefield

BACKGROUND_PERCENTILE = 1.0


@dataclass(frozen=True)
class Reconstruction:
    """Wide field, SIM image and the parameters that gave it.

    Attributes
    ----------
    widefield : array, shape (time, y, x)
        Mean over the patterns.
    image : array, shape (time, u y, u x)
        SIM reconstruction, negative values kept; u is 1 + orders.
    parameters : SimParameters
        As estimated.
    frames : array, shape (time, orientation, phase, y, x)
        That were reconstructed: background off, defective pixels repaired, drift corrected.
    background : array, shape (time, orientation)
        That was taken off.
    defects : Defects
        Pixels that were repaired.
    saturation : float or None
        Value of ``frames`` from which a pixel is full, where it is known.
    """

    widefield: Float[np.ndarray, "time y x"]
    image: Float[np.ndarray, "time fy fx"]
    parameters: SimParameters
    frames: Float[np.ndarray, "time orientation phase y x"]
    background: Float[np.ndarray, "time orientation"]
    defects: Defects
    saturation: float | None


def reconstruct_region(
    frames: Float[np.ndarray, "time orientation phase y x"],
    otf: DetectionOtf,
    pixel_um: float,
    *,
    offset_known: bool,
    nominal: Float[np.ndarray, "orientation 2"] | None = None,
    estimation: Estimation | None = None,
    settings: WienerSettings | None = None,
    saturation: float | None = None,
    device: str = "cpu",
    where: str = "SIM stack",
) -> Reconstruction:
    """Repair, estimate and reconstruct the frames of one region.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x)
        Photo-electrons, or counts of the file.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample.
    offset_known : bool
        Whether the camera's offset is off already; else the 1st percentile of the wide field of
        each orientation and time point is taken off, unless a background is stated.
    nominal : array, shape (orientation, 2), optional
        Carriers to search around.
    estimation : Estimation, optional
    settings : WienerSettings, optional
    saturation : float, optional
        Value of ``frames`` from which a pixel is full.
    device : str
        Where to compute.
    where : str
        Name of the region for messages.

    Raises
    ------
    ReconstructionError
        For unusable frames, or where no stripes are found that can be trusted.
    """
    estimation = estimation or Estimation()
    defects = find_defects(frames, otf, pixel_um)
    mended = repaired(frames, defects)
    background = background_of(mended, estimation.background, offset_known)
    mended = mended - background[:, :, None, None, None].astype(np.float32)
    if saturation is not None:
        saturation -= float(background.max())
    used, parameters = estimation.apply(
        mended, otf, pixel_um, nominal=nominal, saturation=saturation, where=where
    )
    parameters = replace(parameters, remarks=(*parameters.remarks, *defects.remarks))
    for remark in parameters.remarks:
        warnings.warn(f"{where}: {remark}", stacklevel=2)
    image = reconstruct(used, parameters, otf, settings, device=device)
    return Reconstruction(widefield(used), image, parameters, used, background, defects, saturation)


def background_of(
    frames: Float[np.ndarray, "time orientation phase *space"],
    stated: float | None,
    offset_known: bool,
) -> Float[np.ndarray, "time orientation"]:
    """Light that is no signal, of every time point and orientation.

    Raw stacks come with offsets of every kind, even another one for each orientation, so it is
    taken off before the orientations are brought to the same brightness.
    """
    if stated is not None or offset_known:
        return np.full(frames.shape[:2], stated or 0.0)
    space = tuple(range(2, frames.ndim - 1))
    dark: Float[np.ndarray, "time orientation"] = np.percentile(
        frames.mean(axis=2), BACKGROUND_PERCENTILE, axis=space
    )
    return dark


def detection_otf(
    numerical_aperture: float,
    emission_nm: float,
    otf_file: Path | None = None,
    damping: float = 1.0,
) -> DetectionOtf:
    """Measured transfer function where a file is given, else the closed form, damped."""
    if otf_file is None:
        return incoherent_otf(numerical_aperture, emission_nm, damping=damping)
    return measured_otf(otf_file, numerical_aperture, emission_nm)


def recording_nominal(profile: Profile, channel: int) -> Float[np.ndarray, "orientation 2"] | None:
    """Carriers that a profile asks for; None where it does not say."""
    period = profile.channels[channel].pattern_period_um
    if period is None or profile.illumination is None:
        return None
    return nominal_carriers(profile.illumination.angles_rad, period)


def saturation_electrons(profile: Profile) -> float:
    """Photo-electrons at which a pixel of the profile's camera is saturated."""
    camera = profile.microscope.camera
    return (camera.saturation_adu - camera.offset_adu) * camera.electrons_per_adu
