"""Verbs from raw frames to training pairs: reconstruct, prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tisr_scope.cli.common import (
    DeviceOption,
    out,
    progress_bar,
)

WienerOption = Annotated[
    float | None, typer.Option(min=0, help="Wiener parameter [default: from the light level].")
]


def reconstruct(
    source: Annotated[Path, typer.Argument(help="A recording, or a raw stack (.mrc, .tif).")],
    folder: Annotated[Path, typer.Argument(help="New folder for the images.")],
    wiener: WienerOption = None,
    otf: Annotated[Path | None, typer.Option(help="Measured radial OTF (.mrc).")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Layout, optics and stripes of a raw stack.")
    ] = None,
    channel: Annotated[int, typer.Option(min=1, help="Channel of that profile.")] = 1,
    orientations: Annotated[int, typer.Option(min=1, help="Of a raw stack.")] = 3,
    phases: Annotated[int, typer.Option(min=3, help="Of a raw stack; they run fastest.")] = 3,
    pixel_size_um: Annotated[float, typer.Option(help="Of a raw stack, in the sample.")] = 0.0626,
    numerical_aperture: Annotated[float, typer.Option(help="Detection NA of a raw stack.")] = 1.49,
    emission_nm: Annotated[float, typer.Option(help="Of a raw stack.")] = 525.0,
    interval_s: Annotated[float, typer.Option(help="Between time points of a raw stack.")] = 1.0,
    device: DeviceOption = "cpu",
) -> None:
    """Reconstruct SIM images beside the wide field, with a figure of what was estimated.

    Examples
    --------
    `tisr reconstruct recordings/cell_01 reconstructed/cell_01`

    `tisr reconstruct raw.mrc reconstructed/raw --emission-nm 525 --otf otf_488.mrc`
    """
    from tisr_scope.profiles.library import load_profile
    from tisr_scope.sim.files import reconstruct_raw_file, reconstruct_recording
    from tisr_scope.sim.reconstruct import WienerSettings

    settings = WienerSettings(parameter=wiener)
    if source.is_dir():
        with progress_bar("reconstructing") as progress:
            files = reconstruct_recording(
                source,
                folder,
                settings=settings,
                otf_file=otf,
                device=device,
                progress=progress,
            )
    else:
        files = [
            reconstruct_raw_file(
                source,
                folder,
                orientations=orientations,
                phases=phases,
                pixel_size_um=pixel_size_um,
                numerical_aperture=numerical_aperture,
                emission_nm=emission_nm,
                interval_s=interval_s,
                profile=None if profile is None else load_profile(profile),
                channel=channel - 1,
                settings=settings,
                otf_file=otf,
                device=device,
            )
        ]
    for file in files:
        out.print(f"wrote {file}")


def prepare(
    recordings: Annotated[Path, typer.Argument(help="A recording, or a folder of recordings.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the pairs; finished pairs are kept.")],
    split_by_name: Annotated[
        bool,
        typer.Option(help="Recordings are named training_..., validation_... or test_..."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random split by recording.")] = 0,
    wiener: WienerOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Make wide-field inputs and SIM targets of paired recordings, split by recording.

    Example: `tisr prepare recordings pairs`
    """
    from tisr_scope.data.prepare import Split
    from tisr_scope.data.prepare import prepare as run
    from tisr_scope.errors import DataError
    from tisr_scope.sim.reconstruct import WienerSettings

    marker = "profile.yaml"
    found = [recordings] if (recordings / marker).exists() else []
    found = found or sorted(p.parent for p in recordings.glob(f"*/{marker}"))
    if not found:
        raise DataError(
            "there are no recordings", where=str(recordings), remedy="make some: tisr acquire"
        )
    settings = WienerSettings(parameter=wiener)
    with progress_bar("pairs") as progress:
        pairs = run(
            found,
            folder,
            split=Split(by_name=split_by_name, seed=seed),
            wiener=settings,
            device=device,
            progress=progress,
        )
    out.print(f"{len(pairs)} pairs in {folder}")
