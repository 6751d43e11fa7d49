"""Types every part of a profile is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tisr_scope.profiles.quantities import in_unit_of

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Value = str | float | int
"""What a device property is set to."""


class Frozen(BaseModel):
    """Immutable model without room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _units(cls, content: Any) -> Any:
        """Read ``exposure_ms: "10 ms"`` as 10: a key names its unit, a value may do so too."""
        if not isinstance(content, dict):
            return content
        return {key: in_unit_of(str(key), value) for key, value in content.items()}


def same_value(a: Value, b: Value) -> bool:
    """Whether two property values mean the same: devices answer 0 with "0.0000"."""
    try:
        x, y = float(a), float(b)
    except ValueError:
        return str(a).strip().lower() == str(b).strip().lower()
    return abs(x - y) <= 1e-6 * max(1.0, abs(x), abs(y))
