"""What a calibration is, where it is valid, and how it is applied.

A calibration belongs to one set of weights *and* to one way of using them.  Whoever shows a
confidence asks :meth:`Calibration.matches` first and labels it "uncalibrated" where a reason is
returned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import Field, ValidationError
from torch import Tensor

from tisr_scope.bundles.bundle import Bundle
from tisr_scope.bundles.optics_domain import KnownOptics, optics_differ, optics_unknown
from tisr_scope.confidence.credible_interval import EPSILON, GAMMA, confidence, half_width
from tisr_scope.confidence.fine_tuning import FineTuning, Interval
from tisr_scope.confidence.input_domain import InputDomain
from tisr_scope.confidence.recalibration import RecalibrationMap
from tisr_scope.errors import CalibrationError
from tisr_scope.networks.config import Shown
from tisr_scope.normalise import Normalisation
from tisr_scope.profiles.schema import Frozen, Positive

FILE_NAME = "calibration.json"
SIGNAL_TOLERANCE = 1.5
"""Factor by which the light may be below or above that of the calibration recordings."""

Probability = Annotated[float, Field(ge=0, le=1)]


class Use(Frozen):
    """One way of using a network: what a calibration is valid for, or what is about to be done."""

    weights: str
    """Hash of the weights."""
    normalisation: Normalisation
    emitted: Shown = "centre"
    """Which frame of the window is shown."""
    passes: Annotated[int, Field(ge=1)] = 6
    """Monte Carlo passes M."""
    window: Annotated[int, Field(ge=1)] = 7
    """Frames the network sees at once."""
    input_mode: Literal["pattern_mean", "single"] = "pattern_mean"
    """What the wide-field frames are: the mean of the patterns, or one evenly lit frame."""
    level: int | None = None
    """Laser level of the running order; None where there is no running order."""
    input_scale: tuple[Positive, Positive] | None = None
    """Least and greatest photo-electrons that became 1: the light of the recordings."""
    optics: KnownOptics = KnownOptics()
    """Emission, numerical aperture and camera pixel."""


class IntervalCalibration(Frozen):
    """Errors of one credible interval, and its recalibration map."""

    interval: Interval
    ece_validation: tuple[Probability, Probability, Probability]
    """Before, after the fine-tuning, and with the recalibration map."""
    ece_test: tuple[Probability, Probability, Probability] | None
    """The same on recordings that decided nothing; None where there were none."""
    recalibration: RecalibrationMap | None = None
    """Post-hoc map, fitted on validation recordings; None where it is not used."""


class Calibration(Frozen):
    """Content of ``calibration.json`` in a model bundle."""

    schema_version: Literal[1] = 1
    use: Use
    original_weights: str
    """Hash of the weights before the fine-tuning."""
    intervals: Annotated[tuple[IntervalCalibration, ...], Field(min_length=1)]
    """The interval the fine-tuning aimed at comes first."""
    k: float | None
    """Suppression factor; None where the original weights were kept."""
    k_source: Literal["parabola", "best tried", "original weights"]
    trials: tuple[tuple[float, float], ...]
    """(k, ECE on validation recordings) of each trial."""
    fine_tuning: FineTuning
    psnr_validation: tuple[float, float]
    """Before and after, against the target, in dB."""
    psnr_test: tuple[float, float] | None
    domain: InputDomain | None = None
    """What the frames of its recordings show; None in calibrations of earlier versions."""
    recordings: dict[Literal["train", "validation", "test"], tuple[str, ...]]
    seed: int
    created_utc: str
    notes: tuple[str, ...] = ()

    def matches(self, use: Use) -> list[str]:
        """Reasons why the calibration is not valid for a use; empty where it is."""
        mine, reasons = self.use, []
        if self.domain is None:
            reasons.append(
                "the calibration does not say for which light, background and sharpness it is valid"
            )
        if self.psnr_test is None:
            reasons.append("no recordings kept apart have tested the calibration")
        if use.weights != mine.weights:
            reasons.append("the weights are not the calibrated ones")
        if use.normalisation != mine.normalisation:
            reasons.append("the intensity scale is defined in another way")
        for name, here, there in (
            ("frame of the window", use.emitted, mine.emitted),
            ("number of passes", use.passes, mine.passes),
            ("window", use.window, mine.window),
            ("kind of wide-field input", use.input_mode, mine.input_mode),
        ):
            if here != there:
                reasons.append(f"the {name} is {here}, calibrated was {there}")
        for compared in (optics_differ, optics_unknown):
            reasons += compared(use.optics, mine.optics, "calibrated at")
        if use.level is not None and mine.level is not None and use.level != mine.level:
            reasons.append(f"the laser level is {use.level}, calibrated was {mine.level}")
        if use.input_scale is not None and mine.input_scale is not None:
            low, high = mine.input_scale
            if (
                use.input_scale[0] < low / SIGNAL_TOLERANCE
                or use.input_scale[1] > high * SIGNAL_TOLERANCE
            ):
                reasons.append(
                    f"the brightest structures have {use.input_scale[0]:.3g} to "
                    f"{use.input_scale[1]:.3g} electrons, calibrated was {low:.3g} to {high:.3g}"
                )
        return reasons

    def of(self, epsilon: float = EPSILON, gamma: float | None = GAMMA) -> IntervalCalibration:
        """Calibration of one credible interval.

        Raises
        ------
        CalibrationError
            If this interval was not calibrated.
        """
        for entry in self.intervals:
            if entry.interval == Interval(epsilon=epsilon, gamma=gamma):
                return entry
        known = ", ".join(
            f"epsilon {e.interval.epsilon:g} gamma {e.interval.gamma}" for e in self.intervals
        )
        raise CalibrationError(
            f"the credible interval epsilon {epsilon:g}, gamma {gamma} was not calibrated",
            remedy=f"use one of: {known}; or calibrate again",
        )


def apply_calibration(
    means: Float[Tensor, "m ..."],
    scales: Float[Tensor, "m ..."],
    calibration: Calibration | None,
    *,
    epsilon: float = EPSILON,
    gamma: float | None = GAMMA,
) -> Float[Tensor, ...]:
    """Confidence map of the passes, recalibrated where the calibration holds a map.

    Without a calibration, or with one that stores no map, this is
    :func:`~tisr_scope.confidence.credible_interval.confidence`.  Ask :meth:`Calibration.matches`
    first: this function applies what it is given.

    Parameters
    ----------
    means, scales : tensor, shape (m, y, x)
        Predicted intensity and Laplace scale of each pass, on the normalised scale.
    calibration : Calibration, optional
    epsilon, gamma : float
        Credible interval; ``gamma = None`` is the fixed one.
    """
    centre = means.mean(dim=0)
    stated = confidence(means, scales, half_width(centre, epsilon, gamma), centre)
    remap = None if calibration is None else calibration.of(epsilon, gamma).recalibration
    return stated if remap is None else remap.apply(stated)


def bundle_calibration(bundle: Bundle) -> Calibration | None:
    """Calibration of a bundle, None where it holds none.

    One that does not name its optics has those of the bundle, from whose training recordings'
    microscope its own came.

    Raises
    ------
    CalibrationError
        If it cannot be understood.
    """
    if bundle.calibration is None:
        return None
    found = parse_calibration(bundle.calibration, str(bundle.path / FILE_NAME))
    if found.use.optics != KnownOptics():
        return found
    use = found.use.model_copy(update={"optics": KnownOptics.of(bundle.optics)})
    return found.model_copy(update={"use": use})


def parse_calibration(content: Mapping[str, Any], where: str) -> Calibration:
    """Calibration from the JSON of a bundle.

    Raises
    ------
    CalibrationError
        If it cannot be understood.
    """
    try:
        return Calibration.model_validate_json(json.dumps(content))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        raise CalibrationError(
            f"the calibration cannot be used: {problems}",
            where=where,
            remedy="calibrate the bundle again with 'tisr calibrate'",
        ) from error


def load_calibration(path: Path) -> Calibration:
    """Read ``calibration.json``, given the file or the folder of its bundle."""
    file = path / FILE_NAME if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CalibrationError(
            "the bundle holds no calibration",
            where=str(file),
            remedy="make one with 'tisr calibrate', or show the confidence as uncalibrated",
        ) from error
    except (OSError, ValueError) as error:
        raise CalibrationError(
            f"the calibration cannot be read: {error}",
            where=str(file),
            remedy="calibrate the bundle again with 'tisr calibrate'",
        ) from error
    return parse_calibration(content, str(file))
