"""A bundle as a BioImage.IO model package, for other software and the model zoo.

The package names this library as the source of the architecture and holds the weights as a state
dict of tensors alone (the format has no safetensors; ``weights_only`` reads it), the card, and the
bundle's own test input and output.  A package has no words for our
intensity rule and calibration, so input and output are declared on the network's scale, and rule
and calibration ride along as attachments of the description (``config.tisr_scope``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from tisr_scope.bundles.bundle import Bundle
from tisr_scope.bundles.bundle_description import CARD, CHECK, problems
from tisr_scope.errors import BundleError
from tisr_scope.networks.config import DpaTisrConfig
from tisr_scope.networks.dpa_tisr import DpaTisr

WEIGHTS = "weights.pt"
TOLERANCE = 1e-3


def network(**architecture: Any) -> nn.Module:
    """Network of an architecture given as plain values; what a package asks this library for."""
    return DpaTisr(DpaTisrConfig.model_validate(architecture))


def export_bioimageio(
    bundle: Bundle, path: str | Path, *, authors: Sequence[str] = (), description: str = ""
) -> Path:
    """Write a bundle as a BioImage.IO package and have it checked by the format's own validator.

    Parameters
    ----------
    bundle : Bundle
    path : path
        New ``.zip`` file.
    authors : sequence of str
        Names, as they shall stand in a model zoo.
    description : str
        One or two sentences; by default what the bundle says of its training data.

    Returns
    -------
    Path
        The package.

    Raises
    ------
    BundleError
        If ``bioimageio.spec`` is not installed, the file exists, the bundle fails its own test,
        or the package does not pass the static validation.
    """
    target = Path(path)
    if target.suffix != ".zip" or target.exists():
        raise BundleError(
            "the package needs the name of a new .zip file",
            where=str(target),
            remedy="choose another name, or remove the old package",
        )
    spec = _specification()
    bundle.self_test()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}-") as folder:
            model = _describe(bundle, Path(folder), spec, authors, description)
            summary = model.validation_summary
            if summary.status == "failed":
                raise BundleError(
                    f"the package does not pass the validation: {_complaints(summary)}",
                    where=str(bundle.path),
                    remedy="give authors and a licence that BioImage.IO knows (such as CC-BY-4.0)",
                )
            scratch = Path(folder) / target.name
            spec.save_bioimageio_package(model, output_path=scratch)
            scratch.replace(target)
    except ValidationError as error:
        raise BundleError(
            f"the format has no room for this model: {problems(error)}",
            where=str(bundle.path),
            remedy="change it in model.yaml; licences have the names of SPDX, such as CC-BY-4.0",
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(
            f"the package cannot be written: {str(error).splitlines()[0]}",
            where=str(target),
            remedy="free disk space or choose another folder",
        ) from error
    return target


def _specification() -> ModuleType:
    try:
        import bioimageio.spec as spec
    except ImportError as error:
        raise BundleError(
            "the BioImage.IO specification is not installed",
            remedy="pip install 'tisr-scope[bioimageio]'",
        ) from error
    found: ModuleType = spec
    return found


def _complaints(summary: Any) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in error.loc)}: {error.msg}"
        for detail in summary.details
        for error in detail.errors
    )


def _describe(
    bundle: Bundle, folder: Path, spec: ModuleType, authors: Sequence[str], description: str
) -> Any:
    """Files of the package in ``folder``, and the description of them."""
    v = spec.model.v0_5
    with np.load(bundle.path / CHECK, allow_pickle=False) as stored:
        for name in ("input", "output"):
            np.save(folder / f"{name}.npy", stored[name])
        frames = int(stored["input"].shape[1])
    torch.save(dict(bundle.weights), folder / WEIGHTS)
    (folder / CARD).write_bytes((bundle.path / CARD).read_bytes())
    pixel = bundle.optics.pixel_size_um if bundle.optics else 1.0
    unit = "micrometer" if bundle.optics else None
    least, factor = max(32, bundle.network().minimum_size), bundle.config.upscale

    def side(name: str) -> Any:
        size = v.ParameterizedSize(min=least, step=1)
        return v.SpaceInputAxis(id=name, size=size, scale=pixel, unit=unit)

    def fine_side(name: str) -> Any:
        size = v.SizeReference(tensor_id="widefield", axis_id=name)
        return v.SpaceOutputAxis(id=name, size=size, scale=pixel / factor, unit=unit)

    widefield = v.InputTensorDescr(
        id="widefield",
        description="Wide-field time-lapse in photo-electrons over the intensity scale; "
        "see config.tisr_scope.normalisation.",
        axes=[
            v.BatchAxis(),
            v.TimeInputAxis(size=frames),
            v.ChannelAxis(channel_names=["wide field"]),
            side("y"),
            side("x"),
        ],
        test_tensor=spec.model.v0_5.FileDescr(source=folder / "input.npy"),
    )
    names = ["mean", "scale"] if bundle.config.bayesian else ["mean"]
    sharp = v.OutputTensorDescr(
        id="super_resolution",
        description="Super-resolved mean" + (" and Laplace scale." if len(names) > 1 else "."),
        axes=[
            v.BatchAxis(),
            v.TimeOutputAxis(size=v.SizeReference(tensor_id="widefield", axis_id="time")),
            v.ChannelAxis(channel_names=names),
            fine_side("y"),
            fine_side("x"),
        ],
        test_tensor=spec.model.v0_5.FileDescr(source=folder / "output.npy"),
    )
    weights = v.PytorchStateDictWeightsDescr(
        source=folder / WEIGHTS,
        architecture=v.ArchitectureFromLibraryDescr(
            callable=network.__name__,
            import_from=__name__,
            kwargs=bundle.config.model_dump(mode="json"),
        ),
        pytorch_version=torch.__version__.partition("+")[0],
        comment="The architecture comes with the Python package tisr-scope.",
    )
    tolerance = spec.model.v0_5.ReproducibilityTolerance(
        relative_tolerance=TOLERANCE, absolute_tolerance=TOLERANCE
    )
    recordings = bundle.training.get("recordings", {})
    trained_on = len(recordings.get("train", ())) if isinstance(recordings, dict) else 0
    return v.ModelDescr(
        # At least five characters, and no dots.
        name=f"TISR {bundle.name.replace('_', ' ').replace('.', ' ')}",
        description=description
        or f"Time-lapse image super-resolution x{factor}, trained on {trained_on} recordings.",
        authors=[v.Author(name=name) for name in authors],
        license=bundle.licence,
        documentation=v.FileDescr(source=folder / CARD),
        tags=["super-resolution", "time-lapse", "fluorescence-light-microscopy", "pytorch"],
        inputs=[widefield],
        outputs=[sharp],
        weights=v.WeightsDescr(pytorch_state_dict=weights),
        config=v.Config(
            bioimageio=v.BioimageioConfig(reproducibility_tolerance=[tolerance]),
            tisr_scope={
                "normalisation": bundle.normalisation.model_dump(mode="json"),
                "optics": bundle.optics.model_dump(mode="json") if bundle.optics else None,
                "calibrated": bundle.calibration is not None,
                "weights_sha256": bundle.weights_hash,
            },
        ),
    )
