"""What a run learns from, and whether it belongs together: pixel size, optics, kind of target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tisr_scope.bundles.bundle import Bundle
from tisr_scope.bundles.bundle_description import BundleOptics
from tisr_scope.bundles.optics_domain import optics_differ, optics_near
from tisr_scope.errors import DataError, TrainingError
from tisr_scope.pairs.pair_folder import load_pair, pair_folders, read_about
from tisr_scope.types import PairedStack

Part = Literal["train", "validation"]
PARTS: tuple[Part, ...] = ("train", "validation")
SPLIT_THEM = "train one network for each (--channel picks one), or mix them with --allow-mixed"


@dataclass(frozen=True)
class Material:
    """Pairs to learn from and pairs to choose the weights by."""

    stacks: Mapping[Part, list[PairedStack]]
    optics: BundleOptics
    """Of the first pair; of all, unless mixed ones were allowed."""

    @property
    def all(self) -> list[PairedStack]:
        """Both parts."""
        return [stack for part in PARTS for stack in self.stacks[part]]

    def describe(self) -> dict[str, Any]:
        """Recordings of each part, channels and levels, in plain types."""
        return {
            "channels": sorted({s.channel for s in self.stacks["train"]}),
            "levels": max(len(s.widefield) for s in self.stacks["train"]),
            "recordings": {p: sorted({s.name for s in self.stacks[p]}) for p in PARTS},
        }


def read_material(pairs: Path, *, channel: str | None = None, mixed: bool = False) -> Material:
    """Read the ``train`` and ``validation`` pairs; the ``test`` subset is never touched.

    Raises
    ------
    DataError
        If a pair cannot be read, or no pair has the channel.
    TrainingError
        If pairs differ in pixel size, optics or the making of their targets, and ``mixed`` does
        not allow it.
    """
    stacks: dict[Part, list[PairedStack]] = {}
    facts: list[tuple[str, dict[str, Any]]] = []
    for part in PARTS:
        found = [(folder, load_pair(folder)) for folder in pair_folders(pairs, part)]
        kept = [(f, s) for f, s in found if channel in (None, s.channel)]
        if not kept:
            there = ", ".join(sorted({s.channel for _, s in found}))
            raise DataError(
                f"no {part} pair has channel {channel}",
                where=str(pairs),
                remedy=f"choose one of: {there}",
            )
        stacks[part] = [stack for _, stack in kept]
        facts += [(folder.name, _facts(folder, stack)) for folder, stack in kept]
    if not mixed:
        _require_alike(facts)
    first = facts[0][1]
    optics = BundleOptics(
        numerical_aperture=first["numerical aperture"],
        emission_nm=first["emission in nm"],
        pixel_size_um=first["pixel size in um"],
        interval_s=stacks["train"][0].interval_s,
    )
    return Material(stacks, optics)


def require_same_optics(material: Material, bundle: Bundle) -> None:
    """Refuse pairs of other optics than a bundle was trained with.

    Raises
    ------
    TrainingError
        Naming what differs.
    """
    if bundle.optics is None:
        return
    different = optics_differ(material.optics, bundle.optics, "the model was trained at")
    if different:
        raise TrainingError(
            f"the pairs have other optics: {'; '.join(different)}",
            where=str(bundle.path),
            remedy="start from a model of these optics, train from the beginning, or accept "
            "the difference with --allow-mixed",
        )


def require_upscale(material: Material, upscale: int) -> None:
    """Refuse targets of another enlargement than the network's.

    Raises
    ------
    TrainingError
    """
    for stack in material.all:
        if stack.upscale != upscale:
            raise TrainingError(
                f"the targets are x{stack.upscale}, the network enlarges x{upscale}",
                where=stack.name,
                remedy=f"choose a network of upscale {stack.upscale}, or prepare other targets",
            )


def _facts(folder: Path, stack: PairedStack) -> dict[str, Any]:
    """What must agree before two pairs teach the same transformation."""
    about = read_about(folder) or {}
    made = about.get("made_from", {})
    otf = made.get("otf")
    if otf is None:
        raise DataError(
            "the pair does not say with which optics it was made",
            where=str(folder),
            remedy="prepare it again with 'tisr prepare'",
        )
    return {
        "pixel size in um": stack.pixel_size_um,
        "numerical aperture": otf["numerical_aperture"],
        "emission in nm": otf["emission_nm"],
        "intensity unit": about.get("intensity_unit"),
        "kind of target": "published" if "imported" in about else "reconstructed here",
        "settings of the reconstruction": made.get("wiener"),
    }


def _require_alike(facts: list[tuple[str, dict[str, Any]]]) -> None:
    first_name, first = facts[0]
    for name, other in facts[1:]:
        for key, value in first.items():
            if not _near(value, other[key]):
                raise TrainingError(
                    f"recordings that differ in their {key} cannot be mixed: "
                    f"{first_name} has {value}, {name} has {other[key]}",
                    where=name,
                    remedy=SPLIT_THEM,
                )


def _near(a: Any, b: Any) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return optics_near(a, b)
    return bool(a == b)
