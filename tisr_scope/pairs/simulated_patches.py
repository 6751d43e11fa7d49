"""Patches of simulated cells, made when they are asked for: training that never sees one twice.

It gives what :class:`~tisr_scope.pairs.patches.PatchSampler` gives, but its recordings are drawn
from ``randomisation.yaml`` instead of read from disk.  Patch ``n`` of a step is a pure function of
the seed, the step and ``n``; each of its patches is of another recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.patches import Batch, Draw, PatchSettings, turned
from tisr_scope.simulated_microscope.randomisation import Conditions, draw_conditions
from tisr_scope.simulated_microscope.recordings import simulate_cell

STEPS_OF_A_RECORDING = 6
"""Steps in a row in which a recording gives a patch, each time another."""


class SimulatedPatches:
    """Draws seeded random patches of simulated cells.

    Parameters
    ----------
    normalisation : Normalisation
    settings : PatchSettings
        Size and augmentation; what concerns laser levels is not used.
    batch : int
        Patches of a step.
    first_seed : int
        Seed of the first recording; the others follow.
    recordings : int, optional
        Recordings there are; without a number, each step has new ones.
    fixed : mapping, optional
        Conditions that are not drawn, such as the specimen.
    """

    upscale = 2
    pixel_size_um = 0.0626
    frame_shape = (128, 128)

    def __init__(
        self,
        normalisation: Normalisation,
        settings: PatchSettings,
        *,
        batch: int,
        first_seed: int,
        recordings: int | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings, self.batch_size, self.seed = settings, batch, first_seed
        self._rule, self._count, self._fixed = normalisation, recordings, dict(fixed or {})
        self._kept: dict[
            int, tuple[Conditions, Float[np.ndarray, "time y x"], Float[np.ndarray, "time fy fx"]]
        ] = {}

    @property
    def recordings(self) -> tuple[str, ...]:
        """Seeds as names; of endless ones the first."""
        count = self._count or 1
        return tuple(f"simulated_{self.seed + n}" for n in range(count))

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Patches of one training step, or one of several equal parts of them."""
        share = self.batch_size // parts
        numbers = [step * self.batch_size + part * share + n for n in range(share)]
        cut = [self._patch(number) for number in numbers]
        return Batch(
            np.stack([x for x, _, _ in cut])[:, :, None],
            np.stack([y for _, y, _ in cut])[:, :, None],
            tuple(draw for _, _, draw in cut),
        )

    def draws(self, step: int) -> tuple[Draw, ...]:
        """Where all patches of a step come from."""
        return tuple(self._draw(step * self.batch_size + n) for n in range(self.batch_size))

    def _recording_seed(self, number: int) -> int:
        if self._count is not None:
            return self.seed + number % self._count
        step, place = divmod(number, self.batch_size)
        return self.seed + place + self.batch_size * (step // STEPS_OF_A_RECORDING)

    def _draw(self, number: int) -> Draw:
        rng = np.random.default_rng((self.seed, number))
        size, (height, width) = self.settings.size_px, self.frame_shape
        flip_y, flip_x, transpose, reverse = (bool(v) for v in rng.integers(0, 2, 4))
        return Draw(
            recording=f"simulated_{self._recording_seed(number)}",
            level=0,
            start=0,
            row=int(rng.integers(height - size + 1)),
            column=int(rng.integers(width - size + 1)),
            angle_rad=0.0,
            flip_y=flip_y and self.settings.flip,
            flip_x=flip_x and self.settings.flip,
            transpose=transpose and self.settings.transpose,
            reverse=reverse and self.settings.reverse_time,
        )

    def _patch(
        self, number: int
    ) -> tuple[Float[np.ndarray, "time y x"], Float[np.ndarray, "time fy fx"], Draw]:
        draw = self._draw(number)
        _, inputs, target = self._recording(self._recording_seed(number))
        size, f = self.settings.size_px, self.upscale
        rows, columns = slice(draw.row, draw.row + size), slice(draw.column, draw.column + size)
        fine = (
            slice(f * draw.row, f * (draw.row + size)),
            slice(f * draw.column, f * (draw.column + size)),
        )
        x = turned(inputs[:, rows, columns], draw)
        y = turned(target[:, fine[0], fine[1]], draw)
        return np.ascontiguousarray(x), np.ascontiguousarray(y), draw

    def _recording(
        self, seed: int
    ) -> tuple[Conditions, Float[np.ndarray, "time y x"], Float[np.ndarray, "time fy fx"]]:
        if seed not in self._kept:
            of = draw_conditions(seed, **self._fixed)
            made = simulate_cell(
                of, seed, time_points=self.settings.frames, frame_shape=self.frame_shape
            )
            rule, place = self._rule, f"simulated recording {seed}"
            scale = rule.scale(made.widefield, place)
            target_scale = rule.target_scale(made.truth, made.widefield, place)
            found = (
                of,
                rule.normalise_input(made.widefield, scale),
                rule.learnable(rule.normalise_target(made.truth, target_scale), self.upscale),
            )
            while len(self._kept) >= 2 * self.batch_size:
                self._kept.pop(next(iter(self._kept)))
            self._kept[seed] = found
        return self._kept[seed]
