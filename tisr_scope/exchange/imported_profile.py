"""Profiles for data that other instruments recorded.

They describe optics, patterns and timing, so that everything after a recording works unchanged,
but name no microscope: their configuration file exists nowhere, their devices are called
``imported``, and ``tisr acquire`` stops before any device is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import ValidationError

from tisr_scope.errors import DataError, ReconstructionError
from tisr_scope.profiles.schema import Profile
from tisr_scope.sim.optics.otf import incoherent_otf
from tisr_scope.sim.parameters.estimate import estimate_parameters

NO_MICROSCOPE = "imported-data-has-no-microscope.cfg"
IMPORTED = "imported"
MEASURED_TIME_POINTS = 3


@dataclass(frozen=True)
class ImportedOptics:
    """Optics of imported frames, in the units of their names.

    The defaults are those of the published Multi-SIM data: 488 nm, GFP-like emission.
    """

    pixel_size_um: float = 0.0626
    numerical_aperture: float = 1.49
    excitation_nm: float = 488.0
    emission_nm: float = 525.0


@dataclass(frozen=True)
class Stripes:
    """Directions and period of the illumination.

    Attributes
    ----------
    angles_rad : tuple of float
        Direction of the carrier of each orientation: (x, y) = (cos, sin).
    period_um : float
        In the sample.
    source : str
        Where they are from: ``"stated"``, ``"profile"`` or ``"measured"``.
    """

    angles_rad: tuple[float, ...]
    period_um: float
    source: str


def measure_stripes(
    electrons: Float[np.ndarray, "time orientation phase y x"],
    optics: ImportedOptics,
    where: str,
) -> Stripes:
    """Directions and mean period of the stripes, from the frames themselves.

    Raises
    ------
    DataError
        If no stripes are found that can be trusted.
    """
    otf = incoherent_otf(optics.numerical_aperture, optics.emission_nm)
    few = electrons[:MEASURED_TIME_POINTS]
    try:
        found = estimate_parameters(few, otf, optics.pixel_size_um, where=where)
    except ReconstructionError as error:
        raise DataError(
            f"the stripes cannot be measured: {error.what}",
            where=where,
            remedy="check --orientations, --phases, --axes and the optics; for frames that are too "
            "dim, state the stripes with --angles-deg and --period-um",
        ) from error
    angles = tuple(float(angle) % math.pi for angle in found.angle_rad)
    return Stripes(angles, float(1 / found.frequency.mean()), "measured")


def imported_profile(
    name: str,
    description: str,
    *,
    mode: str,
    optics: ImportedOptics,
    stripes: Stripes | None,
    phases: int,
    frame_shape: tuple[int, int],
    time_points: int,
    interval_s: float,
    exposure_ms: float,
    levels_mw: Sequence[float],
    offset_adu: float,
    electrons_per_adu: float,
    channel: str | None = None,
    planes_um: Sequence[float | None] = (),
) -> Profile:
    """A valid profile that describes imported frames and can drive no light.

    Parameters
    ----------
    name, description : str
        Of the region.
    mode : {"paired", "timelapse"}
        Paired where there are several levels.
    optics, stripes, phases
        Detection and illumination; without stripes an evenly lit time-lapse.
    frame_shape : (height, width)
        In pixels.
    time_points, interval_s, exposure_ms
        Timing.
    levels_mw : sequence of float
        Laser power of each level, or their ranks 1, 2, 3 where nobody knows the power.
    offset_adu, electrons_per_adu : float
        Of the camera.
    channel : str, optional
        Its name; the excitation wavelength if omitted.
    planes_um : sequence of float or None
        Heights of focal planes, which become stage positions.

    Raises
    ------
    DataError
        If the values describe no possible microscope.
    """
    powers = list(levels_mw) if len(levels_mw) > 1 else [levels_mw[0], 2 * levels_mw[0]]
    timing = {"time_points": time_points, "interval_s": interval_s, "exposure_ms": exposure_ms}
    even = "single" if stripes is None else "pattern_mean"
    plan = timing if mode == "paired" else {**timing, "widefield": even}
    source = {"kind": "index", "device": IMPORTED, "property": IMPORTED, "widefield_index": 0}
    content = {
        "name": re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip("_.-") or IMPORTED,
        "description": description,
        "microscope": {
            "config": NO_MICROSCOPE,
            "camera": {
                "device": IMPORTED,
                "frame_shape": frame_shape,
                "offset_adu": offset_adu,
                "electrons_per_adu": electrons_per_adu,
            },
            "xy_stage": IMPORTED if planes_um else None,
            "z_stage": IMPORTED if planes_um else None,
        },
        "optics": {
            "numerical_aperture": optics.numerical_aperture,
            "pixel_size_um": optics.pixel_size_um,
        },
        "illumination": None
        if stripes is None
        else {"angles_rad": stripes.angles_rad, "phases": phases, "source": source},
        "channels": [
            {
                "name": channel or f"{optics.excitation_nm:g}",
                "excitation_nm": optics.excitation_nm,
                "emission_nm": optics.emission_nm,
                "laser": {"device": IMPORTED, "hard_limit_mw": max(powers)},
                "levels_mw": powers,
                "timelapse_mw": powers[0],
                "pattern_period_um": None if stripes is None else stripes.period_um,
            }
        ],
        "positions": [
            {"x_um": 0.0, "y_um": 0.0, "z_um": z, "name": f"plane {number}"}
            for number, z in enumerate(planes_um, start=1)
        ],
        mode: plan,
    }
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'profile'}: {item['msg']}"
            for item in error.errors()
        )
        raise DataError(
            f"these values describe no microscope: {problems}",
            where=name,
            remedy="correct the options, or give a profile with --profile",
        ) from error
