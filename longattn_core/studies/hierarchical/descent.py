"""One query's descent: the mass that it gives to each paragraph, sentence, word and token, exactly and by the mechanism.

Source: ours. The mechanism's mass on a group is what its rows put on the group's tokens, so it can be compared with exact
attention's whatever the variant; the sinks' columns are kept apart in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.map import HierarchicalMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import query_place
from longattn_core.studies.base.run import MechanismRun, sinks_of
from longattn_core.studies.base.study import Progress, Setting
from longattn_core.studies.hierarchical.tree import Level, speller, tree_of


class Descent(MechanismStudy[Hierarchical]):
    """What one query gives to each group of each level; `query` None is the last real token.

    Table `nodes`: one row a group that holds a visible token, coarsest level first. `parent` is the row of the group around
    it (−1: none), `exact` and `mechanism` its mass, `exact plain` and `mechanism plain` the same without the sinks, `own`
    whether the query stands in it. Table `items`: what was read, one row a token or group with its weight. Table `steps`: the
    choices on the way down, each level's candidates with the share they get there (`share`) and their share of exact
    attention's mass on the same candidates (`exact`). Table `levels`: the mass that arrives at each level.
    Arrays: `exact`, `mechanism` `[n]` (NaN: not visible, never read), `query`, `tokens`, `sinks`.
    """

    key: ClassVar[str] = "hierarchical.descent"
    reads: ClassVar[type[Hierarchical]] = Hierarchical
    setting: Setting = Setting(key="hierarchical")
    query: int | None = Field(None, ge=0, le=65535)

    def _exact(self, sequence: Sequence) -> Float[Tensor, "n"]:
        """The query's row of exact attention. Cost: n·d."""
        return exact_rows(sequence, query_place(sequence, self.query), self.head_in(sequence))[0, 0].double()

    def _context(self, run: MechanismRun) -> Parts:
        context, sequence = super()._context(run), run.sequence
        query = query_place(sequence, self.query)
        exact = torch.where(sequence.allowed(query)[0], self._exact(sequence), torch.nan)
        sinks = np.array(sinks_of(self.source)[self.head_in(sequence)], dtype=np.int64)
        return replace(context, arrays={**context.arrays, "exact": exact.numpy(), "query": np.array(query), "sinks": sinks})

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, mechanism = run.sequence, run.attended_as(HierarchicalMap), self.mechanism()
        head, query, exact = self.head_in(sequence), query_place(sequence, self.query), self._exact(sequence)
        progress(0.4, mechanism.label)
        row, kept = (view[0, 0] for view in attended.rows_and_kept(query, head))
        given = row.double()
        levels = tree_of(self.source, mechanism)
        nodes = nodes_of(levels, exact, given, sequence.allowed(query)[0], query, list(sinks_of(self.source)[head]))
        items = items_of(attended, head, query)
        steps, arrivals = steps_of(items, exact, attended, query, mechanism.variant == "product", speller(self.source))
        words = {"names": "\n".join(level.name for level in levels), "plurals": "\n".join(level.plural for level in levels)}
        tables = {"nodes": nodes, "items": items, "steps": steps, "levels": arrivals}
        return Parts(arrays={"mechanism": torch.where(kept, given, torch.nan).numpy()}, tables=tables, words=words)


def nodes_of(
    levels: tuple[Level, ...], exact: Float[Tensor, "n"], given: Float[Tensor, "n"], visible: Tensor, query: int, sinks: list[int]
) -> pd.DataFrame:
    """The tree's groups with their masses, coarsest first. Cost: linear in n."""
    plain = torch.ones_like(exact)
    plain[sinks] = 0.0
    parts, offset, parents = [], 0, None
    for depth, level in enumerate(levels):
        present = level.sums(visible.double()) > 0
        row_of = torch.full((level.count,), -1, dtype=torch.int64)
        row_of[present] = torch.arange(int(present.sum())) + offset
        up = torch.full((level.count,), -1) if parents is None else parents[levels[depth - 1].of[level.first]]
        frame = {
            "depth": depth,
            "level": level.name,
            "group": present.nonzero().squeeze(-1).numpy(),
            "parent": up[present].numpy(),
            "label": [level.labels[i] for i in present.nonzero().squeeze(-1).tolist()],
            "first": level.first[present].numpy(),
            "last": level.last[present].numpy(),
            "own": (torch.arange(level.count) == int(level.of[query]))[present].numpy(),
        }
        masses = {"exact": exact, "mechanism": given, "exact plain": exact * plain, "mechanism plain": given * plain}
        frame |= {name: level.sums(row)[present].numpy() for name, row in masses.items()}
        frame["sink"] = (level.sums(1 - plain) > 0)[present].numpy()
        parts.append(pd.DataFrame(frame))
        offset += int(present.sum())
        parents = row_of
    table = pd.concat(parts, ignore_index=True)
    table.attrs["units"] = {
        "exact": "share",
        "mechanism": "share",
        "exact plain": "share",
        "mechanism plain": "share",
        "first": "token",
        "last": "token",
    }
    return table


