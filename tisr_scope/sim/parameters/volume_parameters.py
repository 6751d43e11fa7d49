"""Illumination of three-beam SIM from a focal series: carriers, phases, modulation depths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.optics.volume_otf import VolumeOptics
from tisr_scope.sim.parameters.bands import BandSpectra, band_spectra, check_frames, regular_phases
from tisr_scope.sim.parameters.clipping import check_clipped, clipped_pixels
from tisr_scope.sim.parameters.coarse_carrier import CoarseCarrier, coarse_carrier
from tisr_scope.sim.parameters.fine_carrier import (
    TYPICAL_AMPLITUDES,
    carrier_covariance,
    climb,
    survey,
)
from tisr_scope.sim.parameters.modulation import Harmonics, harmonics
from tisr_scope.sim.parameters.overlap import Overlap, shifted
from tisr_scope.sim.parameters.volume_bands import (
    ORDERS,
    VolumeBands,
    sample_power,
    volume_bands,
    volume_overlap,
)

MINIMUM_QUALITY, MINIMUM_QUALITY_NEAR_NOMINAL = 30.0, 20.0
"""Height of the carrier's peak over the background of the search, in its deviations."""
MAXIMUM_RIVAL = 0.6
"""Second peak over the first."""
MINIMUM_SECTIONS = 6
MINIMUM_MODULATION = (0.1, 0.1)
"""Of orders 1 and 2; below, an order would add noise and no detail."""


