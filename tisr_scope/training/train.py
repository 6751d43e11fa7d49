"""From a folder of pairs to a model bundle, from random weights or from those of another model."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from tisr_scope.bundles.bundle import Bundle, load_bundle, save_bundle
from tisr_scope.bundles.published import read_flow
from tisr_scope.errors import TrainingError
from tisr_scope.networks.dpa_tisr import DpaTisr, DpaTisrConfig, parameter_count
from tisr_scope.normalise import Normalisation
from tisr_scope.pairs.patches import PatchSampler, PatchSettings
from tisr_scope.training.before_after import compare_models, mean_score, write_report
from tisr_scope.training.initial_state import random_apart
from tisr_scope.training.loop import Progress, TrainingSummary, fit
from tisr_scope.training.processes import first_process, open_fabric
from tisr_scope.training.settings import TrainingSettings
from tisr_scope.training.training_data import (
    Material,
    Part,
    read_material,
    require_same_optics,
    require_upscale,
)
from tisr_scope.types import PairedStack

LICENCE = "CC-BY-4.0"


def train(
    pairs: Path | str,
    config: DpaTisrConfig | None,
    settings: TrainingSettings,
    out: Path | str,
    *,
    start: str | Path | None = None,
    flow: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    device: torch.device | str = "cpu",
    fabric: Fabric | None = None,
    channel: str | None = None,
    mixed: bool = False,
    name: str = "bundle",
    licence: str | None = None,
    provenance: dict[str, Any] | None = None,
) -> TrainingSummary:
    """Train a network on prepared pairs and write a model bundle.

    Patches come from the recordings of the ``train`` subset only; the ``validation`` subset
    chooses the weights; the ``test`` subset is never read.

    Parameters
    ----------
    pairs : path
        Folder written by 'tisr prepare'.
    config : DpaTisrConfig or None
        Architecture; a Bayesian one is trained with the Laplace likelihood, others with L1.  None
        with ``start``, whose architecture it is.
    settings : TrainingSettings
    out : path
        Gets ``checkpoints/``, ``history.csv``, ``settings.yaml``, ``losses.png``,
        ``samples.png`` and, where the run comes to its end, the bundle folder ``name``; with
        ``start`` also ``before_after.json`` and ``before_after.png``.
    start : str or path, optional
        Bundle to start from instead of random weights.  Its normalisation is kept.
    flow : path, optional
        Pretrained SPyNet for the optical flow to start from, see
        :func:`~tisr_scope.bundles.published.read_flow`; at random without one.
    resume : bool
        Continue a run that is in ``out``; starts one where there is none.
    progress : callable, optional
        Gets (done, total): steps, or seconds where the run has no number of steps.
    cancel : threading.Event, optional
        Ends the run after the present step, with a checkpoint.
    device : torch device
        Of a single process.
    fabric : Fabric, optional
        Launched processes instead, see :func:`~tisr_scope.training.processes.open_fabric`; the
        first of them writes.
    channel : str, optional
        Only pairs of this channel.
    mixed : bool
        Take recordings together that differ in pixel size, optics or the making of their target.
    name : str
        Of the bundle.
    licence : str, optional
        Of the bundle; that of ``start``, or CC-BY-4.0.
    provenance : dict, optional
        Plain types kept in the bundle.

    Raises
    ------
    TrainingError
        See :func:`tisr_scope.training.loop.fit`; also if the device is absent, pairs differ, or
        do not fit the network or the model to start from.
    DataError
        If the pairs cannot be read.
    BundleError
        If the model to start from cannot be read.
    """
    out = Path(out)
    if fabric is None:
        fabric = open_fabric(device, processes=1, precision=settings.precision)
    source = None if start is None else load_bundle(start)
    config, settings = _agreed(config, settings, source)
    pretrained = None if flow is None else _flow_weights(Path(flow), config, source)
    flow_start = {} if flow is None else {"flow_started_from": _digest(Path(flow))}
    material = read_material(Path(pairs), channel=channel, mixed=mixed)
    require_upscale(material, config.upscale)
    if source is not None and not mixed:
        require_same_optics(material, source)
    plain = settings.patches.without_augmentation()
    training = _sampler(material, "train", settings, settings.patches, mixed)
    validation = _sampler(material, "validation", settings, plain, mixed)
    described, optics = material.describe(), material.optics
    judged = material.stacks["validation"] if source is not None else []
    del material  # the samplers hold what they need, on the scale of the network
    with random_apart(fabric.device):
        torch.manual_seed(settings.seed)
        network = DpaTisr(config)
        if source is not None:
            network.load_state_dict(source.weights)
        if pretrained is not None:
            network.spynet.load_state_dict(pretrained)
        summary = fit(
            network,
            training,
            validation,
            settings,
            out,
            architecture=config.model_dump(mode="json")
            | ({} if source is None else {"started_from": source.weights_hash})
            | flow_start,
            resume=resume,
            judge_start=source is not None,
            progress=progress,
            cancel=cancel,
            fabric=fabric,
        )
    if summary.ended == "cancelled":
        return summary

    def write() -> None:
        record = _record(summary, settings, parameter_count(network)) | described
        if config.has_flow and source is None:
            record["flow_started_from"] = flow_start.get("flow_started_from", "random weights")
        record["provenance"] = provenance or {}
        if source is not None:
            record["started_from"] = {"name": source.name, "weights_sha256": source.weights_hash}
            record["before_after"] = _report(source, network, judged, settings, out, fabric)
        save_bundle(
            out / name,
            network,
            normalisation=settings.normalisation,
            optics=optics,
            training=record,
            licence=licence or (LICENCE if source is None else source.licence),
            card=_card(name, config, record),
        )

    first_process(fabric, write)
    return replace(summary, bundle=out / name)


def _agreed(
    config: DpaTisrConfig | None, settings: TrainingSettings, source: Bundle | None
) -> tuple[DpaTisrConfig, TrainingSettings]:
    """Architecture and settings; those of a model to start from cannot be changed."""
    if source is None:
        if config is None:
            raise TrainingError(
                "a run needs an architecture", remedy="choose a preset, or a model to start from"
            )
        return config, settings
    if config is not None and config != source.config:
        different = [
            key
            for key, value in config.model_dump().items()
            if value != getattr(source.config, key)
        ]
        raise TrainingError(
            f"the model to start from has another {', '.join(different)}",
            where=str(source.path),
            remedy="leave the architecture out: it is that of the model",
        )
    rule = settings.normalisation
    if rule not in (Normalisation(), source.normalisation):
        raise TrainingError(
            "the settings state another normalisation than the model was trained with",
            where=str(source.path),
            remedy="leave normalisation out of the recipe: it is that of the model",
        )
    return source.config, settings.model_copy(update={"normalisation": source.normalisation})


def _flow_weights(
    file: Path, config: DpaTisrConfig, source: Bundle | None
) -> dict[str, torch.Tensor]:
    if source is not None or not config.has_flow or config.flow != "spynet":
        raise TrainingError(
            "there is no SPyNet that could start from a file: "
            + ("the model to start from has trained its own" if source else "the preset has none"),
            where=str(file),
            remedy="leave --flow out, or train a preset with SPyNet: paper, released",
        )
    return read_flow(file)


def _digest(file: Path) -> dict[str, str]:
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _sampler(
    material: Material,
    part: Part,
    settings: TrainingSettings,
    patches: PatchSettings,
    mixed: bool,
) -> PatchSampler:
    return PatchSampler(
        material.stacks[part],
        settings.normalisation,
        patches,
        batch=settings.batch,
        seed=settings.seed,
        mixed=mixed,
    )


def _report(
    source: Bundle,
    network: DpaTisr,
    stacks: Sequence[PairedStack],
    settings: TrainingSettings,
    out: Path,
    fabric: Fabric,
) -> dict[str, Any]:
    """Compare the model with the one it started from; gives the means for the bundle."""
    found = compare_models(
        source.network(fabric.device),
        network.eval(),
        stacks,
        settings.normalisation,
        frames=settings.patches.frames,
        device=fabric.device,
    )
    about = {"started_from": source.name, "weights_sha256": source.weights_hash}
    write_report(found, out, level=0, about=about)
    means = {method: mean_score(found, method) for method in ("before", "after")}
    return {
        method: {"psnr_db": round(score.psnr_db, 3), "ssim": round(score.ssim, 4)}
        for method, score in means.items()
    }


def _record(
    summary: TrainingSummary, settings: TrainingSettings, parameters: int
) -> dict[str, Any]:
    """What the bundle says about its training, in plain types."""
    return {
        "steps": summary.steps,
        "minutes": round(summary.minutes, 2),
        "best_step": summary.best_step,
        "validation_loss": round(summary.validation_loss, 5),
        "validation_psnr_db": round(summary.validation_psnr_db, 3),
        "bilinear_psnr_db": round(summary.bilinear_psnr_db, 3),
        "parameters": parameters,
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
  {record["best_step"]}.{_transfer(record)}
- PSNR on patches of the validation recordings: {record["validation_psnr_db"]:.2f} dB; the input
  enlarged bilinearly: {record["bilinear_psnr_db"]:.2f} dB (both after the best linear transform).

`model.yaml` holds every setting. Without a `calibration.json` its confidence is uncalibrated.
"""


def _transfer(record: dict[str, Any]) -> str:
    if "started_from" not in record:
        begun = record.get("flow_started_from")
        told = f"`{begun['file']}`" if isinstance(begun, dict) else begun
        return f" The optical flow network started from {told}." if begun else ""
    before, after = (record["before_after"][method] for method in ("before", "after"))
    return f"""
- Fine-tuned from {record["started_from"]["name"]}. On whole frames of the validation recordings:
  PSNR {before["psnr_db"]:.2f} dB before, {after["psnr_db"]:.2f} dB after; SSIM
  {before["ssim"]:.3f} before, {after["ssim"]:.3f} after."""
