"""Generalised Wiener filter of 2D SIM as one linear operation with few, small transforms.

The bands are never enlarged one by one.  The whole-sample part of a band's shift is a placement of
its spectrum; only the rest, less than half a frequency sample, is a wave in real space at the
camera's size.  One image costs, per orientation and order, one complex transform of the camera's
size, and a single real transform of the fine grid.  Everything that the frames do not change is
computed once, in :class:`WienerPlan`.

Grid: every camera pixel is split into ``upscale`` x ``upscale``, so the fine pixel j lies at the
camera position ``(j + 1/2) / upscale - 1/2`` (``align_corners=False``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

from tisr_scope.errors import ReconstructionError
from tisr_scope.sim.optics.otf import DetectionOtf, apodisation, edge_taper, notch
from tisr_scope.sim.parameters.bands import separate_bands
from tisr_scope.sim.parameters.estimate import SimParameters
from tisr_scope.sim.reconstruction.positivity import non_negative
from tisr_scope.sim.reconstruction.wiener_settings import WienerSettings

MARGIN_PX = 12
"""Past every edge the bands fade to 0 over this width at least."""


def fast_length(n: int) -> int:
    """Smallest even number of factors 2, 3, 5 that is not below n."""
    candidate = n + n % 2
    while True:
        rest = candidate
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return candidate
        candidate += 2


@dataclass(frozen=True)
class _SideBand:
    """How one side band gets from the camera's field into the fine spectrum."""

    orientation: int
    order: int
    sign: int
    """+1 or -1: of the two conjugate bands, the one that lands on columns of fx >= 0."""
    wave: Complex[Tensor, "y x"]
    """Continues the band past the edges, fades it there and shifts it by the rest of n k."""
    weight: Complex[Tensor, "row column"]
    """Transfer function, attenuation, and phase of the placement, where the optics pass."""
    shift: tuple[int, int]
    """Samples in y and x by which its spectrum moves."""


