"""Tensors of a stranger's checkpoint, out of any usual wrapper, without running any of its code.

Training tools wrap a state dict in dictionaries (``state_dict``, ``params_ema``, ...), write
prefixes before its names (``module.``, ``generator.``, ``_orig_mod.``) and store halves or doubles.
None of these words is known here: the one name that every checkpoint of a network must hold says
where its tensors are, and what stands before it is the wrapping.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from tisr_scope.bundles.bundle_files import check_finite
from tisr_scope.errors import BundleError, UnsafeCheckpoint

_PICKLE = b"\x80"
_AVERAGED = re.compile(r"(?<![A-Za-z])(ema|swa)(?![a-z])|EMA|SWA|[Aa]verag")
_DEEPEST = 4
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# A best PSNR or a loss beside the weights is often a number of NumPy: plain values, no code.
_NUMBER: Any = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")),
    (_NUMBER, "numpy.core.multiarray.scalar"),
    (_NUMBER, "numpy._core.multiarray.scalar"),
]
_AGAIN = "download it again, and compare its size with the one at its source"


@dataclass(frozen=True)
class ForeignState:
    """Tensors of one network, single precision, with where they were in the file."""

    tensors: dict[str, Tensor]
    entry: str
    """Keys and prefix before the names, ``params_ema/module.``; empty for a bare state dict."""
    stored_as: str
    """Type in the file, ``float16``; several are joined by commas."""

    @property
    def told(self) -> str:
        """Where the tensors were, in words."""
        place = f"its entry {self.entry!r}" if self.entry else "a bare state dict"
        return place if self.stored_as == "float32" else f"{place}, stored as {self.stored_as}"


def read_foreign(path: Path, anchor: str, what: str) -> ForeignState:
    """Tensors of the network whose state dict holds the name ``anchor``.

    Of several copies of the network the averaged one (EMA, SWA) is taken, by its name.

    Parameters
    ----------
    path : Path
        ``.pth``, ``.pt`` or ``.safetensors``; only tensors are unpickled (``weights_only``).
    anchor : str
        A name that each state dict of this network holds.
    what : str
        The network, for messages.

    Raises
    ------
    UnsafeCheckpoint
        If it asks for anything but tensors and plain values; what it asks for is not run.
    BundleError
        If the file cannot be read, holds no such network, several of them that no name tells
        apart, or values that are no floating-point numbers.
    """
    content = tensors_only(path)
    found = dict(_candidates(content, anchor))
    if not found:
        some = any(isinstance(v, Tensor) for _, d in _dictionaries(content) for v in d.values())
        raise BundleError(
            f"the tensors are not those of {what}: there is no {anchor!r}"
            if some
            else "the checkpoint holds no state dict",
            where=str(path),
            remedy=f"give the file that holds the weights of {what}",
        )
    averaged = {entry: state for entry, state in found.items() if _AVERAGED.search(entry)}
    if len(chosen := averaged or found) > 1 and not _all_equal(list(chosen.values())):
        raise BundleError(
            f"the checkpoint holds {len(chosen)} sets of weights, and none is named as the one "
            f"to use: {', '.join(repr(entry) for entry in chosen)}",
            where=str(path),
            remedy="save the one you mean in a file of its own",
        )
    entry, state = next(iter(chosen.items()))
    kinds = {value.dtype for value in state.values()}
    if strange := sorted(str(kind) for kind in kinds.difference(_FLOATS)):
        raise BundleError(
            f"weights of type {', '.join(strange).replace('torch.', '')} have no values without "
            "the program that made them",
            where=str(path),
            remedy="give a checkpoint of float32, float16, bfloat16 or float64",
        )
    tensors = {name: value.detach().to(torch.float32) for name, value in state.items()}
    check_finite(tensors, str(path))
    stored = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    return ForeignState(tensors, entry, stored)


def _dictionaries(
    content: object, keys: tuple[str, ...] = ()
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Dictionaries in dictionaries, each with the keys that lead to it."""
    if not isinstance(content, Mapping):
        return
    yield "/".join(keys), content
    if len(keys) < _DEEPEST:
        for key, value in content.items():
            yield from _dictionaries(value, (*keys, str(key)))


def _candidates(content: object, anchor: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """State dicts in a checkpoint by the entry that leads to them."""
    for place, dictionary in _dictionaries(content):
        # Counters stand beside weights as tensors without axes; no weight is one.
        named = {str(k): v for k, v in dictionary.items() if isinstance(v, Tensor) and v.dim() > 0}
        for name in named:
            before, exact, rest = name.rpartition(anchor)
            if exact and not rest and (not before or before.endswith(".")):
                state = {k[len(before) :]: v for k, v in named.items() if k.startswith(before)}
                yield "/".join(part for part in (place, before) if part), state


def has_anchor(content: object, anchor: str) -> bool:
    """Whether there is a state dict that holds this name."""
    return next(_candidates(content, anchor), None) is not None


def _all_equal(states: list[dict[str, Tensor]]) -> bool:
    first, *others = states
    return all(
        other.keys() == first.keys()
        and all(
            value.shape == first[name].shape and torch.equal(value, first[name])
            for name, value in other.items()
        )
        for other in others
    )


def tensors_only(path: Path) -> object:
    """Content of a checkpoint, if it holds tensors and plain values alone.

    Raises
    ------
    UnsafeCheckpoint, BundleError
        See :func:`read_foreign`.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
        if start[8:] == b"{":
            return load_file(path)
        archive = zipfile.is_zipfile(path)
        if archive:
            _refuse_programs(path)
        with warnings.catch_warnings(), safe_globals(_NUMBERS):
            warnings.simplefilter("ignore")  # of the protocol of its pickle
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnsafeCheckpoint:
        raise
    except pickle.UnpicklingError as error:
        # PyTorch's own message recommends to read the file with its code.
        asked = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
        if asked or archive or start[:1] == _PICKLE:
            raise _unsafe(
                path, f": it asks for {asked[1]}" if asked else ", for all that can be told"
            ) from error
        raise BundleError(
            "the file is no checkpoint of PyTorch", where=str(path), remedy=_AGAIN
        ) from error
    except SafetensorError as error:
        raise BundleError(
            f"the tensors are damaged: {error}", where=str(path), remedy=_AGAIN
        ) from error
    except Exception as error:  # damaged bytes fail in any way
        raise BundleError(
            "the checkpoint cannot be read, it may be cut off: "
            + (str(error).partition("\n")[0] or type(error).__name__),
            where=str(path),
            remedy=_AGAIN,
        ) from error


def _refuse_programs(path: Path) -> None:
    """A compiled model (TorchScript, ``torch.package``) holds code beside its tensors."""
    with zipfile.ZipFile(path) as archive:
        code = [name for name in archive.namelist() if name.endswith((".py", "/code", ".so"))]
    if code:
        raise _unsafe(path, f": it holds the program {code[0]}")


def _unsafe(path: Path, why: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"reading the checkpoint would run code{why}",
        where=str(path),
        remedy="ask its authors for a state dict of tensors alone, or for safetensors; "
        "nothing of the file was run",
    )
