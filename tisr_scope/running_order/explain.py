"""A run in words before it is made: order, exposures, duration, light dose, bytes."""

from __future__ import annotations

from tisr_scope.profiles.schema import Profile
from tisr_scope.running_order.run_plan import Mode, RunPlan


def explain(profile: Profile, mode: Mode) -> str:
    """Say in words what a run exposes: order, exposures, duration, light dose, bytes.

    Raises
    ------
    ProfileError
        If the profile does not describe this mode.
    """
    plan = RunPlan(profile, mode)
    steps = ["time point"]
    steps += ["stage position"] if plan.positions > 1 else []
    steps += ["channel"] if len(plan.channels) > 1 else []
    steps += ["orientation", "phase"] if plan.angles_rad else []
    steps += ["laser level"] if plan.levels > 1 else []
    light = (
        f"{plan.orientations} orientations x {plan.phases} phases x {plan.levels} laser level(s)"
        if plan.angles_rad
        else "one evenly lit exposure"
    )
    rhythm = (
        f"a new time point every {plan.interval_s:g} s"
        if plan.interval_s
        else "time points back to back"
    )
    lines = [
        f"{profile.name}, mode {mode}",
        f"  order        {' > '.join(steps)}   (the last one changes fastest)",
        f"  per channel  {light}, {plan.exposure_ms:g} ms each",
        f"  exposures    {plan.exposures} = {plan.time_points} time points x "
        f"{plan.positions} position(s) x {len(plan.channels)} channel(s) x "
        f"{plan.sim_frames} frame(s)",
        f"  duration     at least {_duration(plan.duration_s)}, {rhythm}",
    ]
    doses = plan.dose_mj()
    for channel in plan.channels:
        powers = ", ".join(f"{power:g}" for power in channel.powers_mw)
        lines.append(
            f"  {channel.name:<12} {powers} mW: {doses[channel.name]:.4g} mJ leave "
            f"{channel.laser.device} during exposures, per position"
        )
    limit = profile.light_dose_limit_mj
    total = sum(doses.values())
    if limit is None:
        lines.append(f"  light dose   {total:.4g} mJ per position, no limit set")
    else:
        verdict = "within" if total <= limit * (1 + 1e-9) else "OVER"
        lines.append(
            f"  light dose   {total:.4g} mJ per position, {verdict} the limit of {limit:g}"
        )
    size = plan.bytes
    height, width = plan.frame_shape
    lines.append(f"  on disk      {_size(size)} ({height} x {width} pixels, 16 bit)")
    if plan.interval_s and plan.idle_s == 0:
        lines.append(
            "  note         a time point takes longer than the interval of "
            f"{plan.interval_s:g} s: time points will follow back to back"
        )
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _size(size: float) -> str:
    units = ["TB", "GB", "MB", "kB", "bytes"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop()
    return f"{size:.3g} {units[-1]}"
