"""Every mechanism by its key. They are found by walking `longattn_core.mechanisms`, so no list has to be kept."""

import importlib
import inspect
import pkgutil
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.validation import sentence


@cache
def mechanisms() -> MappingProxyType[str, type[Mechanism]]:
    """Key → class, in the order in which mechanisms are listed.

    Raises: RuntimeError when two classes claim the same key.
    """
    # By name and not by an import statement: the registry is in a lower layer than the mechanisms.
    package = importlib.import_module("longattn_core.mechanisms")
    by_key: dict[str, type[Mechanism]] = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, Mechanism) and not inspect.isabstract(kind) and kind.__module__ == module.name:
                if kind.key in by_key:
                    raise RuntimeError(f"{by_key[kind.key].__name__} and {kind.__name__} both claim the key {kind.key!r}")
                by_key[kind.key] = kind
    return MappingProxyType(dict(sorted(by_key.items(), key=lambda item: (item[1].order, item[0]))))


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
        raise ValueError(sentence(f"Mechanism {key!r}", error, known[key], noun="dial")) from None
