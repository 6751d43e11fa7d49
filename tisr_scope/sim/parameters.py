"""Illumination parameters from the raw frames themselves.

The carrier (frequency and direction of the stripes) belongs to the instrument and is estimated
once per region from all time points; phase and modulation depth are estimated per time point
with the carrier held.  Sign and origin follow :mod:`tisr_scope.sim.patterns`:
``1 + m cos(2 pi (kx x + ky y) + phi + step)`` with x, y from the centre of the field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.bands import (
    Emphasis,
    band_correlation,
    check_frames,
    noise_power,
    regular_phases,
    separate_bands,
)
from tisr_scope.sim.optics import DetectionOtf, centred_axes, edge_taper, frequency_grid, notch

SEARCH_WITHOUT_NOMINAL = (0.75, 1.1)
"""Carrier over cut-off that is searched when no nominal carrier is known."""
SEARCH_AROUND_NOMINAL = 0.03
ZOOM_HALF_WIDTHS_PX = (1.0, 0.2, 0.04, 0.008)
TAPER_PX = 10
COARSE_NOTCH = 0.2
MINIMUM_QUALITY = 16.0
MINIMUM_QUALITY_NEAR_NOMINAL = 6.0
"""Even light gives up to 15 where the whole ring is searched, 6 near a nominal carrier."""
COARSE_TIME_POINTS = 5
"""Enough to find the peak; its exact place is taken from all time points."""


@dataclass(frozen=True)
class SimParameters:
    """Parameters of 2D SIM of one region: the pattern of one orientation is

    ``1 + sum over n of m_n cos(n (2 pi k r) + phi_n + n step)``, n = 1 to ``orders``, with r from
    the centre of the field.

    Attributes
    ----------
    carrier : array, shape (orientation, 2)
        kx, ky of the fundamental in cycles per micrometre.
    phase_rad : array, shape (time, orientation, order)
        Phase of each harmonic of the first frame of each orientation, at the centre of the field.
    steps_rad : array, shape (orientation, phase)
        Phase of each frame relative to the first, of the fundamental.
    modulation : array, shape (time, orientation, order)
        Modulation depth m_n: 0 to 1 in linear SIM; harmonics of a saturated response may exceed 1.
    gain : array, shape (time, orientation)
        Factor that gives every orientation the same mean brightness.
    quality : array, shape (orientation,)
        Height of the carrier's correlation peak over the background of the search region, in
        its standard deviations; NaN where the carrier was given.
    carrier_se : array, shape (orientation, 2)
        Standard error of kx and ky from the noise, cycles per micrometre; 0 for a given carrier.
    phase_se_rad, modulation_se : array, shape (time, orientation, order)
        Standard errors of phase and modulation depth.
    usable : bool array, shape (orientation,)
        False where the stripes are too weak for side bands.
    pixel_size_um : float
        Camera pixel in the sample.
    """

    carrier: Float[np.ndarray, "orientation 2"]
    phase_rad: Float[np.ndarray, "time orientation order"]
    steps_rad: Float[np.ndarray, "orientation phase"]
    modulation: Float[np.ndarray, "time orientation order"]
    gain: Float[np.ndarray, "time orientation"]
    quality: Float[np.ndarray, " orientation"]
    carrier_se: Float[np.ndarray, "orientation 2"]
    phase_se_rad: Float[np.ndarray, "time orientation order"]
    modulation_se: Float[np.ndarray, "time orientation order"]
    usable: Bool[np.ndarray, " orientation"]
    pixel_size_um: float

    @property
    def orders(self) -> int:
        """Harmonics of the pattern."""
        return int(self.modulation.shape[2])

    @property
    def frequency(self) -> Float[np.ndarray, " orientation"]:
        """|k| in cycles per micrometre."""
        frequency: Float[np.ndarray, " orientation"] = np.hypot(*self.carrier.T)
        return frequency

    @property
    def angle_rad(self) -> Float[np.ndarray, " orientation"]:
        """Direction of the carrier: (x, y) = (cos, sin)."""
        angle: Float[np.ndarray, " orientation"] = np.arctan2(
            self.carrier[:, 1], self.carrier[:, 0]
        )
        return angle

    @property
    def pooled_modulation(self) -> Float[np.ndarray, "orientation order"]:
        """Median over time: modulation depth is a property of the optics, not of the moment."""
        pooled: Float[np.ndarray, "orientation order"] = np.median(self.modulation, axis=0)
        return pooled

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON; None stands for NaN."""
        return {
            **{key: _plain(getattr(self, key)) for key in _ARRAYS},
            "usable": self.usable.tolist(),
            "frequency": _plain(self.frequency),
            "angle_rad": _plain(self.angle_rad),
            "pixel_size_um": self.pixel_size_um,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> SimParameters:
        """Inverse of :meth:`to_dict`."""
        return cls(
            **{key: np.array(content[key], np.float64) for key in _ARRAYS},
            usable=np.array(content["usable"], bool),
            pixel_size_um=float(content["pixel_size_um"]),
        )


_ARRAYS = (
    "carrier",
    "phase_rad",
    "steps_rad",
    "modulation",
    "gain",
    "quality",
    "carrier_se",
    "phase_se_rad",
    "modulation_se",
)


def _plain(values: Float[np.ndarray, "*any"]) -> Any:
    rounded = np.round(values, 7)
    return np.where(np.isfinite(rounded), rounded, None).tolist()


def nominal_carriers(
    angles_rad: tuple[float, ...], period_um: float
) -> Float[np.ndarray, "orientation 2"]:
    """Carriers that a profile asks for, in cycles per micrometre."""
    angles = np.asarray(angles_rad, np.float64)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) / period_um


