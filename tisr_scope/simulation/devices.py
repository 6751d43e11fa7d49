"""Devices under the name that ``.cfg`` files written before version 0.2 load them by."""

from tisr_scope.simulated_microscope import devices as _devices

globals().update({name: value for name, value in vars(_devices).items() if name[0].isupper()})
