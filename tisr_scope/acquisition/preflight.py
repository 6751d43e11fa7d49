"""The check before the light: whether the loaded microscope fits the profile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from tisr_scope.acquisition.microscope import Microscope
from tisr_scope.errors import DiskFull, LightLimitExceeded, MicroscopeError, TisrScopeError
from tisr_scope.profiles.fields import Value, same_value
from tisr_scope.profiles.lasers import Laser
from tisr_scope.profiles.schema import DeviceSetting, IndexedPatterns, Profile
from tisr_scope.running_order.run_plan import ChannelLight, Mode, RunPlan

_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (``error``) or deserves a look (``warning``)."""

    severity: Literal["error", "warning"]
    what: str
    where: str
    remedy: str
    error: TisrScopeError | None = field(default=None, compare=False)

    def __str__(self) -> str:
        lines = [self.what if self.severity == "error" else f"note: {self.what}"]
        lines += [f"  where: {self.where}"] if self.where else []
        lines += [f"  what to do: {self.remedy}"] if self.remedy else []
        return "\n".join(lines)


def check(microscope: Microscope, plan: RunPlan, out: Path | None = None) -> list[Finding]:
    """Everything about the loaded microscope that does not fit the run.

    Devices, properties and presets exist; powers lie within the limits of laser and profile;
    camera frames and SLM have the shape the profile says; the disk has room.  No light is used.
    """
    findings: list[Finding] = []

    def attempt(test: Callable[[], object]) -> None:
        try:
            test()
        except TisrScopeError as error:
            findings.append(_finding(error))

    source = plan.source
    for group, name, channels in _presets(plan):
        attempt(partial(_check_preset, microscope, group, name, channels, findings))
    if source is not None and source.kind == "index":
        attempt(partial(_check_index, microscope, source))
    if not any(finding.error for finding in findings):
        attempt(partial(_check_powers, microscope, plan))
        attempt(partial(_check_camera, microscope))
    if plan.interval_s and plan.idle_s == 0:
        findings.append(
            Finding(
                "warning",
                f"a time point takes longer than the interval of {plan.interval_s:g} s",
                "interval_s",
                "time points follow back to back; lengthen the interval to keep its rhythm",
            )
        )
    if out is not None:
        size = plan.bytes
        attempt(partial(check_space, out, size))
    return findings


def check_profile(
    profile: Profile,
    profile_path: Path | None = None,
    settings: Iterable[DeviceSetting] = (),
) -> list[Finding]:
    """Load the microscope a profile names and compare the two, mode by mode, without light."""
    modes: list[Mode] = []
    if profile.paired is not None:
        modes.append("paired")
    if profile.timelapse is not None:
        modes.append("timelapse")
    findings: list[Finding] = []
    try:
        with Microscope.open(profile, profile_path, settings) as microscope:
            for mode in modes:
                found = check(microscope, RunPlan(profile, mode))
                findings += [finding for finding in found if finding not in findings]
    except TisrScopeError as error:
        findings.append(_finding(error))
    return findings


def _finding(error: TisrScopeError) -> Finding:
    return Finding("error", error.what, error.where or "", error.remedy or "", error)


def check_space(out: Path, needed: int) -> None:
    """Refuse a run that cannot fit on the disk.

    Raises
    ------
    DiskFull
    """
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise DiskFull(
            f"the run needs {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free",
            where=str(folder),
            remedy="free some space, record elsewhere, or use fewer time points",
        )


def _presets(plan: RunPlan) -> Iterator[tuple[str, str, tuple[ChannelLight, ...]]]:
    """Every preset of a run, with the channels during which it is applied."""
    for channel in plan.channels:
        for preset in channel.presets:
            yield preset.group, preset.preset, (channel,)
    source = plan.source
    if source is not None and source.kind == "preset":
        names = source.presets if plan.angles_rad else (source.widefield_preset or "",)
        for name in dict.fromkeys(names):
            yield source.group, name, plan.channels


def _check_preset(
    microscope: Microscope,
    group: str,
    name: str,
    channels: tuple[ChannelLight, ...],
    findings: list[Finding],
) -> None:
    findings += [
        Finding(
            "warning",
            f"{write.origin} sets {write.device}.{write.prop} to {write.value}, a power of the "
            "plan: this is left out, the running order sets the laser",
            microscope.config,
            "take the laser out of that preset in the .cfg",
        )
        for write in microscope.check_preset(group, name, channels)
    ]


def _check_index(microscope: Microscope, source: IndexedPatterns) -> None:
    microscope.require_property(source.device, source.property)
    if (source.device, source.property) in microscope.light.guard.dark:
        raise LightLimitExceeded(
            f"the pattern index would be written to the laser {source.device}.{source.property}",
            where="illumination.source",
            remedy="name the device and property that choose the pattern",
        )


def _check_powers(microscope: Microscope, plan: RunPlan) -> None:
    for channel in plan.channels:
        for level in range(plan.levels):
            for key, power in channel.powers_of(level).items():
                laser = microscope.light.lasers[key]
                for value in (laser.value_of(0), laser.value_of(power)):
                    if laser.group is None:
                        _check_value(microscope, laser, value)


def _check_value(microscope: Microscope, laser: Laser, value: Value) -> None:
    core, (device, prop) = microscope.core, laser.key
    if core.isPropertyReadOnly(device, prop):
        raise MicroscopeError(
            f"{device}.{prop} cannot be set",
            where=microscope.config,
            remedy="name the property that sets the laser power",
        )
    if core.hasPropertyLimits(device, prop):
        low = core.getPropertyLowerLimit(device, prop)
        high = core.getPropertyUpperLimit(device, prop)
        allowed, says = low <= float(value) <= high, f"{low:g} to {high:g}"
    else:
        values = core.getAllowedPropertyValues(device, prop)
        allowed = not values or any(same_value(value, one) for one in values)
        says = ", ".join(map(str, values))
    if not allowed:
        raise MicroscopeError(
            f"{device}.{prop} takes {says}, the run needs {value}",
            where=microscope.config,
            remedy="change the powers in the profile, or say with 'calibration' or 'steps' what "
            "the device takes; a laser that cannot be set to its 'off_value' cannot be turned off",
        )


def _check_camera(microscope: Microscope) -> None:
    core, camera = microscope.core, microscope.profile.microscope.camera
    shape = (int(core.getImageHeight()), int(core.getImageWidth()))
    if shape != camera.frame_shape:
        raise MicroscopeError(
            f"the camera gives frames of {shape} pixels, the profile says {camera.frame_shape}",
            where=camera.device,
            remedy="set binning and region of interest in microscope.settings, or correct "
            "microscope.camera.frame_shape",
        )
    if core.getBytesPerPixel() != 2 or core.getNumberOfComponents() != 1:
        raise MicroscopeError(
            f"the camera gives {8 * core.getBytesPerPixel()} bits a pixel, 16-bit grey is needed",
            where=camera.device,
            remedy="set the camera's pixel type to 16 bit in microscope.settings",
        )
    if core.getNumberOfCameraChannels() != 1:
        raise MicroscopeError(
            "a combined camera with several channels cannot be recorded",
            where=camera.device,
            remedy="name one physical camera in the profile",
        )
