"""What people write into a profile, and what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tisr_scope.errors import ProfileError
from tisr_scope.profiles.library import find_profile, parse_profile
from tisr_scope.profiles.quantities import in_unit_of
from tisr_scope.profiles.schema import Profile

Edit = Callable[[dict[str, Any]], object]


def edited(edit: Edit) -> Profile:
    content = yaml.safe_load(find_profile("simulated_microtubules").read_text(encoding="utf-8"))
    edit(content)
    return parse_profile(yaml.safe_dump(content), "scope.yaml")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda c: c["timelapse"].update(timepoints=3), "did you mean 'time_points'"),
        (lambda c: c["timelapse"].update(exposure=3), "did you mean 'exposure_ms'"),
        (lambda c: c["channels"][0]["laser"].update(hard_limit=3), "'hard_limit_mw'"),
        (lambda c: c["illumination"]["source"].update(slm_pixel=1), "'slm_pixel_um'"),
        (lambda c: c.update(gibberish=1), "known are .*channels"),
        (lambda c: c["paired"].update(exposure_ms="ten"), "must be a number, not 'ten'"),
        (lambda c: c["paired"].update(exposure_ms="10 um"), "is a time, '10 um' is not"),
        (lambda c: c["paired"].update(exposure_ms=-1), "must be greater than 0, not -1"),
        (lambda c: c["channels"][0].update(levels_mw=[1]), "needs at least 2 entries, has 1"),
        (lambda c: c["channels"][0].update(levels_mw=[1, 2, 300]), "300 mW is over the hard limit"),
        (lambda c: c.pop("optics"), "optics: is missing"),
        (lambda c: c["illumination"]["source"].update(kind="imag"), "one of 'image', 'preset'"),
        (lambda c: c["optics"].update(pixel_size_um=62.6), "did you mean 0.0626"),
    ],
)
def test_mistakes_are_told_in_words(edit: Edit, told: str) -> None:
    with pytest.raises(ProfileError, match=told) as error:
        edited(edit)
    text = str(error.value)
    assert "scope.yaml" in text
    for private in ("Tuple", "Input should", "Extra inputs", "Value error", "validation"):
        assert private not in text


def test_one_mistake_gives_one_sentence() -> None:
    with pytest.raises(ProfileError) as error:
        edited(lambda c: c["channels"][0].update(levels_mw=[1, 2, 300]))
    assert error.value.what.count(";") == 0


def test_a_value_may_carry_its_unit() -> None:
    profile = edited(
        lambda c: (
            c["paired"].update(exposure_ms="0.01 s", interval_s="1.5 min"),
            c["optics"].update(pixel_size_um="62.6 nm"),
            c["channels"][0].update(levels_mw=["1000 uW", "5mW", 25]),
        )
    )
    assert profile.paired is not None
    assert (profile.paired.exposure_ms, profile.paired.interval_s) == (10, 90)
    assert profile.optics.pixel_size_um == 0.0626
    assert profile.channels[0].levels_mw == (1, 5, 25)


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("exposure_ms", "10 µs", 0.01),
        ("angle_rad", "180°", pytest.approx(3.14159265)),
        ("name", "10 ms", "10 ms"),
        ("config", "a 3 um.cfg", "a 3 um.cfg"),
        ("interval_s", 3, 3),
    ],
)
def test_units(key: str, value: object, meant: object) -> None:
    assert in_unit_of(key, value) == meant
