"""Profiles: what is accepted, what is refused, and what survives a round trip."""

from __future__ import annotations

import pytest
import yaml

from tisr_scope.errors import ProfileError
from tisr_scope.profiles.library import (
    find_profile,
    load_profile,
    parse_profile,
    profile_names,
    profile_yaml,
)

BASE = """
name: bench
microscope:
  config: bench.cfg
  camera: {device: Cam, frame_shape: [128, 128]}
  slm: SLM
optics: {numerical_aperture: 1.49, pixel_size_um: 0.0626}
illumination:
  angles_rad: [0.1, 1.147, 2.194]
  phases: 3
  source: {kind: image, slm_pixel_um: 0.01565}
channels:
  - name: green
    excitation_nm: 488
    emission_nm: 525
    laser: {device: L488, hard_limit_mw: 30}
    levels_mw: [1, 5, 25]
    timelapse_mw: 9
    pattern_period_um: 0.1807
paired: {exposure_ms: 10}
"""


def changed(**changes: object) -> str:
    content = yaml.safe_load(BASE)
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = content
        for key in parents:
            node = node[int(key) if key.isdigit() else key]
        if value is None:
            node.pop(last)
        else:
            node[last] = value
    return yaml.safe_dump(content)


def test_shipped_profiles_load_and_survive_yaml() -> None:
    names = profile_names()
    assert {
        "simulated_microtubules",
        "simulated_two_colour",
        "demo_camera",
        "example_hardware",
    } <= set(names)
    for name in names:
        profile = load_profile(name)
        assert profile.name == name
        assert parse_profile(profile_yaml(profile), "copy") == profile


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exposure": 10}, "exposure"),
        ({"optics__pixel_size_um": -1}, "pixel_size_um"),
        ({"optics__pixel_size_um": float("nan")}, "pixel_size_um"),
        ({"channels__0__levels_mw": [1, 5, 31]}, "hard limit of 30 mW of L488"),
        ({"channels__0__timelapse_mw": 40}, "hard limit"),
        ({"channels__0__levels_mw": []}, "levels_mw"),
        ({"channels__0__levels_mw": [5]}, "levels_mw"),
        ({"channels__0__levels_mw": [5, 5]}, "rise strictly"),
        ({"channels__0__levels_mw": [5, 1]}, "rise strictly"),
        ({"channels__0__levels_mw": [0, 1]}, "levels_mw[1]: must be greater than 0"),
        ({"channels__0__pattern_period_um": 0.15}, "no such interference pattern"),
        ({"channels__0__pattern_period_um": None}, "needs pattern_period_um"),
        ({"illumination__phases": 2}, "phases"),
        ({"illumination__angles_rad": [0.1, 3.2416]}, "same direction"),
        ({"illumination": None}, "no 'illumination'"),
        ({"microscope__slm": None}, "need 'microscope.slm'"),
        ({"positions": [{"x_um": 0, "y_um": 0}]}, "xy_stage"),
        ({"paired": None}, "'paired', 'timelapse', or both"),
        (
            {"illumination__source": {"kind": "preset", "group": "P", "presets": ["a", "b"]}},
            "9 patterns need 9 presets",
        ),
    ],
)
def test_refused_with_the_reason(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileError) as raised:
        parse_profile(changed(**changes), "bench.yaml")
    assert message in str(raised.value)
    assert "bench.yaml" in str(raised.value)
    assert raised.value.remedy


def test_base_is_valid() -> None:
    assert parse_profile(BASE, "bench.yaml").illumination is not None


@pytest.mark.parametrize("text", ["- a list", "a: [1,", "", "just words"])
def test_not_a_profile_at_all(text: str) -> None:
    with pytest.raises(ProfileError):
        parse_profile(text, "bench.yaml")


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ProfileError, match="simulated_microtubules"):
        find_profile("microtubles")
    with pytest.raises(ProfileError, match="no such profile file"):
        find_profile("missing.yaml")