def items_of(attended: HierarchicalMap, head: int, query: int) -> pd.DataFrame:
    """What one query read: tokens (level 0) and groups, each with its ends, its weight and how many real tokens it has."""
    reading = attended.reading
    entries = reading.entries(torch.tensor([query]), torch.tensor([head]))
    items, weights = entries.keys[0, 0], entries.weights[0, 0].double()
    items, weights = items[items >= 0], weights[items >= 0]
    level = reading.level_of(items)
    first, last, size = items.clone(), items.clone(), torch.ones_like(items)
    for number, groups in enumerate(reading.groups, start=1):
        within = level == number
        group = items[within] - reading.bases[number]
        first[within], last[within], size[within] = groups.first[group], groups.last[group], groups.size[group]
    table = pd.DataFrame(
        {
            "level": level.numpy(),
            "name": [attended.trace.names[i] for i in level.tolist()],
            "first": first.numpy(),
            "last": last.numpy(),
            "size": size.numpy(),
            "weight": weights.numpy(),
        }
    )
    table.attrs["units"] = {"first": "token", "last": "token", "size": "tokens", "weight": "share"}
    return table


def steps_of(
    items: pd.DataFrame,
    exact: Float[Tensor, "n"],
    attended: HierarchicalMap,
    query: int,
    product: bool,
    spell: Callable[[int, int], str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The choices on the way down, coarsest level first, and the mass that arrives at each.

    In a product the candidates of a level are the groups read there and the own group, into which the query descends. In the
    other variants a level's candidates are what is read at it, and its mass is what it counts for.
    """
    names, total = attended.trace.names, float(items["weight"].sum())
    cumulative = np.concatenate([[0.0], exact.numpy().cumsum()])
    rows: list[dict[str, object]] = []
    arrivals = []
    arrives = total
    for level in range(len(names) - 1, -1, -1):
        at_level = items[items["level"] == level]
        mass = float(at_level["weight"].sum())
        if not product:
            arrives = mass
        chosen = [
            (int(first), int(last), float(weight), False)
            for first, last, weight in zip(at_level["first"], at_level["last"], at_level["weight"], strict=True)
        ]
        if product and level > 0:
            groups = attended.trace.levels[level - 1]
            own = int(groups.of[query])
            behind = query if attended.sequence.causal else int(groups.last[own])
            chosen.append((int(groups.first[own]), behind, arrives - mass, True))
        masses = [cumulative[last + 1] - cumulative[first] for first, last, _weight, _own in chosen]
        among = sum(masses)
        for (first, last, weight, own_group), exact_mass in zip(chosen, masses, strict=True):
            rows.append(
                {
                    "level": level,
                    "name": names[level],
                    "first": first,
                    "last": last,
                    "own": own_group,
                    "label": spell(first, min(last, first + 7)).strip() + ("…" if last > first + 7 else ""),
                    "share": weight / arrives if arrives > 0 else 0.0,
                    "exact": float(exact_mass / among) if among > 0 else 0.0,
                    "weight": weight,
                    "exact weight": float(exact_mass),
                }
            )
        arrivals.append(
            {"level": level, "name": names[level], "candidates": len(chosen), "arrives": arrives, "exact": float(among)}
        )
        if product:
            arrives -= mass
    steps, levels = pd.DataFrame.from_records(rows), pd.DataFrame.from_records(arrivals)
    steps.attrs["units"] = {"share": "share of the level", "exact": "share of the level", "first": "token", "last": "token"}
    levels.attrs["units"] = {"arrives": "share", "exact": "share"}
    return steps, levels
