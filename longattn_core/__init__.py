"""LongAttn Lab's core: every attention mechanism on the same queries, keys and values, and every study of them.

>>> from longattn_core import Sequence, mechanism, study
>>> attended = mechanism("favor", features=256, seed=0).attend(Sequence(q=q, k=k, v=v, causal=True))
>>> result = study("lsh.strips", source={"kind": "text", "sample": "story.txt", "length": 512}).run()

`MECHANISMS` and `STUDIES` hold every class by its key; `load_study` opens a link or a JSON file of a study.
"""

from typing import Any

from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Mechanism, Refused
from longattn_core.contracts.sequence import Sequence
from longattn_core.registry import mechanism

__all__ = [
    "MECHANISMS",
    "STUDIES",
    "Attended",
    "Cost",
    "Explanation",
    "Mechanism",
    "Refused",
    "Sequence",
    "load_study",
    "mechanism",
    "study",
]


def __getattr__(name: str) -> Any:
    # Walking the mechanisms or the studies imports them all, and with them scipy and the language model: not before
    # somebody asks.
    if name == "MECHANISMS":
        from longattn_core.registry import mechanisms

        return mechanisms()
    if name in ("STUDIES", "load_study", "study"):
        from longattn_core.studies import registry

        return registry.studies() if name == "STUDIES" else getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
