"""Training and testing of every model and seed; each leaves a file, so a study can go on."""

from __future__ import annotations

import json
import platform
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from benchmarks.tisr_simulated.flow import pretrain
from benchmarks.tisr_simulated.models import MODELS
from benchmarks.tisr_simulated.scales import FRAMES, NORMALISATION, Scale
from benchmarks.tisr_simulated.sequences import CONDITIONS, MOTIONS, SIGNALS, Condition, sequence
from tisr_scope.errors import TrainingError
from tisr_scope.evaluation.evaluate import enlarge
from tisr_scope.metrics.fidelity import fitted, normalised_reference, psnr, ssim
from tisr_scope.metrics.temporal import correlation_matrix, excess_change, neighbour_correlation
from tisr_scope.networks.dpa_tisr import parameter_count
from tisr_scope.networks.optical_flow import LightFlow
from tisr_scope.pairs.patches import PatchSampler
from tisr_scope.training.checkpoint import write_atomic
from tisr_scope.training.loop import fit
from tisr_scope.training.losses import objective
from tisr_scope.types import PairedStack

WIDEFIELD = "wide field, enlarged"
METRICS = ("PSNR (dB)", "SSIM", "correlation of successive frames", "excess change")
_VALIDATION, _TEST = 50_000, 90_000
"""First seeds of samples that are not trained on."""

Report = Callable[[float, str], None]
"""Gets the share of the whole study that is done, and what is running."""


@dataclass(frozen=True)
class Data:
    """Sequences of a study; the same for every model and seed."""

    training: list[PairedStack]
    validation: list[PairedStack]
    test: list[PairedStack]

    @classmethod
    def simulate(cls, scale: Scale) -> Data:
        """Simulate all of them."""

        def some(first: int, count: int) -> list[PairedStack]:
            return [
                sequence(motion, first + number, size_px=scale.size_px, frames=FRAMES)
                for motion in MOTIONS
                for number in range(count)
            ]

        return cls(
            some(0, scale.train_sequences),
            some(_VALIDATION, 2),
            some(_TEST, scale.test_sequences),
        )


@dataclass(frozen=True)
class Study:
    """A comparison of some models at one scale.

    Attributes
    ----------
    steps : int
        Training steps of every model.
    folder : Path
        One folder for each model and seed, with its checkpoints and ``result.json``.
    """

    scale: Scale
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    folder: Path
    device: str = "cpu"

    @classmethod
    def open(
        cls,
        scale: Scale,
        models: Sequence[str],
        seeds: Sequence[int],
        folder: Path,
        device: str,
        choose_steps: Callable[[Study], int],
    ) -> Study:
        """A new study, or one that goes on with the scale and steps it was begun with."""
        study = cls(scale, tuple(models), tuple(seeds), 0, folder, device)
        file = folder / "study.json"
        if file.is_file():
            begun = json.loads(file.read_text())
            if begun["scale"] != scale.name:
                raise TrainingError(
                    f"the study was begun at scale {begun['scale']}, not {scale.name}",
                    where=str(folder),
                    remedy="choose another folder",
                )
            return replace(study, steps=begun["steps"])
        study = replace(study, steps=choose_steps(study))
        folder.mkdir(parents=True, exist_ok=True)
        content = {"scale": scale.name, "steps": study.steps, "machine": machine(device)}
        write_atomic(file, json.dumps(content).encode())
        return study

    def place(self, model: str, seed: int) -> Path:
        """Folder of one model and seed."""
        return self.folder / f"seed_{seed}" / model.replace(", ", "_").replace(" ", "_")

    def results(self) -> list[dict[str, Any]]:
        """Results there are by now, seed after seed."""
        files = (
            self.place(model, seed) / "result.json" for seed in self.seeds for model in self.models
        )
        return [json.loads(file.read_text()) for file in files if file.is_file()]

    def run(self, data: Data, report: Report, cancel: threading.Event | None = None) -> bool:
        """Train and test what is missing; False if it was cancelled."""
        seconds = {m: step_seconds(self, m, data) for m in self.models}
        total, done = len(self.seeds) * sum(seconds.values()), 0.0
        for seed in self.seeds:
            flow = _flow(self.scale, data, seed)
            for model in self.models:
                share, before = seconds[model] / total, done
                text = f"{model}, seed {seed}"

                tell = partial(_tell, report, before, share, text)
                there = (self.place(model, seed) / "result.json").is_file()
                if not there and not self._one(model, seed, flow, data, tell, cancel):
                    return False
                done += share
                report(done, text)
        return True

    def _one(
        self,
        model: str,
        seed: int,
        flow: LightFlow | None,
        data: Data,
        progress: Callable[[int, int], None],
        cancel: threading.Event | None,
    ) -> bool:
        network = build(self.scale, model, seed, flow)
        out = self.place(model, seed)
        settings = self.scale.training(seed, self.steps)
        training, validation = (
            PatchSampler(stacks, NORMALISATION, settings.patches, batch=self.scale.batch, seed=s)
            for stacks, s in ((data.training, seed), (data.validation, 0))
        )
        began = time.perf_counter()
        summary = fit(
            network,
            training,
            validation,
            settings,
            out,
            architecture={"model": model, "scale": self.scale.name},
            resume=True,
            progress=progress,
            cancel=cancel,
            device=self.device,
        )
        if summary.ended == "cancelled":
            return False
        rows, matrices, images = assess(network, data.test, self.device)
        result = {
            "model": model,
            "seed": seed,
            "parameters": parameter_count(network),
            "steps": summary.steps,
            "seconds": round(time.perf_counter() - began, 1),
            "sequences": rows,
            "correlation": matrices,
        }
        np.savez_compressed(out / "images.npz", **images)
        write_atomic(out / "result.json", json.dumps(result).encode())
        return True


