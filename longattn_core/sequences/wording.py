"""One sentence for a person out of a model's validation errors."""

from pydantic import BaseModel, ValidationError

__all__ = ["sentence"]


def sentence(what: str, error: ValidationError, kind: type[BaseModel] | None = None) -> str:
    """Say which field was wrong, what it was set to, and what it allows."""
    parts = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = "" if kind is None else f"; its fields are {', '.join(kind.model_fields)}"
            parts.append(f"there is no field {name!r}{known}")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        found = _found(problem["input"])
        parts.append(f"{name!r} cannot be {found}: {message}{_bounds(kind, name)}" if name else message)
    return f"{what}: {'; '.join(parts)}."


def _found(value: object) -> str:
    """The value as it was given, cut when it is long: a whole text is no part of a sentence."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:60]}… ({len(shown)} characters)"


def _bounds(kind: type[BaseModel] | None, name: str) -> str:
    field = None if kind is None else kind.model_fields.get(name)
    if field is None:
        return ""
    limits = {a: getattr(m, a) for m in field.metadata for a in ("ge", "le") if hasattr(m, a)}
    return f" (allowed: {limits['ge']} … {limits['le']})" if len(limits) == 2 else ""
