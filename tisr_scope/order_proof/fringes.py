"""Which pattern every frame shows: amplitude and phase of the fringes at each carrier.

A frame less the mean of all frames is the sample times the fringes, seen through the optics.  Its
product with the mean (deconvolved, so that all of the sample counts alike) has a Fourier peak at
the carrier, whose phase is that of the pattern: a matched filter that adds up the light of the
whole field, and so works where single pixels hold a few photons.  Noise, sample and motion give
amplitudes everywhere; those at other directions of the same period tell how large they are, so no
noise of the camera and no brightness is assumed.

The phases of the frames are then compared with each other: the slip that explains them best is
taken, if it does so better than the commanded order by more than chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float
from scipy import fft

from tisr_scope.order_proof.commanded import Commanded, Fault
from tisr_scope.order_proof.slips import slips

REGULARISATION = 0.1
NEAREST_SAMPLES = 3.0
"""Directions nearer than this to a carrier, in samples of the spectrum, are no chance."""
DIRECTIONS = 90
FALSE_ALARMS = 1e-8
"""Probability that chance alone contradicts the patterns of a time point."""
LEAST_EXPLAINED, OVER_CHANCE = 40.0, 4.0
"""Power over noise that fringes must explain: for each orientation, and over the largest that is
explained at any other directions.  Below it neither an order nor its contrary is shown."""


@dataclass(frozen=True)
class Fringes:
    """Amplitudes of every frame at the carriers, and at directions where there are none.

    Attributes
    ----------
    at : complex array, shape (frame, orientation)
    chance : complex array, shape (frame, direction)
    """

    at: Complex[np.ndarray, "frame orientation"]
    chance: Complex[np.ndarray, "frame direction"]


def fringe_products(
    frames: Float[np.ndarray, "frame y x"], commanded: Commanded
) -> Float[np.ndarray, "frame y x"]:
    """Frames whose Fourier transform is the fringe amplitude at every carrier."""
    shape = (frames.shape[-2], frames.shape[-1])
    otf = optical_transfer(shape, commanded.pixel_um, commanded.cutoff_per_um)
    mean = frames.mean(axis=0)
    inverse = otf / (otf**2 + REGULARISATION)
    sample = fft.irfft2(fft.rfft2(mean - mean.mean()) * inverse, s=shape)
    scale = frames.reshape(len(frames), -1) @ mean.ravel() / max(float((mean**2).sum()), 1e-30)
    scale = np.maximum(scale, 1e-3 * max(float(scale.max()), 1e-9))
    differences = frames / scale[:, None, None] - mean
    seen = fft.irfft2(fft.rfft2(differences) * otf, s=shape)
    return np.asarray(seen * sample)


def amplitudes(
    products: Float[np.ndarray, "frame y x"], carriers: Float[np.ndarray, "n 2"], pixel_um: float
) -> Complex[np.ndarray, "frame n"]:
    """Fourier transform at any frequencies (kx, ky), phases about the centre of the field."""
    rows, columns = products.shape[-2:]
    y = (np.arange(rows) - (rows - 1) / 2) * pixel_um
    x = (np.arange(columns) - (columns - 1) / 2) * pixel_um
    along_x = np.exp(-2j * np.pi * np.outer(x, carriers[:, 0]))
    along_y = np.exp(-2j * np.pi * np.outer(y, carriers[:, 1]))
    return np.asarray(np.einsum("fyn,yn->fn", products @ along_x, along_y))


def measure(
    frames: Float[np.ndarray, "frame y x"],
    commanded: Commanded,
    carriers: Float[np.ndarray, "orientation 2"],
) -> Fringes:
    """Fringes of the frames of one time point, offset removed."""
    products = fringe_products(frames, commanded)
    extent = np.array(frames.shape[:0:-1]) * commanded.pixel_um
    beside = _other_directions(carriers, extent)
    both = amplitudes(products, np.concatenate([carriers, beside]), commanded.pixel_um)
    return Fringes(both[:, : len(carriers)], both[:, len(carriers) :])


def pattern_faults(fringes: Fringes, commanded: Commanded) -> tuple[tuple[Fault, ...], bool]:
    """Contradictions between fringes and command, and whether fringes are seen at all.

    Parameters
    ----------
    fringes : Fringes
        In the order of exposure.
    commanded : Commanded
        What was asked for.
    """
    orientations = fringes.at.shape[1]
    if not orientations or fringes.chance.shape[1] < 3 * orientations:
        return (), False
    noise = (np.abs(fringes.chance) ** 2).mean(axis=1)
    known = slips(commanded.patterns, commanded.levels, exchanges=False)
    pattern = known.shown // commanded.levels
    explained = _explained(fringes.at, noise, pattern, commanded)
    # The same question asked where there are no fringes tells what chance can do.
    width = fringes.chance.shape[1] // orientations
    gains, most = [], LEAST_EXPLAINED * orientations
    for start in range(width):
        picked = fringes.chance[:, start::width][:, :orientations]
        by_chance = _explained(picked, noise, pattern, commanded)
        gains.append(by_chance.max() - by_chance[0])
        most = max(most, OVER_CHANCE * float(by_chance.max()))
    usual, tests = float(np.mean(gains)), len(pattern)
    # Explained powers of noise fall off exponentially; a mean of maxima gives the scale.
    scale = max(1.0, usual / np.log(tests))
    enough = scale * np.log(tests / FALSE_ALARMS)
    best = int(np.argmax(explained))
    seen = bool(explained[best] > most)
    if not seen or explained[best] - explained[0] <= enough:
        return (), seen
    frames = np.flatnonzero(pattern[best] != pattern[0])
    first = int(frames[0])
    shown, meant = (int(pattern[row][first]) for row in (best, 0))
    text = (
        f"patterns: {known.names[best]}, {commanded.place(first)} is the first of "
        f"{len(frames)} with the wrong pattern: it shows {_pattern(shown, commanded)} "
        f"instead of {_pattern(meant, commanded)}"
    )
    return (Fault("pattern", text, tuple(int(n) for n in frames)),), True


@lru_cache(maxsize=8)
def optical_transfer(
    shape: tuple[int, int], pixel_um: float, cutoff_per_um: float
) -> Float[np.ndarray, "ky kx"]:
    """OTF of a round pupil on the frequencies of a real transform."""
    ky, kx = fft.fftfreq(shape[0], pixel_um), fft.rfftfreq(shape[1], pixel_um)
    s = np.clip(np.hypot(ky[:, None], kx[None, :]) / cutoff_per_um, 0, 1)
    return np.asarray(2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s)))


# ------------------------------------------------------------------------------------- inside


def _pattern(number: int, commanded: Commanded) -> str:
    orientation, phase = divmod(number, commanded.phases)
    return f"orientation {orientation + 1}, phase {phase + 1}"


def _explained(
    at: Complex[np.ndarray, "frame orientation"],
    noise: Float[np.ndarray, " frame"],
    pattern: np.ndarray,
    commanded: Commanded,
) -> Float[np.ndarray, " slip"]:
    """Power over noise that each slip explains by one fringe amplitude for each orientation.

    Phases run the one way or the other, by how the camera looks at the sample; the same for all
    orientations.
    """
    orientation, phase = np.divmod(pattern, commanded.phases)
    weight = 1 / np.maximum(noise, 1e-30)
    turn = 2j * np.pi * phase / commanded.phases
    result = np.zeros((2, len(pattern)))
    for number in range(at.shape[1]):
        here = orientation == number
        light = np.maximum((here * weight).sum(axis=1), 1e-30)
        for row, sign in enumerate((-1, 1)):
            total = (here * weight * at[:, number] * np.exp(sign * turn)).sum(axis=1)
            result[row] += np.abs(total) ** 2 / light
    return np.asarray(result[int(result.max(axis=1).argmax())])


def _other_directions(
    carriers: Float[np.ndarray, "orientation 2"], extent_um: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "n 2"]:
    """Frequencies of the same period in directions without fringes."""
    if not len(carriers):
        return np.empty((0, 2))
    size = float(np.hypot(*carriers.T).mean())
    angles = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    around = size * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    away = np.full(len(around), np.inf)
    for carrier in carriers:
        for sign in (1, -1):
            away = np.minimum(away, np.hypot(*((around - sign * carrier) * extent_um).T))
    return around[away > NEAREST_SAMPLES]
