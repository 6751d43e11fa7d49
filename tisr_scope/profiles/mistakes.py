"""What is wrong with a profile, in the words of the person who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_KINDS = {
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "a group of keys",
    "model_type": "a group of keys",
    "bool_parsing": "true or false",
}


def in_words(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One sentence for each mistake: which key, what is wrong, what was probably meant.

    Parameters
    ----------
    error : ValidationError
        Of reading ``model``.
    model : type
        The model that was read; its field names are what a key can be mistaken for.
    """
    found = error.errors()
    places = {item["loc"] for item in found}
    told = []
    for item in found:
        place = item["loc"]
        # A list whose members are wrong also counts as too short: the members are what matters.
        if item["type"] == "too_short" and any(
            len(other) > len(place) and other[: len(place)] == place for other in places
        ):
            continue
        told.append(f"{_key(place)}: {_sentence(item, model)}")
    return told


def _key(place: tuple[int | str, ...]) -> str:
    """A place as it is looked for in the file; list members are counted from 1."""
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place]
    return "".join(parts).removeprefix(".") or "profile"


def _sentence(item: Any, model: type[BaseModel]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        key, known = str(item["loc"][-1]), _fields(model, item["loc"][:-1])
        close = difflib.get_close_matches(key, known, 1, 0.6)
        if not close:  # "timepoints" and "exposure" lack a part of the key, not a letter
            close = [k for k in known if key.replace("_", "") in k.replace("_", "")][:1]
        meant = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(sorted(known))}"
        return f"there is no such key; {meant}"
    if kind == "missing":
        return "is missing"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, not {item['input']!r}"
    if kind == "greater_than":
        return f"must be greater than {context['gt']:g}, not {item['input']!r}"
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']:g}, not {item['input']!r}"
    if kind == "less_than":
        return f"must be less than {context['lt']:g}, not {item['input']!r}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']:g}, not {item['input']!r}"
    if kind == "too_short":
        return f"needs at least {context['min_length']} entries, has {context['actual_length']}"
    if kind == "too_long":
        return f"can have {context['max_length']} entries at most, has {context['actual_length']}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {item['input']!r}"
    if kind == "union_tag_invalid":
        return f"kind must be one of {context['expected_tags']}, not '{context['tag']}'"
    return str(item["msg"]).removeprefix("Value error, ")


def _fields(model: type[BaseModel], place: Iterable[int | str]) -> list[str]:
    """Names of the keys at a place of a model."""
    candidates: list[type[BaseModel]] = [model]
    for part in place:
        if isinstance(part, int):
            continue
        inner = [c.model_fields[part].annotation for c in candidates if part in c.model_fields]
        # A part that is no field is the tag of the union just entered.
        candidates = [m for annotation in inner for m in _models(annotation)] or candidates
    return [name for candidate in candidates for name in candidate.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
