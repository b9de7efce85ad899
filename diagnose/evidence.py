"""Evidence: a named number with its unit, the place it was measured and what it was compared with."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

_SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def spell_out(value: Any) -> Any:
    """JSON has no NaN and no infinity: write them as the strings "NaN", "Infinity" and "-Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (list, tuple)):
        return [spell_out(v) for v in value]
    return value


def read_back(value: Any) -> Any:
    """The inverse of `spell_out`."""
    if isinstance(value, str):
        return _SPELLED.get(value, value)
    if isinstance(value, (list, tuple)):
        return [read_back(v) for v in value]
    return value


_number = {"anyOf": [{"type": "number"}, {"enum": [*_SPELLED]}]}
_scalar = {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "string"}, {"type": "null"}]}

Number = Annotated[float, BeforeValidator(read_back), PlainSerializer(spell_out), WithJsonSchema(_number)]
Value = Annotated[
    bool | int | float | str | list[bool | int | float | str] | None,
    BeforeValidator(read_back),
    PlainSerializer(spell_out),
    WithJsonSchema({"anyOf": [*_scalar["anyOf"], {"type": "array", "items": _scalar}]}),
]


class Model(BaseModel):
    """Base of everything that goes into a report: unknown keys are an error, values are what they say."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Evidence(Model):
    """One measured quantity.

    Attributes:
        name: what was measured, in the field's own terms, e.g. "learned".
        value: a number, a truth value, a text, or a list of them (a curve).
        unit: e.g. "loss", "share", "steps", "s"; empty for a plain ratio.
        where: layer, parameter, batch or index; empty for the subject as a whole.
        expected: what it was compared with, in words a person reads, e.g. ">= 0.8".
    """

    name: str
    value: Value
    unit: str = ""
    where: str = ""
    expected: str = ""


class EvidenceList(list[Evidence]):
    """Evidence in the order it was measured, with look-ups that `judge` and `suspect` share."""

    def get(self, name: str, where: str | None = None, default: Any = None) -> Any:
        """Value of the first evidence of that name (at that place, if given), else `default`."""
        return next((e.value for e in self if e.name == name and (where is None or e.where == where)), default)

    def all(self, name: str) -> list[Evidence]:
        """Every evidence of that name."""
        return [e for e in self if e.name == name]
