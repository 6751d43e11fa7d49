"""Every architecture of the family by name, as the command line and the benchmarks ask for it.

The functions behind the names are in :mod:`~tisr_scope.networks.config`; here they are only put
together: which propagation, which alignment, and at whose cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from tisr_scope.errors import BundleError
from tisr_scope.networks import config as presets
from tisr_scope.networks.baselines.vrt import VrtConfig, vrt
from tisr_scope.networks.config import Alignment, DpaTisrConfig, Propagation
from tisr_scope.networks.dpa_tisr import compensated, single_frame

Architecture = DpaTisrConfig | VrtConfig
Upscale = Literal[2, 3]
Maker = Callable[[Upscale, bool], Architecture]


def _combination(propagation: Propagation, alignment: Alignment) -> Maker:
    return lambda f, b: presets.compared(propagation, alignment, upscale=f, bayesian=b)


def _dpa(upscale: Upscale, bayesian: bool) -> DpaTisrConfig:
    return presets.compared("recurrent", "dpa", upscale=upscale, bayesian=bayesian)


def _spatial_at_same_cost(upscale: Upscale, bayesian: bool) -> DpaTisrConfig:
    """Deformable alignment alone, with as many parameters as with the phase module."""
    plain = presets.compared("recurrent", "deformable", upscale=upscale, bayesian=bayesian)
    return compensated(plain, _dpa(upscale, bayesian))


_MAKERS: Mapping[str, Maker] = {
    "small": lambda f, b: presets.small(upscale=f, bayesian=b),
    "small_single_frame": lambda f, b: single_frame(presets.small(upscale=f, bayesian=b)),
    "released": lambda f, b: presets.released(upscale=f, bayesian=b),
    "paper": lambda f, b: presets.paper(upscale=f, bayesian=b),
    "single_frame": lambda f, b: single_frame(_dpa(f, b)),
    "single_frame_uncompensated": lambda f, b: single_frame(_dpa(f, b), compensate=False),
    **{
        f"{propagation.partition('_')[0]}_{alignment}": _combination(propagation, alignment)
        for propagation in get_args(Propagation)
        for alignment in get_args(Alignment)
    },
    "spatial_at_cost_of_dpa": _spatial_at_same_cost,
    "amplitude": lambda f, b: _dpa(f, b).model_copy(update={"phase_part": "amplitude"}),
    "phase_and_amplitude": lambda f, b: _dpa(f, b).model_copy(update={"phase_part": "both"}),
    "phase_as_phasor": lambda f, b: _dpa(f, b).model_copy(update={"phase_encoding": "phasor"}),
    "phase_as_cross_power": lambda f, b: _dpa(f, b).model_copy(update={"phase_encoding": "cross"}),
    "basicvsr_plus_plus": lambda f, b: presets.basicvsr_plus_plus(upscale=f, bayesian=b),
    "vrt": lambda f, b: vrt(upscale=f, bayesian=b),
}
PRESETS = tuple(_MAKERS)
"""Names that :func:`preset` knows."""


def preset(name: str, *, upscale: Upscale = 2, bayesian: bool = True) -> Architecture:
    """Architecture of a name.

    Parameters
    ----------
    name : str
        One of :data:`PRESETS`.
    upscale : {2, 3}
        3 for nonlinear SIM targets.
    bayesian : bool
        Predict a Laplace scale beside the mean.

    Raises
    ------
    BundleError
        If there is no such name.
    """
    if name not in _MAKERS:
        raise BundleError(
            f"there is no architecture {name!r}", remedy=f"choose one of {', '.join(PRESETS)}"
        )
    return _MAKERS[name](upscale, bayesian)
