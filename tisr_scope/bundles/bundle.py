"""A model bundle: a folder that says all that is needed to use a trained network.

::

    models/<name>/
        model.safetensors   the weights, no pickle
        model.yaml          format, architecture, normalisation, optics, training, licence, hash
        calibration.json    optional; belongs to these weights
        README.md           the card
        check.npz           a test input and the output it must give

A bundle is written beside its place and renamed into it, so that a full disk or a lost process
leaves the old one as it was.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float
from pydantic import ValidationError
from safetensors.torch import save as save_tensors
from torch import Tensor

from tisr_scope.bundles.bundle_description import (
    CALIBRATION,
    CARD,
    CHECK,
    DESCRIPTION,
    GET_ANOTHER,
    WEIGHTS,
    BundleOptics,
    Description,
    find_bundle,
    problems,
    read_calibration,
    read_description,
)
from tisr_scope.bundles.bundle_files import check_finite, read_weights, replace, write
from tisr_scope.errors import BundleError
from tisr_scope.networks.assembled import assembled
from tisr_scope.networks.config import DpaTisrConfig
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.normalise import Normalisation

CHECK_TOLERANCE = 1e-3
_MISFIT = "the architecture in model.yaml is not the one these weights were trained with"


@dataclass(frozen=True)
class Bundle:
    """A model on disk, read and checked.

    Attributes
    ----------
    name : str
    path : Path
        Folder of the bundle.
    description : Description
        Content of ``model.yaml``.
    weights : dict
        Tensors by name.
    calibration : dict, optional
        Raw content of ``calibration.json``.
    """

    name: str
    path: Path
    description: Description
    weights: dict[str, Tensor]
    calibration: dict[str, Any] | None

    @property
    def config(self) -> DpaTisrConfig:
        """Architecture."""
        return self.description.architecture

    @property
    def normalisation(self) -> Normalisation:
        """The only intensity rule this model is valid with."""
        return self.description.normalisation

    @property
    def optics(self) -> BundleOptics | None:
        """Optics of the training data."""
        return self.description.optics

    @property
    def training(self) -> dict[str, Any]:
        """What the model was trained on, and how."""
        return self.description.training

    @property
    def licence(self) -> str:
        """Licence of the weights."""
        return self.description.licence

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights file; calibrations name it."""
        return self.description.weights_sha256

    def network(self, device: torch.device | str = "cpu") -> DpaTisr:
        """The network in evaluation mode on a device."""
        return assembled(self.config, self.weights, str(self.path), _MISFIT).to(device).eval()

    def self_test(self, device: torch.device | str = "cpu") -> float:
        """Largest difference between the output recorded in the bundle and the one of now.

        Raises
        ------
        BundleError
            If there is no test in the bundle, or it fails.
        """
        where = str(self.path / CHECK)
        try:
            with np.load(self.path / CHECK, allow_pickle=False) as stored:
                x, expected = stored["input"], stored["output"]
        except (OSError, KeyError, ValueError) as error:
            raise BundleError(
                f"the test input and output cannot be read: {error}",
                where=where,
                remedy=GET_ANOTHER,
            ) from error
        with torch.inference_mode():
            found = self.network(device)(torch.from_numpy(x).to(device)).cpu().numpy()
        if found.shape != expected.shape:
            raise BundleError(
                f"the output is {found.shape}, the recorded one {expected.shape}",
                where=where,
                remedy=GET_ANOTHER,
            )
        difference = float(np.abs(found - expected).max())
        if not difference <= CHECK_TOLERANCE:
            raise BundleError(
                f"the output differs from the recorded one by {difference:.2g}, "
                f"more than {CHECK_TOLERANCE:g}",
                where=where,
                remedy="this computer does not compute what the authors of the model did: "
                "try --device cpu, then another version of torch",
            )
        return difference


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Read a bundle and check all of it but the output of its test (:meth:`Bundle.self_test`).

    Raises
    ------
    BundleError
        If anything is missing, damaged, of another kind, or not finite.
    """
    folder = find_bundle(name_or_path)
    description = read_description(folder / DESCRIPTION)
    weights = read_weights(folder / WEIGHTS, description.weights_sha256)
    assembled(description.architecture, weights, str(folder), _MISFIT)
    return Bundle(
        description.name, folder, description, weights, read_calibration(folder / CALIBRATION)
    )


def save_bundle(
    folder: str | Path,
    network: DpaTisr,
    *,
    normalisation: Normalisation,
    optics: BundleOptics | None = None,
    training: dict[str, Any] | None = None,
    licence: str = "CC-BY-4.0",
    card: str = "",
    test_input: Float[np.ndarray, "batch time 1 y x"] | None = None,
) -> Bundle:
    """Write a bundle; a folder of that name is replaced once all is on disk.

    Parameters
    ----------
    folder : path
        Its last part is the name of the model.
    network : DpaTisr
        Trained; its weights must be finite.
    normalisation : Normalisation
    optics : BundleOptics, optional
    training : dict, optional
        Data, steps, seeds, versions: whatever plain YAML can hold.
    licence : str
        Licence of the weights.
    card : str
        Markdown of the card.
    test_input : array, shape (batch, time, 1, y, x), optional
        Frames of the test; synthetic ones by default.

    Returns
    -------
    Bundle
        Read back from disk.

    Raises
    ------
    BundleError
        If the weights are not finite or the folder cannot be written.
    """
    target = Path(folder)
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    check_finite(state, str(target))
    raw = save_tensors(state)
    try:
        description = Description(
            name=target.name,
            architecture=network.config,
            normalisation=normalisation,
            optics=optics,
            training=training or {},
            licence=licence,
            weights_sha256=hashlib.sha256(raw).hexdigest(),
        )
    except ValidationError as error:
        raise BundleError(
            f"the bundle cannot be described: {problems(error)}",
            where=str(target),
            remedy="name it with letters, digits, '.', '_' and '-' only",
        ) from error
    x, y = _check_pair(network, test_input)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temp:
            new = Path(temp) / "new"
            new.mkdir()
            write(new / WEIGHTS, raw)
            text = yaml.safe_dump(description.model_dump(mode="json"), sort_keys=False)
            write(new / DESCRIPTION, text.encode())
            write(new / CARD, (card or f"# {target.name}\n").encode())
            with (new / CHECK).open("wb") as stream:
                np.savez_compressed(stream, input=x, output=y)
            replace(new, target, Path(temp) / "old")
    except (OSError, yaml.YAMLError) as error:
        raise BundleError(
            f"the bundle cannot be written: {error}",
            where=str(target),
            remedy="free disk space or choose another folder; an older bundle there is unharmed",
        ) from error
    return load_bundle(target)


def write_calibration(folder: str | Path, calibration: dict[str, Any]) -> None:
    """Put a calibration into a bundle, or replace the one that is there.

    Raises
    ------
    BundleError
        If there is no such bundle or the file cannot be written.
    """
    path = find_bundle(folder) / CALIBRATION
    temporary = path.with_suffix(".part")
    try:
        write(temporary, json.dumps(calibration, indent=1, allow_nan=False).encode())
        temporary.replace(path)
    except (OSError, ValueError, TypeError) as error:
        temporary.unlink(missing_ok=True)
        raise BundleError(
            f"the calibration cannot be written: {error}",
            where=str(path),
            remedy="free disk space or copy the bundle to a folder you may write to",
        ) from error


def _check_pair(
    network: DpaTisr, test_input: Float[np.ndarray, "batch time 1 y x"] | None
) -> tuple[Float[np.ndarray, "batch time 1 y x"], Float[np.ndarray, "batch time out fy fx"]]:
    if test_input is None:
        size = max(32, network.minimum_size)
        test_input = np.random.default_rng(0).random((1, 7, 1, size, size), dtype=np.float32)
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            output = network(torch.from_numpy(test_input).to(device)).cpu().numpy()
    finally:
        network.train(was_training)
    return test_input, output
