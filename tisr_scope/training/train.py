"""From a folder of pairs to a model bundle."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tisr_scope.data.pairs import load_pair, pair_folders
from tisr_scope.data.patches import PatchSampler
from tisr_scope.errors import TrainingError
from tisr_scope.networks.bundle import BundleOptics, save_bundle
from tisr_scope.networks.dpa_tisr import DpaTisr, DpaTisrConfig, parameter_count
from tisr_scope.training.loop import Progress, TrainingSummary, fit
from tisr_scope.training.settings import TrainingSettings
from tisr_scope.types import PairedStack

LICENCE = "CC-BY-4.0"


def train(
    pairs: Path | str,
    config: DpaTisrConfig,
    settings: TrainingSettings,
    out: Path | str,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    device: torch.device | str = "cpu",
    name: str = "bundle",
    licence: str = LICENCE,
    provenance: dict[str, Any] | None = None,
) -> TrainingSummary:
    """Train a network on prepared pairs and write a model bundle.

    Patches come from the recordings of the ``train`` subset only; the ``validation`` subset
    chooses the weights; the ``test`` subset is never read.

    Parameters
    ----------
    pairs : path
        Folder written by 'tisr prepare'.
    config : DpaTisrConfig
        Architecture; a Bayesian one is trained with the Laplace likelihood, others with L1.
    settings : TrainingSettings
    out : path
        Gets ``checkpoints/``, ``history.csv``, ``settings.yaml``, ``losses.png``,
        ``samples.png`` and, where the run comes to its end, the bundle folder ``name``.
    resume : bool
        Continue a run that is in ``out``; starts one where there is none.
    progress : callable, optional
        Gets (done, total): steps, or seconds where the run has no number of steps.
    cancel : threading.Event, optional
        Ends the run after the present step, with a checkpoint.
    device : torch device
    name, licence : str
        Of the bundle.
    provenance : dict, optional
        Plain types kept in the bundle.

    Raises
    ------
    TrainingError
        See :func:`tisr_scope.training.loop.fit`; also if the device is absent.
    DataError
        If the pairs cannot be read or do not fit the network.
    """
    device, out = torch.device(device), Path(out)
    _check_device(device)
    folders = {part: pair_folders(Path(pairs), part) for part in ("train", "validation")}
    stacks = {part: [load_pair(folder) for folder in found] for part, found in folders.items()}
    _check_upscale(stacks["train"] + stacks["validation"], config)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(settings.seed)
        network = DpaTisr(config)
        summary = fit(
            network,
            PatchSampler(
                stacks["train"],
                settings.normalisation,
                settings.patches,
                batch=settings.batch,
                seed=settings.seed,
            ),
            PatchSampler(
                stacks["validation"],
                settings.normalisation,
                settings.patches.without_augmentation(),
                batch=settings.batch,
                seed=settings.seed,
            ),
            settings,
            out,
            architecture=config.model_dump(mode="json"),
            resume=resume,
            progress=progress,
            cancel=cancel,
            device=device,
        )
    if summary.ended == "cancelled":
        return summary
    record = _record(summary, settings, stacks, parameter_count(network))
    bundle = save_bundle(
        out / name,
        network,
        normalisation=settings.normalisation,
        optics=_optics(folders["train"][0], stacks["train"][0]),
        training=record | {"provenance": provenance or {}},
        licence=licence,
        card=_card(name, config, record),
    )
    return replace(summary, bundle=bundle.path)


def _check_device(device: torch.device) -> None:
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "there is no CUDA device that torch can use",
            where=str(device),
            remedy="install a driver and a CUDA build of torch, or train with --device cpu",
        )


def _check_upscale(stacks: list[PairedStack], config: DpaTisrConfig) -> None:
    for stack in stacks:
        if stack.upscale != config.upscale:
            raise TrainingError(
                f"the targets are x{stack.upscale}, the network enlarges x{config.upscale}",
                where=stack.name,
                remedy=f"choose upscale {stack.upscale}",
            )


def _optics(folder: Path, stack: PairedStack) -> BundleOptics:
    otf = json.loads((folder / "pair.json").read_text(encoding="utf-8"))["made_from"]["otf"]
    return BundleOptics(
        numerical_aperture=otf["numerical_aperture"],
        emission_nm=otf["emission_nm"],
        pixel_size_um=stack.pixel_size_um,
        interval_s=stack.interval_s,
    )


def _record(
    summary: TrainingSummary,
    settings: TrainingSettings,
    stacks: dict[str, list[PairedStack]],
    parameters: int,
) -> dict[str, Any]:
    """What the bundle says about its training, in plain types."""
    names = {part: sorted({s.name for s in found}) for part, found in stacks.items()}
    return {
        "steps": summary.steps,
        "minutes": round(summary.minutes, 2),
        "best_step": summary.best_step,
        "validation_loss": round(summary.validation_loss, 5),
        "validation_psnr_db": round(summary.validation_psnr_db, 3),
        "bilinear_psnr_db": round(summary.bilinear_psnr_db, 3),
        "parameters": parameters,
        "channels": sorted({s.channel for s in stacks["train"]}),
        "levels": max(len(s.widefield) for s in stacks["train"]),
        "recordings": names,
        "settings": settings.model_dump(mode="json"),
    }


def _card(name: str, config: DpaTisrConfig, record: dict[str, Any]) -> str:
    kind = "Bayesian DPA-TISR" if config.bayesian else "DPA-TISR"
    if not config.temporal:
        kind = "single-frame counterpart of " + kind
    counts = {part: len(names) for part, names in record["recordings"].items()}
    return f"""# {name}

{kind}, x{config.upscale}, {record["parameters"]:,} parameters.

- Data: {counts["train"]} recordings to train on, {counts["validation"]} to choose the weights by;
  channels {", ".join(record["channels"])}; {record["levels"]} laser levels.
- Training: {record["steps"]} steps in {record["minutes"]:.0f} minutes; weights of step
  {record["best_step"]}.
- PSNR on patches of the validation recordings: {record["validation_psnr_db"]:.2f} dB; the input
  enlarged bilinearly: {record["bilinear_psnr_db"]:.2f} dB (both after the best linear transform).

`model.yaml` holds every setting. Without a `calibration.json` its confidence is uncalibrated.
"""
