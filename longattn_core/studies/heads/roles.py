"""Names for what a head does, by rules on measured numbers: a name says what most of its free weight is for.

Source: our own thresholds, set so that the heads that the laboratory shows by default get their names on a story, an
article and a program. Free weight is what lies outside the sinks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import pandas as pd

__all__ = ["ROLES", "RULES", "Role", "name_heads", "role_counts", "role_of", "traits_of"]

Role = Literal["previous token", "local", "induction", "same word", "sinks", "diffuse", "high rank", "mixed"]
ROLES: tuple[Role, ...] = get_args(Role)

SINKS_ONLY, SINKS_MOSTLY, SINKS_HALF = 0.9, 0.65, 0.5
PREVIOUS, LOCAL, INDUCTION, SAME = 0.78, 0.8, 0.5, 0.4
DIFFUSE, HIGH_RANK, LOW_RANK = 0.4, 0.6, 1 / 6
SEVERAL = 3

RULES: dict[Role, str] = {
    "previous token": f"at least {PREVIOUS:.0%} of the free weight on the token before",
    "local": f"at least {LOCAL:.0%} of the free weight within 8 tokens",
    "induction": f"where a word returns, at least {INDUCTION:.0%} of the free weight on what followed it before",
    "same word": f"where a word returns, at least {SAME:.0%} of the free weight on its earlier places",
    "sinks": f"sinks take {SINKS_ONLY:.0%} of the weight, or {SINKS_MOSTLY:.0%} and none of the above holds",
    "diffuse": f"the free weight spreads as over at least {DIFFUSE:.0%} of the visible keys",
    "high rank": f"the map needs at least {HIGH_RANK:.0%} as many directions as it has rows",
    "mixed": "none of these",
}
"""Each name's rule in words, in the order in which they are tried, but for heads of sinks alone, which come first."""


def role_of(row: Mapping[str, Any]) -> Role:
    """The name of a head with these measured numbers (see `survey.measured_head`); a NaN fulfils no rule."""
    if row["sinks"] >= SINKS_ONLY:
        return "sinks"
    if row["previous without sinks"] >= PREVIOUS:
        return "previous token"
    if row["near without sinks"] >= LOCAL:
        return "local"
    if row["induction without sinks"] >= INDUCTION:
        return "induction"
    if row["same word without sinks"] >= SAME:
        return "same word"
    if row["sinks"] >= SINKS_MOSTLY:
        return "sinks"
    if row["effective without sinks"] >= DIFFUSE * row["possible"]:
        return "diffuse"
    return "high rank" if row["rank without sinks"] >= HIGH_RANK * row["n"] else "mixed"


def traits_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What else is true of a head, whatever its name: see the conditions below."""
    n, rank, without = row["n"], row["rank"], row["rank without sinks"]
    holds = {
        "several sinks": row["sink count"] >= SEVERAL and row["sinks"] >= SINKS_HALF,
        "sinks take half": row["sink count"] < SEVERAL and SINKS_HALF <= row["sinks"] < SINKS_ONLY,
        "no sink": row["sink count"] == 0,
        "low rank": without <= LOW_RANK * n and rank > n / 32,
        "low rank only by its sink": rank <= n / 32 and without >= 32 and without >= 4 * rank,
        "high rank": without >= HIGH_RANK * n,
    }
    return tuple(name for name, true in holds.items() if true)


def name_heads(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `role`, `traits` (joined by commas) and `name` ("L17 H3")."""
    records: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")]
    return rows.assign(
        role=[role_of(row) for row in records],
        traits=[", ".join(traits_of(row)) for row in records],
        name=[f"L{row['layer']} H{row['head']}" for row in records],
    )


def role_counts(heads: pd.DataFrame) -> dict[Role, int]:
    """How many heads have each name, the most frequent first; names without a head are left out."""
    counts = heads["role"].value_counts()
    return {role: int(counts[role]) for role in sorted(ROLES, key=lambda role: -counts.get(role, 0)) if role in counts}
