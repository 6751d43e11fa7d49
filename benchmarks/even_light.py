"""The simulated time-lapse with one evenly lit frame a time point: 20 time points a second."""

from __future__ import annotations

from tisr_scope.profiles.schema import Profile


def even_light(profile: Profile) -> Profile:
    """Profile with ``widefield: single`` at the dose of nine patterns of the lowest level."""
    assert profile.timelapse is not None
    timelapse = profile.timelapse.model_copy(update={"widefield": "single", "interval_s": 0.05})
    channels = tuple(
        c.model_copy(update={"timelapse_mw": 9 * c.levels_mw[0]}) for c in profile.channels
    )
    return profile.model_copy(update={"timelapse": timelapse, "channels": channels})
