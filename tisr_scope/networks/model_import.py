"""An authors' checkpoint made into a bundle, with what its tensors cannot say.

A checkpoint knows its weights and, by their shapes, its architecture.  It does not know what a
pixel is, how intensities were scaled, or where dropout stood: all three change what the network
makes of an image, so they are asked for and written down.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from tisr_scope.data.normalise import Normalisation
from tisr_scope.errors import BundleError
from tisr_scope.networks.bundle import Bundle, save_bundle
from tisr_scope.networks.bundle_files import BundleOptics, problems
from tisr_scope.networks.config import DropoutPlace
from tisr_scope.networks.dpa_tisr import parameter_count
from tisr_scope.networks.published import EVERYWHERE, load_published

SOURCE = "https://doi.org/10.5281/zenodo.12593629"
"""Where the authors publish theirs; the licence there is MIT."""


def parse_optics(text: str) -> BundleOptics:
    """Optics from ``numerical_aperture=1.49,pixel_size_um=0.0626,emission_nm=525``.

    Raises
    ------
    BundleError
        If a key is unknown, missing or no number.
    """
    given: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals:
            raise BundleError(
                f"{part.strip()!r} is not KEY=VALUE", where="optics", remedy=_optics_help()
            )
        given[key.strip()] = value.strip()
    try:
        return BundleOptics.model_validate(given)
    except ValidationError as error:
        raise BundleError(
            f"the optics cannot be used: {problems(error)}", where="optics", remedy=_optics_help()
        ) from error


def _optics_help() -> str:
    return f"give {', '.join(BundleOptics.model_fields)}; the first two are needed"


def import_checkpoint(
    path: str | Path,
    folder: str | Path,
    *,
    optics: BundleOptics,
    normalisation: Normalisation | None = None,
    upscale: int | None = None,
    dropout_rate: float = 0.5,
    dropout_in: tuple[DropoutPlace, ...] = EVERYWHERE,
    specimen: str = "",
    licence: str = "MIT",
) -> Bundle:
    """Make a bundle of a released checkpoint.

    Parameters
    ----------
    path : path
        ``.pth`` file; only tensors are read of it, no code is run.
    folder : path
        New folder; its last part is the name of the model.
    optics : BundleOptics
        Of the recordings it was trained with.
    normalisation : Normalisation, optional
        By default division by the maximum, the target blurred by 0.4 px (Paper: eq. 18).
    upscale : {2, 3}, optional
        What it is said to be; another one in the file is refused.
    dropout_rate, dropout_in
        As it was trained.  The released code has 0.5 everywhere.
    specimen : str
        What it was trained on.
    licence : str

    Raises
    ------
    BundleError
        If the file is no such checkpoint or of another enlargement, the folder exists, or it
        cannot be written.
    """
    source, target = Path(path), Path(folder)
    if target.exists():
        raise BundleError(
            "the folder exists", where=str(target), remedy="choose a new one, or remove the old"
        )
    network = load_published(source, dropout_rate=dropout_rate, dropout_in=dropout_in)
    config = network.config
    if upscale is not None and upscale != config.upscale:
        raise BundleError(
            f"the checkpoint enlarges x{config.upscale}, not x{upscale}",
            where=str(source),
            remedy=f"say x{config.upscale}, or take the checkpoint of the other kind of SIM",
        )
    rule = normalisation or Normalisation(reference="maximum")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    stages = ", ".join(dropout_in) or "no stage"
    card = f"""# {target.name}

{"Bayesian " * config.bayesian}DPA-TISR as released by its authors, x{config.upscale}, \
{parameter_count(network):,} parameters{f", trained on {specimen}" if specimen else ""}.

- Imported from `{source.name}` (SHA-256 `{digest[:16]}...`).
- The authors' checkpoints are at {SOURCE}.
- Said at the import, not read from the file: optics, normalisation ({rule.reference}), dropout
  {dropout_rate:g} in {stages}, licence {licence}.
- Its confidence is uncalibrated here: run `tisr calibrate` with pairs of your own.
"""
    return save_bundle(
        target,
        network,
        normalisation=rule,
        optics=optics,
        training={
            "imported_from": {"file": source.name, "sha256": digest, "source": SOURCE},
            "specimen": specimen or None,
            "parameters": parameter_count(network),
        },
        licence=licence,
        card=card,
    )
