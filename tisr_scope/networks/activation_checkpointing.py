"""Compute activations twice instead of keeping them for the gradient.

PyTorch's own checkpointing restores the global generator of random numbers for the second time.
Dropout here may draw from a generator of its own and may be switched off again before the gradient
is taken (:func:`~tisr_scope.networks.dropout.monte_carlo`), so its state is restored as well: the
second time draws the same masks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tisr_scope.networks.dropout import MonteCarloDropout

Result = TypeVar("Result")


class _DropoutState:
    """Context in which the dropout of a module is as it was when this was made."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = [m for m in module.modules() if isinstance(m, MonteCarloDropout)]
        self._then = self._read()

    @property
    def matters(self) -> bool:
        """Whether there is more to restore than the global generator."""
        return any(layer.sampling or layer.generator is not None for layer in self._layers)

    def _read(self) -> tuple[list[dict[str, Any]], list[tuple[torch.Generator, torch.Tensor]]]:
        names = ("training", "sampling", "generator")
        layers = [{name: getattr(layer, name) for name in names} for layer in self._layers]
        generators = {id(g): g for layer in self._layers if (g := layer.generator) is not None}
        return layers, [(g, g.get_state()) for g in generators.values()]

    def _write(
        self, layers: list[dict[str, Any]], generators: list[tuple[torch.Generator, torch.Tensor]]
    ) -> None:
        for layer, state in zip(self._layers, layers, strict=True):
            vars(layer).update(state)
        for generator, drawn in generators:
            generator.set_state(drawn)

    def __enter__(self) -> None:
        layers, generators = self._then
        kept = self._read()[0], [(g, g.get_state()) for g, _ in generators]
        self._now = kept
        self._write(layers, generators)

    def __exit__(self, *exception: object) -> None:
        self._write(*self._now)


def recomputed(
    function: Callable[..., Result], module: nn.Module, *arguments: Any, active: bool = True
) -> Result:
    """``function(*arguments)``, whose inner activations are computed again for the gradient.

    Parameters
    ----------
    function : callable
        Without side effects.
    module : Module
        Holds the dropout layers that the function runs through.
    *arguments
        Tensors among them are kept.
    active : bool
        False calls the function and nothing else; so does a call without gradients.
    """
    if not (active and torch.is_grad_enabled()):
        return function(*arguments)
    state = _DropoutState(module)
    # Compilers take checkpoints apart, and know the plain ones best.
    own: dict[str, Any] = {"context_fn": lambda: (nullcontext(), state)} if state.matters else {}
    result: Result = checkpoint(function, *arguments, use_reentrant=False, **own)
    return result
