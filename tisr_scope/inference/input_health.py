"""Is what the camera delivers what the network may be given?  Frames are judged one by one.

A network turns any array into a picture, and its confidence knows nothing of cameras: a black
frame is super-resolved with full confidence, and one hot pixel moves the whole field through the
transform.  So every frame is compared with the ones before it, and each finding has a name:

========== ===================================================================== ==============
finding    what is seen                                                          what follows
========== ===================================================================== ==============
not finite NaN or infinite values                                                left out
black      no light, or every pixel the same                                     left out
frozen     identical to an earlier frame, to the last photon                     left out
half       a part without image, or with the image of the frame before           left out
saturated  many pixels at the largest value, where there were few                left out
flicker    light far off that of the frames around (named from 20 %, left        named
           out from a factor of 1.6)
hot pixels brighter than the optics can image                                    repaired
bleaching  light fallen to 70, 50, 35 or 25 % of the first frames                named
========== ===================================================================== ==============

A change that stays is the specimen's or the user's: after three frames alike it is the new normal,
except for frames without light.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from tisr_scope.inference.frame_measures import FrameMeasures, measure, repair_hot_pixels

Kind = Literal[
    "not finite", "black", "frozen", "half", "saturated", "flicker", "hot pixels", "bleaching"
]
_MEMORY = 7
_DARK = 0.12
_NAMED, _BROKEN = 1.2, 1.6
_BLEACHED = (0.7, 0.5, 0.35, 0.25)
_NEW_NORMAL = 3
_SATURATED = 0.005


@dataclass(frozen=True)
class Finding:
    """What is wrong with one frame."""

    t: int
    kind: Kind
    text: str
    left_out: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        return f"time point {self.t + 1}: {self.text}{', left out' * self.left_out}"


@dataclass(frozen=True)
class JudgedFrame:
    """A frame as the network may see it.

    Attributes
    ----------
    image : array, optional
        Hot pixels repaired; None if the frame must be left out.
    findings : tuple of Finding
        Empty for a good frame.
    """

    image: Float[np.ndarray, "y x"] | None
    findings: tuple[Finding, ...]


class InputHealth:
    """Judges the frames of one stream in the order of time.

    Parameters
    ----------
    offset_known : bool
        The camera offset is subtracted, so that zero is no light.  Otherwise light is told by the
        contrast of structures, which no offset changes.
    ratio : float
        See :func:`~tisr_scope.inference.frame_measures.peak_ratio`.
    still : bool
        The same image is shown again and again on purpose.
    """

    def __init__(
        self, *, offset_known: bool = True, ratio: float = 4.0, still: bool = False
    ) -> None:
        self._offset_known, self._ratio, self._still = offset_known, ratio, still
        self._good: deque[FrameMeasures] = deque(maxlen=_MEMORY)
        self._unusual: list[FrameMeasures] = []
        self._prints: deque[int] = deque(maxlen=_MEMORY)
        self._last: Float[np.ndarray, "y x"] | None = None
        self._first_light: list[float] = []
        self._told_bleaching = 0
        self._judged = 0
        self.hot_pixels: Counter[tuple[int, int]] = Counter()
        self.findings: list[Finding] = []

    @property
    def left_out(self) -> list[int]:
        """Time points that the network never saw."""
        return sorted({f.t for f in self.findings if f.left_out})

    def prime(self, frames: Sequence[Float[np.ndarray, "y x"]]) -> list[Float[np.ndarray, "y x"]]:
        """Learn what is normal before the first frame is judged; most of the frames are good.

        Returns
        -------
        list of array
            The good ones, repaired: what an intensity scale may be taken from.
        """
        finite = [f for f in frames if np.isfinite(f).all() and f.min() < f.max()]
        repaired = [repair_hot_pixels(frame, self._ratio)[0] for frame in finite]
        sizes = [measure(frame) for frame in repaired]
        light = [self._light(m) for m in sizes]
        middle = float(np.median(light)) if light else 0.0
        near = [place for place, one in enumerate(light) if _factor(one, middle) < _BROKEN]
        if not near:  # light around zero says nothing
            near = list(range(len(light)))
        if not self._good:
            self._good.extend(sizes[place] for place in near[:_MEMORY])
        return [repaired[place] for place in near]

    def judge(self, t: int, frame: Float[np.ndarray, "y x"]) -> JudgedFrame:
        """The next frame; a stream may start anywhere and skip time points."""
        found, image = self._look(t, frame)
        self._judged += 1
        self.findings += found
        return JudgedFrame(None if any(f.left_out for f in found) else image, tuple(found))

    def summary(self) -> dict[str, Any]:
        """Findings as plain JSON types, with pixels that were hot in most frames."""
        often = max(3, self._judged // 2)
        fixed = sorted(place for place, count in self.hot_pixels.items() if count >= often)
        return {
            "frames_left_out": self.left_out,
            "findings": [f.as_dict() for f in self.findings],
            "fixed_hot_pixels": [list(place) for place in fixed],
        }

    # ------------------------------------------------------------------ one frame

    def _look(
        self, t: int, frame: Float[np.ndarray, "y x"]
    ) -> tuple[list[Finding], Float[np.ndarray, "y x"]]:
        if not np.isfinite(frame).all():
            count = int((~np.isfinite(frame)).sum())
            return [Finding(t, "not finite", f"{count} pixels are NaN or infinite", True)], frame
        image, hot = repair_hot_pixels(frame, self._ratio)
        sizes = measure(image)
        broken = self._broken(t, sizes, frame)
        seen_before = sizes.fingerprint in self._prints
        self._prints.append(sizes.fingerprint)
        torn = self._torn(frame)
        self._last = frame
        if seen_before and not self._still and (broken is None or broken.kind != "black"):
            return [Finding(t, "frozen", "identical to an earlier frame", True)], image
        if torn is not None and not self._still:
            return [Finding(t, "half", torn, True)], image
        if broken is not None and not self._is_new_normal(broken, sizes):
            return [broken], image
        self._good.append(sizes)
        self._unusual.clear()
        found = [] if broken is None else [Finding(t, broken.kind, broken.text, False)]
        if len(hot):
            found.append(self._name_hot(t, hot, image is not frame))
        return found + self._bleaching(t, sizes), image

    def _broken(
        self, t: int, sizes: FrameMeasures, frame: Float[np.ndarray, "y x"]
    ) -> Finding | None:
        """The finding that speaks about the frame as a whole, if there is one."""

        def finding(kind: Kind, text: str, left_out: bool = True) -> Finding:
            return Finding(t, kind, text, left_out)

        if frame.min() == frame.max():
            return finding("black", f"every pixel is {frame.flat[0]:.4g}")
        if not self._good:
            full = sizes.plateau > _SATURATED
            return (
                finding("saturated", f"{sizes.plateau:.1%} of the pixels are at the top", False)
                if full
                else None
            )
        usual = float(np.median([self._light(m) for m in self._good]))
        light = self._light(sizes)
        if usual <= 0:
            return None
        # Without a known offset the noise of a dark frame looks like a little light.
        if light < (_DARK if self._offset_known else 2 * _DARK) * usual:
            return finding("black", f"{max(light / usual, 0):.0%} of the usual light")
        if (lost := self._lost_part(sizes)) is not None:
            return finding("half", lost)
        before = float(np.median([m.plateau for m in self._good]))
        if sizes.plateau > _SATURATED and sizes.plateau > 4 * before:
            return finding("saturated", f"{sizes.plateau:.1%} of the pixels are at the top")
        factor = _factor(light, usual)
        scatter = max((_factor(self._light(m), usual) for m in self._good), default=1.0)
        unusual = factor > max(_NAMED, 1 + 2 * (scatter - 1))
        if unusual and self._everywhere(sizes, light > usual):
            broken = factor > _BROKEN
            return finding("flicker", f"{light / usual:.0%} of the usual light", broken)
        return None

    def _torn(self, frame: Float[np.ndarray, "y x"]) -> str | None:
        """A part that is the one of the frame before, photon by photon."""
        if self._last is None or self._last.shape != frame.shape:
            return None
        same = frame == self._last
        for axis, name in ((1, "rows"), (0, "columns")):
            constant = frame.max(axis=axis) == frame.min(axis=axis)
            share = float((same.all(axis=axis) & ~constant).mean())
            if share > 0.05:
                return f"{share:.0%} of the {name} are those of the frame before"
        return None

    def _light(self, sizes: FrameMeasures) -> float:
        return sizes.mean if self._offset_known else sizes.spread

    def _lost_part(self, sizes: FrameMeasures) -> str | None:
        """A part along an edge that has lost its image while the rest kept it."""
        for axis, name in enumerate(("rows", "columns")):
            usual = float(np.median([m.constant_lines[axis] for m in self._good]))
            if sizes.constant_lines[axis] > usual + 0.05:
                return f"{sizes.constant_lines[axis]:.0%} of the {name} hold no image"
            means, spreads = self._strips(axis)
            # Sparse specimens come and go; only where all parts hold structures can one be lost.
            telling = spreads > 0.5 * np.median(spreads)
            if telling.sum() < 0.75 * len(telling):
                continue
            kept = sizes.strip_spreads[axis] / np.maximum(spreads, 1e-12)
            held = sizes.strip_means[axis] / np.where(means == 0, 1e-12, means)
            dead = (kept < 0.3) | ((held < 0.4) & (kept < 0.6))
            for order in (slice(None), slice(None, None, -1)):
                gone = int(np.argmin(np.append(dead[order], False)))
                rest = kept[order][gone:]
                if gone >= 2 and len(rest) >= 2 and np.median(rest) > 0.6:
                    return f"{gone / len(dead):.0%} of the {name} hold no image"
        return None

    def _strips(self, axis: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Means and spreads that strips have had, of the last frame and the usual one the less."""
        return tuple(
            np.minimum(np.median(had, axis=0), had[-1])
            for had in (
                [m.strip_means[axis] for m in self._good],
                [m.strip_spreads[axis] for m in self._good],
            )
        )

    def _everywhere(self, sizes: FrameMeasures, brighter: bool) -> bool:
        """Whether most parts of the frame have changed: a lamp's doing, not the specimen's."""

        def of(m: FrameMeasures) -> np.ndarray[Any, Any]:
            return (m.strip_means if self._offset_known else m.strip_spreads).ravel()

        usual = np.median([of(m) for m in self._good], axis=0)
        telling = usual > 0.3 * np.median(usual)
        change = of(sizes)[telling] / np.maximum(usual[telling], 1e-12)
        return bool(((change > 1.1) if brighter else (change < 1 / 1.1)).mean() > 0.75)

    def _is_new_normal(self, broken: Finding, sizes: FrameMeasures) -> bool:
        """Whether a change has stayed; a mild one passes at once."""
        if not broken.left_out:
            return True
        if broken.kind not in ("flicker", "saturated"):
            self._unusual.clear()
            return False
        alike = [m for m in self._unusual if _factor(self._light(m), self._light(sizes)) < _NAMED]
        self._unusual = [*alike, sizes]
        if len(self._unusual) < _NEW_NORMAL:
            return False
        self._good.clear()
        return True

    def _name_hot(self, t: int, hot: np.ndarray[Any, np.dtype[np.intp]], repaired: bool) -> Finding:
        self.hot_pixels.update((int(y), int(x)) for y, x in hot)
        places = ", ".join(f"({y}, {x})" for y, x in hot[:3]) + ", ..." * (len(hot) > 3)
        action = "repaired" if repaired else "too many to repair"
        plural = "s" if len(hot) > 1 else ""
        text = f"{len(hot)} hot pixel{plural} {action}, (row, column) {places}"
        return Finding(t, "hot pixels", text, not repaired)

    def _bleaching(self, t: int, sizes: FrameMeasures) -> list[Finding]:
        if len(self._first_light) < _MEMORY:
            self._first_light.append(self._light(sizes))
            return []
        now = float(np.median([self._light(m) for m in self._good]))
        share = now / max(float(np.median(self._first_light)), 1e-12)
        passed = sum(share < limit for limit in _BLEACHED)
        if passed <= self._told_bleaching:
            return []
        self._told_bleaching = passed
        return [Finding(t, "bleaching", f"{share:.0%} of the light of the first frames", False)]


def _factor(one: float, other: float) -> float:
    """Ratio of two sizes, whichever is larger."""
    low, high = sorted((one, other))
    return high / low if low > 0 else float("inf")
