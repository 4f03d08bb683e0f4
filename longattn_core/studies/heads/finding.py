"""What a mask takes from the heads, and whether heads that share keys look alike: chosen by rules on the measured numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from longattn_core.studies.base.study import Result

__all__ = ["LikenessFinding", "MaskFinding", "likeness_finding", "mask_finding"]

MOST, PART = 0.5, 0.1
"""From these shares of hidden weight on, a mask is said to take most of it, or a part."""
ALIKE = 0.05
"""Heads that share keys look more alike than others if their overlap is higher by at least this."""


@dataclass(frozen=True, kw_only=True)
class MaskFinding:
    """What a mask takes: `kind` says whether the heads would give most, a part, or little of their weight to what it hides.

    "open" where nothing is masked, "alone" where there is one token. `hidden` is the mean over the heads; `head` is the one
    that would give most, and `head_hidden` how much.
    """

    kind: Literal["open", "alone", "most", "part", "little"]
    pairs: float
    hidden: float
    head: int
    head_hidden: float
    sinks: float
    sinks_unmasked: float


def mask_finding(result: Result) -> MaskFinding:
    """Read a `Masked` result."""
    table = result.tables["heads"]
    hidden = float(table["hidden"].mean())
    top = table.sort_values("hidden").iloc[-1]
    kind: Literal["open", "alone", "most", "part", "little"] = "little"
    if int(result.arrays["n"]) < 2:
        kind = "alone"
    elif float(result.arrays["pairs"]) == 1.0:
        kind = "open"
    elif hidden >= PART:
        kind = "most" if hidden >= MOST else "part"
    return MaskFinding(
        kind=kind,
        pairs=float(result.arrays["pairs"]),
        hidden=hidden,
        head=int(top["head"]),
        head_hidden=float(top["hidden"]),
        sinks=float(table["sinks"].mean()),
        sinks_unmasked=float(table["sinks unmasked"].mean()),
    )


class LikenessFinding(NamedTuple):
    """Whether heads that share keys look more alike than others, and the mean overlap without sinks of either kind of pair.

    `kind` is "one" where there are not pairs of both kinds to compare; the means are NaN then.
    """

    kind: Literal["more", "same", "one"]
    together: float
    apart: float


def likeness_finding(pairs: pd.DataFrame) -> LikenessFinding:
    """Read the table `pairs` of a `Sharing` result."""
    share_keys = pairs["share keys"].astype(bool)
    together, apart = (pairs[chosen]["overlap without sinks"].mean() for chosen in (share_keys, ~share_keys))
    if not (np.isfinite(together) and np.isfinite(apart)):
        return LikenessFinding("one", float("nan"), float("nan"))
    return LikenessFinding("more" if together >= apart + ALIKE else "same", float(together), float(apart))
