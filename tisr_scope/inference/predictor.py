"""From wide-field electrons to predictions: network, window, normalisation and calibration.

A :class:`Model` is a bundle on a device, checked against the microscope before any light is
used.  It opens one :class:`StreamPredictor` per channel and position, which share the network.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tisr_scope.bundles.bundle import Bundle, load_bundle
from tisr_scope.bundles.optics_domain import KnownOptics
from tisr_scope.confidence.calibration import (
    Calibration,
    Use,
    apply_calibration,
    bundle_calibration,
)
from tisr_scope.confidence.input_domain import SPACING, first_objection
from tisr_scope.confidence.input_measures import BLOCK
from tisr_scope.confidence.uncertainty import summarise
from tisr_scope.errors import BundleError, DataError
from tisr_scope.inference.frame_measures import peak_ratio
from tisr_scope.inference.image_facts import ImageFacts
from tisr_scope.inference.input_health import InputHealth
from tisr_scope.inference.sliding_window import Samples, SlidingWindow
from tisr_scope.networks.config import WINDOW, Shown, shown_places
from tisr_scope.types import InputMode, Prediction, calibration_label


class Model:
    """A bundle on a device, with one way of using it.

    Parameters
    ----------
    bundle : Bundle
        Read and checked.
    input_mode : {"pattern_mean", "single"}
        What the wide-field frames are.
    optics : KnownOptics
        Of the images, as far as they are known.
    device : str
        ``cpu``, ``cuda``, ``cuda:1``.
    passes : int
        Monte Carlo passes.
    seed : int
        Seed of the masks.
    level : int, optional
        Laser level of a running order the frames come from.
    shown : str
        Which frames of a window become results, see
        :data:`~tisr_scope.networks.config.Shown`.

    Raises
    ------
    BundleError
        If the network gives no confidence, or the device is not there.
    CalibrationError
        If the bundle's calibration cannot be understood.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        input_mode: InputMode,
        optics: KnownOptics,
        device: str = "cpu",
        passes: int = 6,
        seed: int = 0,
        level: int | None = None,
        shown: Shown = "centre",
    ) -> None:
        if not bundle.config.bayesian:
            raise BundleError(
                "this network predicts no uncertainty, so there is no confidence to show",
                where=str(bundle.path),
                remedy="choose a Bayesian model with 'tisr models list'",
            )
        self.bundle = bundle
        self.device = check_device(device)
        self.network = bundle.network(self.device)
        self.passes = passes
        self.seed = seed
        self.input_mode: InputMode = input_mode
        self.optics = optics
        self.level = level
        self.shown: Shown = shown
        self.calibration: Calibration | None = bundle_calibration(bundle)

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.bundle.name

    @property
    def upscale(self) -> int:
        """Super-resolved pixels per camera pixel along an axis."""
        return int(self.bundle.config.upscale)

    def use(self, scale: float | None) -> Use:
        """How the network is used here, for the calibration to judge."""
        return Use(
            weights=self.bundle.weights_hash,
            normalisation=self.bundle.normalisation,
            emitted=self.shown,
            passes=self.passes,
            window=WINDOW,
            input_mode=self.input_mode,
            level=self.level,
            input_scale=None if scale is None else (scale, scale),
            optics=self.optics,
        )

    def objections(self, scale: float | None) -> list[str]:
        """Reasons why the confidence is not calibrated here; empty where it is."""
        if self.calibration is None:
            return ["the model holds no calibration"]
        return self.calibration.matches(self.use(scale))

    def check_frames(self, shape: tuple[int, int], where: str = "camera.frame_shape") -> None:
        """Refuse frames the network cannot take.

        Raises
        ------
        DataError
            With the smallest size.
        """
        self.network.check_frames(shape, where)

    def open(self, *, offset_known: bool = True, still: bool = False) -> StreamPredictor:
        """A predictor with a window of its own, for one channel at one position."""
        return StreamPredictor(self, self.health(offset_known=offset_known, still=still))

    def health(self, *, offset_known: bool = True, still: bool = False) -> InputHealth:
        """What judges the frames of one stream before the network sees them."""
        optics = self.optics
        if optics.pixel_size_um and optics.numerical_aperture and optics.emission_nm:
            ratio = peak_ratio(optics.pixel_size_um, optics.numerical_aperture, optics.emission_nm)
            return InputHealth(offset_known=offset_known, still=still, ratio=ratio)
        return InputHealth(offset_known=offset_known, still=still)

    def window(self, seed: int | None = None) -> SlidingWindow:
        """An empty window of the network."""
        return SlidingWindow(
            self.network, self.passes, self.shown, self.seed if seed is None else seed
        )

    def rehearse(self, shape: tuple[int, int]) -> float:
        """Compute one result from made-up frames; seconds it took.

        Loads kernels, fills the allocator's pools and finds out what only running tells: too
        little memory, an answer that is not finite.

        Raises
        ------
        BundleError
            If the network cannot run here or answers with values that are not finite.
        """
        started = time.perf_counter()
        frames = np.random.default_rng(0).poisson(50, (WINDOW, *shape)).astype(np.float32)
        predictor = self.open()
        predictor.set_scale(frames)
        try:
            found, *_ = predictor.advance(list(frames))
        except (RuntimeError, MemoryError) as error:
            raise BundleError(
                f"the network cannot run on {self.device}: {str(error).splitlines()[0]}",
                where=f"{self.name}, frames of {shape[0]} x {shape[1]} pixels",
                remedy="use fewer passes, smaller frames or another --device",
            ) from error
        if not (np.isfinite(found.mean).all() and np.isfinite(found.confidence).all()):
            raise BundleError(
                "the network answers with NaN or infinite values",
                where=str(self.bundle.path),
                remedy="check the model with 'tisr models check', or train it again",
            )
        return time.perf_counter() - started

    def description(self) -> dict[str, Any]:
        """Facts saved with every result, JSON types only."""
        return {
            "model": self.name,
            "weights_sha256": self.bundle.weights_hash,
            "normalisation": self.bundle.normalisation.model_dump(mode="json"),
            "passes": self.passes,
            "seed": self.seed,
            "window": WINDOW,
            "emitted": self.shown,
            "input": self.input_mode,
            "device": str(self.device),
        }

    def predict(self, samples: Sequence[Samples], calibrated: Sequence[bool]) -> list[Prediction]:
        """Mean, uncertainties and confidence of the Monte Carlo passes of frames."""
        found = []
        for one, valid in zip(samples, calibrated, strict=True):
            combined = summarise(one.means, one.scales)
            confidence = apply_calibration(
                one.means, one.scales, self.calibration if valid else None
            )
            found += [combined.mean, combined.epistemic, combined.aleatoric, confidence]
        # One copy from the device for all of it.
        images = torch.stack(found).float().cpu().numpy().reshape(len(samples), 4, *found[0].shape)
        return [
            Prediction(one.time_index, parts[0], parts[1], parts[2], parts[3], valid)
            for one, parts, valid in zip(samples, images, calibrated, strict=True)
        ]


