"""What a user can say about foreign files that do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass

from tisr_scope.profiles.schema import Profile


@dataclass(frozen=True)
class ImportSettings:
    """What files do not say about themselves.

    Attributes
    ----------
    orientations, phases : int, optional
        3 and 3 if omitted, 5 and 5 for structures named nonlinear.
    axes : str, optional
        Order of the folded axes; see :mod:`tisr_scope.formats.stack_axes`.
    sections : int, optional
        Focal planes of each time point of a 3D stack.
    channel, plane : int, optional
        Which channel and focal plane, counted from 1, where there are several; all planes if
        omitted.
    levels : tuple of int
        Which light levels, counted from 1; all if empty.
    levels_mw : tuple of float
        Laser power of each of them; ranks 1, 2, 3 if empty.
    interval_s, exposure_ms : float, optional
        Timing, instead of what the files say.
    pixel_size_um, numerical_aperture, excitation_nm, emission_nm : float, optional
        Optics, instead of what the files say.
    angles_rad, period_um : tuple of float, float, optional
        Stripes; measured in the frames if omitted.
    offset_adu, electrons_per_adu : float, optional
        Of the camera.
    extra_frames : int
        Frames after every set of patterns that are none, such as a wide field.
    drop_incomplete : bool
        Leave out the frames of a time point in which a recording was stopped.
    unsigned : bool, optional
        What negative counts are; see :func:`tisr_scope.formats.counts.counts_rule`.
    profile : Profile, optional
        Optics, stripes, camera and layout from an existing profile.
    """

    orientations: int | None = None
    phases: int | None = None
    axes: str | None = None
    sections: int | None = None
    channel: int | None = None
    plane: int | None = None
    levels: tuple[int, ...] = ()
    levels_mw: tuple[float, ...] = ()
    interval_s: float | None = None
    exposure_ms: float | None = None
    pixel_size_um: float | None = None
    numerical_aperture: float | None = None
    excitation_nm: float | None = None
    emission_nm: float | None = None
    angles_rad: tuple[float, ...] = ()
    period_um: float | None = None
    offset_adu: float | None = None
    electrons_per_adu: float | None = None
    extra_frames: int = 0
    drop_incomplete: bool = False
    unsigned: bool | None = None
    profile: Profile | None = None
