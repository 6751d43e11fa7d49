"""The microscope: a Micro-Manager core with its configuration, real or simulated.

The only module that touches ``pymmcore_plus.experimental``.  Python devices stand beside C++
ones in the same ``.cfg`` file (lines ``#py pyDevice,Label,module,Class``).  Every verb raises an
error that names the device and the remedy; nothing is only logged.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jaxtyping import UInt8
from numpy.typing import NDArray
from pymmcore_plus import find_micromanager

from tisr_scope.acquisition.core import Core, SampleClock
from tisr_scope.acquisition.light import Light
from tisr_scope.acquisition.light_writes import (
    Write,
    planned_by_preset,
    preset_writes,
    refuse_settings,
    refuse_startup,
    setting_writes,
)
from tisr_scope.acquisition.safety import LightGuard
from tisr_scope.acquisition.watchdog import Watchdog
from tisr_scope.errors import (
    DeviceMissing,
    LightLimitExceeded,
    MicroscopeError,
    PresetMissing,
    TisrScopeError,
)
from tisr_scope.profiles.fields import Value
from tisr_scope.profiles.library import config_path
from tisr_scope.profiles.schema import Deadlines, DeviceSetting, Profile
from tisr_scope.running_order.run_plan import ChannelLight


class Microscope:
    """A loaded configuration with the profile's settings applied.

    Use :meth:`open`, and close it (or use it as a context manager): a core that is still alive
    when Python exits can abort the process.
    """

    def __init__(self, core: Core, profile: Profile, config: str) -> None:
        self.core = core
        self.profile = profile
        self.config = config
        self.watchdog = Watchdog(profile.microscope.deadlines)

    @classmethod
    def open(
        cls,
        profile: Profile,
        profile_path: Path | None = None,
        settings: Iterable[DeviceSetting] = (),
    ) -> Self:
        """Load the configuration, then apply the profile's settings and ``settings``.

        Raises
        ------
        MicroscopeError, DeviceMissing
            If the configuration cannot be loaded or a setting is refused.
        LightLimitExceeded
            If the configuration or a setting would set a laser.
        """
        config = str(config_path(profile, profile_path))
        refuse_startup(LightGuard(profile), _config_text(config), config)
        chosen = (*profile.microscope.settings, *settings)
        core = Core()
        microscope = cls(core, profile, config)
        try:
            core.loadSystemConfiguration(config)
        except Exception as error:
            microscope.close()
            missing = isinstance(error, FileNotFoundError)
            raise MicroscopeError(
                f"the configuration cannot be loaded: {error}",
                where=config,
                remedy="give an absolute path, or put the .cfg file beside the profile"
                if missing
                else "load this .cfg in Micro-Manager, mend the line named above, and check that "
                "every device is switched on",
            ) from error
        try:
            with microscope._looking():
                microscope._prepare(chosen)
        except BaseException:
            with suppress(Exception):
                microscope.light.off()
            microscope.close()
            raise
        return microscope

    @property
    def config_text(self) -> str:
        """Text of the configuration; empty where it cannot be found."""
        return _config_text(self.config)

    def _prepare(self, settings: Sequence[DeviceSetting]) -> None:
        """Claim the devices, apply settings, and go dark."""
        self._claim_devices()
        refuse_settings(self.light.guard, setting_writes(settings), self.config)
        for setting in settings:
            self.set_property(setting.device, setting.property, setting.value)
        self.core.waitForSystem()
        # Python shutters are ignored by AutoShutter, so shutters are driven explicitly.
        self.core.setAutoShutter(False)
        self.light.off()

    def _looking(self) -> AbstractContextManager[None]:
        """Watch calls outside a run, in the dark."""

        def dark() -> None:
            if (light := self.__dict__.get("light")) is not None:
                light.lock_dark()

        return self.watchdog.looking(lambda: False, dark)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _claim_devices(self) -> None:
        """Make the profile's devices the core's current ones."""
        microscope = self.profile.microscope
        self.require_device(microscope.camera.device)
        self.core.setCameraDevice(microscope.camera.device)
        for label, choose in (
            (microscope.slm, self.core.setSLMDevice),
            (microscope.shutter, self.core.setShutterDevice),
            (microscope.xy_stage, self.core.setXYStageDevice),
            (microscope.z_stage, self.core.setFocusDevice),
        ):
            if label is not None:
                self.require_device(label)
                choose(label)
        guard = LightGuard(self.profile)
        for device, prop in guard.dark:
            self.require_property(device, prop)
        for channel in self.profile.channels:
            for label in channel.shutters:
                self.require_device(label)
        for laser in guard.lasers.values():
            if laser.group is not None:
                for preset in (laser.off_value, *(value for _, value in laser.steps or ())):
                    self.require_preset(laser.group, str(preset))
        self.light = Light(self.core, self.profile, self.config, self._write, self.calling)

    @property
    def deadlines(self) -> Deadlines:
        """How long calls may take."""
        return self.profile.microscope.deadlines

    def require_device(self, label: str) -> None:
        """Raise :class:`DeviceMissing`, with the labels there are, if a device is not loaded."""
        loaded = [name for name in self.core.getLoadedDevices() if name != "Core"]
        if label not in loaded:
            raise DeviceMissing(
                f"there is no device labelled {label!r}; loaded are {', '.join(loaded) or 'none'}",
                where=self.config,
                remedy="use one of these labels in the profile, or add the device to the .cfg",
            )

    def require_property(self, device: str, prop: str) -> None:
        """Raise if a device or its property does not exist."""
        self.require_device(device)
        if not self.core.hasProperty(device, prop):
            names = ", ".join(self.core.getDevicePropertyNames(device))
            raise MicroscopeError(
                f"device {device!r} has no property {prop!r}; it has {names or 'none'}",
                where=self.config,
                remedy="use one of these property names in the profile",
            )

    def require_preset(self, group: str, preset: str) -> None:
        """Raise :class:`PresetMissing`, with the names there are, if a preset is not defined."""
        groups = list(self.core.getAvailableConfigGroups())
        if group not in groups:
            raise PresetMissing(
                f"there is no configuration group {group!r}; "
                f"defined are {', '.join(groups) or 'none'}",
                where=self.config,
                remedy="use one of these groups in the profile, or define it in the .cfg",
            )
        presets = list(self.core.getAvailableConfigs(group))
        if preset not in presets:
            raise PresetMissing(
                f"group {group!r} has no preset {preset!r}; it has {', '.join(presets) or 'none'}",
                where=self.config,
                remedy="use one of these presets in the profile, or define it in the .cfg",
            )

    def set_property(self, device: str, prop: str, value: Value) -> None:
        """Set a device property that makes no light, and wait for the device.

        Raises
        ------
        MicroscopeError
            With the reason the device gives.
        LightLimitExceeded
            If it could turn a laser or a lamp on: that is the business of :class:`Light`.
        """
        if self.light.guard.makes_light(device, prop, value):
            raise LightLimitExceeded(
                f"{device}.{prop} = {value} would make light outside the running order",
                where=self.config,
                remedy="set powers in the profile: levels_mw, timelapse_mw",
            )
        self._write(device, prop, value)

    def _write(self, device: str, prop: str, value: Value) -> None:
        with self.watchdog.call(f"setting {device}.{prop} to {value}", self.deadlines.other_s):
            try:
                self.core.setProperty(device, prop, value)
                self.core.waitForDevice(device)
            except Exception as error:
                self.require_property(device, prop)
                raise MicroscopeError(
                    f"{device}.{prop} refused the value {value!r}: {error}",
                    where=self.config,
                    remedy=self._permitted(device, prop),
                ) from error

    def _permitted(self, device: str, prop: str) -> str:
        allowed = self.core.getAllowedPropertyValues(device, prop)
        if allowed:
            return f"use one of {', '.join(map(str, allowed))}"
        if self.core.hasPropertyLimits(device, prop):
            low = self.core.getPropertyLowerLimit(device, prop)
            high = self.core.getPropertyUpperLimit(device, prop)
            return f"stay between {low:g} and {high:g}, and check that the device is ready"
        return "check that the device is switched on, connected and not in use elsewhere"

    def apply_preset(self, group: str, preset: str) -> None:
        """Apply a preset of a configuration group and wait for it; it is dark afterwards.

        What it says about light is left out (:meth:`check_preset` has refused anything but a
        power of the plan), and every laser goes dark once more, because a preset may change it
        by a property that nobody knows to be a power.
        """
        self.require_preset(group, preset)
        guard = self.light.guard
        with self.calling(f"preset {preset!r} of group {group!r} cannot be applied"):
            writes = preset_writes(self.core, guard, group, preset)
            self.light.remember([write.key for write in writes])
            if any(write.device in guard.devices for write in writes):
                self.light.close()
            others = [write for write in writes if write.key not in guard.dark]
            if len(others) < len(writes):
                for write in others:
                    self.core.setProperty(write.device, write.prop, write.value)
            else:
                self.core.setConfig(group, preset)
            self.core.waitForConfig(group, preset)
            self.core.setAutoShutter(False)
        self.light.forget()
        self.light.dark()

    def check_preset(
        self, group: str, preset: str, channels: Iterable[ChannelLight]
    ) -> list[Write]:
        """Refuse a preset that is not there or sets a laser to what is not planned.

        Returns
        -------
        list of Write
            What the preset says about lasers in line with the plan; it is left out.

        Raises
        ------
        PresetMissing, LightLimitExceeded
        """
        self.require_preset(group, preset)
        writes = preset_writes(self.core, self.light.guard, group, preset)
        return planned_by_preset(self.light.guard, writes, channels, self.config)

    def set_exposure(self, exposure_ms: float) -> None:
        """Set the camera's exposure time."""
        with self.calling(f"the camera refused an exposure of {exposure_ms:g} ms"):
            self.core.setExposure(exposure_ms)

    def show_image(self, image: UInt8[NDArray[Any], "y x"]) -> None:
        """Upload an image to the SLM and display it."""
        slm = self.profile.microscope.slm
        if slm is None:
            raise MicroscopeError(
                "there is no SLM to show a pattern on",
                where="microscope.slm",
                remedy="name the SLM in the profile",
            )
        if image.shape != self.slm_shape():
            raise MicroscopeError(
                f"the pattern is {image.shape} pixels, the SLM {self.slm_shape()}",
                where=slm,
                remedy="start the run again: patterns are made for the size the SLM has then",
            )
        with self.calling(f"SLM {slm!r} did not take the pattern", self.deadlines.slm_s):
            self.core.setSLMImage(slm, image)
            self.core.displaySLMImage(slm)
            self.core.waitForDevice(slm)

    def slm_shape(self) -> tuple[int, int] | None:
        """Height and width of the SLM in pixels, or None without an SLM."""
        slm = self.profile.microscope.slm
        if slm is None:
            return None
        return int(self.core.getSLMHeight(slm)), int(self.core.getSLMWidth(slm))

    def move(self, x_um: float | None, y_um: float | None, z_um: float | None) -> None:
        """Move the stages to a position and wait for them."""
        stages = self.profile.microscope
        if x_um is not None and y_um is not None:
            stage = stages.xy_stage or self.core.getXYStageDevice()
            with self.calling(
                f"XY stage {stage!r} did not reach ({x_um:g}, {y_um:g}) um",
                self.deadlines.stage_s,
            ):
                self.core.setXYPosition(stage, x_um, y_um)
                self.core.waitForDevice(stage)
        if z_um is not None:
            focus = stages.z_stage or self.core.getFocusDevice()
            with self.calling(
                f"focus stage {focus!r} did not reach {z_um:g} um", self.deadlines.stage_s
            ):
                self.core.setPosition(focus, z_um)
                self.core.waitForDevice(focus)

    def snap(self) -> tuple[NDArray[Any], Mapping[str, Any]]:
        """One exposure, or an error that says why there is none."""
        exposing_s = float(self.core.getExposure()) / 1e3
        call = self.watchdog.call("taking a frame", self.deadlines.camera_s, exposing_s)
        try:
            with call:
                return self.core.snap_frame()
        except TisrScopeError:
            raise
        except Exception as error:
            raise MicroscopeError(
                f"the camera gave no frame: {error}",
                where=self.profile.microscope.camera.device,
                remedy="check the camera's cable, power and trigger mode, then record again",
            ) from error

    @contextmanager
    def calling(self, complaint: str, limit_s: float | None = None) -> Iterator[None]:
        """Watch a call, and turn what a device says into an error with a remedy."""
        with self.watchdog.call(complaint, limit_s or self.deadlines.other_s):
            try:
                yield
            except TisrScopeError:
                raise
            except Exception as error:
                raise MicroscopeError(
                    f"{complaint}: {error}",
                    where=self.config,
                    remedy="check that the device is switched on, connected and not in use "
                    "elsewhere",
                ) from error

    def wait_for_camera(self) -> None:
        """Wait until the camera has ended its last burst: it refuses everything until then.

        Some need milliseconds after the last frame to stop.

        Raises
        ------
        MicroscopeError
        """
        deadline = time.monotonic() + self.deadlines.camera_s
        while self.core.isSequenceRunning():
            if time.monotonic() > deadline:
                raise MicroscopeError(
                    "the camera does not end its burst",
                    where=self.profile.microscope.camera.device,
                    remedy="check its trigger mode, or record with --no-bursts",
                )
            time.sleep(0.0005)

    def stop_camera(self) -> None:
        """Stop a running burst; a camera that cannot is no reason to fail in the dark."""
        with (
            suppress(Exception),
            self.watchdog.call("stopping the camera", self.deadlines.camera_s),
        ):
            if self.core.isSequenceRunning():
                self.core.stopSequenceAcquisition()

    def all_off(self) -> None:
        """Light off, verified, then the camera."""
        try:
            self.light.off()
        finally:
            self.stop_camera()

    def sample_clock(self) -> SampleClock | None:
        """Clock of a sample that does not live in real time, else None."""
        return SampleClock.of_core(self.core)

    def close(self) -> None:
        """Unload all devices and let go of the core."""
        core = self.__dict__.pop("core", None)
        if core is not None:
            unloading = self.watchdog.call("unloading the devices", self.deadlines.stage_s)
            with self._looking(), unloading:
                core.unloadAllDevices()
            del core
            gc.collect()


def _config_text(config: str) -> str:
    """Text of a configuration, found as Micro-Manager finds it; empty where there is no file."""
    path = Path(config).expanduser()
    if not path.is_file() and not path.is_absolute():
        path = Path(find_micromanager() or "") / path
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
