"""A cell under the lens: a structure in focus, with all that lies around, above and below it.

Emitters are imaged in planes by their distance from the focal plane, each with its own defocused
transfer function; one between two planes is shared by them.

The truth is what an ideal SIM of the stated optics would show: patterns reach detail in focus only,
so an emitter out of focus is sharp by the part that is left of the transfer at half the cut-off,
which is gone at 0.3 um, and blurred for the rest; haze, membrane and structures further away are as
blurred as in the wide field.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import zoom

from tisr_scope.simulated_microscope import surroundings
from tisr_scope.simulated_microscope.cache import Cache
from tisr_scope.simulated_microscope.detection import (
    MARGIN_PX,
    DefocusedOtf,
    Renderer,
    Transfer,
    cutoff,
)
from tisr_scope.simulated_microscope.emitters import Emitters, Field, Labelling
from tisr_scope.simulated_microscope.light import PatternLight
from tisr_scope.simulated_microscope.randomisation import Conditions
from tisr_scope.simulated_microscope.scene import View
from tisr_scope.simulated_microscope.specimens import find_specimen

PLANES_UM: Float[np.ndarray, " plane"] = np.array([0, 0.1, 0.2, 0.35, 0.6, 1.0, 1.6, 2.5])
_HAZE_UM = 0.6
"""Distance from focus at which the cytosol is imaged; it is smooth whatever this is."""
_NEAREST_FAR_UM = 0.35


class Cell:
    """One view of one cell under given conditions, in units of its brightest pixels.

    Parameters
    ----------
    of : Conditions
    view : View
    numerical_aperture, emission_nm : float
        As the microscope states them; ``of.cutoff_factor`` says how wrong that is.
    """

    def __init__(
        self, of: Conditions, view: View, numerical_aperture: float, emission_nm: float
    ) -> None:
        self.of, self.view = of, view
        self._na, self._emission_nm = numerical_aperture, emission_nm / of.cutoff_factor
        self.stated_cutoff = cutoff(numerical_aperture, emission_nm)
        half_height, half_width = ((n / 2 + MARGIN_PX) * view.pixel_um for n in view.frame_shape)
        field = Field(*view.stage_um, half_width_um=half_width, half_height_um=half_height)
        kind = find_specimen(of.specimen)
        self._emitter = kind.emitter_photons
        self._near = kind.populate(view.sample_seed, field, of.labelling)
        self._far = None
        if of.far:
            far = Labelling(density=max(of.density, 0.5), depth_um=of.far_depth_um, spread=0.4)
            self._far = kind.populate(view.sample_seed + 1, field, far)
        self._kept: Cache[Float32[np.ndarray, "y x"]] = Cache(64)
        self._renderers: dict[tuple[Transfer, int], Renderer] = {}

    def focus_um(self, time_s: float) -> float:
        """Height of the focal plane over the middle of the structure."""
        window_s = 7 * self.of.interval_s
        return self.of.focus_um + self.of.focus_drift_um * float(np.tanh(time_s / window_s))

    def image(self, time_s: float, light: PatternLight | None = None) -> Float32[np.ndarray, "y x"]:
        """What the camera would see without noise, under even or patterned light."""
        emitters = self._near.at(time_s)
        focus = self.focus_um(time_s)
        near = self._planes(emitters, self._weight(emitters, light), focus)
        name = None if light is None else light.name
        rest = self._kept.get(name, lambda: self._surroundings(light))
        total: Float32[np.ndarray, "y x"] = near + rest
        return total

    def truth(
        self, time_s: float, transfer: Transfer, upscale: int
    ) -> Float32[np.ndarray, "fy fx"]:
        """What an ideal reconstruction of this transfer function would show, in the same units."""
        shown: Float32[np.ndarray, "fy fx"] = self.in_focus(time_s, transfer, upscale)
        shown = shown + self.out_of_focus(time_s, upscale)
        return shown

    def in_focus(
        self, time_s: float, transfer: Transfer, upscale: int
    ) -> Float32[np.ndarray, "fy fx"]:
        """The part of the truth that patterns reach."""
        emitters = self._near.at(time_s)
        weight = self._weight(emitters, None) * self._sharp(emitters, time_s)
        return self._renderer(transfer, upscale).render(
            emitters.x_um, emitters.y_um, weight * np.float32(upscale**2)
        )

    def out_of_focus(self, time_s: float, upscale: int) -> Float32[np.ndarray, "fy fx"]:
        """The part of the truth that stays as blurred as in the wide field."""
        emitters = self._near.at(time_s)
        rest = self._kept.get(None, lambda: self._surroundings(None))
        weight = self._weight(emitters, None) * (1 - self._sharp(emitters, time_s))
        blurred = rest + self._planes(emitters, weight, self.focus_um(time_s))
        enlarged: Float32[np.ndarray, "fy fx"] = zoom(
            blurred, upscale, order=3, mode="grid-mirror", grid_mode=True
        )
        return enlarged

    # ------------------------------------------------------------------------------- details

    def _weight(self, emitters: Emitters, light: PatternLight | None) -> Float32[np.ndarray, " n"]:
        weight = emitters.brightness * np.float32(self._emitter)
        x, y = emitters.x_um, emitters.y_um
        of, seed = self.of, self.view.sample_seed
        if of.cell_edge:
            weight = weight * surroundings.cell(of, seed, x, y).astype(np.float32)
        if of.unevenness:
            weight = weight * surroundings.illumination(of, seed, x, y).astype(np.float32)
        if light is not None:
            weight = weight * light.at(x, y)
        return weight

    def _otf(self, defocus_um: float) -> DefocusedOtf:
        return DefocusedOtf(self._na, self._emission_nm, float(defocus_um), self.of.spherical_rad)

    def _sharp(self, emitters: Emitters, time_s: float) -> Float32[np.ndarray, " n"]:
        """Part of each emitter's light that patterns make sharp."""
        height = np.zeros_like(emitters.x_um) if emitters.z_um is None else emitters.z_um
        away = np.abs(height - np.float32(self.focus_um(time_s)))
        middle = np.array(cutoff(self._na, self._emission_nm) / 2)
        planes = [DefocusedOtf(self._na, self._emission_nm, float(z)) for z in PLANES_UM]
        passed = np.array([float(otf(middle)) for otf in planes])
        sharp = np.clip(passed / passed[0], 0, None)
        sharp[PLANES_UM >= _NEAREST_FAR_UM] = 0
        part: Float32[np.ndarray, " n"] = np.interp(away, PLANES_UM, sharp).astype(np.float32)
        return part

    def _renderer(self, transfer: Transfer, upscale: int = 1) -> Renderer:
        key = (transfer, upscale)
        if key not in self._renderers:
            shape = tuple(n * upscale for n in self.view.frame_shape)
            self._renderers[key] = Renderer(
                (shape[0], shape[1]), self.view.pixel_um / upscale, transfer
            )
        return self._renderers[key]

    def _planes(
        self, emitters: Emitters, weight: Float32[np.ndarray, " n"], focus_um: float
    ) -> Float32[np.ndarray, "y x"]:
        height = np.zeros_like(weight) if emitters.z_um is None else emitters.z_um
        away = np.minimum(np.abs(height - np.float32(focus_um)), np.float32(PLANES_UM[-1]))
        below = np.clip(np.searchsorted(PLANES_UM, away, side="right") - 1, 0, len(PLANES_UM) - 2)
        share = (away - PLANES_UM[below]) / np.diff(PLANES_UM)[below]
        total = np.zeros(self.view.frame_shape, np.float32)
        for plane, distance in enumerate(PLANES_UM):
            part = np.where(below == plane, 1 - share, np.where(below == plane - 1, share, 0))
            used = part > 1e-3
            if used.any():
                renderer = self._renderer(self._otf(distance))
                total += renderer.render(
                    emitters.x_um[used],
                    emitters.y_um[used],
                    weight[used] * part[used].astype(np.float32),
                )
        return total

    def _surroundings(self, light: PatternLight | None) -> Float32[np.ndarray, "y x"]:
        """Haze and structures out of focus, which are taken as they are at the start."""
        of, seed = self.of, self.view.sample_seed
        renderer = self._renderer(self._otf(_HAZE_UM))
        y, x = renderer.fine_coordinates()
        columns, rows = x[None, :] + self.view.stage_um[0], y[:, None] + self.view.stage_um[1]
        density = surroundings.diffuse_label(of, seed, columns, rows)
        density = density * surroundings.cell(of, seed, x[None, :], y[:, None])
        density = density * surroundings.illumination(of, seed, x[None, :], y[:, None])
        if light is not None:
            density = density * light.at(
                *(a.astype(np.float32) for a in np.meshgrid(x, y, copy=False))
            )
        image = renderer.render_density(density)
        if self._far is not None:
            emitters = self._far.at(0.0)
            height = np.zeros_like(emitters.x_um) if emitters.z_um is None else emitters.z_um
            pushed = height + np.where(height < 0, -_NEAREST_FAR_UM, _NEAREST_FAR_UM)
            moved = Emitters(
                emitters.x_um, emitters.y_um, emitters.brightness, pushed.astype(np.float32)
            )
            image = image + self._planes(moved, self._weight(moved, light) * np.float32(of.far), 0)
        return image
