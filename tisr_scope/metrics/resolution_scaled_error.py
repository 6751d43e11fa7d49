"""Agreement of a super-resolved image, blurred again, with the diffraction-limited one.

SQUIRREL (Culley et al. 2018): the super-resolved image is brought to the wide field by a gain, an
offset and a resolution scaling function (here a Gaussian of fitted width, or the known transfer
function of the optics).  What remains is the error map; its root mean square is the
resolution-scaled error (RSE), the correlation the resolution-scaled Pearson coefficient (RSP).

It cannot see errors finer than the diffraction limit, since the wide field does not show them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from tisr_scope.errors import DataError

Transfer = Callable[[Float[np.ndarray, "*grid"], Float[np.ndarray, "*grid"]], np.ndarray]
"""Transfer at frequencies (fy, fx) in cycles per micrometre."""

BORDER_PX = 8
"""Camera pixels left out on every side: light from outside the field is unknown."""


@dataclass(frozen=True)
class ResolutionScaledError:
    """Agreement of a super-resolved image with the wide field.

    Attributes
    ----------
    rse : float
        Root mean square of the error, in intensity units of the wide field.
    relative_rse : float
        ``rse`` over the standard deviation of the wide field.
    rsp : float
        Pearson correlation of the degraded image with the wide field, -1 to 1.
    gain, offset : float
        Bring the degraded image to the wide field.
    sigma_um : float or None
        Of the fitted Gaussian; None where the transfer function was given.
    error_map : array, shape (y, x)
        Degraded image minus wide field: positive where the super-resolved image holds too much.
    """

    rse: float
    relative_rse: float
    rsp: float
    gain: float
    offset: float
    sigma_um: float | None
    error_map: Float[np.ndarray, "y x"]

    def to_dict(self) -> dict[str, Any]:
        """JSON types, without the map."""
        return {
            key: getattr(self, key)
            for key in ("rse", "relative_rse", "rsp", "gain", "offset", "sigma_um")
        }


def resolution_scaled_error(
    image: Float[np.ndarray, "fy fx"],
    widefield: Float[np.ndarray, "y x"],
    pixel_um: float,
    *,
    transfer: Transfer | None = None,
) -> ResolutionScaledError:
    """Resolution-scaled error of a super-resolved image.

    Parameters
    ----------
    image : array, shape (f * y, f * x)
        Super-resolved; every camera pixel is split into f x f.
    widefield : array, shape (y, x)
        Diffraction-limited image of the same object.
    pixel_um : float
        Pixel of the wide field in the sample, in micrometres.
    transfer : callable, optional
        Transfer function from the object to the wide field; a Gaussian is fitted if omitted.

    Raises
    ------
    DataError
        If the grids do not belong together, an image is constant or not finite.
    """
    factor = _factor(image, widefield, pixel_um)
    inner = tuple(slice(BORDER_PX, n - BORDER_PX) for n in widefield.shape)
    target = widefield[inner].astype(np.float64)
    fine = image.astype(np.float64)

    def blurred(sigma_um: float) -> Float[np.ndarray, "y x"]:
        return _binned(gaussian_filter(fine, sigma_um / pixel_um * factor, mode="reflect"), factor)

    def misfit(log_sigma: float) -> float:
        rest, _, _ = _linear(blurred(math.exp(log_sigma))[inner], target)
        return float(np.mean(rest**2))

    if transfer is None:
        # From no blur at all (a tenth of a camera pixel) to far more than any objective gives.
        best = minimize_scalar(
            misfit, bounds=(math.log(0.1 * pixel_um), math.log(8 * pixel_um)), method="bounded"
        )
        sigma: float | None = math.exp(best.x)
        degraded = blurred(math.exp(best.x))
    else:
        sigma = None
        degraded = _binned(_filtered(fine, pixel_um / factor, transfer), factor)
    _, gain, offset = _linear(degraded[inner], target)
    error = gain * degraded + offset - widefield
    rse = float(np.sqrt(np.mean(error[inner] ** 2)))
    return ResolutionScaledError(
        rse=rse,
        relative_rse=float(rse / target.std()),
        rsp=float(np.corrcoef(degraded[inner].ravel(), target.ravel())[0, 1]),
        gain=gain,
        offset=offset,
        sigma_um=sigma,
        error_map=error,
    )


def _linear(
    image: Float[np.ndarray, "y x"], target: Float[np.ndarray, "y x"]
) -> tuple[Float[np.ndarray, "y x"], float, float]:
    """Residual, gain and offset of the least-squares line."""
    x, y = image - image.mean(), target - target.mean()
    variance = float((x * x).sum())
    if variance == 0:
        raise DataError(
            "the super-resolved image is constant inside the border",
            remedy="check that the reconstruction or the network gave an image at all",
        )
    gain = float((x * y).sum() / variance)
    return gain * x - y, gain, float(target.mean() - gain * image.mean())


def _filtered(
    image: Float[np.ndarray, "y x"], pixel_um: float, transfer: Transfer
) -> Float[np.ndarray, "y x"]:
    """Image through the optics; mirrored at the edges, so that they do not wrap around."""
    margin = min(32, *(n - 1 for n in image.shape))
    wide = np.pad(image, margin, mode="reflect")
    shape = wide.shape
    fy = np.fft.fftfreq(shape[0], pixel_um)[:, None]
    fx = np.fft.rfftfreq(shape[1], pixel_um)[None, :]
    passed = irfft2(rfft2(wide) * np.asarray(transfer(fy, fx)), s=shape)
    return np.asarray(passed[margin:-margin, margin:-margin])


def _binned(image: Float[np.ndarray, "fy fx"], factor: int) -> Float[np.ndarray, "y x"]:
    """Mean over the fine pixels of every camera pixel, whose centres coincide."""
    height, width = (n // factor for n in image.shape)
    blocks = image.reshape(height, factor, width, factor)
    return np.asarray(blocks.mean(axis=(1, 3)))


def _factor(
    image: Float[np.ndarray, "fy fx"], widefield: Float[np.ndarray, "y x"], pixel_um: float
) -> int:
    factor: int = image.shape[0] // max(widefield.shape[0], 1)
    fits = factor >= 1 and image.shape == tuple(factor * n for n in widefield.shape)
    if not fits or min(widefield.shape) < 4 * BORDER_PX:
        raise DataError(
            f"an image of {image.shape} is no whole multiple of a wide field of {widefield.shape}",
            remedy=f"give both of the same field, {4 * BORDER_PX} camera pixels or more a side",
        )
    if not pixel_um > 0:
        raise DataError(f"a pixel of {pixel_um} um", remedy="give the pixel size in micrometres")
    if not (np.isfinite(image).all() and np.isfinite(widefield).all()):
        raise DataError("an image holds NaN or infinite values", remedy="leave that frame out")
    if np.ptp(widefield) == 0:
        raise DataError("the wide field is constant", remedy="leave empty frames out")
    return factor