class StreamPredictor:
    """The window, scale and calibration state of one stream; see ``engine.Predictor``."""

    def __init__(self, model: Model, health: InputHealth) -> None:
        self.model = model
        self.health = health
        self.scale: float | None = None
        self._objections: list[str] = model.objections(None)
        self._doubts: tuple[str, ...] = ()
        self._restarts = self._taken = self._fresh = 0
        self._unmeasured: list[Float[np.ndarray, "y x"]] = []
        self._sliding = model.window()

    @property
    def window(self) -> int:
        """Time points the network sees at once."""
        return self._sliding.length

    @property
    def delay(self) -> int:
        """Time points by which the centre is behind the newest frame."""
        return self._sliding.delay

    @property
    def objections(self) -> list[str]:
        """Reasons why the confidence is not calibrated here; empty where it is."""
        return [*self._objections, *self._doubts]

    def doubt(self, reason: str) -> None:
        """From now on the confidence is uncalibrated, for what was found in the images."""
        if reason not in self._doubts:
            self._doubts = (*self._doubts, reason)

    @property
    def label(self) -> str:
        """Say "calibrated", or why the confidence is not."""
        return calibration_label(self.objections)

    def set_scale(self, warm_up: Float[np.ndarray, "n y x"]) -> float:
        """Fix the intensity scale by the bundle's rule, and judge the calibration by it.

        Raises
        ------
        DataError
            If the frames hold no light, or values that are not finite.
        """
        good = self.health.prime(list(warm_up))
        rule = self.model.bundle.normalisation
        self.scale = rule.scale(np.stack(good) if good else warm_up, "warm-up")
        self._objections = self.model.objections(self.scale)
        self._measure(good or list(warm_up))
        return self.scale

    def use_scale(self, scale: float) -> None:
        """Take a scale that was found elsewhere (the whole stack, offline)."""
        self.scale = scale
        self._objections = self.model.objections(scale)

    def _measure(self, frames: Sequence[Float[np.ndarray, "y x"]]) -> None:
        """Doubt the confidence where light, background or sharpness are outside its domain."""
        calibration = self.model.calibration
        if calibration is None or calibration.domain is None:
            return
        outside = first_objection(
            calibration.domain, frames.__getitem__, len(frames), self.model.optics
        )
        for reason in outside[1] if outside else ():
            self.doubt(reason)

    def restart(self) -> None:
        """Forget every frame; masks go on with another seed."""
        self._restarts += 1
        self._taken = self._fresh = 0
        self._unmeasured = []
        self._sliding = self.model.window(self.model.seed + self._restarts)

    def advance(self, frames: Sequence[Float[np.ndarray, "y x"]]) -> list[Prediction]:
        """Append consecutive frames and reconstruct once, with the newest window.

        Frames that :attr:`health` leaves out never reach the network.  They get no prediction, and
        what is predicted with one of them missing in its window counts as uncalibrated.
        """
        if self.scale is None:
            raise DataError(
                "the intensity scale is not known yet", remedy="give the warm-up frames first"
            )
        rule = self.model.bundle.normalisation
        for frame in frames:
            number, self._taken = self._taken, self._taken + 1
            image = self.health.judge(number, frame).image
            if image is not None:
                self._unmeasured.append(image)
                self._sliding.push(
                    rule.normalise_input(image, self.scale),
                    reconstruct=False,
                    index=number,
                    carried=rule.carried(image, self.scale, self.model.upscale),
                )
                self._fresh += 1
        if len(self._unmeasured) >= SPACING:
            self._measure(self._unmeasured[-BLOCK:])
            self._unmeasured = []
        held, length = self._sliding.indices, self._sliding.length
        places = shown_places(self.model.shown, length)
        if len(held) < length or self._fresh < len(places):
            return []
        self._fresh = 0
        whole = held[-1] - held[0] == length - 1
        samples = self._sliding.samples(places)
        return self.model.predict(samples, [whole and not self.objections] * len(samples))


