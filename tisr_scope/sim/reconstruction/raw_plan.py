"""What a raw stack is taken for before it is reconstructed, and who says so."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from tisr_scope.errors import DataError
from tisr_scope.formats.facts import SAID, Fact, settle, settle_pixel
from tisr_scope.formats.raw_stack import PatternLayout, raw_frames
from tisr_scope.formats.reader import open_stack
from tisr_scope.profiles.library import load_profile
from tisr_scope.profiles.schema import Profile
from tisr_scope.sim.parameters.estimate import nominal_carriers
from tisr_scope.sim.reconstruction.region import recording_nominal

ASSUMED_PIXEL_UM, ASSUMED_NA, ASSUMED_EMISSION_NM = 0.0626, 1.49, 525.0
"""The instrument of the published data."""


@dataclass(frozen=True)
class RawSettings:
    """What a user says about a raw stack; everything else is read from it, or assumed and told.

    Attributes
    ----------
    layout : PatternLayout
        Which of its frames are patterns.
    channel : int, optional
        Counted from 1; must be given where the file holds several.
    pixel_size_um, numerical_aperture, emission_nm, interval_s : float, optional
        Instead of what the file says.
    profile : Profile, optional
        Layout, optics and nominal carriers.
    nominal : array, shape (orientation, 2), optional
        Carriers to search around, in cycles per micrometre; before the profile's.
    """

    layout: PatternLayout = field(default_factory=PatternLayout)
    channel: int | None = None
    pixel_size_um: float | None = None
    numerical_aperture: float | None = None
    emission_nm: float | None = None
    interval_s: float | None = None
    profile: Profile | None = None
    nominal: Float[np.ndarray, "orientation 2"] | None = None


@dataclass(frozen=True)
class RawPlan:
    """A raw stack as it will be reconstructed.

    Attributes
    ----------
    path : Path
    frames : array, shape (time, orientation, phase, y, x)
        As stored, on disk where possible.
    pixel_size_um, numerical_aperture, emission_nm, interval_s : Fact of float
        Values and who says so.
    nominal : array, shape (orientation, 2), optional
        Carriers to search around.
    told : dict
        All this in words.
    """

    path: Path
    frames: Num[np.ndarray, "time orientation phase y x"]
    pixel_size_um: Fact[float]
    numerical_aperture: Fact[float]
    emission_nm: Fact[float]
    interval_s: Fact[float]
    nominal: Float[np.ndarray, "orientation 2"] | None
    told: dict[str, str]


def plan_raw(path: Path, settings: RawSettings | None = None) -> RawPlan:
    """Open a raw stack and decide what its frames and its optics are.

    Raises
    ------
    DataError
        If the file cannot be read, or it is not clear which of its frames are patterns, or which
        channel is meant.
    """
    settings, path = settings or RawSettings(), Path(path)
    layout, profile, nominal = settings.layout, settings.profile, settings.nominal
    stack, channel = open_stack(path).one_channel(settings.channel)
    known = None
    if profile is not None:
        if profile.illumination is None:
            raise DataError(
                "the profile has no structured illumination",
                where=profile.name,
                remedy="choose a profile with illumination, or state the optics",
            )
        place = min(channel, len(profile.channels) - 1)
        known = profile.channels[place]
        nominal = recording_nominal(profile, place) if nominal is None else nominal
    raw = raw_frames(stack, layout)
    if raw.frames.shape[2] > 1:
        raise DataError(
            f"the stack holds {raw.frames.shape[2]} focal planes",
            where=str(path),
            remedy="reconstruct it in three dimensions with --sections, or give one plane alone",
        )
    frames = raw.plane()
    if nominal is not None and len(nominal) != frames.shape[1]:
        raise DataError(
            f"{len(nominal)} carriers are stated for {frames.shape[1]} orientations",
            where=str(path),
            remedy="give one of --angles-deg for each orientation",
        )
    pixel = settle_pixel(
        stack.pixel_size_um,
        user=settings.pixel_size_um,
        profile=profile.optics.pixel_size_um if profile else None,
        assumed=ASSUMED_PIXEL_UM,
        where=str(path),
    )
    aperture = settle(
        user=settings.numerical_aperture,
        file=stack.numerical_aperture,
        profile=profile.optics.numerical_aperture if profile else None,
        assumed=ASSUMED_NA,
    )
    emission = settle(
        user=settings.emission_nm,
        file=stack.emission_of(channel),
        profile=known.emission_nm if known else None,
        assumed=ASSUMED_EMISSION_NM,
    )
    interval = settle(user=settings.interval_s, file=stack.interval_s, assumed=1.0)
    times, orientations, phases, height, width = frames.shape
    told = {
        **stack.facts(),
        "axes": f"{raw.axes} ({SAID[raw.source]}): {times} time points x {orientations} "
        f"orientations x {phases} phases x {height} x {width} pixels",
        "pixel size, um": str(pixel),
        "detection NA": str(aperture),
        "emission, nm": str(emission),
        **({"interval, s": str(interval)} if times > 1 else {}),
    }
    return RawPlan(path, frames, pixel, aperture, emission, interval, nominal, told)


def carriers_from(source: str, channel: int) -> Float[np.ndarray, "orientation 2"]:
    """Carriers that a profile, a recording or an earlier reconstruction has.

    Parameters
    ----------
    source : str
        Name or file of a profile, folder of a recording, or ``<name>_parameters.json``.
    channel : int
        Counted from 0.

    Raises
    ------
    DataError
        If it says nothing about the stripes.
    """
    path = Path(source)
    if path.suffix == ".json":
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["sim_parameters"]["carrier"]
            return np.array(found, np.float64).reshape(-1, 2)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"no carriers can be read: {error}",
                where=source,
                remedy="give the _parameters.json that 'tisr reconstruct' wrote",
            ) from error
    profile = load_profile(str(path / "profile.yaml") if path.is_dir() else source)
    nominal = recording_nominal(profile, min(channel, len(profile.channels) - 1))
    if nominal is None:
        raise DataError(
            "the profile does not say angles and period of the stripes",
            where=source,
            remedy="state them with --angles-deg and --period-um",
        )
    return nominal


def stated_carriers(
    angles_deg: tuple[float, ...], period_um: float | None
) -> Float[np.ndarray, "orientation 2"] | None:
    """Carriers from options; None where nothing is stated.

    Raises
    ------
    DataError
        If one of the two is missing.
    """
    if not angles_deg and period_um is None:
        return None
    if not angles_deg or period_um is None:
        raise DataError(
            "angles and period of the stripes belong together",
            remedy="give one angle for each orientation with --angles-deg, and --period-um",
        )
    return nominal_carriers(tuple(np.radians(angles_deg).tolist()), period_um)
