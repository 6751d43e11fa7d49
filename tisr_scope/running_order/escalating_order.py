"""The escalating-intensity running order: which exposure follows which.

Per time point and position every illumination pattern (orientation, then phase) is exposed at
each laser level in turn, lowest first, before the next pattern is shown::

    t > position > channel > orientation > phase > level

Level is the fastest axis, so that the sample has moved least between the low-light input and the
high-light target (Paper: Methods, "Data acquisition").  A time-lapse with uniform illumination is
the same order with one pattern and one level.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import useq

from tisr_scope.profiles.schema import IndexedPatterns, PresetPatterns, UploadedImages
from tisr_scope.running_order.patterns import Pattern, even_slm_image, slm_image
from tisr_scope.running_order.run_plan import RunPlan

CHANNEL_GROUP = "tisr_scope"
"""Group name of the channels in useq: they are channels of the profile, not of a .cfg file."""
SHUTTER_IDLE_S = 0.25
"""A pause at least this long closes the shutter; shorter ones only turn the lasers off."""


def mda_sequence(plan: RunPlan) -> useq.MDASequence:
    """Time points, stage positions and channels of a run, without what SIM adds to them."""
    return useq.MDASequence(
        axis_order=tuple("tpc"),
        time_plan=useq.TIntervalLoops(
            interval=timedelta(seconds=plan.interval_s), loops=plan.time_points
        ),
        stage_positions=tuple(
            useq.AbsolutePosition(x=p.x_um, y=p.y_um, z=p.z_um, name=p.name)
            for p in plan.profile.positions
        ),
        channels=tuple(
            useq.Channel(config=c.name, group=CHANNEL_GROUP, exposure=plan.exposure_ms)
            for c in plan.channels
        ),
    )


def exposure_events(
    plan: RunPlan, slm_shape: tuple[int, int] | None = None, first_time_point: int = 0
) -> Iterator[useq.MDAEvent]:
    """Every exposure of a run, in order, one ``useq.MDAEvent`` each.

    Parameters
    ----------
    plan : RunPlan
        The run.
    slm_shape : (height, width), optional
        SLM pixels; without it events carry pattern parameters but no images.
    first_time_point : int, optional
        Where to go on with an interrupted run; the clock then starts there.

    Yields
    ------
    useq.MDAEvent
        With metadata ``channel`` (name), ``power_mw``, ``dose_mj`` (of this exposure),
        ``pattern`` (parameters), ``pattern_preset`` and ``idle_after`` (whether the lasers can go
        dark because nothing follows at once).
    """
    images: dict[Pattern | None, useq.SLMImage] = {}
    start_s = first_time_point * plan.interval_s
    last = (plan.time_points - 1, plan.positions - 1, len(plan.channels) - 1)
    for base in mda_sequence(plan):
        t, p, c = (int(base.index.get(axis, 0)) for axis in "tpc")
        if t < first_time_point:
            continue
        channel = plan.channels[c]
        for sim in range(plan.sim_frames):
            pattern_number, level = divmod(sim, plan.levels)
            orientation, phase = divmod(pattern_number, plan.phases)
            pattern = plan.pattern(c, orientation, phase)
            ends_pattern_set = sim == plan.sim_frames - 1
            ends_time_point = ends_pattern_set and (p, c) == last[1:]
            idle = ends_time_point and plan.idle_s > 0
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
                "exposure": plan.exposure_ms,
                "properties": _properties(plan, c, level, pattern_number),
                "keep_shutter_open": not (ends_run or (idle and plan.idle_s >= SHUTTER_IDLE_S)),
                "min_start_time": plan.interval_s * t - start_s if sim == 0 else None,
                "reset_event_timer": sim == 0 and (t, p, c) == (first_time_point, 0, 0),
                "slm_image": _slm_image(plan, pattern, slm_shape, images),
                "metadata": {
                    "channel": channel.name,
                    "power_mw": power,
                    "dose_mj": sum(channel.powers_of(level).values()) * plan.exposure_ms / 1e3,
                    "pattern": None if pattern is None else pattern.model_dump(),
                    "pattern_preset": _preset(plan, pattern_number),
                    "idle_after": idle or ends_run,
                    "ends_time_point": ends_time_point,
                },
            }
            yield base.replace(**update)


def _properties(
    plan: RunPlan, channel: int, level: int, pattern_number: int
) -> list[tuple[str, str, Any]]:
    """Laser powers in mW (all other lasers dark) and, where patterns are indices, the index."""
    powers = {key: 0.0 for other in plan.channels for key in other.powers_of(0)}
    powers |= plan.channels[channel].powers_of(level)
    properties: list[tuple[str, str, Any]] = [(*key, value) for key, value in powers.items()]
    if isinstance(plan.source, IndexedPatterns):
        index = (
            plan.source.first + pattern_number if plan.angles_rad else plan.source.widefield_index
        )
        properties.append((plan.source.device, plan.source.property, index))
    return properties


def _preset(plan: RunPlan, pattern_number: int) -> str | None:
    if not isinstance(plan.source, PresetPatterns):
        return None
    return plan.source.presets[pattern_number] if plan.angles_rad else plan.source.widefield_preset


def _slm_image(
    plan: RunPlan,
    pattern: Pattern | None,
    shape: tuple[int, int] | None,
    images: dict[Pattern | None, useq.SLMImage],
) -> useq.SLMImage | None:
    """The one image object of a pattern: the same object means "not changed"."""
    if shape is None or not isinstance(plan.source, UploadedImages):
        return None
    if pattern not in images:
        pixels = (
            even_slm_image(shape)
            if pattern is None
            else slm_image(pattern, shape, plan.source.slm_pixel_um)
        )
        images[pattern] = useq.SLMImage(data=pixels, device=plan.profile.microscope.slm)
    return images[pattern]
