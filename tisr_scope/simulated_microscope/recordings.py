"""Training recordings of simulated cells: what the camera gives, and the structure in focus.

These are the cells of the simulated microscope without its devices: even light, an input image at
each time point, electrons as the stated camera offset and gain would give them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from tisr_scope.simulated_microscope.camera import Sensor
from tisr_scope.simulated_microscope.cell import Cell
from tisr_scope.simulated_microscope.detection import CosineApodisation
from tisr_scope.simulated_microscope.randomisation import Conditions, sensor_of
from tisr_scope.simulated_microscope.randomness import generator
from tisr_scope.simulated_microscope.scene import View

PATTERN_PER_UM = 5.53
"""Frequency of the patterns of the SIM that the truth stands for, in cycles/um."""


@dataclass(frozen=True)
class SimulatedCell:
    """One recording, in photo-electrons of a raw frame.

    Attributes
    ----------
    conditions : Conditions
    widefield : array, shape (time, y, x)
        With noise, camera maps and a wrong offset.
    truth : array, shape (time, 2*y, 2*x)
        Structure in focus without noise; its sum is that of its wide field.
    """

    conditions: Conditions
    widefield: Float32[np.ndarray, "time y x"]
    truth: Float32[np.ndarray, "time fy fx"]


def simulate_cell(
    of: Conditions,
    seed: int,
    *,
    time_points: int = 7,
    frame_shape: tuple[int, int] = (128, 128),
    pixel_um: float = 0.0626,
    numerical_aperture: float = 1.49,
    emission_nm: float = 525.0,
    upscale: int = 2,
) -> SimulatedCell:
    """Wide field and truth of one recording, a pure function of conditions and seed."""
    view = View(of.specimen, seed, (0.0, 0.0), frame_shape, pixel_um)
    cell = Cell(of, view, numerical_aperture, emission_nm)
    transfer = CosineApodisation(cell.stated_cutoff + PATTERN_PER_UM)
    times = [0.0] * time_points if of.still else [t * of.interval_s for t in range(time_points)]
    shown = times[:1] if of.still else times
    left = np.exp(-of.bleached * np.arange(time_points) / max(time_points - 1, 1))
    clean = np.stack([cell.image(t) for t in shown])
    truth = np.stack([cell.truth(t, transfer, upscale) for t in shown])
    scale = of.peak_electrons * left[: len(shown), None, None].astype(np.float32)
    sensor = Sensor(frame_shape, sensor_of(of), seed)
    widefield = sensor.mean_electrons(clean * scale, of.exposures, generator(seed, 0xCB))
    truth = (truth * scale).astype(np.float32)
    if of.still:
        widefield = np.repeat(widefield, time_points, axis=0)
        truth = np.repeat(truth, time_points, axis=0)
    return SimulatedCell(of, widefield, truth)
