"""Alignment in phase space: shift a feature map by turning the phases of its spectrum.

A shift in space is a phase ramp in frequency (Paper: "frequency shifting property"), so phase
residuals predicted from the phases of two feature maps move one onto the other with sub-pixel
precision and a global view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.networks.blocks import SLOPE, ResidualBlock, conv3, zero_initialise
from tisr_scope.networks.config import Activation, PhaseEncoding, PhaseKind, SpectrumPart

# Spectra of features are sums over thousands of pixels: this bounds the gradient, not the phase.
_TINY = 1e-3


@dataclass(frozen=True)
class Spectrum:
    """Half spectrum of a feature map and what the phase module reads of it.

    Attributes
    ----------
    values : complex tensor, shape (n, c, y, x // 2 + 1)
        ``rfft2`` of the feature map, unnormalised (Paper: eq. 15).
    code : tensor
        Angles in radians, shape (n, c, ...); their cosines and sines, shape (n, 2 c, ...); or
        unit phasors, complex, for the cross encoding.
    share : tensor, optional
        Contribution of this code to the first convolution of one phase module.
    """

    values: Complex[Tensor, "n c y k"]
    code: Tensor
    share: Float[Tensor, "n c y k"] | None = None


def concatenate(spectra: Sequence[Spectrum | None]) -> Spectrum | None:
    """Spectra as one batch, without their shares; None where there are none."""
    there = [s for s in spectra if s is not None]
    if not there:
        return None
    return Spectrum(torch.cat([s.values for s in there]), torch.cat([s.code for s in there]))


def amplify(
    values: Complex[Tensor, "n c y k"], gain: Float[Tensor, "n c y k"]
) -> Complex[Tensor, "n c y k"]:
    """``values * exp(gain)``: residuals of the log amplitude, in real arithmetic."""
    return torch.view_as_complex(torch.view_as_real(values) * torch.exp(gain)[..., None])


def turn(
    values: Complex[Tensor, "n c y k"], residual: Float[Tensor, "n c y k"]
) -> Complex[Tensor, "n c y k"]:
    """``values * exp(i residual)`` in real arithmetic: no angle is taken and compilers see it all.

    The same as ``|H| exp(i (angle H + residual))`` (Paper: eq. 16-17).
    """
    parts = torch.view_as_real(values)
    real, imaginary = parts.unbind(-1)
    cos, sin = torch.cos(residual), torch.sin(residual)
    turned = torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1)
    return torch.view_as_complex(turned)


def _own_negative(size: int) -> slice:
    """Frequencies that equal their negative: zero and, for even sizes, Nyquist."""
    return slice(0, size // 2 + 1, size // 2) if size % 2 == 0 else slice(0, 1)


def transform(features: Float[Tensor, "n c y x"], encoding: PhaseEncoding) -> Spectrum:
    """Spectrum of feature maps; in single precision, which half-precision transforms lack.

    Where a frequency is its own negative the spectrum of a real map is real.  Rounding leaves a
    tiny imaginary part there, whose sign would decide between angles of pi and -pi.
    """
    values = torch.fft.rfft2(features.float())
    height, width = features.shape[-2:]
    torch.view_as_real(values)[..., _own_negative(height), _own_negative(width), 1] = 0.0
    if encoding == "angle":
        return Spectrum(values, torch.angle(values))
    phasors = values / (values.abs() + _TINY)
    if encoding == "cross":
        return Spectrum(values, phasors)
    return Spectrum(values, torch.cat((phasors.real, phasors.imag), dim=1))


def _residual_stack(
    inputs: int, channels: int, kind: PhaseKind, depth: int, activation: Activation, zero: bool
) -> nn.Sequential:
    """Convolutions over a spectrum that give a residual of each of its values (Paper: eq. 16)."""
    first = conv3(inputs, channels)
    decisive = first  # residual blocks hand a zero on
    layers: list[nn.Module] = [first]
    if kind == "convolutions":
        for _ in range(2 * depth - 1):
            decisive = conv3(channels, channels)
            layers += [nn.LeakyReLU(SLOPE), decisive]
    else:
        layers += [ResidualBlock(channels, 0.0, activation) for _ in range(depth)]
    if zero:
        zero_initialise(decisive)
    return nn.Sequential(*layers)


class PhaseAlignment(nn.Module):
    """Predict residuals of a neighbour's spectrum from it and from that of the current features.

    Parameters
    ----------
    channels : int
        Channels of the feature maps.
    kind : {"convolutions", "residual"}
        Four convolutions (released network), or one and two residual blocks (Paper: eq. 16).
    encoding : {"angle", "phasor", "cross"}
        What is read of the phases: both angles, as published; the cosines and sines of both; or
        the normalised cross-power spectrum ``H conj(X) / |H X|`` as (cos, sin), whose phase
        difference does not jump by 2 pi.
    part : {"phase", "amplitude", "both"}
        What is aligned.  The text compares the three and says no more than their names.  Here
        the amplitude is read as a logarithm and its residual is one of the logarithm, within
        +-2, so that amplitudes stay positive and spectra of any scale are read alike.  For
        both, each part has a stack of its own with half of the layers.
    zero_start : bool
        Start as the identity.
    """

    def __init__(
        self,
        channels: int,
        kind: PhaseKind = "convolutions",
        encoding: PhaseEncoding = "angle",
        part: SpectrumPart = "phase",
        *,
        activation: Activation = "relu",
        zero_start: bool = False,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        self.part = part
        depth = 1 if part == "both" else 2
        if part != "amplitude":
            inputs = (4 if encoding == "phasor" else 2) * channels
            self.conv_angle = _residual_stack(inputs, channels, kind, depth, activation, zero_start)
        if part != "phase":
            self.conv_amplitude = _residual_stack(
                2 * channels, channels, kind, depth, activation, zero_start
            )

    @property
    def _shares(self) -> bool:
        return self.part != "amplitude" and self.encoding != "cross"

    def _share(self, code: Float[Tensor, "n c y k"], half: int) -> Float[Tensor, "n d y k"]:
        # A convolution of concatenated maps is the sum of the convolutions of each of them.
        first = self.conv_angle[0]
        assert isinstance(first, nn.Conv2d)
        width = first.in_channels // 2
        weight = first.weight[:, half * width : (half + 1) * width]
        return functional.conv2d(code, weight, first.bias if half else None, padding=1)

    def read(self, features: Float[Tensor, "n c y x"]) -> Spectrum:
        """Spectrum of a propagated state, with its share of the first convolution."""
        spectrum = transform(features, self.encoding)
        if not self._shares:
            return spectrum
        return Spectrum(spectrum.values, spectrum.code, self._share(spectrum.code, 0))

    def _phase_residual(
        self, neighbours: Sequence[Spectrum], current: Spectrum
    ) -> Float[Tensor, "m c y k"]:
        first, *rest = self.conv_angle.children()
        if self.encoding == "cross":
            crossed = torch.cat([n.code * current.code.conj() for n in neighbours])
            residual: Tensor = first(torch.cat((crossed.real, crossed.imag), dim=1))
        else:
            own = self._share(current.code, 1)
            shares = [
                n.share if n.share is not None else self._share(n.code, 0) for n in neighbours
            ]
            residual = torch.cat([share + own for share in shares])
        for layer in rest:
            residual = layer(residual)
        return residual

    def _gain(
        self, neighbours: Sequence[Spectrum], current: Spectrum, size: tuple[int, int]
    ) -> Float[Tensor, "m c y k"]:
        unit = 1 / math.sqrt(size[0] * size[1])

        def read(spectrum: Spectrum) -> Tensor:
            return torch.log(spectrum.values.abs() * unit + _TINY)

        own = read(current)
        pairs = torch.cat([torch.cat((read(n), own), dim=1) for n in neighbours])
        return 2 * torch.tanh(self.conv_amplitude(pairs) / 2)

    def forward(
        self, neighbours: Sequence[Spectrum], current: Spectrum, size: tuple[int, int]
    ) -> list[Float[Tensor, "n c y x"]]:
        """Neighbours aligned with the current feature map in phase space (Paper: eq. 16-17).

        Parameters
        ----------
        neighbours : sequence of Spectrum
            From :meth:`read` or :func:`transform`; they run as one batch.
        current : Spectrum
            Of the current frame's features.
        size : (int, int)
            Height and width of the feature maps.
        """
        values = torch.cat([n.values for n in neighbours])
        if self.part != "amplitude":
            values = turn(values, self._phase_residual(neighbours, current))
        if self.part != "phase":
            values = amplify(values, self._gain(neighbours, current, size))
        aligned = torch.fft.irfft2(values, s=size)
        return list(aligned.chunk(len(neighbours)))