def _coarse_carrier(
    spectrum0: Complex[Tensor, "time y x"],
    spectrum1: Complex[Tensor, "time y x"],
    otf: DetectionOtf,
    pixel_um: float,
    nominal: Float[np.ndarray, " 2"] | None,
    where: str,
) -> tuple[Float[np.ndarray, " 2"], float]:
    """Carrier to the nearest frequency sample, and the significance of its peak."""
    height, width = spectrum0.shape[-2:]
    fy, fx = frequency_grid((height, width), pixel_um, spectrum0.device)
    radius = torch.sqrt(fy.square() + fx.square())
    transfer = otf(fy, fx)
    # Not the emphasis: where noise is strong it would prefer shifts shorter than the carrier.
    weight = notch(radius, 0.999, COARSE_NOTCH * otf.cutoff) ** 2 * transfer
    power = band_correlation(spectrum0 * weight, spectrum1 * weight)

    ky = (torch.fft.fftfreq(2 * height, device=power.device) * 2 / pixel_um)[:, None].double()
    kx = (torch.fft.fftfreq(2 * width, device=power.device) * 2 / pixel_um)[None, :].double()
    low, high = (edge * otf.cutoff for edge in SEARCH_WITHOUT_NOMINAL)
    shift = torch.sqrt(ky.square() + kx.square())
    ring = (shift >= low) & (shift <= high)
    if nominal is None:
        searched, trust = ring, torch.ones_like(power)
    else:
        reach = max(
            SEARCH_AROUND_NOMINAL * float(np.hypot(*nominal)),
            1.5 / (min(height, width) * pixel_um),
        )
        distance = torch.minimum(
            torch.hypot(kx - nominal[0], ky - nominal[1]),
            torch.hypot(kx + nominal[0], ky + nominal[1]),
        )
        searched = distance <= reach
        # Of two peaks about as high, as few and smooth objects give, the nearer one is meant.
        trust = torch.exp(-0.5 * (distance / reach).square())
    best = int(torch.where(searched, power * trust, 0.0).argmax())
    row, column = divmod(best, 2 * width)
    if nominal is not None:
        _check_elsewhere(power[row, column], torch.where(ring, power, 0.0), kx, ky, where)
    background = power[ring]
    centre = background.median()
    spread = 1.4826 * (background - centre).abs().median()
    significance = float((power[row, column] - centre) / spread.clamp(min=1e-30))
    return np.array([float(kx[0, column]), float(ky[row, 0])]), significance


def _check_elsewhere(
    here: Float[Tensor, ""],
    ring: Float[Tensor, "y x"],
    kx: Float[Tensor, "1 x"],
    ky: Float[Tensor, "y 1"],
    where: str,
) -> None:
    """Refuse a nominal carrier where the frames speak for quite another one."""
    row, column = divmod(int(ring.argmax()), ring.shape[1])
    if float(ring[row, column]) > 2 * float(here):
        x, y = float(kx[0, column]), float(ky[row, 0])
        raise ReconstructionError(
            "stripes stand out where the profile does not expect them: period "
            f"{1 / math.hypot(x, y):.4f} um, angle {math.atan2(y, x) % math.pi:.3f} rad",
            where=where,
            remedy="check pattern period and angles, and the order of the orientations",
        )


@dataclass(frozen=True)
class _Overlap:
    """Both bands weighted to one common spectrum S H(f) H(f + k), where they overlap."""

    field0: Complex[Tensor, "time y x"]
    field1: Complex[Tensor, "time y x"]
    energy0: Float[Tensor, " time"]
    """Of the weighted band 0, free of noise."""
    variance: Float[Tensor, " time"]
    """Of the correlation, from the noise of both bands."""


