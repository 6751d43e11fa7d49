"""Phase and modulation depth of every harmonic, with their standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from tisr_scope.sim.parameters.overlap import Overlap, blocks


@dataclass(frozen=True)
class Harmonics:
    """Harmonics of the pattern of one orientation.

    Attributes
    ----------
    amplitude : complex array, shape (time, order)
        ``m_n/2 exp(i phi_n)`` at the centre of the field.
    phase_se_rad, modulation_se : array, shape (time, order)
        Standard errors.
    """

    amplitude: Complex[np.ndarray, "time order"]
    phase_se_rad: Float[np.ndarray, "time order"]
    modulation_se: Float[np.ndarray, "time order"]

    @property
    def modulation(self) -> Float[np.ndarray, "time order"]:
        """Modulation depth m_n."""
        modulation: Float[np.ndarray, "time order"] = 2 * np.abs(self.amplitude)
        return modulation

    @property
    def phase_rad(self) -> Float[np.ndarray, "time order"]:
        """Phase phi_n at the centre of the field."""
        phase: Float[np.ndarray, "time order"] = np.angle(self.amplitude)
        return phase


def harmonics(
    overlaps: Sequence[Overlap], carrier_covariance: Float[np.ndarray, "2 2"]
) -> Harmonics:
    """Amplitudes of the harmonics, each from the one before it, free of the bias of the noise.

    Parameters
    ----------
    overlaps : sequence of Overlap
        Of bands 0-1, 1-2, ...  Bands 0 and 2 hardly overlap.
    carrier_covariance : array, shape (2, 2)
        Of kx and ky: an error of the carrier turns the phase where the centre of the field and
        that of the light differ.
    """
    amplitude, phase_variance, relative_variance = [], [], []
    ratio: Complex[np.ndarray, " time"] | float = 1.0
    arm_sum: Float[np.ndarray, "time 2"] | float = 0.0
    across_sum: Float[np.ndarray, " time"] | float = 0.0
    relative_sum: Float[np.ndarray, " time"] | float = 0.0
    for one in overlaps:
        product, energy, centres = blocks(one)
        total, light = product.sum(axis=1), energy.sum(axis=1)
        light = np.maximum(light, 1e-6 * np.abs(total) + 1e-300)
        turned = product * np.exp(-1j * np.angle(total))[:, None]
        across = (turned.imag**2).sum(axis=1)
        magnitude = np.sqrt(np.maximum(np.abs(total) ** 2 - 2 * across, 0))
        safe = np.maximum(magnitude, np.sqrt(across) + 1e-300)
        # What is left where the ratio of the bands is taken to be the same everywhere.
        residual = turned.real - (magnitude / light)[:, None] * energy
        along = (residual**2).sum(axis=1)
        arm = 2 * np.pi * (turned.real @ centres) / turned.real.sum(axis=1)[:, None]
        ratio = ratio * magnitude / light * np.exp(1j * np.angle(total))
        across_sum = across_sum + across / safe**2
        relative_sum = relative_sum + along / safe**2
        arm_sum = arm_sum + arm
        amplitude.append(ratio)
        phase_variance.append(
            across_sum + np.einsum("ti,ij,tj->t", arm_sum, carrier_covariance, arm_sum)
        )
        relative_variance.append(relative_sum)
    values = np.stack(amplitude, axis=1)
    return Harmonics(
        values,
        np.sqrt(np.stack(phase_variance, axis=1)),
        2 * np.abs(values) * np.sqrt(np.stack(relative_variance, axis=1)),
    )
