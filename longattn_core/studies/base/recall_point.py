"""One setting of one mechanism on one source, measured: the point that sweeps over dials and seeds share.

Recall is the part of exact attention's weight that lies on pairs that were looked at. It stands beside the share of
pairs looked at, which is what a pattern that knows nothing would find: recall at the share is chance.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.fidelity import fidelity
from longattn_core.measures.sampling import Unavailable
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.run import run_mechanism
from longattn_core.studies.base.study import Setting, sequence_of
from longattn_core.studies.base.sweep import Point

LONGEST = 2048
"""Tokens of the sequence that a sweep measures: it runs one mechanism dozens of times."""
SAMPLE = 256
"""Queries of each run that are compared with exact attention."""

UNITS = {
    "recall": "share of weight",
    "share": "share of pairs",
    "error": "relative",
    "control": "relative",
    "overlap": "share of weight",
    "recall without sinks": "share of weight",
    "share without sinks": "share of pairs",
    "error without sinks": "relative",
    "control without sinks": "relative",
    "overlap without sinks": "share of weight",
    "cost": "of exact attention's operations",
}


class SettingPoint(Point):
    """One setting on one head of a source, of which the first `LONGEST` tokens are read."""

    source: Source
    setting: Setting
    head: int = Field(0, ge=0, le=63)


def head_of(source: Source, head: int, most: int = LONGEST) -> Sequence:
    """One head of a source's sequence (the last one there is, if fewer), cut to its first `most` tokens."""
    sequence = sequence_of(source)
    return sequence.select_heads(min(head, sequence.h - 1)).prefix(min(sequence.n, most))


def measured(point: SettingPoint) -> dict[str, Any]:
    """Recall, share, error, control and overlap, with and without the sinks, and the cost; NaN where it cannot be had.

    `refusal` holds the mechanism's sentence where it cannot read the sequence. Cost: one run, and exact rows of `SAMPLE` queries.
    """
    one = run_mechanism(point.setting.build(), head_of(point.source, point.head))
    row: dict[str, Any] = {"label": one.mechanism.label, "seed": one.mechanism.seed, "refusal": one.refusal or ""}
    if one.attended is None:
        return row | dict.fromkeys(UNITS, np.nan)
    found = fidelity(one.attended, queries=SAMPLE)
    for suffix, agreement in (("", found.whole), (" without sinks", found.without_sinks)):
        for name in ("recall", "share", "error", "control", "overlap"):
            value = getattr(agreement, name)
            row[name + suffix] = np.nan if isinstance(value, Unavailable) else float(value[0])
    sequence = one.attended.sequence
    pairs = int(sequence.real.sum())
    pairs = pairs * (pairs + 1) // 2 if sequence.causal else pairs**2
    row["cost"] = one.attended.cost.multiply_adds / (pairs * (sequence.d + sequence.e))
    return row


def number(table: pd.DataFrame, column: str, **where: Any) -> float:
    """The value of `column` in the first row in which every named column has the named value; NaN without such a row."""
    chosen = np.ones(len(table), dtype=bool)
    for name, value in where.items():
        chosen &= (table[name.replace("_", " ")] == value).to_numpy()
    values = table[column].to_numpy(dtype=float)[chosen]
    return float(values[0]) if len(values) else float("nan")


NEARLY_ALL = 0.9
"""From this share of the pairs on, hashing looks at nearly everything and saves nothing."""


FINDS = 0.5
"""A setting finds what matters if it sees at least this share of the weight outside the sinks …"""


LIFT = 0.4
"""… and stands at least so far up on the way from chance to all."""


CHANCE_LIFT, CHANCE_RATIO = 0.15, 1.5
"""At most so far above the share of pairs, on the way to all and as a multiple, recall is called chance."""


Kind = Literal["everything", "finds", "little", "chance", "refused"]


def lift(recall: float, share: float) -> float:
    """How far recall stands on the way from the share of pairs, which is chance, to 1."""
    return 1.0 if share >= 1 else (recall - share) / (1 - share)


def judged(recall: float, share: float) -> Kind:
    """The kind that a recall at a share of pairs is."""
    if share >= NEARLY_ALL:
        return "everything"
    above = lift(recall, share)
    if recall >= FINDS and above >= LIFT:
        return "finds"
    # Numbers that are not there (no weight outside the sinks) are no find.
    if not above > CHANCE_LIFT and not recall > CHANCE_RATIO * share:
        return "chance"
    return "little"
