"""The exposures of a running order, one ``useq.MDAEvent`` each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import useq

from tisr_scope.profiles.schema import IndexedPatterns, PresetPatterns, UploadedImages
from tisr_scope.running_order.patterns import Pattern, even_slm_image, slm_image

if TYPE_CHECKING:
    from tisr_scope.running_order.escalating_order import RunningOrder

SHUTTER_IDLE_S = 0.25
"""A pause at least this long closes the shutter; shorter ones only turn the lasers off."""


def exposures(
    order: RunningOrder, slm_shape: tuple[int, int] | None, first_time_point: int
) -> Iterator[useq.MDAEvent]:
    """Every exposure in order, as documented at :meth:`RunningOrder.events`.

    The metadata of an event holds ``channel`` (name), ``power_mw``, ``dose_mj`` (of this
    exposure), ``pattern`` (parameters), ``pattern_preset`` and ``idle_after`` (whether the lasers
    can go dark because nothing follows at once).
    """
    images: dict[Pattern | None, useq.SLMImage] = {}
    start_s = first_time_point * order.interval_s
    last = (order.time_points - 1, order.positions - 1, len(order.channels) - 1)
    for base in order.sequence:
        t, p, c = (int(base.index.get(axis, 0)) for axis in "tpc")
        if t < first_time_point:
            continue
        channel = order.channels[c]
        for sim in range(order.sim_frames):
            pattern_number, level = divmod(sim, order.levels)
            orientation, phase = divmod(pattern_number, order.phases)
            pattern = order.pattern(c, orientation, phase)
            ends_pattern_set = sim == order.sim_frames - 1
            ends_time_point = ends_pattern_set and (p, c) == last[1:]
            idle = ends_time_point and order.idle_s > 0
            ends_run = ends_time_point and t == last[0]
            power = channel.powers_mw[level]
            update: dict[str, Any] = {
                "index": {
                    "t": t,
                    "p": p,
                    "c": c,
                    "orientation": orientation,
                    "phase": phase,
                    "level": level,
                },
                "exposure": order.exposure_ms,
                "properties": _properties(order, c, power, pattern_number),
                "keep_shutter_open": not (ends_run or (idle and order.idle_s >= SHUTTER_IDLE_S)),
                "min_start_time": order.interval_s * t - start_s if sim == 0 else None,
                "reset_event_timer": sim == 0 and (t, p, c) == (first_time_point, 0, 0),
                "slm_image": _slm_image(order, pattern, slm_shape, images),
                "metadata": {
                    "channel": channel.name,
                    "power_mw": power,
                    "dose_mj": power * order.exposure_ms / 1e3,
                    "pattern": None if pattern is None else pattern.model_dump(),
                    "pattern_preset": _preset(order, pattern_number),
                    "idle_after": idle or ends_run,
                },
            }
            yield base.replace(**update)


def _properties(
    order: RunningOrder, channel: int, power_mw: float, pattern_number: int
) -> list[tuple[str, str, Any]]:
    """Laser powers (all other lasers dark) and, where patterns are indices, the index."""
    powers: dict[tuple[str, str], float] = {
        (other.laser.device, other.laser.property): 0.0 for other in order.channels
    }
    laser = order.channels[channel].laser
    powers[laser.device, laser.property] = power_mw
    properties: list[tuple[str, str, Any]] = [(*key, value) for key, value in powers.items()]
    if isinstance(order.source, IndexedPatterns):
        index = (
            order.source.first + pattern_number
            if order.angles_rad
            else order.source.widefield_index
        )
        properties.append((order.source.device, order.source.property, index))
    return properties


def _preset(order: RunningOrder, pattern_number: int) -> str | None:
    if not isinstance(order.source, PresetPatterns):
        return None
    return (
        order.source.presets[pattern_number] if order.angles_rad else order.source.widefield_preset
    )


def _slm_image(
    order: RunningOrder,
    pattern: Pattern | None,
    shape: tuple[int, int] | None,
    images: dict[Pattern | None, useq.SLMImage],
) -> useq.SLMImage | None:
    """The one image object of a pattern: the same object means "not changed"."""
    if shape is None or not isinstance(order.source, UploadedImages):
        return None
    if pattern not in images:
        pixels = (
            even_slm_image(shape)
            if pattern is None
            else slm_image(pattern, shape, order.source.slm_pixel_um)
        )
        images[pattern] = useq.SLMImage(data=pixels, device=order.slm)
    return images[pattern]
