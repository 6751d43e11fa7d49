"""What lies around the labelled structure: cytosol, nucleus, membrane, the edge of the cell, light.

All are smooth functions of the position in the sample, given by the seed.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from tisr_scope.simulated_microscope.randomisation import Conditions
from tisr_scope.simulated_microscope.randomness import uniform
from tisr_scope.simulated_microscope.specimens import haze

Map = Float[np.ndarray, "*points"]


def diffuse_label(of: Conditions, seed: int, x_um: Map, y_um: Map) -> Map:
    """Cytosol with its nucleus, and the membrane, over the structure's brightest pixels."""
    cytosol = haze(seed, x_um, y_um)
    if of.haze_texture:
        cytosol = cytosol * np.exp(of.haze_texture * _waves(seed, 91, x_um, y_um, (0.8, 3.0)))
    if of.nucleus != 1:
        inside = _nucleus(seed, x_um, y_um)
        cytosol = cytosol * (1 + (of.nucleus - 1) * inside)
    total = of.haze * cytosol
    if of.membrane:
        total = total + of.membrane * np.exp(0.3 * _waves(seed, 93, x_um, y_um, (0.4, 2.0)))
    return total


def cell(of: Conditions, seed: int, x_um: Map, y_um: Map) -> Map:
    """1 inside the cell, 0 outside of it."""
    if not of.cell_edge:
        return np.ones(np.broadcast(x_um, y_um).shape)
    angle = 2 * math.pi * float(uniform(seed, 95))
    along = -x_um * math.sin(angle) + y_um * math.cos(angle)
    across = x_um * math.cos(angle) + y_um * math.sin(angle)
    period, phase = 3 + 5 * float(uniform(seed, 96)), 6.28 * float(uniform(seed, 97))
    edge = 4 * float(uniform(seed, 98)) - 1 + 0.6 * np.sin(2 * math.pi * along / period + phase)
    inside: Map = 0.5 * (1 + np.tanh((edge - across) / 0.3))
    return inside


def illumination(of: Conditions, seed: int, x_um: Map, y_um: Map) -> Map:
    """Intensity of the light over its highest."""
    if not of.unevenness:
        return np.ones(np.broadcast(x_um, y_um).shape)
    angle, phase = (2 * math.pi * float(uniform(seed, n)) for n in (101, 102))
    period = 8 + 16 * float(uniform(seed, 103))
    along = (x_um * math.cos(angle) + y_um * math.sin(angle)) / period
    light: Map = 1 - of.unevenness * (0.5 + 0.5 * np.sin(2 * math.pi * along + phase))
    return light


def _nucleus(seed: int, x_um: Map, y_um: Map) -> Map:
    centre_x, centre_y, turn, wide, long = (float(uniform(seed, 105, n)) for n in range(5))
    x, y = x_um - 10 * (centre_x - 0.5), y_um - 10 * (centre_y - 0.5)
    cos, sin = math.cos(math.pi * turn), math.sin(math.pi * turn)
    radius = np.hypot(
        (x * cos + y * sin) / (2.5 + 2.5 * long), (y * cos - x * sin) / (2 + 2 * wide)
    )
    inside: Map = 0.5 * (1 + np.tanh((1 - radius) / 0.06))
    return inside


def _waves(
    seed: int, number: int, x_um: Map, y_um: Map, periods_um: tuple[float, float], count: int = 12
) -> Map:
    """A smooth field of variance 1."""
    total = np.zeros(np.broadcast(x_um, y_um).shape)
    low, high = periods_um
    for wave in range(count):
        angle, phase, share = (float(uniform(seed, number, wave, i)) for i in range(3))
        angle *= 2 * math.pi
        period = low * (high / low) ** share
        along = (x_um * math.cos(angle) + y_um * math.sin(angle)) / period
        total = total + np.sin(2 * math.pi * (along + phase))
    return total / math.sqrt(count / 2)
