"""What differs from recording to recording, drawn from the ranges of ``randomisation.yaml``.

Every value is a pure function of the seed and its own name, so that a new range changes no other
value of a seed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tisr_scope.errors import MicroscopeError
from tisr_scope.simulated_microscope.camera import SensorProperties
from tisr_scope.simulated_microscope.emitters import Labelling
from tisr_scope.simulated_microscope.randomness import uniform

READ_NOISE_RMS = 1.6
"""Root mean square of the read noise of the pixels over its median."""
LEAST_OFFSET_ADU = 20.0
RANGES = Path(__file__).with_name("randomisation.yaml")


@dataclass(frozen=True)
class Conditions:
    """Cell, optics, light and camera of one recording, as ``randomisation.yaml`` explains them."""

    specimen: str = "microtubules"
    density: float = 1.0
    bend: float = 1.0
    label_density: float = 1.0
    depth_um: float = 0.0
    label_spread: float = 0.0
    label_patchiness: float = 0.0
    label_gaps: float = 0.0
    haze: float = 0.06
    haze_texture: float = 0.0
    nucleus: float = 1.0
    membrane: float = 0.0
    cell_edge: int = 0
    far: float = 0.0
    far_depth_um: float = 1.0
    cutoff_factor: float = 1.0
    spherical_rad: float = 0.0
    focus_um: float = 0.0
    focus_drift_um: float = 0.0
    unevenness: float = 0.0
    peak_electrons: float = 20.0
    exposures: int = 9
    still: int = 0
    interval_s: float = 0.2835
    bleached: float = 0.0
    read_noise_e: float = 1.0
    gain_spread: float = 0.0
    offset_spread_e: float = 0.09
    offset_error: float = 0.0
    hot_pixels: float = 0.0
    hot_peak: float = 1.0

    @property
    def labelling(self) -> Labelling:
        """Of the structure in focus."""
        return Labelling(
            density=self.density,
            bend=self.bend,
            labels=self.label_density,
            depth_um=self.depth_um,
            spread=self.label_spread,
            patchiness=self.label_patchiness,
            gaps=self.label_gaps,
        )


def sensor_of(of: Conditions) -> SensorProperties:
    """Camera under the conditions; the offset it really has is not the stated one."""
    usual = SensorProperties()
    error_adu = of.offset_error * of.peak_electrons / usual.electrons_per_adu
    return SensorProperties(
        offset_adu=max(LEAST_OFFSET_ADU, usual.offset_adu + error_adu),
        offset_spread_adu=of.offset_spread_e / usual.electrons_per_adu,
        read_noise_median_e=of.read_noise_e,
        read_noise_rms_e=READ_NOISE_RMS * of.read_noise_e,
        gain_spread=of.gain_spread,
        hot_pixels=of.hot_pixels,
        hot_e=of.hot_peak * of.peak_electrons,
    )


def draw_conditions(seed: int, ranges: Mapping[str, Any] | None = None, **fixed: Any) -> Conditions:
    """Conditions of a seed; what is given as ``fixed`` is not drawn.

    Raises
    ------
    MicroscopeError
        If a range cannot be understood.
    """
    ranges = read_ranges(RANGES) if ranges is None else ranges
    usual = asdict(Conditions())
    for name in (*ranges, *fixed):
        if name not in usual:
            raise MicroscopeError(
                f"nothing called {name!r} differs between simulated recordings",
                where=str(RANGES),
                remedy=f"choose from {', '.join(usual)}",
            )
    drawn = {name: type(usual[name])(_drawn(seed, name, ranges[name])) for name in ranges}
    return Conditions(**(drawn | fixed))


@lru_cache(maxsize=4)
def read_ranges(path: Path) -> Mapping[str, Any]:
    """Ranges by name, from a YAML file like ``randomisation.yaml``."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _drawn(seed: int, name: str, of: Mapping[str, Any]) -> Any:
    key = zlib.crc32(name.encode())
    whether, where = float(uniform(seed, key, 0)), float(uniform(seed, key, 1))
    if whether >= of.get("chance", 1.0):
        return float(of["otherwise"])
    if "choose" in of:
        return _chosen(of["choose"], where)
    kind = "log" if "log" in of else "uniform"
    try:
        low, high = (float(value) for value in of[kind])
        if kind == "log":
            return math.exp(math.log(low) + where * math.log(high / low))
        return low + where * (high - low)
    except (KeyError, TypeError, ValueError) as error:
        raise MicroscopeError(
            f"the range of {name} cannot be understood: {dict(of)}",
            where=str(RANGES),
            remedy="write {uniform: [low, high]}, {log: [low, high]} or {choose: {value: weight}}",
        ) from error


def _chosen(weights: Mapping[Any, float], where: float) -> Any:
    rest = where * sum(weights.values())
    for value, weight in weights.items():
        rest -= weight
        if rest < 0:
            return value
    return value
