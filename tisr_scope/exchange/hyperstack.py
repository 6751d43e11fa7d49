"""Raw frames of a whole recording as one OME-TIFF hyperstack: T, C, Z, Y, X.

Every laser level of every channel is a channel of its own, named and with its wavelengths; the
patterns lie along Z, declared there as angle and phase (OME Modulo), so that T holds time points
and nothing else and its step is the measured interval.  Each plane has its time and exposure.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from jaxtyping import UInt16

from tisr_scope.disk import writing
from tisr_scope.errors import DataError
from tisr_scope.exchange.export_cell import Place
from tisr_scope.recording.frame_store import ZARR_NAME
from tisr_scope.recording.recording import Recording

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
MODULO = "http://www.openmicroscopy.org/Schemas/Additions/2011-09"


def recording_to_hyperstack(place: Place, out: Path) -> list[Path]:
    """Write one file for each stage position.

    Time points that are not complete are refused, not filled: a reader could not tell them.

    Raises
    ------
    DataError
        If a time point is not complete, or this is no recording of single planes.
    DiskFull
        If there is no space left.
    """
    if not (place.source / ZARR_NAME).is_dir() or place.planes > 1:
        raise DataError(
            "only recordings of single planes become hyperstacks",
            where=str(place.source),
            remedy="pairs are OME-TIFF already; planes of 3D-SIM go to the published layout",
        )
    recording = Recording.open(place.source)
    missing = [t for t in range(recording.time_points) if not recording.is_complete(t)]
    if missing or not recording.time_points:
        raise DataError(
            f"{len(missing) or 'all'} time points of the recording are not complete",
            where=str(recording.path),
            remedy="'tisr verify' names them; the OME-Zarr of the recording opens as it is",
        )
    out.mkdir(parents=True, exist_ok=True)
    return [_write(recording, position, out) for position in range(recording.positions)]


# ------------------------------------------------------------------------------------- inside


def _write(recording: Recording, position: int, out: Path) -> Path:
    plan, pixel = recording.plan, recording.pixel_size_um
    name = recording.name + (f"_p{position}" if recording.positions > 1 else "")
    path = out / f"{name}_raw.ome.tif"
    patterns = plan.orientations * plan.phases
    count = len(plan.channels) * plan.levels
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary,
            _planes(recording, position),
            shape=(recording.time_points, count, patterns, *recording.frame_shape),
            dtype=np.uint16,
            ome=True,
            bigtiff=True,
            photometric="minisblack",
            metadata=_metadata(recording, position, name),
            resolution=(1e4 / pixel, 1e4 / pixel),
            resolutionunit="CENTIMETER",
        )
        if patterns > 1:
            text = tifffile.tiffcomment(temporary)
            declared = _with_modulo(str(text), plan.angles_rad, plan.phases)
            tifffile.tiffcomment(temporary, declared.encode())
    return path


def _planes(recording: Recording, position: int) -> Iterator[UInt16[np.ndarray, "y x"]]:
    plan = recording.plan
    for t in range(recording.time_points):
        for channel in range(len(plan.channels)):
            frames = recording.frames(t, channel, position)
            for level in range(plan.levels):
                yield from frames[:, :, level].reshape(-1, *recording.frame_shape)


def _metadata(recording: Recording, position: int, name: str) -> dict[str, Any]:
    plan, pixel = recording.plan, recording.pixel_size_um
    names, emission, excitation, times, exposures = [], [], [], [], []
    for channel, light in zip(recording.profile.channels, plan.channels, strict=True):
        for power in light.powers_mw:
            names.append(f"{channel.name} {power:g} mW")
            emission.append(channel.emission_nm)
            excitation.append(channel.excitation_nm)
    for t in range(recording.time_points):
        for channel_number in range(len(plan.channels)):
            entries = sorted(
                recording.entries(t, channel_number, position),
                key=lambda entry: (entry.level, entry.orientation, entry.phase),
            )
            times += [entry.time_s for entry in entries]
            exposures += [entry.exposure_ms / 1e3 for entry in entries]
    return {
        "axes": "TCZYX",
        "Name": name,
        "PhysicalSizeX": pixel,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": recording.interval_s(0, position),
        "TimeIncrementUnit": "s",
        "Channel": {
            "Name": names,
            "EmissionWavelength": emission,
            "EmissionWavelengthUnit": ["nm"] * len(names),
            "ExcitationWavelength": excitation,
            "ExcitationWavelengthUnit": ["nm"] * len(names),
        },
        "Plane": {
            "DeltaT": times,
            "DeltaTUnit": ["s"] * len(times),
            "ExposureTime": exposures,
            "ExposureTimeUnit": ["s"] * len(times),
        },
    }


def _with_modulo(text: str, angles_rad: tuple[float, ...], phases: int) -> str:
    """OME-XML that says what lies along Z: angles, and within each the phases."""
    ElementTree.register_namespace("", OME)
    root = ElementTree.fromstring(text)
    annotations = ElementTree.SubElement(root, f"{{{OME}}}StructuredAnnotations")
    note = ElementTree.SubElement(
        annotations,
        f"{{{OME}}}XMLAnnotation",
        {"ID": "Annotation:Modulo:0", "Namespace": "openmicroscopy.org/omero/dimension/modulo"},
    )
    value = ElementTree.SubElement(note, f"{{{OME}}}Value")
    modulo = ElementTree.SubElement(value, "Modulo", {"namespace": MODULO})
    along = ElementTree.SubElement(
        modulo, "ModuloAlongZ", {"Type": "phase", "Start": "0", "Step": "1", "End": str(phases - 1)}
    )
    told = ", ".join(f"{angle:.6g}" for angle in angles_rad)
    along.set(
        "TypeDescription",
        f"{phases} phases of each orientation; the orientations follow each other slower, their "
        f"carriers at {told} rad",
    )
    image = root.find(f"{{{OME}}}Image")
    if image is not None:
        reference = ElementTree.SubElement(image, f"{{{OME}}}AnnotationRef")
        reference.set("ID", "Annotation:Modulo:0")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False)
