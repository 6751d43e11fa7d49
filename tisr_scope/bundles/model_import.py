"""An authors' checkpoint made into a bundle, with what its tensors cannot say.

A checkpoint knows its weights and, by their shapes, its architecture.  It does not know what a
pixel is, how intensities were scaled, or where dropout stood: all three change what the network
makes of an image, so they are asked for and written down.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from tisr_scope.bundles.bundle import Bundle, save_bundle
from tisr_scope.bundles.bundle_description import BundleOptics, problems
from tisr_scope.bundles.published import EVERYWHERE, read_published
from tisr_scope.errors import BundleError
from tisr_scope.networks.config import DropoutPlace
from tisr_scope.networks.dpa_tisr import parameter_count
from tisr_scope.normalise import Normalisation

SOURCE = "https://doi.org/10.5281/zenodo.12593629"
"""Where the authors publish theirs."""
COPYRIGHT = "2024 liushuran2, https://github.com/liushuran2/Bayesian_DPA_TISR"
"""Holder of their copyright, as the licence in their repository (MIT) names it."""
_MIT = """MIT License

Copyright (c) {holder}

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def parse_optics(text: str) -> BundleOptics:
    """Optics from ``numerical_aperture=1.49,pixel_size_um=0.0626,emission_nm=525``.

    Raises
    ------
    BundleError
        If a key is unknown, missing or no number; aperture, pixel and emission are needed.
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
        optics = BundleOptics.model_validate(given)
    except ValidationError as error:
        raise BundleError(
            f"the optics cannot be used: {problems(error)}", where="optics", remedy=_optics_help()
        ) from error
    if optics.emission_nm is None:
        raise BundleError(
            "the optics lack emission_nm: with the aperture it sets what the network can resolve",
            where="optics",
            remedy=_optics_help(),
        )
    return optics


def _optics_help() -> str:
    return f"give {', '.join(BundleOptics.model_fields)}; the first two and emission_nm are needed"


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
    holder: str = COPYRIGHT,
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
        SPDX name; the licence must go with the weights, so the card holds the text of MIT.
    holder : str
        Of the copyright: year and name.

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
    network, found = read_published(source, dropout_rate=dropout_rate, dropout_in=dropout_in)
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

- Imported from `{source.name}` (SHA-256 `{digest[:16]}...`): {found.told}.
- The authors' checkpoints are at {SOURCE}.
- Licence {licence}, copyright (c) {holder}.{" Its text is below." * (licence == "MIT")}
- Said at the import, not read from the file: optics, normalisation ({rule.reference}), dropout
  {dropout_rate:g} in {stages}, licence.
- Its confidence is uncalibrated here: run `tisr calibrate` with pairs of your own.
"""
    if licence == "MIT":
        card += f"\n## Licence\n\n{_MIT.format(holder=holder)}"
    return save_bundle(
        target,
        network,
        normalisation=rule,
        optics=optics,
        training={
            "imported_from": {
                "file": source.name,
                "sha256": digest,
                "entry": found.entry,
                "stored_as": found.stored_as,
                "source": SOURCE,
                "copyright": holder,
            },
            "specimen": specimen or None,
            "parameters": parameter_count(network),
        },
        licence=licence,
        card=card,
    )
