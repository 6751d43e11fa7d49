"""Folders in the published layouts, written byte by byte without the package."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from sim_truth import make_stack

MODE = {"u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
PIXEL = 0.0626
ANGLES_DEG = "85,145,205"


def write_mrc_by_hand(
    path: Path, data: np.ndarray, pixel: float = PIXEL, time_points: int = 1, wave: int = 525
) -> None:
    """Header as the authors' files have it: Priism mark, pixel size itself, times, wavelength."""
    sections, rows, columns = data.shape
    head = bytearray(1024)
    struct.pack_into("<4i", head, 0, columns, rows, sections, MODE[data.dtype.str[1:]])
    struct.pack_into("<3i", head, 28, 1, 1, 1)
    struct.pack_into("<6f", head, 40, pixel, pixel, 0.16, 90, 90, 90)
    struct.pack_into("<3i", head, 64, 1, 2, 3)
    struct.pack_into("<h", head, 96, -16224)
    struct.pack_into("<2h", head, 180, time_points, 0)
    struct.pack_into("<2h", head, 196, 1, wave)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(head) + data.tobytes())


def noise_cell(
    folder: Path,
    *,
    levels: int = 3,
    orientations: int = 3,
    phases: int = 3,
    time_points: int = 2,
    size: int = 24,
    upscale: int = 2,
    seed: int = 0,
    kind: str = "<u2",
    target_kind: str = "<f4",
) -> tuple[list[np.ndarray], np.ndarray]:
    """A cell of random counts; returns raw stacks (frame, y, x) and the SIM image."""
    rng = np.random.default_rng(seed)
    raw = [
        rng.poisson(100 + 50 * 4**n, (time_points * orientations * phases, size, size + 2))
        for n in range(levels)
    ]
    stored = [stack.astype(kind) for stack in raw]
    target = rng.normal(100, 60, (time_points, upscale * size, upscale * (size + 2)))
    target = np.clip(target, 0, None) if np.dtype(target_kind).kind == "u" else target
    target = target.astype(target_kind)
    for n, stack in enumerate(stored):
        write_mrc_by_hand(folder / f"RawSIMData_level_{n + 1:02d}.mrc", stack)
    write_mrc_by_hand(folder / "SIM_gt.mrc", target, PIXEL / upscale)
    return stored, target


def striped_cell(folder: Path, size: int = 96, time_points: int = 2, seed: int = 3) -> np.ndarray:
    """A cell with stripes that can be reconstructed, two levels; returns the carriers."""
    stack = make_stack(size, seed=seed)
    for n, photons in enumerate((20, 500)):
        frames = np.stack([stack.frames(photons, seed=10 * n + t) for t in range(time_points)])
        counts = np.rint(np.clip(100 + frames / 0.46, 0, None)).astype("<u2")
        write_mrc_by_hand(
            folder / f"RawSIMData_level_{n + 1:02d}.mrc", counts.reshape(-1, size, size)
        )
    return stack.carrier
