"""LongAttn Lab's core: every attention mechanism on the same queries, keys and values.

>>> from longattn_core import Sequence, mechanism
>>> attended = mechanism("favor", features=256, seed=0).attend(Sequence(q=q, k=k, v=v, causal=True))
"""

from typing import Any

from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Mechanism, Refused
from longattn_core.contracts.sequence import Sequence
from longattn_core.registry import mechanism

__all__ = ["MECHANISMS", "Attended", "Cost", "Explanation", "Mechanism", "Refused", "Sequence", "mechanism"]


def __getattr__(name: str) -> Any:
    # Walking the mechanisms imports them all: not before somebody asks.
    if name == "MECHANISMS":
        from longattn_core.registry import mechanisms

        return mechanisms()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
