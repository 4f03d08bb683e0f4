"""Every mechanism by its key, found by walking `longattn_core.mechanisms`: there is no list to keep."""

import importlib
import inspect
import pkgutil
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from longattn_core.contracts.mechanism import Mechanism


@cache
def mechanisms() -> MappingProxyType[str, type[Mechanism]]:
    """Key → class, in the order in which mechanisms are listed side by side.

    Raises: RuntimeError when two classes claim one key.
    """
    # By name and not by import: mechanisms stand above the registry.
    package = importlib.import_module("longattn_core.mechanisms")
    found: dict[str, type[Mechanism]] = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, Mechanism) and not inspect.isabstract(kind) and kind.__module__ == module.name:
                if kind.key in found:
                    raise RuntimeError(f"{found[kind.key].__name__} and {kind.__name__} both claim the key {kind.key!r}")
                found[kind.key] = kind
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: (item[1].order, item[0]))))


def mechanism(key: str, /, **dials: Any) -> Mechanism:
    """Build a mechanism by its key: `mechanism("favor", features=256, seed=0)`.

    Raises: ValueError, one sentence, for an unknown key or dial, or a value outside a dial's bounds.
    """
    known = mechanisms()
    if key not in known:
        raise ValueError(f"There is no mechanism {key!r}; there are {', '.join(known)}.")
    try:
        return known[key].model_validate(dials)
    except ValidationError as error:
        raise ValueError(_sentence(known[key], error)) from None


def _sentence(kind: type[Mechanism], error: ValidationError) -> str:
    """Say which dial was wrong, what it was set to and what it allows."""
    parts = []
    for problem in error.errors():
        name = ".".join(map(str, problem["loc"])) or "these dials together"
        if problem["type"] == "extra_forbidden":
            parts.append(f"has no dial {name!r}; its dials are {', '.join(kind.model_fields)}")
            continue
        parts.append(f"dial {name!r} cannot be {problem['input']!r}: {problem['msg']}{_bounds(kind, name)}")
    return f"Mechanism {kind.key!r}: {'; '.join(parts)}."


def _bounds(kind: type[Mechanism], name: str) -> str:
    field = kind.model_fields.get(name)
    if field is None:
        return ""
    limits = {a: getattr(m, a) for m in field.metadata for a in ("ge", "gt", "le", "lt") if hasattr(m, a)}
    if "ge" in limits and "le" in limits:
        return f" (allowed: {limits['ge']} … {limits['le']})"
    return ""
