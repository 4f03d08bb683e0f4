"""What a model's fields allow, and one sentence for a person where a value is not allowed. Without torch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

__all__ = ["bounds", "sentence"]

LONGEST = 80
"""Characters of a wrong value that are shown whole: a text of thousands would hide the sentence."""


def sentence(
    what: str, error: ValidationError, kind: type[BaseModel] | None = None, *, noun: Literal["field", "dial"] = "field"
) -> str:
    """One sentence about `what` that names each wrong field, its value and what it allows.

    `kind` is the model that was validated; with it the sentence knows all fields and their bounds. `noun` is what a person
    calls a field: the dials of a mechanism, the fields of everything else.
    """
    parts = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = "" if kind is None else f"; its {noun}s are {', '.join(kind.model_fields)}"
            parts.append(f"{'has' if noun == 'dial' else 'there is'} no {noun} {name!r}{known}")
        elif name:
            called = f"dial {name!r}" if noun == "dial" else repr(name)
            parts.append(f"{called} cannot be {_shown(problem['input'])}: {message}{_allowed(kind, name)}")
        else:
            parts.append(message)
    return f"{what}: {'; '.join(parts)}."


def bounds(field: FieldInfo, *, least: float = -math.inf, most: float = math.inf) -> tuple[float, float]:
    """The inclusive bounds of a field; `least` and `most` stand in for those that it does not have."""
    limits = {name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le") if hasattr(rule, name)}
    return limits.get("ge", least), limits.get("le", most)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:60]}… ({len(text)} characters)"


def _allowed(kind: type[BaseModel] | None, name: str) -> str:
    field = None if kind is None else kind.model_fields.get(name)
    low, high = (-math.inf, math.inf) if field is None else bounds(field)
    return f" (allowed: {low} … {high})" if math.isfinite(low) and math.isfinite(high) else ""
