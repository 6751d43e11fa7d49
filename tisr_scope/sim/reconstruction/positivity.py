"""SIM images of samples that emit no negative light.

The Wiener filter is the best linear estimate, and what it leaves is noise.  But between the
structures of most samples there is no light, and no light is known to be exactly 0 or more.  This
looks for the sample s >= 0 whose bands come closest to the measured ones:

    minimise  sum over f of  (P + w^2) |S|^2 / 2 - Re(conj(B) S)   with  s >= 0 everywhere,

B the sum of all bands in their places, each weighted by its own transfer, and P the power of
those weights.  Without the constraint the answer is the Wiener filter, B / (P + w^2).

With evenly stepped phases the patterns enter as the convolution P alone, so the alternating
direction method (Boyd et al. 2011, section 5) needs no image of a pattern: a Wiener filter that is
drawn to a non-negative image, the non-negative image nearest to it, what they differ by, and again.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

DRAW = 15.0
"""How strongly the two images are drawn together, over the square of the Wiener parameter."""
OVERSHOOT = 1.5
"""Each step goes further than it would alone, which halves the number of rounds."""


def non_negative(
    spectrum: Complex[Tensor, "time row column"],
    power: Float[Tensor, "row column"],
    soft: Float[Tensor, "row column"],
    wiener: float,
    width: int,
    rounds: int,
) -> Float[Tensor, "time row x"]:
    """Non-negative sample behind a sum of weighted bands, apodised.

    Parameters
    ----------
    spectrum : array, shape (time, row, column)
        Sum of the bands; frequency 0 in the middle row and the first column.
    power : array, shape (row, column)
        With which all bands together pass every frequency.
    soft : array, shape (row, column)
        Apodisation of the result, which keeps its kernel's faint negative lobes.
    wiener : float
        Wiener parameter.
    width : int
        Columns of the image.
    rounds : int
        1 or more; each costs two real transforms of the image.
    """
    draw = DRAW * wiener**2
    columns = width // 2 + 1
    missing = (0, columns - spectrum.shape[-1])
    bands, passed, window = (pad(part, missing) for part in (spectrum, power, soft))
    weaken = 1 / (passed + wiener**2 + draw)
    rows = spectrum.shape[-2]
    # The sign of every other row puts frequency 0 into the middle row.
    sign = 1.0 - 2.0 * (torch.arange(rows, device=power.device) % 2)[:, None].to(power.dtype)
    difference = torch.zeros(
        (*spectrum.shape[:-1], width), dtype=power.dtype, device=spectrum.device
    )
    target = torch.zeros_like(difference)
    for _ in range(rounds):
        towards = torch.fft.rfft2((target - difference) * sign)
        image = torch.fft.irfft2((bands + draw * towards) * weaken, s=(rows, width)) * sign
        difference += target + OVERSHOOT * (image - target)
        target = difference.clamp(min=0)
        difference -= target
    result: Tensor = torch.fft.irfft2(torch.fft.rfft2(target * sign) * window, s=(rows, width))
    return result * sign
