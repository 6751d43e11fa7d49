"""Alignment in phase space: shift a feature map by turning the phases of its spectrum.

A shift in space is a phase ramp in frequency (Paper: "frequency shifting property"), so phase
residuals predicted from the phases of two feature maps move one onto the other with sub-pixel
precision and a global view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional

from tisr_scope.networks.blocks import SLOPE, Activation, ResidualBlock, conv3, zero_initialise

PhaseKind = Literal["convolutions", "residual", "none"]
PhaseEncoding = Literal["angle", "cross"]
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
        Angles in radians, shape (n, c, ...); or unit phasors, complex, for the cross encoding.
    share : tensor, optional
        Contribution of these angles to the first convolution of one phase module.
    """

    values: Complex[Tensor, "n c y k"]
    code: Tensor
    share: Float[Tensor, "n c y k"] | None = None


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
    return Spectrum(values, values / (values.abs() + _TINY))


class PhaseAlignment(nn.Module):
    """Predict phase residuals from the phases of a neighbour and of the current feature map.

    Parameters
    ----------
    channels : int
        Channels of the feature maps.
    kind : {"convolutions", "residual"}
        Four convolutions (released network), or one and two residual blocks (Paper: eq. 16).
    encoding : {"angle", "cross"}
        What is read: both angles, as published, or the normalised cross-power spectrum
        ``H conj(X) / |H X|`` as (cos, sin), whose phase difference does not jump by 2 pi.
    zero_start : bool
        Start as the identity.
    """

    def __init__(
        self,
        channels: int,
        kind: PhaseKind = "convolutions",
        encoding: PhaseEncoding = "angle",
        *,
        activation: Activation = "relu",
        zero_start: bool = False,
    ) -> None:
        super().__init__()
        self.encoding = encoding
        self.channels = channels
        first = conv3(2 * channels, channels)
        if kind == "convolutions":
            layers: list[nn.Module] = [first]
            for _ in range(3):
                layers += [nn.LeakyReLU(SLOPE), conv3(channels, channels)]
        else:
            layers = [first, *(ResidualBlock(channels, 0.0, activation) for _ in range(2))]
        self.conv_angle = nn.Sequential(*layers)
        if zero_start:
            # Residual blocks hand a zero on, so their convolution is the one to start there.
            decisive = layers[-1] if kind == "convolutions" else first
            if isinstance(decisive, nn.Conv2d):
                zero_initialise(decisive)

    def _share(self, code: Float[Tensor, "n c y k"], part: int) -> Float[Tensor, "n c y k"]:
        # A convolution of concatenated maps is the sum of the convolutions of each of them.
        first = self.conv_angle[0]
        assert isinstance(first, nn.Conv2d)
        weight = first.weight[:, part * self.channels : (part + 1) * self.channels]
        return functional.conv2d(code, weight, first.bias if part else None, padding=1)

    def read(self, features: Float[Tensor, "n c y x"]) -> Spectrum:
        """Spectrum of a propagated state, with its share of the first convolution."""
        spectrum = transform(features, self.encoding)
        if self.encoding == "cross":
            return spectrum
        return Spectrum(spectrum.values, spectrum.code, self._share(spectrum.code, 0))

    def current_share(self, current: Spectrum) -> Float[Tensor, "n c y k"] | None:
        """Share of the current frame; it serves every neighbour and every window."""
        return None if self.encoding == "cross" else self._share(current.code, 1)

    def forward(
        self, neighbours: list[Spectrum], current: Spectrum, size: tuple[int, int]
    ) -> list[Float[Tensor, "n c y x"]]:
        """Neighbours with the phases turned towards the current feature map.

        Parameters
        ----------
        neighbours : list of Spectrum
            From :meth:`read`; they run as one batch.
        current : Spectrum
            Of the current frame's features.
        size : (int, int)
            Height and width of the feature maps.
        """
        if self.encoding == "angle":
            own = current.share if current.share is not None else self._share(current.code, 1)
            shares = [
                n.share if n.share is not None else self._share(n.code, 0) for n in neighbours
            ]
            first = torch.cat([share + own for share in shares])
        else:
            crossed = torch.cat([n.code * current.code.conj() for n in neighbours])
            first = self.conv_angle[0](torch.cat((crossed.real, crossed.imag), dim=1))
        residual = first
        for layer in list(self.conv_angle.children())[1:]:
            residual = layer(residual)
        values = torch.cat([n.values for n in neighbours])
        aligned = torch.fft.irfft2(turn(values, residual), s=size)
        return list(aligned.chunk(len(neighbours)))
