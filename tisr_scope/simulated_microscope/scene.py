"""What can be seen: a specimen at a place and a time, under some light, through some optics.

Everything that does not change from frame to frame (which structures are in view, transfer
functions, patterns, the haze under a pattern) is made once and kept.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from tisr_scope.simulated_microscope.cache import Cache
from tisr_scope.simulated_microscope.detection import MARGIN_PX, Renderer, Transfer
from tisr_scope.simulated_microscope.emitters import Field, Population
from tisr_scope.simulated_microscope.light import PatternLight
from tisr_scope.simulated_microscope.randomness import uniform
from tisr_scope.simulated_microscope.specimens import find_specimen, haze


@dataclass(frozen=True)
class View:
    """Which part of which sample the camera looks at."""

    specimen: str
    seed: int
    stage_um: tuple[float, float]
    frame_shape: tuple[int, int]
    pixel_um: float

    @property
    def sample_seed(self) -> int:
        """Different specimens of one seed are independent of each other."""
        return int(uniform(self.seed, zlib.crc32(self.specimen.encode())) * 2**53)


@dataclass(frozen=True)
class Brightness:
    """Photons per unit of emitter brightness, and of haze per camera pixel."""

    emitter: float
    haze: float


class Scene:
    """Renders views, keeping what it needs again."""

    def __init__(self) -> None:
        self._renderers: Cache[Renderer] = Cache(4)
        self._populations: Cache[Population] = Cache(6)
        self._hazes: Cache[Float32[np.ndarray, "y x"]] = Cache(64)

    def photons(
        self,
        view: View,
        transfer: Transfer,
        time_s: float,
        brightness: Brightness,
        light: PatternLight | None = None,
        upscale: int = 1,
    ) -> Float32[np.ndarray, "y x"]:
        """Mean photons of an unbleached specimen, without noise.

        Parameters
        ----------
        view : View
            What is looked at.
        transfer : Transfer
            Transfer function of the optics.
        time_s : float
            Age of the sample.
        brightness : Brightness
            Photons per emitter and of haze.
        light : PatternLight or None
            Structured light; None is even light of intensity 1.
        upscale : int
            Parts into which each camera pixel is split along each axis; the values stay photons
            per area of a camera pixel.
        """
        renderer = self._renderer(view, transfer, upscale)
        emitters = self._population(view).at(time_s)
        weight = emitters.brightness * np.float32(brightness.emitter * upscale**2)
        if light is not None:
            weight *= light.at(emitters.x_um, emitters.y_um)
        image = renderer.render(emitters.x_um, emitters.y_um, weight)
        dim = self._haze(view, transfer, renderer, light) * np.float32(brightness.haze)
        total: Float32[np.ndarray, "y x"] = image + dim
        return total

    def _renderer(self, view: View, transfer: Transfer, upscale: int) -> Renderer:
        height, width = view.frame_shape
        shape, pixel_um = (height * upscale, width * upscale), view.pixel_um / upscale
        key = (shape, pixel_um, transfer)
        return self._renderers.get(key, lambda: Renderer(shape, pixel_um, transfer))

    def _population(self, view: View) -> Population:
        """Structures that can come into view, the same for every enlargement."""
        half_height, half_width = ((n / 2 + MARGIN_PX) * view.pixel_um for n in view.frame_shape)
        field = Field(*view.stage_um, half_width_um=half_width, half_height_um=half_height)
        return self._populations.get(
            view, lambda: find_specimen(view.specimen).populate(view.sample_seed, field)
        )

    def _haze(
        self, view: View, transfer: Transfer, renderer: Renderer, light: PatternLight | None
    ) -> Float32[np.ndarray, "y x"]:
        """Image of the cytosolic label, which does not move."""

        def make() -> Float32[np.ndarray, "y x"]:
            y, x = renderer.fine_coordinates()
            density: Float[np.ndarray, "fine_y fine_x"] = haze(
                view.sample_seed, x[None, :] + view.stage_um[0], y[:, None] + view.stage_um[1]
            )
            if light is not None:
                density = density * light.at(
                    *(a.astype(np.float32) for a in np.meshgrid(x, y, copy=False))
                )
            return renderer.render_density(density)

        key = (view, transfer, renderer.shape, None if light is None else light.name)
        return self._hazes.get(key, make)