def machine(device: str) -> str:
    """What the study runs on."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} processor, {torch.get_num_threads()} thread(s)"


def _tell(report: Report, before: float, share: float, text: str, step: int, steps: int) -> None:
    report(before + share * step / steps, text)


def build(scale: Scale, model: str, seed: int, flow: LightFlow | None = None) -> nn.Module:
    """A network with the weights of a seed and, where it has one, the pre-trained flow network."""
    torch.manual_seed(seed)
    network = MODELS[model](scale)
    own = getattr(network, "spynet", None)
    if flow is not None and isinstance(own, LightFlow):
        own.load_state_dict(flow.state_dict())
    # A fifth to a third faster on processors, for the same result but for rounding.
    return network.to(memory_format=torch.channels_last)


def _flow(scale: Scale, data: Data, seed: int) -> LightFlow | None:
    """The flow network that all networks of a seed start with; SPyNet starts at random."""
    if scale.network.get("flow") != "light":
        return None
    torch.manual_seed(seed)
    network = LightFlow(scale.network["flow_channels"], scale.network["flow_levels"])
    pretrain(network, data.training, scale.flow_steps, seed)
    return network


def step_seconds(study: Study, model: str, data: Data, repeats: int = 2) -> float:
    """Seconds that one training step of a model takes here and now."""
    network = build(study.scale, model, 0).to(study.device).train()
    settings = study.scale.training(0, 10)
    sampler = PatchSampler(
        data.training[:1], NORMALISATION, settings.patches, batch=study.scale.batch
    )
    batch = sampler.batch(0)
    inputs, targets = (
        torch.from_numpy(part).to(study.device) for part in (batch.inputs, batch.targets)
    )
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        objective(network(inputs), targets).backward()
        if inputs.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def affordable_steps(study: Study, data: Data, minutes: float) -> int:
    """Training steps of each model so that a study takes about so long."""
    each = sum(step_seconds(study, model, data) for model in study.models)
    steps = int(0.85 * 60 * minutes / (each * len(study.seeds)))
    if steps < 10:
        raise TrainingError(
            f"{minutes:g} minutes are {steps} steps for each of {len(study.models)} models",
            remedy="give more time, fewer models or fewer seeds",
        )
    return steps


def assess(
    network: nn.Module | None, test: Sequence[PairedStack], device: str = "cpu"
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, np.ndarray]]:
    """Metrics of every test sequence and signal; None is the enlarged wide field.

    Returns
    -------
    rows : list of dict
        Condition, sequence and metrics.
    matrices : dict
        Correlation matrix of each condition, mean over its sequences (Paper: eq. 21).
    images : dict
        Middle frame of the first sequence of each condition, as fitted to the truth.
    """
    rows: list[dict[str, Any]] = []
    matrices: dict[str, list[np.ndarray]] = {str(c): [] for c in CONDITIONS}
    images: dict[str, np.ndarray] = {}
    for stack in test:
        motion = stack.name.split()[0]
        truth = normalised_reference(stack.target, blur_sigma_px=0)
        for level, signal in enumerate(SIGNALS):
            condition = str(Condition(motion, signal))
            found = fitted(_predict(network, stack, level, device), truth)
            values = (
                float(np.mean([psnr(a, b) for a, b in zip(found, truth, strict=True)])),
                float(np.mean([ssim(a, b) for a, b in zip(found, truth, strict=True)])),
                neighbour_correlation(found),
                excess_change(found, truth),
            )
            rows.append(
                {"condition": condition, "sequence": stack.name}
                | dict(zip(METRICS, values, strict=True))
            )
            matrices[condition].append(correlation_matrix(found))
            images.setdefault(condition, found[len(found) // 2].astype(np.float16))
    return rows, {k: np.mean(v, axis=0).round(4).tolist() for k, v in matrices.items() if v}, images


def _predict(
    network: nn.Module | None, stack: PairedStack, level: int, device: str
) -> Float[np.ndarray, "time fy fx"]:
    """All frames of a sequence at once: every network sees as much as it can use."""
    widefield = stack.widefield[level]
    if network is None:
        return enlarge(widefield, stack.upscale)
    inputs = NORMALISATION.normalise_input(widefield, NORMALISATION.scale(widefield, stack.name))
    network.eval()
    with torch.inference_mode():
        out = network(torch.from_numpy(inputs)[None, :, None].to(device))
    return np.asarray(out[0, :, 0].cpu().numpy())
