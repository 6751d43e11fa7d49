"""Verbs about trained models: list, show, check, import, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from tisr_scope.cli.common import DeviceOption, out

models_app = typer.Typer(
    help="List, show, check, import and export trained models.", no_args_is_help=True
)
ModelArg = Annotated[str, typer.Argument(help="Bundle folder or name of a shipped model.")]


@models_app.command("list")
def models_list(
    models: Annotated[
        list[str] | None, typer.Argument(help="Bundles [default: the shipped ones].")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the table of the readme.")
    ] = False,
) -> None:
    """List models with their figures.

    Examples
    --------
    `tisr models list`

    `tisr models list runs/first/bundle models/mine --markdown`
    """
    from tisr_scope.bundles import model_table
    from tisr_scope.bundles.bundle_description import bundle_names

    rows = [model_table.model_row(name) for name in models or bundle_names()]
    _show(model_table.COLUMNS, rows, markdown=markdown)


@models_app.command("architectures")
def models_architectures(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the table of docs/networks.md.")
    ] = False,
) -> None:
    """List the architectures that 'tisr train --preset' knows, with their sizes.

    Example: `tisr models architectures`
    """
    from tisr_scope.networks.architectures import listed

    columns, rows = listed()
    _show(columns, rows, markdown=markdown)


def _show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> None:
    from tisr_scope.bundles import model_table

    if markdown:
        typer.echo(model_table.markdown(columns, rows), nl=False)
        return
    table = Table(*(escape(c.strip("`")) for c in columns))
    for row in rows:
        table.add_row(*(escape(cell.strip("`")) for cell in row))
    out.print(table)


@models_app.command("show")
def models_show(model: ModelArg) -> None:
    """Print the card of a model, and what its files say: licence, origin, optics, hash.

    Example: `tisr models show microtubules_small`
    """
    from tisr_scope.bundles.bundle import load_bundle
    from tisr_scope.bundles.bundle_description import CARD
    from tisr_scope.bundles.model_table import facts

    bundle = load_bundle(model)
    typer.echo((bundle.path / CARD).read_text(encoding="utf-8").rstrip() + "\n")
    for name, value in facts(bundle).items():
        typer.echo(f"{name:15} {value}")


@models_app.command("check")
def models_check(model: ModelArg, device: DeviceOption = "cpu") -> None:
    """Load a model and compare its output with the one recorded in the bundle.

    Example: `tisr models check models/mine --device cuda`
    """
    from tisr_scope.bundles.bundle import load_bundle

    bundle = load_bundle(model)
    difference = bundle.self_test(device)
    out.print(f"[green]ok[/green] {bundle.name}: output equals the recorded one ({difference:.1g})")


@models_app.command("import")
def models_import(
    checkpoint: Annotated[Path, typer.Argument(help="Released checkpoint (.pth).")],
    folder: Annotated[Path, typer.Argument(help="New folder: the bundle.")],
    optics: Annotated[
        str,
        typer.Option(
            help="Of its training data: numerical_aperture=1.49,pixel_size_um=0.0626,"
            "emission_nm=525; also excitation_nm and interval_s."
        ),
    ],
    normalisation: Annotated[
        Literal["maximum", "percentile"],
        typer.Option(help="What a stack was divided by; the paper says its maximum."),
    ] = "maximum",
    upscale: Annotated[
        int | None, typer.Option(min=2, max=3, help="Refuse any other enlargement.")
    ] = None,
    dropout_rate: Annotated[
        float, typer.Option(min=0, max=0.99, help="As trained; no tensor tells it.")
    ] = 0.5,
    dropout_in: Annotated[
        str, typer.Option(help="Stages with dropout, as trained.")
    ] = "extraction,propagation,reconstruction",
    specimen: Annotated[str, typer.Option(help="What it was trained on.")] = "",
    licence: Annotated[str, typer.Option(help="Of the weights; the authors' say MIT.")] = "MIT",
    holder: Annotated[
        str | None, typer.Option(help="Of the copyright: year and name [default: the authors].")
    ] = None,
) -> None:
    """Make a bundle of a checkpoint that the authors of the method released.

    No code of the file is run: one that asks for it is refused. Three things are in no tensor, yet
    decide what the network makes of an image. Give those of the data it was trained with.

    Optics: aperture, pixel size and emission set how fine the structures are that it learned, so
    that other optics can be told. Normalisation: its input and its scale of confidence are in units
    of it. Dropout: it has no parameters; without it there is no confidence.

    Examples
    --------
    `tisr models import MTs.pth models/mt_released --specimen microtubules
    --optics numerical_aperture=1.49,pixel_size_um=0.0626,emission_nm=525`
    """
    from typing import cast, get_args

    from tisr_scope.bundles.model_import import COPYRIGHT, import_checkpoint, parse_optics
    from tisr_scope.networks.config import DropoutPlace
    from tisr_scope.normalise import Normalisation

    stages = tuple(part.strip() for part in dropout_in.split(",") if part.strip())
    for stage in stages:
        if stage not in get_args(DropoutPlace):
            raise typer.BadParameter(
                f"{stage!r} is none of {', '.join(get_args(DropoutPlace))}",
                param_hint="--dropout-in",
            )
    bundle = import_checkpoint(
        checkpoint,
        folder,
        optics=parse_optics(optics),
        normalisation=Normalisation(reference=normalisation),
        upscale=upscale,
        dropout_rate=dropout_rate,
        dropout_in=cast(tuple[DropoutPlace, ...], stages),
        specimen=specimen,
        licence=licence,
        holder=holder or COPYRIGHT,
    )
    out.print(f"imported {bundle.path}: x{bundle.config.upscale}, confidence uncalibrated")


@models_app.command("export")
def models_export(
    model: ModelArg,
    package: Annotated[Path, typer.Argument(help="New .zip file.")],
    author: Annotated[
        list[str] | None, typer.Option(help="As it shall stand in a model zoo; may be repeated.")
    ] = None,
    description: Annotated[str, typer.Option(help="One or two sentences.")] = "",
) -> None:
    """Write a model as a BioImage.IO package, checked by the format's own validator.

    Example: `tisr models export models/mine mine.zip --author "A. Biologist"`
    """
    from tisr_scope.bundles.bioimageio import export_bioimageio
    from tisr_scope.bundles.bundle import load_bundle

    written = export_bioimageio(
        load_bundle(model), package, authors=author or (), description=description
    )
    out.print(f"wrote {written}")
