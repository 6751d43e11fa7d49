"""Verbs that measure the optics of an instrument."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tisr_scope.cli.common import out, show_table

otf_app = typer.Typer(help="Transfer functions of an objective.", no_args_is_help=True)


@otf_app.command("measure")
def measure(
    beads: Annotated[
        Path, typer.Argument(help="Image or images of single beads; raw SIM frames of beads too.")
    ],
    file: Annotated[Path, typer.Argument(help="Curve to write: .csv or .mrc.")],
    bead_diameter_um: Annotated[float, typer.Option(min=0, help="Of the spheres.")] = 0.1,
    raw: Annotated[
        int, typer.Option(min=1, help="Raw frames that are averaged: 9 for 3 x 3 patterns.")
    ] = 1,
    channel: Annotated[int | None, typer.Option(min=1, help="Of several.")] = None,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="In the sample [default: the file's].")
    ] = None,
    numerical_aperture: Annotated[float | None, typer.Option(help="[default: the file's]")] = None,
    emission_nm: Annotated[float | None, typer.Option(help="[default: the file's]")] = None,
) -> None:
    """Measure the radial transfer function on beads, for `tisr reconstruct --otf`.

    Examples
    --------
    `tisr otf measure beads.ome.tif otf_525.csv --bead-diameter-um 0.1 --numerical-aperture 1.49`

    `tisr otf measure raw_beads.tif otf.csv --raw 9 --pixel-size-um 0.065 --emission-nm 525`
    """
    import numpy as np

    from tisr_scope.errors import DataError
    from tisr_scope.formats.facts import settle_pixel
    from tisr_scope.formats.reader import open_stack
    from tisr_scope.sim.optics.beads import measure_otf, write_otf

    stack, number = open_stack(beads).one_channel(channel)
    pixel = settle_pixel(stack.pixel_size_um, user=pixel_size_um, where=str(beads))
    told, wave = stack.numerical_aperture, stack.emission_of(number)
    aperture = numerical_aperture or (told.value if told else None)
    emission = emission_nm or (wave.value if wave else None)
    if aperture is None or emission is None:
        raise DataError(
            "the file does not say numerical aperture and emission",
            where=str(beads),
            remedy="state them with --numerical-aperture and --emission-nm",
        )
    images = np.asarray(stack.data, np.float64).reshape(-1, *stack.data.shape[-2:])
    if len(images) % raw:
        raise DataError(
            f"{len(images)} frames do not divide into groups of {raw}",
            where=str(beads),
            remedy="give with --raw how many frames make one image",
        )
    images = images.reshape(-1, raw, *images.shape[1:]).mean(axis=1)
    found = measure_otf(images, pixel.value, aperture, emission, bead_diameter_um, str(beads))
    write_otf(file, found.otf)
    frequency, values = found.frequency / found.otf.cutoff, np.array(found.otf.radial_values)
    ideal = 2 / np.pi * (np.arccos(frequency) - frequency * np.sqrt(1 - frequency**2))
    show_table(
        f"{len(found.positions_px)} beads in {len(images)} images",
        {
            "pixel size, um": str(pixel),
            **{
                f"transfer at {part:g} of the cut-off": f"{np.interp(part, frequency, values):.3f} "
                f"(closed form {np.interp(part, frequency, ideal):.3f})"
                for part in (0.25, 0.5, 0.75)
            },
            "largest standard error": float(found.standard_error.max()),
        },
    )
    out.print(f"wrote {file}")
