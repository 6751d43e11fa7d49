"""Every error the package raises on purpose.

::

    TisrScopeError
    ├── ProfileError                 a profile that cannot be run as written
    ├── MicroscopeError              the hardware, real or simulated
    │   ├── DeviceMissing            a device the profile names is not loaded
    │   ├── PresetMissing            a configuration group or preset is not there
    │   ├── DeviceTimeout            a device that did not answer in time
    │   ├── LightLimitExceeded       more light than the profile allows
    │   └── BufferOverflow           frames arrived faster than they were taken
    ├── RecordingError               a recording that cannot be written or read
    │   └── DiskFull                 no space left for frames
    ├── ReconstructionError          SIM parameters or images that cannot be trusted
    ├── DataError                    arrays or pairs of the wrong shape, scale or content
    ├── TrainingError                a run that cannot start, resume or go on
    ├── BundleError                  a model bundle that is missing, damaged or of another kind
    │   └── UnsafeCheckpoint         a checkpoint that would run code
    ├── CalibrationError             a calibration that is missing, impossible or out of its domain
    └── DisplayError                 no display to draw a window on

Each message answers three questions: what happened, where, and what to do about it.
"""

from __future__ import annotations


class TisrScopeError(Exception):
    """Base of all deliberate errors.

    Parameters
    ----------
    what : str
        What happened, in one sentence.
    where : str, optional
        The file, device, key or frame it concerns.
    remedy : str, optional
        What the user can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.remedy:
            lines.append(f"  what to do: {self.remedy}")
        return "\n".join(lines)


class ProfileError(TisrScopeError):
    """A profile that cannot be run as written."""


class MicroscopeError(TisrScopeError):
    """The hardware, real or simulated, did not do what was asked."""


class DeviceMissing(MicroscopeError):
    """A device that the profile names is not in the loaded configuration."""


class PresetMissing(MicroscopeError):
    """A configuration group or preset that the profile names is not there."""


class DeviceTimeout(MicroscopeError):
    """A device did not answer in time."""


class LightLimitExceeded(MicroscopeError):
    """More light was asked for than the profile allows."""


class BufferOverflow(MicroscopeError):
    """Frames arrived faster than they were taken away."""


class RecordingError(TisrScopeError):
    """A recording that cannot be written or read."""


class DiskFull(RecordingError):
    """No space is left for frames."""


class ReconstructionError(TisrScopeError):
    """SIM parameters or images that cannot be trusted."""


class DataError(TisrScopeError):
    """Arrays or pairs of the wrong shape, scale or content."""


class TrainingError(TisrScopeError):
    """A training run that cannot start, resume or go on."""


class BundleError(TisrScopeError):
    """A model bundle that is missing, damaged or of another kind."""


class UnsafeCheckpoint(BundleError):
    """A checkpoint that would run code to be read; none of it is run."""


class CalibrationError(TisrScopeError):
    """A calibration that is missing, impossible or out of its domain."""


class DisplayError(TisrScopeError):
    """There is no display to draw a window on."""