def _overlap(
    spectrum0: Complex[Tensor, "time y x"],
    spectrum1: Complex[Tensor, "time y x"],
    otf: DetectionOtf,
    emphasis: Emphasis,
    pixel_um: float,
    carrier: Float[np.ndarray, " 2"],
) -> _Overlap:
    shape = (spectrum0.shape[-2], spectrum0.shape[-1])
    fy, fx = frequency_grid(shape, pixel_um, spectrum0.device)
    kx, ky = float(carrier[0]), float(carrier[1])
    radius = torch.sqrt(fy.square() + fx.square())
    own = emphasis(radius)
    transfer = otf(fy, fx)
    ahead = otf(fy + ky, fx + kx) * emphasis(torch.hypot(fy + ky, fx + kx))
    behind = otf(fy - ky, fx - kx) * emphasis(torch.hypot(fy - ky, fx - kx))
    noise0, noise1 = (noise_power(s, radius, otf) for s in (spectrum0, spectrum1))
    inside = own * (transfer > 0)
    weighted0 = spectrum0 * (inside * ahead)
    weighted1 = spectrum1 * (inside * behind)
    energy0 = weighted0.abs().square().sum(dim=(-2, -1))
    clean0 = energy0 - noise0 * (inside * ahead).square().sum()
    # Noise of one band times the other band, as the other is weighted.
    partner = own * transfer
    variance = noise1 * (weighted0 * partner).abs().square().sum(dim=(-2, -1)) + noise0 * (
        (weighted1 * partner).abs().square().sum(dim=(-2, -1))
    )
    return _Overlap(torch.fft.ifft2(weighted0), torch.fft.ifft2(weighted1), clean0, variance)


def _refine_carrier(
    spectrum0: Complex[Tensor, "time y x"],
    spectrum1: Complex[Tensor, "time y x"],
    otf: DetectionOtf,
    emphasis: Emphasis,
    pixel_um: float,
    carrier: Float[np.ndarray, " 2"],
) -> Float[np.ndarray, " 2"]:
    """Carrier to a fraction of a frequency sample by zoomed DFTs of the weighted bands."""
    height, width = spectrum0.shape[-2:]
    y, x = centred_axes((height, width), pixel_um, spectrum0.device)
    for half_width in ZOOM_HALF_WIDTHS_PX:
        overlap = _overlap(spectrum0, spectrum1, otf, emphasis, pixel_um, carrier)
        product = overlap.field0.conj() * overlap.field1
        span = torch.linspace(-half_width, half_width, 11, dtype=torch.float64, device=x.device)
        ky = float(carrier[1]) + span / (height * pixel_um)
        kx = float(carrier[0]) + span / (width * pixel_um)
        waves_y = torch.exp(-2j * math.pi * ky[:, None] * y[None, :])
        waves_x = torch.exp(-2j * math.pi * x[:, None] * kx[None, :])
        power = (waves_y @ product @ waves_x).abs().square()
        total = (power / overlap.variance[:, None, None].clamp(min=1e-30)).sum(dim=0)
        row, column = divmod(int(total.argmax()), 11)
        carrier = np.array([float(kx[column]), float(ky[row])])
    return carrier


def _complex_modulation(
    spectrum0: Complex[Tensor, "time y x"],
    spectrum1: Complex[Tensor, "time y x"],
    otf: DetectionOtf,
    emphasis: Emphasis,
    pixel_um: float,
    carrier: Float[np.ndarray, " 2"],
) -> Complex[Tensor, " time"]:
    """``m/2 exp(i phi)`` at the centre of the field, free of the bias of the noise."""
    shape = (spectrum0.shape[-2], spectrum0.shape[-1])
    y, x = centred_axes(shape, pixel_um, spectrum0.device)
    overlap = _overlap(spectrum0, spectrum1, otf, emphasis, pixel_um, carrier)
    wave_y = torch.exp(-2j * math.pi * float(carrier[1]) * y)
    wave_x = torch.exp(-2j * math.pi * float(carrier[0]) * x)
    product = overlap.field0.conj() * overlap.field1
    pixels = shape[0] * shape[1]
    # Parseval: sums over the image become sums over frequencies.
    value = torch.einsum("y,tyx,x->t", wave_y, product, wave_x) * pixels
    magnitude = (value.abs().square() - overlap.variance).clamp(min=0).sqrt()
    return torch.polar(magnitude / overlap.energy0.clamp(min=1e-30), value.angle())


