"""Verbs about trained models: list, show, check."""

from __future__ import annotations

import typer

from tisr_scope.cli.common import (
    DeviceOption,
    out,
)

models_app = typer.Typer(help="List, show and check trained models.", no_args_is_help=True)


@models_app.command("list")
def models_list() -> None:
    """List the shipped models."""
    from tisr_scope.networks.bundle import bundle_names, load_bundle

    for name in bundle_names():
        bundle = load_bundle(name)
        state = "calibrated" if bundle.calibration else "uncalibrated"
        out.print(f"[bold]{name}[/bold]  x{bundle.config.upscale}, {state}, {bundle.licence}")


@models_app.command("show")
def models_show(model: str) -> None:
    """Print the card of a model."""
    from tisr_scope.networks.bundle import CARD, find_bundle

    typer.echo((find_bundle(model) / CARD).read_text(encoding="utf-8"), nl=False)


@models_app.command("check")
def models_check(model: str, device: DeviceOption = "cpu") -> None:
    """Load a model and compare its output with the one recorded in the bundle."""
    from tisr_scope.networks.bundle import load_bundle

    bundle = load_bundle(model)
    difference = bundle.self_test(device)
    out.print(f"[green]ok[/green] {bundle.name}: output equals the recorded one ({difference:.1g})")
