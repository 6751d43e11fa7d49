"""The specimens by name, with the figures of the living structures they imitate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tisr_scope.errors import MicroscopeError
from tisr_scope.simulated_microscope.emitters import EVEN, Field, Labelling, Population
from tisr_scope.simulated_microscope.randomness import uniform
from tisr_scope.simulated_microscope.strands import StrandKind, Strands
from tisr_scope.simulated_microscope.tube_network import TubeNetwork, TubeNetworkKind
from tisr_scope.simulated_microscope.vesicles import VesicleKind, Vesicles

MICROTUBULES = StrandKind(
    per_um2=0.20,
    length_um=(6.0, 18.0),
    tube_radius_um=(0.020, 0.030),  # 25 nm tube with its antibody or tag: 40 to 60 nm wide
    emitters_per_um=45.0,
    label_variance=0.25,
    bend_rad=0.38,
    direction_spread_rad=0.55,
    wobble_rms_um=0.035,
    wobble_period_s=(1.5, 20.0),
    drift_um=0.15,
    drift_period_s=(40.0, 150.0),
    dynamic_fraction=0.6,
    crowding=0.4,
)

MITOCHONDRIA = StrandKind(
    per_um2=0.075,
    length_um=(1.2, 5.5),
    tube_radius_um=(0.15, 0.30),  # outer membrane of hollow tubes
    emitters_per_um=500.0,
    label_variance=0.2,
    bend_rad=0.8,
    direction_spread_rad=0.8,
    wobble_rms_um=0.06,
    wobble_period_s=(4.0, 40.0),
    drift_um=0.8,
    drift_period_s=(30.0, 120.0),
    crowding=0.3,
)

CCPS = VesicleKind(
    per_um2=0.7,
    radius_um=(0.05, 0.10),
    filling=0.0,
    flat=True,
    emitters=24,
    life_s=(30.0, 120.0),
    diffusion_um2_s=(1e-3, 1e-2),
)

LYSOSOMES = VesicleKind(
    per_um2=0.12,
    radius_um=(0.10, 0.40),
    filling=0.5,
    flat=False,
    emitters=260,
    life_s=(300.0, 900.0),
    diffusion_um2_s=(0.01, 0.05),
    run_um=1.2,
)

PEROXISOMES = VesicleKind(
    per_um2=0.15,
    radius_um=(0.05, 0.22),
    filling=0.8,
    flat=False,
    emitters=90,
    life_s=(300.0, 900.0),
    diffusion_um2_s=(0.01, 0.05),
    run_um=0.8,
)


ACTIN = StrandKind(
    per_um2=0.55,
    length_um=(2.0, 10.0),
    tube_radius_um=(0.005, 0.06),  # from single filaments to bundles
    emitters_per_um=40.0,
    label_variance=0.25,
    bend_rad=0.2,
    direction_spread_rad=0.9,
    wobble_rms_um=0.02,
    wobble_period_s=(2.0, 30.0),
    drift_um=0.10,
    drift_period_s=(30.0, 120.0),
    dynamic_fraction=0.2,
    crowding=0.5,
    strand_variance=0.6,
)

CRISTAE = replace(MITOCHONDRIA, emitters_per_um=450.0, lamella_um=0.11)

MEMBRANE_FOLDS = StrandKind(
    per_um2=0.10,
    length_um=(1.5, 8.0),
    tube_radius_um=(0.01, 0.05),
    emitters_per_um=60.0,
    label_variance=0.25,
    bend_rad=1.2,
    direction_spread_rad=1.5,
    wobble_rms_um=0.06,
    wobble_period_s=(3.0, 30.0),
    drift_um=0.3,
    drift_period_s=(20.0, 90.0),
    crowding=0.5,
    strand_variance=0.5,
)

NUCLEOIDS = VesicleKind(
    per_um2=0.5,
    radius_um=(0.03, 0.08),
    filling=1.0,
    flat=False,
    emitters=30,
    life_s=(300.0, 900.0),
    diffusion_um2_s=(1e-3, 1e-2),
    run_um=0.3,
)

ER = TubeNetworkKind(
    junctions_per_um2=0.9,
    tube_radius_um=0.04,
    emitters_per_um=70.0,
    label_variance=0.25,
    motion_um=0.12,
    motion_period_s=(3.0, 40.0),
)


@dataclass(frozen=True)
class Specimen:
    """A named specimen.

    Attributes
    ----------
    kind : StrandKind, VesicleKind or TubeNetworkKind
        What its structures are like.
    emitter_photons : float
        Photons of one emitter at which the brightest pixels hold one photon.
    """

    kind: StrandKind | VesicleKind | TubeNetworkKind
    emitter_photons: float

    def populate(self, seed: int, field: Field, labelling: Labelling = EVEN) -> Population:
        """The structures in a field, from a seed."""
        if isinstance(self.kind, StrandKind):
            return Strands(self.kind, seed, field, labelling)
        if isinstance(self.kind, VesicleKind):
            return Vesicles(self.kind, seed, field, labelling)
        return TubeNetwork(self.kind, seed, field, labelling)


SPECIMENS: dict[str, Specimen] = {
    "microtubules": Specimen(MICROTUBULES, 0.42),
    "mitochondria": Specimen(MITOCHONDRIA, 0.14),
    "cristae": Specimen(CRISTAE, 0.14),
    "actin": Specimen(ACTIN, 0.20),
    "plasma_membrane": Specimen(MEMBRANE_FOLDS, 0.40),
    "ccps": Specimen(CCPS, 0.42),
    "lysosomes": Specimen(LYSOSOMES, 0.15),
    "peroxisomes": Specimen(PEROXISOMES, 0.19),
    "nucleoids": Specimen(NUCLEOIDS, 0.35),
    "er": Specimen(ER, 0.40),
}


def find_specimen(name: str) -> Specimen:
    """Specimen by name.

    Raises
    ------
    MicroscopeError
        If there is none of that name.
    """
    if name not in SPECIMENS:
        raise MicroscopeError(
            f"the simulated microscope has no specimen {name!r}",
            where="device World",
            remedy=f"choose one of {', '.join(SPECIMENS)}",
        )
    return SPECIMENS[name]


def haze(
    seed: int, x_um: Float[np.ndarray, "*columns"], y_um: Float[np.ndarray, "*rows"]
) -> Float[np.ndarray, "*points"]:
    """Dim cytosolic label: a smooth field with mean near 1, a function of the sample position."""
    total = np.zeros(np.broadcast(x_um, y_um).shape)
    for wave in range(6):
        angle, phase, share = (2 * math.pi * float(uniform(seed, 90, wave, i)) for i in range(3))
        period = 5.0 + 3.0 * share
        along = (x_um * math.cos(angle) + y_um * math.sin(angle)) / period
        total = total + np.sin(2 * math.pi * along + phase)
    smooth: Float[np.ndarray, "*points"] = np.exp(0.25 * total) / 1.1
    return smooth