def estimate_parameters(
    frames: Float[Tensor, "time orientation phase y x"] | Float[np.ndarray, ...],
    otf: DetectionOtf,
    pixel_um: float,
    *,
    nominal: Float[np.ndarray, "orientation 2"] | None = None,
    carrier: Float[np.ndarray, "orientation 2"] | None = None,
    orders: int = 1,
    refine_phases: bool = False,
    allow_weak: bool = False,
    minimum_modulation: float = 0.15,
    minimum_quality: float | None = None,
    saturation_electrons: float | None = None,
    where: str = "SIM stack",
) -> SimParameters:
    """Illumination parameters of one region.

    Parameters
    ----------
    frames : array, shape (time, orientation, phase, y, x) or without time
        Photo-electrons with the camera offset removed, highest light level.
    otf : DetectionOtf
        Detection optics.
    pixel_um : float
        Camera pixel in the sample, in micrometres.
    nominal : array, optional
        Carriers that the instrument was set to, cycles per micrometre; found within 3 percent.
        Without it, |k| is searched from 0.75 to 1.1 times the cut-off of the optics.
    carrier : array, optional
        Carriers known from before: they are kept, only phase and modulation are estimated.
    minimum_modulation : float
        Below it the parameters are refused.
    minimum_quality : float, optional
        Likewise; by default 16, or 6 near a nominal carrier.
    saturation_electrons : float, optional
        Value from which a pixel is saturated.
    where : str
        Name of the region for messages.

    Raises
    ------
    ReconstructionError
        For unusable frames, or where no stripes are found that can be trusted.
    """
    stack = torch.as_tensor(frames).to(torch.float64)
    stack = stack[None] if stack.ndim == 4 else stack
    check_frames(stack, where, saturation_electrons)
    times, orientations, phases = stack.shape[:3]
    shape = (stack.shape[-2], stack.shape[-1])
    for name, given in (("nominal", nominal), ("carrier", carrier)):
        if given is not None and given.shape != (orientations, 2):
            raise ReconstructionError(
                f"{name} carriers of shape {given.shape} for {orientations} orientations",
                where=where,
                remedy="give one (kx, ky) per orientation",
            )
    brightness = stack.mean(dim=(2, 3, 4))
    gain = brightness.mean(dim=1, keepdim=True) / brightness
    window = edge_taper(shape, TAPER_PX, stack.device)
    steps = regular_phases(phases, stack.device).repeat(orientations, 1)

    if minimum_quality is not None:
        needed = minimum_quality
    else:
        needed = MINIMUM_QUALITY if nominal is None else MINIMUM_QUALITY_NEAR_NOMINAL
    found, quality = np.zeros((orientations, 2)), np.zeros(orientations)
    amplitude = torch.zeros(times, orientations, dtype=torch.complex128, device=stack.device)
    for o in range(orientations):
        # A constant tapered at the edges would spread around frequency 0.
        tapered = (stack[:, o] - brightness[:, o, None, None, None]) * window
        field0, bands = separate_bands(tapered, steps[o])
        field1 = bands[:, 0]
        spectrum0 = torch.fft.fft2(field0.to(torch.complex128))
        spectrum1 = torch.fft.fft2(field1)
        emphasis = Emphasis.measure(spectrum0, otf, pixel_um)
        if carrier is None:
            some = np.unique(np.linspace(0, times - 1, COARSE_TIME_POINTS).round().astype(int))
            start, quality[o] = _coarse_carrier(
                spectrum0[some],
                spectrum1[some],
                otf,
                pixel_um,
                None if nominal is None else nominal[o],
                where,
            )
            _check_quality(quality[o], needed, o, where)
            found[o] = _refine_carrier(spectrum0, spectrum1, otf, emphasis, pixel_um, start)
        else:
            found[o], quality[o] = carrier[o], np.nan
        amplitude[:, o] = _complex_modulation(
            spectrum0, spectrum1, otf, emphasis, pixel_um, found[o]
        )
    modulation = 2 * amplitude.abs()
    pooled = modulation.median(dim=0).values
    if bool((pooled < minimum_modulation).any()):
        weak = int(pooled.argmin())
        raise ReconstructionError(
            f"modulation depth {float(pooled[weak]):.2f} of orientation {weak} is too low",
            where=where,
            remedy="check polarisation, focus and the pattern on the SLM, or take more light",
        )
    return SimParameters(
        carrier=found,
        phase_rad=amplitude.angle().cpu().numpy()[..., None],
        steps_rad=steps.cpu().numpy(),
        modulation=modulation.clamp(max=1.0).cpu().numpy()[..., None],
        gain=gain.cpu().numpy(),
        quality=quality,
        carrier_se=np.full((orientations, 2), np.nan),
        phase_se_rad=np.full((times, orientations, 1), np.nan),
        modulation_se=np.full((times, orientations, 1), np.nan),
        usable=np.ones(orientations, bool),
        pixel_size_um=pixel_um,
    )


def _check_quality(quality: float, minimum: float, orientation: int, where: str) -> None:
    if not quality >= minimum:
        raise ReconstructionError(
            f"no stripes stand out in orientation {orientation} "
            f"(peak {quality:.1f} deviations over the background, {minimum:g} are needed)",
            where=where,
            remedy="check the order of the frames and the optics, state the nominal carrier, "
            "or take more light",
        )
