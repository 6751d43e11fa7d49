"""Random patches of paired stacks: what a training step sees.

Every batch is a pure function of the settings, the seed and the step number, so a resumed run, a
second network trained for comparison, or several processes that share a batch see exactly the
same patches.  Input and target share one
centre-aligned grid (every input pixel is split into f x f target pixels), and every augmentation
keeps them registered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from pydantic import Field, field_validator

from tisr_scope.errors import DataError
from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.binomial_thinning import Light, ScaleCurve, scale_curve
from tisr_scope.pairs.rotation import rotate
from tisr_scope.profiles.schema import Frozen
from tisr_scope.types import PairedStack


class PatchSettings(Frozen):
    """Size, choice and augmentation of patches (Paper: Implementation details of TISR models)."""

    frames: int = Field(default=7, ge=1)
    """Consecutive time points of a patch."""
    size_px: int = Field(default=64, ge=8)
    """Height and width of the input patch, in input pixels."""
    flip: bool = True
    transpose: bool = True
    reverse_time: bool = True
    rotation_deg: float = Field(default=0.0, ge=0, le=180)
    """Largest rotation, either way; it resamples, so the noise of the input becomes smoother."""
    minimum_structure: float = Field(default=0.0, ge=0, lt=1)
    """Least fraction of target pixels brighter than ``structure_level``; 0 takes every patch."""
    structure_level: float = Field(default=0.1, gt=0)
    """Brightness of structure on the normalised scale of the target, mean over time."""
    level_weights: tuple[float, ...] | None = None
    """Chance of each laser level, lowest first; without it all are equally likely."""
    least_light: float = Field(default=1.0, gt=0, le=1)
    """Each input is thinned to a fraction of its light between this and 1; 1 leaves it alone."""
    read_noise_e: float = Field(default=0.0, ge=0)
    """Camera noise of a raw frame in electrons, which does not get less with the light."""

    @field_validator("level_weights")
    @classmethod
    def _weights(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is None:
            return None
        if not all(math.isfinite(w) and w >= 0 for w in weights) or not sum(weights) > 0:
            raise ValueError("level weights are finite, not negative, and not all zero")
        return weights

    def without_augmentation(self) -> PatchSettings:
        """The same patches, as they were recorded (for validation)."""
        plain: dict[str, object] = {"flip": False, "transpose": False, "reverse_time": False}
        return self.model_copy(update=plain | {"rotation_deg": 0.0, "least_light": 1.0})


@dataclass(frozen=True)
class Draw:
    """Where one patch came from.

    ``row`` and ``column`` are its first input pixel, ``start`` its first time point in the pair,
    which itself begins at ``first_time`` of the recording.
    """

    recording: str
    level: int
    start: int
    row: int
    column: int
    angle_rad: float
    flip_y: bool
    flip_x: bool
    transpose: bool
    reverse: bool
    channel: str = ""
    position: int = 0
    first_time: int = 0
    light: float = 1.0

    def __str__(self) -> str:
        """In the words of a recording: its level from 1, its time points and positions from 0."""
        light = f", thinned to {self.light:.0%} of the light" if self.light < 1 else ""
        return (
            f"{self.recording}, channel {self.channel}, stage position {self.position}, "
            f"level {self.level + 1}, from time point {self.first_time + self.start}, "
            f"row {self.row}, column {self.column}{light}"
        )


@dataclass(frozen=True)
class Batch:
    """Normalised patches and their origin.

    Attributes
    ----------
    inputs : float32 array, shape (batch, time, 1, y, x)
    targets : float32 array, shape (batch, time, 1, f*y, f*x)
    draws : tuple of Draw
    """

    inputs: Float[np.ndarray, "batch time 1 y x"]
    targets: Float[np.ndarray, "batch time 1 fy fx"]
    draws: tuple[Draw, ...]


@dataclass(frozen=True)
class _Source:
    """One stack on the scale of the network, and the first pixels its patches may have."""

    name: str
    channel: str
    position: int
    first_time: int
    inputs: Float[np.ndarray, "level time y x"]
    target: Float[np.ndarray, "time fy fx"]
    corners: np.ndarray
    scales: tuple[float, ...]
    light: Light | None = None
    curves: tuple[ScaleCurve, ...] = ()
    background: Float[np.ndarray, "level time y x"] | None = None
    """What was taken off the inputs, in electrons; its photons are thinned too."""


class PatchSampler:
    """Draws seeded random patches from stacks held in memory.

    Parameters
    ----------
    stacks : sequence of PairedStack
        The pairs of one subset; no other data is ever touched.
    normalisation : Normalisation
        Scales each level of a stack by its own wide-field stack, and the target by its own stack.
    settings : PatchSettings
    batch : int
        Patches a batch.
    seed : int
    mixed : bool
        Take stacks of different pixel sizes together.

    Raises
    ------
    DataError
        If there is no stack, stacks differ in pixel size or upscale, a stack is smaller than a
        patch, has too few time points or levels, is dark or not finite, shows no structure, or
        is to be thinned and does not say of how many raw frames it is the mean.
    """

    def __init__(
        self,
        stacks: Sequence[PairedStack],
        normalisation: Normalisation,
        settings: PatchSettings,
        *,
        batch: int,
        seed: int = 0,
        mixed: bool = False,
    ) -> None:
        if batch < 1:
            raise DataError(f"a batch needs at least one patch, not {batch}")
        _same_sampling(stacks, mixed)
        self.settings = settings
        self.batch_size = batch
        self.seed = seed
        self.upscale = stacks[0].upscale
        self.pixel_size_um = stacks[0].pixel_size_um
        self._sources = [_prepare(stack, normalisation, settings) for stack in stacks]

    @property
    def recordings(self) -> tuple[str, ...]:
        """Names of the recordings that patches come from."""
        return tuple(source.name for source in self._sources)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Patches of one training step, or one of several equal parts of them.

        The same step always gives the same patches, and its parts together are its patches.

        Raises
        ------
        DataError
            If the batch cannot be divided.
        """
        if self.batch_size % parts:
            raise DataError(
                f"a batch of {self.batch_size} patches cannot be shared by {parts} processes",
                remedy=f"choose a batch that is a multiple of {parts}",
            )
        share = self.batch_size // parts
        first = part * share
        chosen = self._draws(step)[first : first + share]
        pairs = [
            _cut(source, draw, self.settings, self.upscale, (self.seed, step, first + i, 1))
            for i, (source, draw) in enumerate(chosen)
        ]
        return Batch(
            np.stack([x for x, _ in pairs])[:, :, None],
            np.stack([y for _, y in pairs])[:, :, None],
            tuple(draw for _, draw in chosen),
        )

    def draws(self, step: int) -> tuple[Draw, ...]:
        """Where all patches of a step come from, without cutting them."""
        return tuple(draw for _, draw in self._draws(step))

    def _draws(self, step: int) -> list[tuple[_Source, Draw]]:
        rng = np.random.default_rng((self.seed, step))
        found = []
        for number in range(self.batch_size):
            source = self._sources[int(rng.integers(len(self._sources)))]
            draw = _draw(source, self.settings, rng)
            found.append((source, replace(draw, light=self._light(step, number))))
        return found

    def _light(self, step: int, number: int) -> float:
        """Fraction of the light of one patch, every octave as likely as any other."""
        least = self.settings.least_light
        if least == 1:
            return 1.0
        # A number of its own: thinning must not change which patches are drawn.
        return float(least ** np.random.default_rng((self.seed, step, number, 0)).random())


