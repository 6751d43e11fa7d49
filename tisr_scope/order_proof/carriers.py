"""Carriers as the images have them, near the nominal ones.

The order of the frames is what is to be proven, so it is not used: the fringe power of all frames
of several time points is added up at every frequency, and the largest near each nominal carrier is
taken where it clearly stands above that at the nominal place itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt16
from scipy import fft

from tisr_scope.order_proof.commanded import Commanded
from tisr_scope.order_proof.field import offset_removed
from tisr_scope.order_proof.fringes import fringe_products

PERIOD_SHARE, ANGLE_RAD = 0.06, 0.08
"""How far a carrier may be from what the profile says."""
CLEARLY = 1.5
PADDING = 2


def refined_carriers(
    stacks: Sequence[UInt16[np.ndarray, "frame y x"]], commanded: Commanded
) -> Float[np.ndarray, "orientation 2"]:
    """kx, ky of each orientation in cycles per micrometre, from a few time points.

    Parameters
    ----------
    stacks : sequence of array, shape (frame, y, x)
        Time points of one channel and position.
    commanded : Commanded
        With the nominal carriers.
    """
    nominal = np.array(commanded.carriers, dtype=np.float64).reshape(-1, 2)
    if not len(nominal) or not len(stacks):
        return nominal
    power: Float[np.ndarray, "ky kx"] | None = None
    for stack in stacks:
        products = fringe_products(offset_removed(stack, commanded)[0], commanded)
        shape = tuple(PADDING * n for n in products.shape[1:])
        spectra = np.abs(fft.rfft2(products, s=shape)) ** 2
        # Every frame counts alike: the dim ones have more noise, not more fringes.
        spectra /= np.median(spectra, axis=(1, 2), keepdims=True)
        power = spectra.sum(axis=0) + (0 if power is None else power)
    assert power is not None
    ky = fft.fftfreq(shape[0], commanded.pixel_um)[:, None]
    kx = fft.rfftfreq(shape[1], commanded.pixel_um)[None, :]
    return np.array([_nearby(power, kx, ky, carrier) for carrier in nominal])


# ------------------------------------------------------------------------------------- inside


def _nearby(
    power: Float[np.ndarray, "ky kx"],
    kx: Float[np.ndarray, "1 kx"],
    ky: Float[np.ndarray, "ky 1"],
    nominal: Float[np.ndarray, " 2"],
) -> Float[np.ndarray, " 2"]:
    sign = -1.0 if nominal[0] < 0 else 1.0  # the half of the spectrum that is stored
    wanted = sign * nominal
    length = float(np.hypot(*wanted))
    along = (kx * wanted[0] + ky * wanted[1]) / length
    across = (ky * wanted[0] - kx * wanted[1]) / length
    step = float(kx[0, 1])
    inside = np.abs(along - length) <= max(PERIOD_SHARE * length, step)
    inside &= np.abs(across) <= max(ANGLE_RAD * length, step)
    if not inside.any():
        return nominal
    at = np.unravel_index(int(np.argmax(np.where(inside, power, 0))), power.shape)
    row, column = int(at[0]), int(at[1])
    here = np.hypot(kx - wanted[0], ky - wanted[1])
    if power[row, column] < CLEARLY * power.flat[int(np.argmin(here))]:
        return nominal
    rows = power[[row - 1, row, (row + 1) % power.shape[0]], column]
    columns = power[row, [max(column - 1, 0), column, min(column + 1, power.shape[1] - 1)]]
    peak = np.array([kx[0, column], ky[row, 0]])
    steps = np.array([step, float(ky[1, 0])])
    return np.asarray(sign * (peak + steps * [_vertex(columns), _vertex(rows)]))


def _vertex(values: Float[np.ndarray, " 3"]) -> float:
    """Place of the maximum of a parabola through three neighbours, in samples."""
    curve = float(values[0] - 2 * values[1] + values[2])
    return 0.0 if curve >= 0 else float(np.clip((values[0] - values[2]) / (2 * curve), -0.5, 0.5))
