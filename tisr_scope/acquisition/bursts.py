"""Merging exposures into hardware-triggered bursts.

A burst is a run of exposures the camera takes on its own while armed devices step through their
sequences at each exposure: the laser over its levels with the pattern held, or laser and SLM
over all patterns.  What differs between the exposures of a burst must be steppable by the
device concerned; anything else ends the burst.  The SLM image is never dropped: it is held for
the burst or becomes part of its sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymmcore_plus.core import CMMCorePlus, SequencedEvent
from useq import MDAEvent, PropertyTuple


@dataclass(frozen=True)
class Steppable:
    """Longest sequence each device can step through by itself; 0 where it cannot."""

    properties: dict[tuple[str, str], int]
    slm: int = 0

    @classmethod
    def of_core(
        cls, core: CMMCorePlus, properties: Iterable[tuple[str, str]], slm: str | None
    ) -> Steppable:
        """Ask the loaded devices."""
        lengths = {
            (device, prop): (
                core.getPropertySequenceMaxLength(device, prop)
                if core.isPropertySequenceable(device, prop)
                else 0
            )
            for device, prop in properties
        }
        return cls(lengths, core.getSLMSequenceMaxLength(slm) if slm is not None else 0)


def merge(events: Iterable[MDAEvent], steppable: Steppable) -> Iterator[MDAEvent]:
    """Events with every burst the devices can take merged into one ``SequencedEvent``."""
    batch: list[MDAEvent] = []
    for event in events:
        if batch and not _extends(batch, event, steppable):
            yield _merged(batch)
            batch = []
        batch.append(event)
    if batch:
        yield _merged(batch)


def _extends(batch: list[MDAEvent], event: MDAEvent, steppable: Steppable) -> bool:
    first, length = batch[0], len(batch) + 1
    if any(event.index[key] != first.index[key] for key in "tpc"):
        return False
    if event.exposure != first.exposure or not batch[-1].keep_shutter_open:
        return False
    if event.metadata["pattern_preset"] != first.metadata["pattern_preset"]:
        return False
    members = [*batch, event]
    if _slm_changes(members) and length > steppable.slm:
        return False
    return all(
        length <= steppable.properties.get(key, 0)
        for key, values in _property_values(members).items()
        if len(set(values)) > 1
    )


def _slm_changes(events: list[MDAEvent]) -> bool:
    return any(event.slm_image is not events[0].slm_image for event in events)


def _property_values(events: list[MDAEvent]) -> dict[tuple[str, str], list[Any]]:
    values: dict[tuple[str, str], list[Any]] = {}
    for event in events:
        for device, prop, value in event.properties or ():
            values.setdefault((device, prop), []).append(value)
    return values


def _merged(batch: list[MDAEvent]) -> MDAEvent:
    if len(batch) == 1:
        return batch[0]
    first = batch[0]
    values = _property_values(batch)
    changing = {key: seq for key, seq in values.items() if len(set(seq)) > 1}
    slm_changes = _slm_changes(batch)
    return SequencedEvent(
        events=tuple(batch),
        index=first.index,
        channel=first.channel,
        exposure=first.exposure,
        min_start_time=first.min_start_time,
        reset_event_timer=first.reset_event_timer,
        keep_shutter_open=batch[-1].keep_shutter_open,
        pos_name=first.pos_name,
        x_pos=first.x_pos,
        y_pos=first.y_pos,
        z_pos=first.z_pos,
        metadata=dict(first.metadata),
        properties=[
            PropertyTuple(*key, seq[0]) for key, seq in values.items() if key not in changing
        ],
        # Devices take text: floats are refused by the event model and by C++ adapters alike.
        property_sequences={key: [f"{value:g}" for value in seq] for key, seq in changing.items()},
        slm_image=None if slm_changes else first.slm_image,
        slm_sequence=tuple(np.asarray(e.slm_image).tobytes() for e in batch) if slm_changes else (),
    )