def _same_sampling(stacks: Sequence[PairedStack], mixed: bool) -> None:
    if not stacks:
        raise DataError(
            "there are no pairs to draw patches from",
            remedy="prepare recordings with 'tisr prepare'",
        )
    first = stacks[0]
    for stack in stacks[1:]:
        near = math.isclose(stack.pixel_size_um, first.pixel_size_um, rel_tol=1e-3)
        if stack.upscale != first.upscale or not (near or mixed):
            raise DataError(
                f"recordings of different sampling cannot be mixed: {first.name} has "
                f"{first.pixel_size_um:g} um pixels and x{first.upscale} targets, {stack.name} "
                f"has {stack.pixel_size_um:g} um and x{stack.upscale}",
                where=stack.name,
                remedy="train one network for each upscale"
                if stack.upscale != first.upscale
                else "train one network for each pixel size, or allow it with --allow-mixed",
            )


def _margin_px(settings: PatchSettings) -> int:
    """Input pixels beyond each side of a patch that its rotation may reach."""
    largest = min(math.radians(settings.rotation_deg), math.pi / 4)
    if largest == 0:
        return 0
    reach = settings.size_px / 2 * (math.cos(largest) + math.sin(largest) - 1)
    return math.ceil(reach) + 1


def _prepare(stack: PairedStack, rule: Normalisation, settings: PatchSettings) -> _Source:
    levels, time, height, width = stack.widefield.shape
    if time < settings.frames:
        raise DataError(
            f"a stack of {time} time points has no {settings.frames} consecutive ones",
            where=stack.name,
            remedy="record more time points or train with fewer frames",
        )
    if settings.level_weights is not None and len(settings.level_weights) != levels:
        raise DataError(
            f"{len(settings.level_weights)} level weights are given for {levels} levels",
            where=stack.name,
            remedy="give one weight for each laser level of the pairs",
        )
    reach = settings.size_px + 2 * _margin_px(settings)
    if min(height, width) < reach:
        raise DataError(
            f"frames of {height} x {width} px are smaller than the {reach} px a patch needs",
            where=stack.name,
            remedy="train with smaller patches or without rotation",
        )
    places = [f"{stack.name}, level {i + 1}" for i in range(levels)]
    scales = tuple(rule.scale(w, p) for w, p in zip(stack.widefield, places, strict=True))
    inputs = np.stack(
        [rule.normalise_input(w, s) for w, s in zip(stack.widefield, scales, strict=True)]
    )
    target = rule.learnable(rule.target_of(stack), stack.upscale)
    corners = _corners(target, stack.upscale, settings)
    if len(corners) == 0:
        raise DataError(
            f"no patch has structure on {settings.minimum_structure:.0%} of its pixels",
            where=stack.name,
            remedy="leave the recording out or lower minimum_structure",
        )
    about = (stack.name, stack.channel, stack.position, stack.first_time)
    if settings.least_light == 1:
        return _Source(*about, inputs, target, corners, scales)
    if stack.raw_frames is None:
        raise DataError(
            "the pair does not say of how many raw frames its wide field is the mean, so its "
            "photo-electrons cannot be counted",
            where=stack.name,
            remedy="prepare the pairs again, or train with least_light: 1",
        )
    light = Light(stack.raw_frames, settings.read_noise_e)
    curves = tuple(
        scale_curve(w, light, settings.least_light, rule, p)
        for w, p in zip(stack.widefield, places, strict=True)
    )
    return _Source(
        *about, inputs, target, corners, scales, light, curves, rule.background_of(stack.widefield)
    )