def check_device(name: str) -> torch.device:
    """Device of a name, if it is there.

    Raises
    ------
    BundleError
        If torch does not know or does not see it.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BundleError(
            f"the device {name!r} cannot be used: {str(error).splitlines()[0]}",
            remedy="see what there is with 'tisr doctor'; '--device cpu' works everywhere",
        ) from error
    return device


def load_models(
    facts: ImageFacts,
    names: str | Path | Mapping[str, str | Path],
    *,
    device: str,
    passes: int,
    seed: int,
) -> dict[str, Model]:
    """Models by channel name, checked against camera and optics.

    Parameters
    ----------
    facts : ImageFacts
        Of the images they are for.
    names : str, path or mapping
        One bundle for all channels, or one for each channel name.

    Raises
    ------
    BundleError
        If a bundle is missing or damaged, or a channel has none.
    DataError
        If the camera's frames are too small.
    """
    if isinstance(names, Mapping):
        unknown = sorted(set(names) ^ set(facts.channels))
        if unknown:
            raise BundleError(
                f"models and channels do not fit: {', '.join(unknown)}",
                where=facts.name,
                remedy=f"name one model for each of {', '.join(facts.channels)}",
            )
        chosen = {channel: names[channel] for channel in facts.channels}
    else:
        chosen = dict.fromkeys(facts.channels, names)
    loaded: dict[tuple[str | Path, KnownOptics], Model] = {}
    found: dict[str, Model] = {}
    for channel, optics in zip(facts.channels, facts.optics, strict=True):
        key = chosen[channel], optics
        if key not in loaded:
            loaded[key] = Model(
                load_bundle(chosen[channel]),
                input_mode=facts.input_mode,
                optics=optics,
                device=device,
                passes=passes,
                seed=seed,
                level=facts.level,
            )
            loaded[key].check_frames(facts.frame_shape)
        found[channel] = loaded[key]
    return found