class WienerPlan:
    """The reconstruction of frames of one shape with given carriers, as a linear operator.

    ``image(spectrum(frames))`` is a SIM image.  The spectra of parts of a stack add up to the
    spectrum of the stack, which is what rolling reconstruction rests on.

    Parameters
    ----------
    parameters : SimParameters
        Carriers, steps, modulation depths; side bands of unusable orientations are left out.
    otf : DetectionOtf
        Detection optics.
    settings : WienerSettings
        Attenuation, apodisation, positivity.
    wiener : float
        Wiener parameter.
    shape : (height, width)
        Of the camera frames.
    upscale : int, optional
        Fine pixels per camera pixel; by default 1 + orders.
    device : str or torch.device
        Where to compute.

    Raises
    ------
    ReconstructionError
        If ``upscale`` is below 1, or the phase steps cannot separate the orders.
    """

    def __init__(
        self,
        parameters: SimParameters,
        otf: DetectionOtf,
        settings: WienerSettings,
        wiener: float,
        shape: tuple[int, int],
        *,
        upscale: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.upscale = 1 + parameters.orders if upscale is None else upscale
        if self.upscale < 1:
            raise ReconstructionError(f"upscale {upscale} is no enlargement", remedy="give 2 or 3")
        self.device = torch.device(device)
        self.parameters, self.otf, self.wiener, self.shape = parameters, otf, wiener, shape
        self._settings = settings
        self._pixel = parameters.pixel_size_um
        height, width = (fast_length(n + 2 * MARGIN_PX) for n in shape)
        self._padded = (height, width)
        self._fine = (self.upscale * height, self.upscale * width)
        top, left = (height - shape[0]) // 2, (width - shape[1]) // 2
        self._pads = (left, width - shape[1] - left, top, height - shape[0] - top)
        self._step = (1 / (height * self._pixel), 1 / (width * self._pixel))
        reach = (
            min(math.ceil(otf.cutoff / df) + 1, n // 2 - 1)
            for df, n in zip(self._step, self._padded, strict=True)
        )
        self._reach_y, self._reach_x = reach
        depths = parameters.pooled_modulation * parameters.usable[:, None]
        self._depths = depths
        longest = float((parameters.frequency * parameters.usable).max(initial=0.0))
        self._edge = otf.cutoff + (parameters.orders if longest else 0) * longest
        self._rows = self._fine[0]
        self._columns = min(math.ceil(self._edge / self._step[1]) + 1, self._fine[1] // 2)

        # Alternating signs put frequency 0 into the middle of a spectrum without moving data.
        alternate_y = self._alternating(height)[:, None]
        fade = edge_taper(self._padded, min(top, left), self.device)
        self._fade = (fade * alternate_y).float()
        self._unmix = self._unmixing()
        self._side_bands = [
            self._side_band(o, n, fade)
            for o in range(depths.shape[0])
            for n in range(1, parameters.orders + 1)
            if depths[o, n - 1] > 0
        ]
        self._weight0 = self._band_weight((0.0, 0.0), (0, 0))[:, self._reach_x :]
        self._power, self._soft = self._transfer()
        self._filter = self._soft / (self._power + wiener**2)
        self._unalternate = self._alternating(self._fine[0])[:, None].float()

    def _alternating(self, n: int) -> Float[Tensor, " n"]:
        return 1.0 - 2.0 * (torch.arange(n, dtype=torch.float64, device=self.device) % 2)

    def _unmixing(self) -> Complex[Tensor, "orientation order phase"]:
        """Weight of each frame in bands 0 to ``orders``."""
        steps = torch.as_tensor(self.parameters.steps_rad)
        unit = torch.eye(steps.shape[1], dtype=torch.float64)[:, :, None]
        unit = unit.expand(len(steps), -1, -1, -1)
        band0, bands = separate_bands(unit, steps, self.parameters.orders)
        zeroth = band0[:, None].to(torch.complex128)
        return torch.cat([zeroth, bands], dim=1)[..., 0].to(self.device)

    def _centre(self, scale: int) -> tuple[float, float]:
        """Index of the field's centre on the padded grid, camera (1) or fine (upscale)."""
        left, _, top, _ = self._pads
        y, x = (
            scale * first + (scale * n - 1) / 2
            for first, n in zip((top, left), self.shape, strict=True)
        )
        return y, x

    def _band_weight(
        self, rest: tuple[float, float], shift: tuple[int, int]
    ) -> Complex[Tensor, "row column"]:
        """Weight of a band's spectrum, centred, within the reach of the optics."""
        fy = torch.arange(-self._reach_y, self._reach_y + 1, device=self.device)[:, None].double()
        fx = torch.arange(-self._reach_x, self._reach_x + 1, device=self.device)[None, :].double()
        dy, dx = self._step
        fy, fx = fy * dy, fx * dx
        transfer = self.otf(fy + rest[0], fx + rest[1])
        radius = torch.hypot(fy + rest[0], fx + rest[1])
        weight = transfer * self._damping(radius) * self.upscale**2
        # From the index of the camera's grid to the index of the fine grid, both about the
        # centre of the field.
        quarter = (self.upscale - 1) / (2 * self.upscale) * self._pixel
        turns = -(fy + fx) * quarter
        for samples, centre, padded in zip(
            shift, self._centre(self.upscale), self._fine, strict=True
        ):
            turns = turns + samples * centre / padded
        return torch.polar(weight, 2 * math.pi * turns).to(torch.complex64)

    def _damping(self, radius: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
        width = self._settings.attenuation_width * self.otf.cutoff
        return notch(radius, self._settings.attenuation, width)

    def _side_band(self, orientation: int, order: int, fade: Float[Tensor, "y x"]) -> _SideBand:
        kx, ky = (order * float(k) for k in self.parameters.carrier[orientation])
        sign = -1 if kx > 0 else 1  # the band moves by -sign k, towards positive fx
        carrier = (sign * ky, sign * kx)
        samples = [round(k / df) for k, df in zip(carrier, self._step, strict=True)]
        rest = [k - n * df for k, n, df in zip(carrier, samples, self._step, strict=True)]
        wave = fade.to(torch.complex128)
        for axis, (n, length) in enumerate(zip(self.shape, self._padded, strict=True)):
            first = self._pads[2 if axis == 0 else 0]
            index = torch.arange(length, dtype=torch.float64, device=self.device)
            # Without its carrier the band can be continued past the edge and keep its phase.
            beyond = index - index.clamp(first, first + n - 1)
            away = index - self._centre(1)[axis]
            turns = (carrier[axis] * beyond - rest[axis] * away) * self._pixel
            line = torch.polar(self._alternating(length), 2 * math.pi * turns)
            wave = wave * (line[:, None] if axis == 0 else line[None, :])
        shift = (samples[0], samples[1])
        weight = self._band_weight((rest[0], rest[1]), shift)
        return _SideBand(orientation, order, sign, wave.to(torch.complex64), weight, shift)

    def _transfer(self) -> tuple[Float[Tensor, "row column"], Float[Tensor, "row column"]]:
        """Power with which all bands together pass every frequency, and the apodisation."""
        fy = torch.arange(self._rows, device=self.device)[:, None].double() - self._rows // 2
        fx = torch.arange(self._columns + 1, device=self.device)[None, :].double()
        fy, fx = fy * self._step[0], fx * self._step[1]
        parameters = self.parameters

        def power(ky: float, kx: float) -> Tensor:
            sy, sx = fy + ky, fx + kx
            return self._damping(torch.hypot(sy, sx)) * self.otf(sy, sx).square()

        total = len(parameters.carrier) * power(0.0, 0.0)
        for band in self._side_bands:
            kx, ky = (band.order * float(k) for k in parameters.carrier[band.orientation])
            amplitude = float(self._depths[band.orientation, band.order - 1]) / 2
            total += amplitude**2 * (power(ky, kx) + power(-ky, -kx))
        soft = apodisation(torch.hypot(fy, fx), self._edge, self._settings.apodisation_power)
        flat = float(total[self._rows // 2, 0])
        # Unit gain at frequency 0, so that brightness is kept whatever the Wiener parameter.
        keep = (flat + self.wiener**2) / flat
        return total.float(), (soft * keep).float()

    def spectrum(
        self,
        frames: Float[Tensor, "time orientation phase y x"],
        times: slice | None = None,
    ) -> Complex[Tensor, "time row column"]:
        """Sum of all bands of whole sets of frames, before the Wiener filter.

        Parameters
        ----------
        frames : float32 tensor, shape (time, orientation, phase, y, x)
            Photo-electrons.
        times : slice, optional
            Their entries in the parameters; by default all.
        """
        total = self.empty(frames.shape[0])
        gain, phase = self._moment(times or slice(None))
        orientations = range(frames.shape[1])
        rows = [self._rows_of(o, gain[:, o], phase[:, o], slice(None)) for o in orientations]
        mean = torch.stack([row[:, 0] for row in rows], dim=1).flatten(1, 2)  # (time, o * phase)
        flat = frames.flatten(1, 2)
        band0 = torch.bmm(mean[:, None], flat.flatten(2)).view(-1, 1, *self.shape)
        self._add_band0(total, band0[:, 0])
        for o in orientations:
            self._add_side_bands(total, o, rows[o][:, 1:], frames[:, o])
        return total

    def change(
        self,
        total: Complex[Tensor, "1 row column"],
        frame: Float[Tensor, "y x"],
        orientation: int,
        phase: int,
    ) -> None:
        """Add one frame (or the difference of two) of one pattern to a spectrum, in place."""
        gain, angle = self._moment(slice(0, 1))
        picked = slice(phase, phase + 1)
        rows = self._rows_of(orientation, gain[:, orientation], angle[:, orientation], picked)
        self._add_band0(total, rows[0, 0, 0] * frame[None])
        self._add_side_bands(total, orientation, rows[:, 1:], frame[None, None])

    def empty(self, times: int = 1) -> Complex[Tensor, "time row column"]:
        """Spectrum of no frames."""
        shape = (times, self._rows, self._columns + 1)
        return torch.zeros(shape, dtype=torch.complex64, device=self.device)

    def image(
        self, spectrum: Complex[Tensor, "time row column"]
    ) -> Float[Tensor, "time fine_y fine_x"]:
        """Filter a spectrum and transform it to the image on the fine grid."""
        left, _, top, _ = self._pads
        rows = slice(self.upscale * top, self.upscale * (top + self.shape[0]))
        columns = slice(self.upscale * left, self.upscale * (left + self.shape[1]))
        if self._settings.positivity:
            whole = non_negative(
                spectrum,
                self._power,
                self._soft,
                self.wiener,
                self._fine[1],
                self._settings.positivity,
            )
            return whole[:, rows, columns]
        # Only the columns within the support are transformed, and only the rows that are kept.
        mixed = torch.fft.ifft(spectrum * self._filter, dim=-2)[:, rows]
        image: Tensor = torch.fft.irfft(mixed, n=self._fine[1], dim=-1)
        return image[:, :, columns] * self._unalternate[rows]

    def _moment(self, times: slice) -> tuple[Tensor, Tensor]:
        parameters = self.parameters
        gain = torch.as_tensor(parameters.gain[times], device=self.device)
        phase = torch.as_tensor(parameters.phase_rad[times], device=self.device)
        return gain.double(), phase.double()

    def _rows_of(
        self,
        orientation: int,
        gain: Float[Tensor, " time"],
        phase: Float[Tensor, "time order"],
        picked: slice,
    ) -> Float[Tensor, "time row phase"]:
        """Real weights of the frames: the mean, then real and imaginary part of every order."""
        unmix = self._unmix[orientation, :, picked]
        rows = [unmix[0].real.expand(len(gain), -1)]
        for band in self._side_bands:
            if band.orientation != orientation:
                continue
            n = band.order
            depth = float(self._depths[orientation, n - 1]) / 2
            value = torch.polar(torch.full_like(gain, depth), -phase[:, n - 1])[:, None] * unmix[n]
            rows += [value.real, band.sign * value.imag]
        return (torch.stack(rows, dim=1) * gain[:, None, None]).float()

    def _add_band0(self, total: Tensor, band0: Float[Tensor, "time y x"]) -> None:
        extended = pad(band0[:, None], self._pads, "replicate")[:, 0] * self._fade
        spectrum = torch.fft.rfft2(extended)
        middle, reach = self._padded[0] // 2, self._reach_y
        inside = spectrum[:, middle - reach : middle + reach + 1, : self._reach_x + 1]
        self._place(total, inside * self._weight0, -reach, 0)

    def _add_side_bands(
        self,
        total: Tensor,
        orientation: int,
        rows: Float[Tensor, "time row phase"],
        frames: Float[Tensor, "time phase y x"],
    ) -> None:
        bands = [band for band in self._side_bands if band.orientation == orientation]
        if not bands:
            return
        parts = torch.bmm(rows, frames.flatten(2)).view(*rows.shape[:2], *self.shape)
        parts = pad(parts, self._pads, "replicate")
        y, x = (n // 2 for n in self._padded)
        for i, band in enumerate(bands):
            field = torch.complex(parts[:, 2 * i], parts[:, 2 * i + 1]) * band.wave
            spectrum = torch.fft.fft2(field)
            inside = spectrum[
                :,
                y - self._reach_y : y + self._reach_y + 1,
                x - self._reach_x : x + self._reach_x + 1,
            ]
            weighted = inside * band.weight
            first_row = -self._reach_y - band.shift[0]
            first_column = -self._reach_x - band.shift[1]
            self._place(total, weighted, first_row, first_column)
            # The conjugate band, whose columns of fx <= 0 land on those of fx >= 0.
            left = min(max(1 - first_column, 0), weighted.shape[-1])
            if left:
                mirrored = weighted[..., :left].flip((-2, -1)).conj()
                self._place(
                    total,
                    mirrored,
                    -(first_row + weighted.shape[-2] - 1),
                    -(first_column + left - 1),
                )

    def _place(self, total: Tensor, part: Tensor, row: int, column: int) -> None:
        """Add a part whose first sample has the given frequency indices; clip what is outside."""
        row += self._rows // 2
        top, left = max(-row, 0), max(-column, 0)
        bottom = min(part.shape[-2], self._rows - row)
        right = min(part.shape[-1], self._columns + 1 - column)
        if bottom > top and right > left:
            total[:, row + top : row + bottom, column + left : column + right] += part[
                :, top:bottom, left:right
            ]
