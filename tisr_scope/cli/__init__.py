"""The command line: each verb parses, calls one function, and reports what it returned.

Heavy packages are imported inside the verbs, so that ``tisr --help`` is immediate and the
microscope PC needs no more than it uses.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from tisr_scope.cli import (
    audit,
    data,
    files,
    learning,
    microscope_verbs,
    models,
    optics,
    reconstruction,
)
from tisr_scope.cli.common import err
from tisr_scope.errors import TisrScopeError

app = typer.Typer(
    name="tisr",
    help="Live super-resolution with calibrated confidence for SIM microscopes.",
    epilog="Start with: tisr demo",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"tisr_scope {version('tisr-scope')}")
        raise typer.Exit
    return asked


@app.callback()
def _tisr(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of the command itself."""


for verb in (
    microscope_verbs.demo,
    microscope_verbs.acquire,
    microscope_verbs.live,
    microscope_verbs.follow,
    files.verify,
    learning.infer,
    reconstruction.reconstruct,
    data.prepare,
    learning.train,
    learning.calibrate,
    learning.evaluate,
    audit.audit,
    microscope_verbs.doctor,
):
    app.command()(verb)
app.command("import")(data.import_)
app.command()(data.export)
app.add_typer(microscope_verbs.profiles_app, name="profiles")
app.add_typer(models.models_app, name="models")
app.add_typer(optics.otf_app, name="otf")


def main() -> None:
    """Entry point: deliberate errors are printed without a traceback."""
    # Waiting threads of the network must sleep, not spin: the camera needs the processor too.
    # Read once, when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except TisrScopeError as error:
        _end(str(error))
    except OSError as error:
        # Not every path is looked at before it is used; the system's words say which one and why.
        where = f"\n  where: {error.filename}" if error.filename else ""
        _end(
            f"{error.strerror or error}{where}\n"
            "  what to do: check that the path exists, is reachable, and may be read and written"
        )


def _end(message: str) -> None:
    err.print(f"[bold red]error[/bold red] {escape(message)}", highlight=False)
    sys.exit(1)