def _corners(
    target: Float[np.ndarray, "time fy fx"], upscale: int, settings: PatchSettings
) -> np.ndarray:
    """First pixels (row, column) of the patches that fit and show enough structure."""
    size, margin = settings.size_px, _margin_px(settings)
    bright = target.mean(0) > settings.structure_level
    height, width = bright.shape[0] // upscale, bright.shape[1] // upscale
    share = bright.reshape(height, upscale, width, upscale).mean((1, 3))
    sums = np.pad(share.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    window = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    allowed = window / size**2 >= settings.minimum_structure - 1e-9
    rows, columns = allowed.shape
    inside = np.zeros_like(allowed)
    inside[margin : rows - margin, margin : columns - margin] = True
    return np.argwhere(allowed & inside)


def _draw(source: _Source, settings: PatchSettings, rng: np.random.Generator) -> Draw:
    levels, time = source.inputs.shape[:2]
    weights = settings.level_weights
    chance = None if weights is None else np.asarray(weights) / sum(weights)
    row, column = source.corners[int(rng.integers(len(source.corners)))]
    flip_y, flip_x, transpose, reverse = (bool(v) for v in rng.integers(0, 2, 4))
    largest = math.radians(settings.rotation_deg)
    return Draw(
        recording=source.name,
        channel=source.channel,
        position=source.position,
        first_time=source.first_time,
        level=int(rng.choice(levels, p=chance)),
        start=int(rng.integers(time - settings.frames + 1)),
        row=int(row),
        column=int(column),
        angle_rad=float(rng.uniform(-largest, largest)),
        flip_y=flip_y and settings.flip,
        flip_x=flip_x and settings.flip,
        transpose=transpose and settings.transpose,
        reverse=reverse and settings.reverse_time,
    )


def _cut(
    source: _Source, draw: Draw, settings: PatchSettings, upscale: int, seed: Sequence[int]
) -> tuple[Float[np.ndarray, "time y x"], Float[np.ndarray, "time fy fx"]]:
    """Input and target of one draw, augmented alike; only the input gets more noise."""
    x, y = (
        _window(s, draw, settings, f)
        for s, f in ((source.inputs[draw.level], 1), (source.target, upscale))
    )
    if source.light is not None:
        # Before any turning: photons are counted on the pixels of the camera.
        electrons = x * source.scales[draw.level]
        off = np.zeros(1, np.float32)
        if source.background is not None:
            off = _window(source.background[draw.level], draw, settings, 1)
        thinned = source.light.thin(electrons + off, draw.light, np.random.default_rng(seed))
        thinned = thinned - draw.light * off
        scale = source.scales[draw.level] * source.curves[draw.level].scale(draw.light)
        x = (thinned / scale).astype(np.float32)
    return _turn(x, draw, settings, 1), _turn(y, draw, settings, upscale)


def _window(
    stack: Float[np.ndarray, "time y x"], draw: Draw, settings: PatchSettings, f: int
) -> Float[np.ndarray, "frames big_y big_x"]:
    """The patch with the margin that its rotation reaches into."""
    margin = _margin_px(settings)
    rows = slice(f * (draw.row - margin), f * (draw.row + settings.size_px + margin))
    columns = slice(f * (draw.column - margin), f * (draw.column + settings.size_px + margin))
    return stack[draw.start : draw.start + settings.frames, rows, columns]


def _turn(
    patch: Float[np.ndarray, "time big_y big_x"], draw: Draw, settings: PatchSettings, f: int
) -> Float[np.ndarray, "time y x"]:
    if _margin_px(settings):
        patch = rotate(patch, draw.angle_rad, f * settings.size_px)
    return turned(patch, draw)


def turned(patch: Float[np.ndarray, "time y x"], draw: Draw) -> Float[np.ndarray, "time y x"]:
    """The patch flipped, transposed and reversed in time, as drawn."""
    if draw.flip_y:
        patch = patch[:, ::-1]
    if draw.flip_x:
        patch = patch[:, :, ::-1]
    if draw.transpose:
        patch = patch.transpose(0, 2, 1)
    return patch[::-1] if draw.reverse else patch
