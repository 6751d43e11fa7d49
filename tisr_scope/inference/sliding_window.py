"""Exact streaming over the newest frames of a time-lapse.

A window of seven frames slides by one; most of what the network computes for it was computed for
the window before.  Kept between windows are the features and spectrum of each frame and the flows
of each pair, over one step and over two.  Hidden states cannot be kept: a new last frame changes
the start of the backward branch and so all states.  (A network with sliding-window propagation has
no states; each shown frame asks for the flows to its neighbours, and no two ask for the same.)

Only the frames that are shown are reconstructed, the last branch stops at the last of them, and
the Monte Carlo passes share all that comes before the first mask.  None of this changes a number
beyond rounding: the result is that of the network's own ``forward`` on the whole window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tisr_scope.errors import DataError
from tisr_scope.networks.alignment import Flow, Map
from tisr_scope.networks.config import WINDOW, Shown, shown_places
from tisr_scope.networks.deformable_phase_alignment import Spectrum
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.networks.dropout import monte_carlo, seeded_generator
from tisr_scope.networks.second_order_propagation import Flows, compose


@dataclass(frozen=True)
class Samples:
    """Monte Carlo passes of one super-resolved frame.

    Attributes
    ----------
    time_index : int
        Number of the frame, counted from the first one pushed.
    means : tensor, shape (m, fy, fx)
        Predicted mean of each pass, on the normalised scale.
    scales : tensor, shape (m, fy, fx)
        Predicted Laplace scale of each pass; zero for a network that predicts none.
    """

    time_index: int
    means: Float[Tensor, "m fy fx"]
    scales: Float[Tensor, "m fy fx"]


@dataclass(frozen=True)
class _Pair:
    """Flows between a frame and the one before it, and over two steps where there are two."""

    forward: Flow
    backward: Flow
    forward2: Flow | None
    backward2: Flow | None


@dataclass(frozen=True)
class _Entry:
    """A frame of the window with what is kept of it."""

    index: int
    frame: Float[Tensor, "1 1 y x"]
    features: Map | None
    spectrum: Spectrum | None
    pair: _Pair | None
    carried: Float[Tensor, "fy fx"] | None


class SlidingWindow:
    """Rolling buffer of frames that gives super-resolved ones with their Monte Carlo passes.

    Parameters
    ----------
    network : DpaTisr
        In evaluation mode; its device is used.
    passes : int
        Monte Carlo passes M (Paper: six).
    shown : {"centre", "central-3", "central-5", "central-7", "newest"}
        Which frames of a full window are shown, see
        :data:`~tisr_scope.networks.config.Shown`.
    seed : int
        Masks follow from the seed and the number of the shown frame alone.
    length : int
        Frames of a window, at least three.
    passes_at_once : int, optional
        Passes that run as one batch; fewer need less memory and draw other masks.

    Raises
    ------
    DataError
        If the settings are impossible.
    """

    def __init__(
        self,
        network: DpaTisr,
        passes: int = 6,
        shown: Shown = "centre",
        seed: int = 0,
        *,
        length: int = WINDOW,
        passes_at_once: int | None = None,
    ) -> None:
        if passes < 1 or length < 3 or (passes_at_once is not None and passes_at_once < 1):
            raise DataError(
                f"a window of {length} frames with {passes} passes cannot run",
                where="SlidingWindow",
                remedy="use at least three frames and one pass",
            )
        self.network = network.eval()
        self.passes = passes
        self.shown = shown
        self.seed = seed
        self.length = length
        self.passes_at_once = min(passes, passes_at_once or passes)
        self._entries: deque[_Entry] = deque(maxlen=length)
        self._pushed = 0

    @property
    def delay(self) -> int:
        """Frames by which the newest shown frame is behind the newest of its window."""
        return self.length - 1 - shown_places(self.shown, self.length)[-1]

    @property
    def indices(self) -> list[int]:
        """Numbers of the frames in the window, oldest first."""
        return [entry.index for entry in self._entries]

    def push(
        self,
        frame: Float[Tensor, "*axes"] | Float[np.ndarray, "*axes"],
        reconstruct: bool = True,
        *,
        index: int | None = None,
        carried: Float[np.ndarray, "fy fx"] | None = None,
    ) -> list[Samples]:
        """Take the next frame.

        Parameters
        ----------
        frame : tensor or array, shape (y, x)
            On the normalised scale.
        reconstruct : bool
            False takes the frame in and shows nothing, for the frames that are passed over when
            the network is behind; it costs little.
        index : int, optional
            Its number, on which masks depend; by default it follows the one before.
        carried : array, optional
            Background of the frame, given back to its predictions; see
            :meth:`~tisr_scope.normalise.Normalisation.carried`.

        Returns
        -------
        list of Samples
            Empty until the window is full, or while it is not this window's turn.

        Raises
        ------
        DataError
            If the frame is not finite, too small, or of another size than the ones before.
        """
        number = index if index is not None else (self.indices or [-1])[-1] + 1
        with torch.inference_mode():
            self._entries.append(self._entry(frame, number, carried))
        self._pushed += 1
        full = self._pushed - self.length
        places = shown_places(self.shown, self.length)
        if not reconstruct or full < 0 or full % len(places):
            return []
        return self.samples(places)

    def samples(self, shown: Sequence[int]) -> list[Samples]:
        """Reconstruct some frames of the present window, full or not.

        Parameters
        ----------
        shown : sequence of int
            Places in the window, rising from 0, the oldest.

        Raises
        ------
        DataError
            If there is no such frame in the window.
        """
        entries = list(self._entries)
        if (
            not shown
            or list(shown) != sorted(set(shown))
            or not 0 <= shown[0] <= shown[-1] < len(entries)
        ):
            raise DataError(
                f"places {list(shown)} are not in a window of {len(entries)} frames",
                where="SlidingWindow.samples",
                remedy="push more frames, and name places in rising order",
            )
        while True:
            device = entries[0].frame.device
            generator = seeded_generator(device, self.seed, entries[shown[0]].index)
            try:
                return self._samples(entries, shown, generator)
            except torch.OutOfMemoryError:
                if self.passes_at_once == 1:
                    raise
            # Fewer passes in a batch from now on; their masks are other draws of the same kind.
            self.passes_at_once = -(-self.passes_at_once // 2)
            if device.type == "cuda":
                torch.cuda.empty_cache()

    def _samples(
        self, entries: Sequence[_Entry], shown: Sequence[int], generator: torch.Generator | None
    ) -> list[Samples]:
        with torch.inference_mode(), monte_carlo(self.network, generator):
            shared = None if self._varies else self._hierarchy(entries, shown, 1)
            parts = []
            for start in range(0, self.passes, self.passes_at_once):
                copies = min(self.passes_at_once, self.passes - start)
                parts.append(self._reconstruct(entries, shown, copies, shared))
            out = torch.cat(parts, dim=1)
        means = torch.stack(
            [
                found if (back := entries[place].carried) is None else found + back
                for found, place in zip(out[:, :, 0], shown, strict=True)
            ]
        )
        scales = out[:, :, 1] if self.network.config.bayesian else torch.zeros_like(means)
        return [
            Samples(entries[place].index, means[row], scales[row])
            for row, place in enumerate(shown)
        ]

    # --------------------------------------------------------------------------------- details

    @property
    def _varies(self) -> bool:
        """Whether the features that the reconstruction reads differ from pass to pass."""
        config = self.network.config
        return config.rate("extraction") > 0 or config.rate("propagation") > 0

    def _entry(
        self,
        frame: Float[Tensor, "*axes"] | Float[np.ndarray, "*axes"],
        number: int,
        carried: Float[np.ndarray, "fy fx"] | None,
    ) -> _Entry:
        # Looked at before it is on the device, which would have to be waited for.
        if isinstance(frame, np.ndarray):
            finite = bool(np.isfinite(frame).all())
        else:
            finite = frame.is_cuda or bool(torch.isfinite(frame).all())
        device = next(self.network.parameters()).device
        image = torch.as_tensor(frame, dtype=torch.float32, device=device)
        where = f"frame {number}"
        if image.dim() != 2:
            raise DataError(
                f"a frame has two axes, not the shape {tuple(image.shape)}",
                where=where,
                remedy="push one frame of one channel at a time",
            )
        self.network.check_frames(image.shape, where)
        before = self._entries[-1] if self._entries else None
        if before is not None and before.frame.shape[-2:] != image.shape:
            raise DataError(
                f"the frame is {tuple(image.shape)}, those before are "
                f"{tuple(before.frame.shape[-2:])}",
                where=where,
                remedy="start a new window for frames of another size",
            )
        if not finite:
            raise DataError(
                "the frame holds NaN or infinite values",
                where=where,
                remedy="check the camera, and the scale found in the warm-up",
            )
        x = image[None, None].clone()
        features = spectrum = None
        if self.network.config.rate("extraction") == 0:
            features = self.network.extract(x)
            spectrum = self.network.spectrum(features)
        pair = self._pair(before, x) if before is not None else None
        back = None if carried is None else torch.as_tensor(carried, device=device)
        return _Entry(number, x, features, spectrum, pair, back)

    def _pair(self, before: _Entry, x: Float[Tensor, "1 1 y x"]) -> _Pair | None:
        # A sliding-window network wants flows from the shown frames only, at once.
        if not self.network.config.has_flow or self.network.slides:
            return None
        both = self.network.flow(torch.cat((x, before.frame)), torch.cat((before.frame, x)))
        forward, backward = both.chunk(2)
        old = before.pair
        if old is None:
            return _Pair(forward, backward, None, None)
        return _Pair(
            forward, backward, compose(forward, old.forward), compose(old.backward, backward)
        )

    def _flows(self, entries: Sequence[_Entry], copies: int) -> tuple[Flows, Flows]:
        """Backward and forward flows in the order of the visit."""
        pairs = [e.pair for e in entries[1:] if e.pair is not None]

        def many(flows: Iterable[Flow | None]) -> list[Flow]:
            return [f.expand(copies, -1, -1, -1) for f in flows if f is not None]

        return (
            Flows(many(p.backward for p in pairs[::-1]), many(p.backward2 for p in pairs[:0:-1])),
            Flows(many(p.forward for p in pairs), many(p.forward2 for p in pairs[1:])),
        )

    def _hierarchy(
        self, entries: Sequence[_Entry], shown: Sequence[int], copies: int
    ) -> Float[Tensor, "n k y x"]:
        """What the reconstruction reads of the shown frames; copies of a frame stand together."""
        network = self.network
        features: list[Map] = []
        spectra: list[Spectrum | None] = []
        if network.config.rate("extraction") > 0:
            frames = torch.cat([e.frame for e in entries])
            features = list(network.extract(frames, copies).chunk(len(entries)))
            spectra = [network.spectrum(f) for f in features]
        else:
            for entry in entries:
                if entry.features is not None:
                    features.append(entry.features.expand(copies, -1, -1, -1))
                    spectra.append(_expand(entry.spectrum, copies))
        if not network.config.temporal:
            alone = torch.cat([features[place] for place in shown])
            return torch.cat((alone, *network.refine_alone(alone)), dim=1)
        if network.slides:
            return torch.cat(network.slide(features, spectra, [e.frame for e in entries], shown))
        backward, forward = self._flows(entries, copies)
        states = network.propagate(features, spectra, backward, forward, stop=shown[-1] + 1)
        return torch.cat(
            [
                torch.cat((features[place], *(branch[place] for branch in states)), dim=1)
                for place in shown
            ]
        )

    def _reconstruct(
        self,
        entries: Sequence[_Entry],
        shown: Sequence[int],
        copies: int,
        shared: Float[Tensor, "n k y x"] | None,
    ) -> Float[Tensor, "n m out fy fx"]:
        frames = torch.cat([entries[place].frame for place in shown])
        if shared is not None:
            out = self.network.reconstruct(shared, frames, copies)
        else:
            hierarchy = self._hierarchy(entries, shown, copies)
            out = self.network.reconstruct(hierarchy, frames.repeat_interleave(copies, dim=0))
        return out.view(len(shown), copies, *out.shape[1:])


def _expand(spectrum: Spectrum | None, copies: int) -> Spectrum | None:
    if spectrum is None:
        return None
    return Spectrum(
        spectrum.values.expand(copies, -1, -1, -1), spectrum.code.expand(copies, -1, -1, -1)
    )
