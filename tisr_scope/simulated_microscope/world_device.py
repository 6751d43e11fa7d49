"""The sample and the optics as one Micro-Manager device with properties."""

from __future__ import annotations

from pymmcore_plus.experimental.unicore import GenericDevice, pymm_property

from tisr_scope.simulated_microscope.specimens import SPECIMENS, find_specimen
from tisr_scope.simulated_microscope.world import Line, new_world

Setting = int | float | str
"""A property value as Micro-Manager hands it over, from a script or a configuration file."""


class WorldDevice(GenericDevice):
    """The sample and the optics; load it before the other simulated devices."""

    def __init__(self) -> None:
        super().__init__()
        self.world = new_world()

    @pymm_property(name="Seed", property_type=int)
    def seed(self) -> int:
        """Chooses the sample and the noise; setting it gives a new, unbleached sample."""
        return self.world.seed

    @seed.setter
    def _set_seed(self, value: Setting) -> None:
        self.world.new_sample(int(value))

    @pymm_property(name="Specimen488", allowed_values=list(SPECIMENS))
    def specimen_488(self) -> str:
        """What the 488 nm line excites."""
        return self._line("488").specimen

    @specimen_488.setter
    def _set_specimen_488(self, value: str) -> None:
        self._line("488").specimen = _specimen(value)

    @pymm_property(name="Specimen560", allowed_values=list(SPECIMENS))
    def specimen_560(self) -> str:
        """What the 560 nm line excites."""
        return self._line("560").specimen

    @specimen_560.setter
    def _set_specimen_560(self, value: str) -> None:
        self._line("560").specimen = _specimen(value)

    @pymm_property(name="Emission488_nm", limits=(400.0, 900.0))
    def emission_488(self) -> float:
        """Emission wavelength of what the 488 nm line excites."""
        return self._line("488").emission_nm

    @emission_488.setter
    def _set_emission_488(self, value: Setting) -> None:
        self._line("488").emission_nm = float(value)

    @pymm_property(name="Emission560_nm", limits=(400.0, 900.0))
    def emission_560(self) -> float:
        """Emission wavelength of what the 560 nm line excites."""
        return self._line("560").emission_nm

    @emission_560.setter
    def _set_emission_560(self, value: Setting) -> None:
        self._line("560").emission_nm = float(value)

    @pymm_property(name="NumericalAperture", limits=(0.1, 1.7))
    def numerical_aperture(self) -> float:
        """Numerical aperture of detection."""
        return self.world.numerical_aperture

    @numerical_aperture.setter
    def _set_numerical_aperture(self, value: Setting) -> None:
        self.world.numerical_aperture = float(value)

    @pymm_property(name="PixelSize_um", limits=(0.01, 1.0))
    def pixel_size(self) -> float:
        """Camera pixel in the sample."""
        return self.world.pixel_um

    @pixel_size.setter
    def _set_pixel_size(self, value: Setting) -> None:
        self.world.pixel_um = float(value)

    @pymm_property(name="Modulation", limits=(0.0, 1.0))
    def modulation(self) -> float:
        """Contrast that patterns reach in the sample."""
        return self.world.modulation

    @modulation.setter
    def _set_modulation(self, value: Setting) -> None:
        self.world.modulation = float(value)

    @pymm_property(name="PeakPhotons", limits=(0.1, 10_000.0))
    def peak_photons(self) -> float:
        """Photons in the brightest pixels of a raw frame at 1 mW and 10 ms."""
        return self.world.peak_photons

    @peak_photons.setter
    def _set_peak_photons(self, value: Setting) -> None:
        self.world.peak_photons = float(value)

    @pymm_property(name="Background", limits=(0.0, 1.0))
    def background(self) -> float:
        """Cytosolic haze as a share of the peak."""
        return self.world.background

    @background.setter
    def _set_background(self, value: Setting) -> None:
        self.world.background = float(value)

    @pymm_property(name="BleachDose_mJ", limits=(0.0, 1e9))
    def bleach_dose(self) -> float:
        """Dose that leaves 1/e of the fluorescence; 0 is no bleaching."""
        return self.world.bleach_dose_mj

    @bleach_dose.setter
    def _set_bleach_dose(self, value: Setting) -> None:
        self.world.bleach_dose_mj = float(value)

    @pymm_property(name="Realtime", limits=(0, 1), property_type=int)
    def realtime(self) -> int:
        """1: exposures take their time and the sample ages between frames."""
        return int(self.world.realtime)

    @realtime.setter
    def _set_realtime(self, value: Setting) -> None:
        now = self.world.time_s()
        self.world.realtime = bool(int(value))
        self.world.set_time(now)

    @pymm_property(name="Randomised", limits=(0, 1), property_type=int)
    def randomised(self) -> int:
        """1: the seed also draws cell, optics, light and camera from their ranges."""
        return int(self.world.randomised)

    @randomised.setter
    def _set_randomised(self, value: Setting) -> None:
        self.world.randomised = bool(int(value))

    @pymm_property(name="Time_s", limits=(0.0, 1e9))
    def time(self) -> float:
        """Age of the sample; setting it lets time pass in the dark."""
        return self.world.time_s()

    @time.setter
    def _set_time(self, value: Setting) -> None:
        self.world.set_time(float(value))

    def _line(self, name: str) -> Line:
        return self.world.lines.setdefault(name, Line())


def _specimen(name: str) -> str:
    find_specimen(name)
    return name
