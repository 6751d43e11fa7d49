"""What a frame costs a GPU, counted without one: launches, waiting, peak memory.

The network runs on tensors without values; the Triton kernel, which has
no such form, is replaced by what it allocates.  Every operation that is not a view is a launch.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tisr_scope.inference import sliding_window
from tisr_scope.inference.sliding_window import SlidingWindow
from tisr_scope.networks import alignment
from tisr_scope.networks.config import Shown, released, shown_places
from tisr_scope.networks.dpa_tisr import DpaTisr

VIEWS = {
    *("view", "slice", "expand", "detach", "permute", "unbind", "split", "unsqueeze", "select"),
    *("transpose", "t", "view_as_real", "view_as_complex", "_unsafe_view", "alias", "squeeze"),
    *("split_with_sizes", "as_strided", "empty", "new_empty", "empty_like", "empty_strided"),
}
WAITING = {"_local_scalar_dense", "item", "is_nonzero", "equal"}
"""Operations whose value the processor waits for."""


class Costs(TorchDispatchMode):
    """Counts operations, and bytes that are held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations[func.overloadpacket.__name__] += 1
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._hold(leaf.untyped_storage())
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.held += size
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size

    @property
    def launches(self) -> int:
        return sum(n for name, n in self.operations.items() if name not in VIEWS)

    @property
    def waits(self) -> int:
        return sum(self.operations[name] for name in WAITING)


def kernel_allocations(
    x: torch.Tensor, offset: Any, mask: Any, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """What the fused kernel allocates: features with channels last, and its output."""
    x.permute(0, 2, 3, 1).contiguous()
    return x.new_empty(len(x), len(weight), *x.shape[2:]) + bias.view(1, -1, 1, 1)


@contextmanager
def without_values(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(alignment, "deformable_conv2d", kernel_allocations)
    monkeypatch.setattr(sliding_window, "seeded_generator", lambda *_: None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def cost(shown: Shown, size: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> Costs:
    """Of the next results of a window that is full already."""
    with without_values(monkeypatch):
        network = DpaTisr(released()).eval().requires_grad_(False)
        window = SlidingWindow(network, 6, shown, passes_at_once=at_once)
        for _ in range(7):
            window.push(np.ones((size, size), np.float32), reconstruct=False)
        costs = Costs()
        costs.held = costs.peak = 4 * sum(p.numel() for p in network.parameters())
        with costs:
            for _ in shown_places(shown):
                window.push(np.ones((size, size), np.float32), reconstruct=False)
            window.samples(shown_places(shown))
    return costs


def test_a_displayed_frame_stays_within_its_launches_and_never_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Six passes of the released network, 512 to 1024 pixels, three frames of each window."""
    costs = cost("central-3", 512, 6, monkeypatch)
    assert costs.waits == 0, costs.operations
    assert costs.launches / 3 <= 1500


def test_memory_of_one_pass_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one, six = (cost("central-3", 512, n, monkeypatch).peak / 2**30 for n in (1, 6))
    assert one <= 20
    assert one < six / 2
