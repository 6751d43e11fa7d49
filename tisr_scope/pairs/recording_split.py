"""Which recordings train the network, which choose its weights, and which only test it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tisr_scope.errors import DataError
from tisr_scope.pairs.pair_folder import SUBSETS

_NAMED = {"train": "train", "training": "train", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class Split:
    """How recordings are divided into training, validation and test.

    Attributes
    ----------
    by_name : bool
        Recordings whose name starts with ``training``, ``validation`` or ``test`` and an
        underscore go there; any other name is an error.
    validation, test : float
        Fractions of the recordings; at least one each where there are three or more, and one for
        validation where there are two.
    seed : int
        Of the random division.
    named : mapping, optional
        Recording name to subset, instead of everything above.
    """

    by_name: bool = False
    validation: float = 0.15
    test: float = 0.2
    seed: int = 0
    named: Mapping[str, str] | None = None

    def assign(self, names: Sequence[str]) -> dict[str, str]:
        """Subset of every recording.

        Raises
        ------
        DataError
            If a recording has no subset, or two recordings have the same name.
        """
        if len(set(names)) != len(names):
            doubled = sorted({name for name in names if names.count(name) > 1})
            raise DataError(
                f"several recordings are named {', '.join(doubled)}",
                remedy="rename a folder: recordings are told apart by their names",
            )
        if self.named is not None:
            chosen = {name: self.named.get(name, "") for name in names}
        elif self.by_name:
            chosen = {name: _NAMED.get(name.split("_")[0].lower(), "") for name in names}
        else:
            return self._random(names)
        lost = sorted(name for name, subset in chosen.items() if subset not in SUBSETS)
        if lost:
            raise DataError(
                f"no subset for {', '.join(lost)}",
                remedy="name recordings training_..., validation_... or test_..., or list each",
            )
        return chosen

    def _random(self, names: Sequence[str]) -> dict[str, str]:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise DataError(
                f"fractions {self.validation} and {self.test} leave nothing to train with",
                remedy="validation + test must be below 1",
            )
        order = np.random.default_rng(self.seed).permutation(sorted(names)).tolist()
        counts = [
            # One recording each, as soon as one is left to train with.
            0 if fraction == 0 or len(order) <= needed else max(1, round(fraction * len(order)))
            for needed, fraction in ((1, self.validation), (2, self.test))
        ]
        subsets = ["validation"] * counts[0] + ["test"] * counts[1]
        subsets += ["train"] * (len(order) - len(subsets))
        return dict(zip(order, subsets, strict=False))