@dataclass(frozen=True)
class VolumeParameters:
    """Parameters of 3D SIM of one region.

    The light of one orientation is ``1 + m_1 cos(a) cos(2 pi kz1 z) + m_2 cos(2 a)`` with
    ``a = 2 pi k r + phi + step``, r from the centre of the field, z from the focus; ``phi_2`` is
    fitted on its own.

    Attributes
    ----------
    carrier, carrier_se : array, shape (orientation, 2)
        kx, ky of order 1 and their standard errors, in cycles per micrometre.
    phase_rad, phase_se_rad : array, shape (orientation, 2)
        Phase of orders 1 and 2 at the centre of the field, first frame.
    modulation, modulation_se : array, shape (orientation, 2)
    steps_rad : array, shape (phase,)
        Phase of each frame relative to the first.
    gain : array, shape (orientation,)
        Factor that gives every orientation the same mean brightness.
    quality : array, shape (orientation,)
        Height of the carrier's peak over the background, in its standard deviations.
    pixel_size_um, section_um : float
    """

    carrier: Float[np.ndarray, "orientation 2"]
    carrier_se: Float[np.ndarray, "orientation 2"]
    phase_rad: Float[np.ndarray, "orientation 2"]
    phase_se_rad: Float[np.ndarray, "orientation 2"]
    modulation: Float[np.ndarray, "orientation 2"]
    modulation_se: Float[np.ndarray, "orientation 2"]
    steps_rad: Float[np.ndarray, " phase"]
    gain: Float[np.ndarray, " orientation"]
    quality: Float[np.ndarray, " orientation"]
    pixel_size_um: float
    section_um: float

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON."""
        return {
            key: np.round(value, 7).tolist() if isinstance(value, np.ndarray) else value
            for key, value in vars(self).items()
        }


def check_series(
    frames: Float[Tensor, "orientation phase z y x"],
    optics: VolumeOptics,
    section_um: float,
    where: str,
    saturation_electrons: float | None = None,
) -> None:
    """Refuse focal series that no volume can be made of.

    Raises
    ------
    ReconstructionError
        For a wrong shape, too few phases or sections, sections too far apart, NaN, frames without
        light, stored twice, or saturated.
    """
    if frames.ndim != 5 or frames.shape[2] < MINIMUM_SECTIONS:
        raise ReconstructionError(
            f"frames of shape {tuple(frames.shape)} are no focal series",
            where=where,
            remedy=f"give (orientation, phase, z, y, x) with {MINIMUM_SECTIONS} sections or more",
        )
    if frames.shape[1] < 2 * ORDERS + 1:
        raise ReconstructionError(
            f"{frames.shape[1]} phases cannot separate the two orders of three beams",
            where=where,
            remedy=f"record {2 * ORDERS + 1} phases or more",
        )
    limit = 1 / (2 * optics.extended_axial_cutoff)
    if not 0 < section_um <= limit:
        raise ReconstructionError(
            f"sections every {section_um:g} um are too far apart: details along the axis would "
            "be mistaken for others",
            where=where,
            remedy=f"record a section every {limit:.3f} um or closer, or state the true distance",
        )
    sections = frames.movedim(2, 0)
    check_frames(sections, where)
    check_clipped(clipped_pixels(sections, saturation_electrons), where)


def estimate_volume(
    frames: Float[Tensor, "orientation phase z y x"] | Float[np.ndarray, "orientation phase z y x"],
    optics: VolumeOptics,
    pixel_um: float,
    section_um: float,
    *,
    nominal: Float[np.ndarray, "orientation 2"] | None = None,
    saturation_electrons: float | None = None,
    where: str = "3D SIM stack",
) -> VolumeParameters:
    """Illumination parameters of one region.

    Parameters
    ----------
    frames : array, shape (orientation, phase, z, y, x)
        Photo-electrons with the camera offset removed.
    optics : VolumeOptics
    pixel_um, section_um : float
        Camera pixel in the sample and distance of the sections, in micrometres.
    nominal : array, optional
        Carriers of order 1 that the instrument was set to.
    saturation_electrons : float, optional
    where : str
        Name of the region for messages.

    Raises
    ------
    ReconstructionError
        For unusable frames, or where no stripes are found that can be trusted.
    """
    series = torch.as_tensor(frames).to(torch.float32)
    check_series(series, optics, section_um, where, saturation_electrons)
    steps = regular_phases(series.shape[1], series.device)
    found: list[tuple[np.ndarray, np.ndarray, Harmonics, float]] = []
    for o in range(series.shape[0]):
        start = None if nominal is None else np.asarray(nominal[o], np.float64)
        coarse = _coarse(series[o], steps, optics, pixel_um, start)
        _trust(coarse, o, start is not None, where)
        bands = volume_bands(series[o], steps, optics, pixel_um, section_um)
        carrier, covariance, depths = _refined(bands, coarse.carrier / 2)
        _check_modulation(depths, o, where)
        found.append((carrier, np.sqrt(np.diag(covariance)), depths, coarse.quality))
    brightness = series.mean(dim=(1, 2, 3, 4)).double().cpu().numpy()
    return VolumeParameters(
        carrier=np.stack([f[0] for f in found]),
        carrier_se=np.stack([f[1] for f in found]),
        phase_rad=np.stack([f[2].phase_rad[0] for f in found]),
        phase_se_rad=np.stack([f[2].phase_se_rad[0] for f in found]),
        modulation=np.stack([f[2].modulation[0] for f in found]),
        modulation_se=np.stack([f[2].modulation_se[0] for f in found]),
        steps_rad=steps.cpu().numpy(),
        gain=brightness.mean() / brightness,
        quality=np.array([f[3] for f in found]),
        pixel_size_um=pixel_um,
        section_um=section_um,
    )


def measured_optics(
    frames: Float[Tensor, "orientation phase z y x"] | Float[np.ndarray, "orientation phase z y x"],
    optics: VolumeOptics,
    pixel_um: float,
    where: str = "3D SIM stack",
) -> VolumeOptics:
    """Optics with the aperture of the outer beams that the stripes in the frames have.

    Raises
    ------
    ReconstructionError
        Where no stripes are found that can be trusted.
    """
    series = torch.as_tensor(frames).to(torch.float32)
    lengths = []
    for o in range(series.shape[0]):
        coarse = _coarse(series[o], regular_phases(series.shape[1]), optics, pixel_um, None)
        _trust(coarse, o, False, where)
        lengths.append(float(np.hypot(*coarse.carrier)) / 2)
    return replace(optics, excitation_na=1e-3 * optics.excitation_nm * float(np.mean(lengths)))


def _coarse(
    frames: Float[Tensor, "phase z y x"],
    steps: Float[Tensor, " phase"],
    optics: VolumeOptics,
    pixel_um: float,
    nominal: Float[np.ndarray, " 2"] | None,
) -> CoarseCarrier:
    """Carrier of order 2: it lies where that of two beams does, and is the same in all sections."""
    otf = incoherent_otf(optics.numerical_aperture, optics.emission_nm)
    planes = band_spectra(frames.transpose(0, 1), steps, ORDERS, otf, pixel_um)
    pair = BandSpectra(
        planes.spectra[:, [0, 2]], planes.noise[:, [0, 2]], planes.extent_um, pixel_um, otf
    )
    return coarse_carrier(pair, None if nominal is None else 2 * nominal, coherent=True)


def _trust(coarse: CoarseCarrier, orientation: int, guided: bool, where: str) -> None:
    needed = MINIMUM_QUALITY_NEAR_NOMINAL if guided else MINIMUM_QUALITY
    if coarse.elsewhere is not None:
        raise ReconstructionError(
            f"stripes of orientation {orientation} stand out where they are not expected: period "
            f"{1 / np.hypot(*coarse.elsewhere):.4f} um of order 2",
            where=where,
            remedy="check pattern period and angles, and the order of the orientations",
        )
    if coarse.quality < needed:
        raise ReconstructionError(
            f"no stripes stand out in orientation {orientation} (peak {coarse.quality:.1f} "
            f"deviations over the background, {needed:.3g} are needed)",
            where=where,
            remedy="check the order of frames and sections and the optics, or take more light",
        )
    if coarse.rival > max(MAXIMUM_RIVAL * coarse.quality, needed) and not coarse.mirrored:
        raise ReconstructionError(
            f"the carrier of orientation {orientation} is ambiguous: a second peak is "
            f"{100 * coarse.rival / coarse.quality:.0f} % as high",
            where=where,
            remedy="state the nominal carriers, or check the order of phases and orientations",
        )


def _check_modulation(depths: Harmonics, orientation: int, where: str) -> None:
    for n, needed in enumerate(MINIMUM_MODULATION):
        depth = float(depths.modulation[0, n])
        least = max(needed, 4 * float(depths.modulation_se[0, n]))
        if not depth >= least:
            raise ReconstructionError(
                f"order {n + 1} of orientation {orientation} is too weak (modulation depth "
                f"{depth:.2f}, {least:.2f} is needed)",
                where=where,
                remedy="check that three beams reach the sample with one polarisation, or "
                "reconstruct as two-dimensional SIM",
            )


def _refined(
    bands: VolumeBands, start: Float[np.ndarray, " 2"]
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, "2 2"], Harmonics]:
    """Carrier, its covariance and the harmonics, from the pairs of bands 0-1 and 1-2."""
    power = sample_power(bands)
    height, width = bands.spectra.shape[-2:]
    samples = np.array([1 / (width * bands.pixel_um), 1 / (height * bands.pixel_um)])

    def compare(carrier: Float[np.ndarray, " 2"]) -> list[Overlap]:
        return [
            volume_overlap(
                bands, power, n, carrier, (TYPICAL_AMPLITUDES[n - 1], TYPICAL_AMPLITUDES[n])
            )
            for n in range(1, ORDERS + 1)
        ]

    pairs = compare(start)
    carrier = start + climb(pairs, samples, survey(pairs, samples))
    pairs = compare(carrier)
    rest = climb(pairs, samples, np.zeros(2))
    final = [shifted(one, rest) for one in pairs]
    covariance = carrier_covariance(final)
    return carrier + rest, covariance, harmonics(final, covariance)
