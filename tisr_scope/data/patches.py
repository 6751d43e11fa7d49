"""Random patches of paired stacks: what a training step sees.

Every batch is a pure function of the settings, the seed and the step number, so a resumed run, or
a second network trained for comparison, sees exactly the same patches.  Input and target share one
centre-aligned grid (every input pixel is split into f x f target pixels), and every augmentation
keeps them registered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import Field, field_validator
from scipy.ndimage import affine_transform

from tisr_scope.data.normalise import Normalisation
from tisr_scope.errors import DataError
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
        plain = {"flip": False, "transpose": False, "reverse_time": False, "rotation_deg": 0.0}
        return self.model_copy(update=plain)


@dataclass(frozen=True)
class Draw:
    """Where one patch came from; ``row`` and ``column`` are its first input pixel."""

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

    def __str__(self) -> str:
        return (
            f"{self.recording}, level {self.level + 1}, from time point {self.start}, "
            f"row {self.row}, column {self.column}"
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
    inputs: Float[np.ndarray, "level time y x"]
    target: Float[np.ndarray, "time fy fx"]
    corners: np.ndarray


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

    Raises
    ------
    DataError
        If there is no stack, stacks differ in pixel size or upscale, a stack is smaller than a
        patch, has too few time points or levels, is dark or not finite, or shows no structure.
    """

    def __init__(
        self,
        stacks: Sequence[PairedStack],
        normalisation: Normalisation,
        settings: PatchSettings,
        *,
        batch: int,
        seed: int = 0,
    ) -> None:
        if batch < 1:
            raise DataError(f"a batch needs at least one patch, not {batch}")
        _same_optics(stacks)
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

    def batch(self, step: int) -> Batch:
        """Patches of one training step; the same step always gives the same patches."""
        rng = np.random.default_rng((self.seed, step))
        size, frames, fine = (
            self.settings.size_px,
            self.settings.frames,
            self.upscale * self.settings.size_px,
        )
        inputs = np.empty((self.batch_size, frames, 1, size, size), np.float32)
        targets = np.empty((self.batch_size, frames, 1, fine, fine), np.float32)
        draws = []
        for i in range(self.batch_size):
            source = self._sources[int(rng.integers(len(self._sources)))]
            draw = _draw(source, self.settings, rng)
            inputs[i, :, 0], targets[i, :, 0] = _cut(source, draw, self.settings, self.upscale)
            draws.append(draw)
        return Batch(inputs, targets, tuple(draws))


def _same_optics(stacks: Sequence[PairedStack]) -> None:
    if not stacks:
        raise DataError(
            "there are no pairs to draw patches from",
            remedy="check the split of the pairs, or prepare more recordings",
        )
    first = stacks[0]
    for stack in stacks[1:]:
        same_pixel = math.isclose(stack.pixel_size_um, first.pixel_size_um, rel_tol=1e-3)
        if not same_pixel or stack.upscale != first.upscale:
            raise DataError(
                f"recordings of different sampling cannot be mixed: {first.name} has "
                f"{first.pixel_size_um:g} um pixels and x{first.upscale} targets, {stack.name} "
                f"has {stack.pixel_size_um:g} um and x{stack.upscale}",
                where=stack.name,
                remedy="train one network for each pixel size and upscale",
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
    inputs = np.stack(
        [
            rule.normalise_input(level, rule.scale(level, f"{stack.name}, level {i + 1}"))
            for i, level in enumerate(stack.widefield)
        ]
    )
    scale = rule.scale(stack.target, f"{stack.name}, target")
    target = rule.normalise_target(stack.target, scale)
    corners = _corners(target, stack.upscale, settings)
    if len(corners) == 0:
        raise DataError(
            f"no patch has structure on {settings.minimum_structure:.0%} of its pixels",
            where=stack.name,
            remedy="leave the recording out or lower minimum_structure",
        )
    return _Source(stack.name, inputs, target, corners)


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
    source: _Source, draw: Draw, settings: PatchSettings, upscale: int
) -> tuple[Float[np.ndarray, "time y x"], Float[np.ndarray, "time fy fx"]]:
    """Input and target of one draw, augmented alike."""
    margin = _margin_px(settings)
    pair = []
    for stack, f in ((source.inputs[draw.level], 1), (source.target, upscale)):
        rows = slice(f * (draw.row - margin), f * (draw.row + settings.size_px + margin))
        columns = slice(f * (draw.column - margin), f * (draw.column + settings.size_px + margin))
        patch = stack[draw.start : draw.start + settings.frames, rows, columns]
        if margin:
            patch = rotate(patch, draw.angle_rad, f * settings.size_px)
        if draw.flip_y:
            patch = patch[:, ::-1]
        if draw.flip_x:
            patch = patch[:, :, ::-1]
        if draw.transpose:
            patch = patch.transpose(0, 2, 1)
        pair.append(patch[::-1] if draw.reverse else patch)
    return pair[0], pair[1]


def rotate(
    stack: Float[np.ndarray, "time big_y big_x"], angle_rad: float, size_px: int
) -> Float[np.ndarray, "time y x"]:
    """Central square of a stack, rotated about the centre of the field by cubic splines.

    The centre is a point of the sample, (n - 1) / 2 in pixels, not a pixel: input and target turn
    about the same point although their grids differ, so they stay registered.

    Parameters
    ----------
    stack : array, shape (time, y, x)
    angle_rad : float
        From x towards y.
    size_px : int
        Height and width of the result.
    """
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    matrix = np.array([[cos, -sin], [sin, cos]])
    offset = (np.array(stack.shape[1:]) - 1) / 2 - matrix @ np.full(2, (size_px - 1) / 2)
    rotated = np.empty((len(stack), size_px, size_px), np.float32)
    for frame, out in zip(stack, rotated, strict=True):
        affine_transform(frame, matrix, offset, output_shape=out.shape, output=out, mode="mirror")
    return rotated
