"""Every study by its key, found by walking `longattn_core.studies`: there is no list to keep.

A key is `<topic>.<name>`: the topic is the study's folder, and the name says what is measured.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from longattn_core.studies.base.former_keys import FORMER_KEYS
from longattn_core.studies.base.study import Study, unpacked
from longattn_core.validation import sentence


@cache
def studies() -> MappingProxyType[str, type[Study]]:
    """Key → class, sorted by key.

    Raises: RuntimeError when two classes claim one key, or a key does not begin with the name of the study's folder.
    """
    package = importlib.import_module("longattn_core.studies")
    found: dict[str, type[Study]] = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if not issubclass(kind, Study) or inspect.isabstract(kind) or kind.__module__ != module.name:
                continue
            topic, _, name = kind.key.partition(".")
            if topic != module.name.removeprefix(f"{package.__name__}.").partition(".")[0] or not name.isidentifier():
                raise RuntimeError(f"{kind.__name__} has the key {kind.key!r}; a key is '<folder>.<name>'")
            if kind.key in found:
                raise RuntimeError(f"{found[kind.key].__name__} and {kind.__name__} both claim the key {kind.key!r}")
            found[kind.key] = kind
    return MappingProxyType(dict(sorted(found.items())))


def study(key: str, /, **fields: Any) -> Study:
    """Build a study by its key: `study("lsh.strips", source={"kind": "text", "sample": "story.txt"}, head=3).run()`.

    A source or a setting may be given as a dictionary. Raises: ValueError, one sentence, for an unknown key or field, or a
    value outside a field's bounds.
    """
    kind = _kind(key)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise ValueError(sentence(f"Study {kind.key!r}", error, kind)) from None


def load_study(text: str) -> Study:
    """The study that a link or a JSON file holds, written by this version or an older one.

    Raises: ValueError, one sentence, when it holds no study, or one that this version cannot read.
    """
    if text.lstrip().startswith("{"):
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"This is no study: it is not JSON ({error.msg} at character {error.pos}).") from None
    else:
        content = unpacked(text)
    key = content.get("study") if isinstance(content, dict) else None
    if not isinstance(key, str):
        raise ValueError("This is no study: it does not say which one it is.")
    return _kind(key).from_content(content)


def _kind(key: str) -> type[Study]:
    known = studies()
    current = FORMER_KEYS.get(key, key)
    if current not in known:
        raise ValueError(
            f"There is no study {key!r} in this version of LongAttn Lab, so a link or file of it cannot be opened; "
            f"there are {', '.join(known)}."
        )
    return known[current]
