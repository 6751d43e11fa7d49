"""Numbers written with their unit, where the key names another or the same one."""

from __future__ import annotations

import re
from typing import Any

# Of each unit: what it measures, and how large it is in the first unit of its kind.
_UNITS: dict[str, tuple[str, float]] = {
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "us": ("time", 1e-6),
    "min": ("time", 60.0),
    "h": ("time", 3600.0),
    "um": ("length", 1.0),
    "nm": ("length", 1e-3),
    "mm": ("length", 1e3),
    "mw": ("power", 1.0),
    "uw": ("power", 1e-3),
    "w": ("power", 1e3),
    "mj": ("energy", 1.0),
    "uj": ("energy", 1e-3),
    "j": ("energy", 1e3),
    "rad": ("angle", 1.0),
    "deg": ("angle", 0.017453292519943295),
}
_WRITTEN = re.compile(
    r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Z\u00b5\u03bc\u00b0]+)\s*"
)


def in_unit_of(key: str, value: Any) -> Any:
    """Value of a key in the unit that the key ends with: ``"10 ms"`` of ``exposure_ms`` is 10.

    Parameters
    ----------
    key : str
        Name of the field; without a unit at its end the value is given back as it is.
    value : object
        Text with a number and a unit, or a list of such; anything else is given back as it is.

    Raises
    ------
    ValueError
        If the unit measures something else.
    """
    if isinstance(value, list | tuple):
        return type(value)(in_unit_of(key, item) for item in value)
    wanted = _UNITS.get(key.rpartition("_")[2])
    written = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if wanted is None or written is None:
        return value
    number, unit = written.groups()
    name = unit.lower().replace("\u00b5", "u").replace("\u03bc", "u").replace("\u00b0", "deg")
    kind, scale = _UNITS.get(name, ("", 0.0))
    if kind != wanted[0]:
        raise ValueError(f"{key} is a {wanted[0]}, {value!r} is not")
    return float(f"{float(number) * scale / wanted[1]:.12g}")
