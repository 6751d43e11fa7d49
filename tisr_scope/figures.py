"""What every figure with microscope images needs: a scale bar, and where to look closer."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from scipy.ndimage import gaussian_filter, uniform_filter

_LENGTHS_UM = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def scale_bar(axes: Axes, um_per_unit: float = 1.0) -> None:
    """Draw a bar of round length in the lower right corner.

    Parameters
    ----------
    axes : Axes
        With its image drawn and its limits set.
    um_per_unit : float
        Micrometres of one data unit: the pixel size, or 1 where the axes are in micrometres.
    """
    left, right = axes.get_xlim()
    width_um = abs(right - left) * um_per_unit
    length = max((um for um in _LENGTHS_UM if um <= width_um / 4), default=_LENGTHS_UM[0])
    label = f"{length * 1e3:g} nm" if length < 1 else f"{length:g} µm"
    end, height = 0.955, 0.05
    start = end - length / width_um
    for colour, thickness in (("black", 5.0), ("white", 2.8)):
        (line,) = axes.plot(
            [start, end],
            [height, height],
            color=colour,
            linewidth=thickness,
            transform=axes.transAxes,
            scalex=False,
            scaley=False,
        )
        line.set_solid_capstyle("butt")
    text = axes.text(
        (start + end) / 2,
        height + 0.022,
        label,
        color="white",
        fontsize=9,
        ha="center",
        va="bottom",
        transform=axes.transAxes,
    )
    text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def busiest(image: Float[np.ndarray, "y x"], side: int) -> tuple[int, int]:
    """Upper left corner of the square with most fine structure, away from the border.

    Parameters
    ----------
    image : array, shape (y, x)
    side : int
        Of the square, in pixels; not longer than the image.
    """
    fine = np.abs(gaussian_filter(image, 1.0) - gaussian_filter(image, 4.0))
    density = uniform_filter(fine, side, mode="constant")
    margin = min(8, (min(image.shape) - side) // 2)
    first = side // 2 + margin
    inner = density[
        first : image.shape[0] - side + side // 2 - margin + 1,
        first : image.shape[1] - side + side // 2 - margin + 1,
    ]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(y) + margin, int(x) + margin
