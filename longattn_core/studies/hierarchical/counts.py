"""How many keys and groups a query reads: closed forms, and the counts of real runs beside them.

Source: ours, from the definitions in `mechanisms/hierarchical`. With two levels and equal groups of s, a query reads the
tokens of its own group and the other groups; s + n/s is least at s = √n, where it is 2√n. Near fine, far coarse reads 3 blocks
of w tokens and 1.5·w coarse tokens for each doubling beyond.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.hierarchical.map import HierarchicalMap
from longattn_core.registry import mechanism
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.run import run_mechanism
from longattn_core.studies.base.study import Progress, Result

QUERIES = 128
"""Queries whose reading is counted, at most."""


def read_in_two_levels(n: int, s: float, causal: bool) -> float:
    """Keys and groups a query reads on average in equal groups of s: s + n/s − 1, and about half under a causal mask.

    Exact where s divides n. Causal: the own group up to the query, (s + 1)/2, and the groups before it, (n/s − 1)/2.
    """
    return (s + 1) / 2 + (n / s - 1) / 2 if causal else s + n / s - 1


def read_in_three_levels(n: int, f: float, causal: bool) -> float:
    """The same with groups of f tokens in groups of f groups: f + (f − 1) + (n/f² − 1), or about half.

    Exact where f² divides n; with fewer than f² tokens there is one outer group, not yet full.
    """
    outer, inner = max(1.0, n / f**2), min(f, n / f)
    return (f + 1) / 2 + (inner - 1) / 2 + (outer - 1) / 2 if causal else f + (inner - 1) + (outer - 1)


def read_near_far(n: int, w: int, causal: bool) -> float:
    """The mean number of keys and coarse tokens for near fine, far coarse, counted block by block from its definition.

    At most 3w + 1.5·w·log2(n/w); less at the ends, where blocks have fewer neighbours. Cost: n/w·log2(n/w). w is even.
    """
    blocks = math.ceil(n / w)
    total = 0.0
    for own in range(blocks):
        queries = min(w, n - own * w)
        first, stop = max(0, own - 1) * w, min(n, (own + 2) * w)
        # Causal: the blocks before, and the own block up to the query, (1 + queries)/2 on average.
        keys = own * w - first + (1 + queries) / 2 if causal else float(stop - first)
        level, at = 1, own
        while math.ceil(n / (w << (level - 1))) > 2:
            behind = (-2,) if at % 2 == 0 else (-3, -2)
            ahead = () if causal else ((2, 3) if at % 2 == 0 else (2,))
            coarse, half = math.ceil(n / (1 << level)), w // 2
            for step in (*behind, *ahead):
                start = (at + step) * half
                keys += max(0, min(coarse, start + half) - start) if start >= 0 else 0
            at, level = at // 2, level + 1
        total += queries * keys
    return total / n


def best_group(n: int) -> int:
    """The group size at which two levels read least: the whole number at √n."""
    return max(1, round(math.sqrt(n)))


class Counts(HeadStudy):
    """Keys and groups read per query against the group size, by formula and counted on `QUERIES` queries.

    Table `counts`: a row a setting and size; `formula` and `counted` are means over queries. Array `exact`: what exact
    attention reads on average.
    """

    key: ClassVar[str] = "hierarchical.counts"

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        alone = sequence.select_heads(self.head_in(sequence))
        n, causal = sequence.n, sequence.causal
        sample = sample_queries(alone, QUERIES)
        queries = torch.tensor(sample.queries)
        rows: list[dict[str, object]] = []
        settings = _settings(n)
        for index, (label, size, setting, formula) in enumerate(settings):
            progress(index / len(settings), label)
            counted = mean_read(run_mechanism(setting, alone).attended_as(HierarchicalMap), queries)
            rows.append({"label": label, "size": size, "counted": counted, "formula": formula(causal)})
        table = pd.DataFrame.from_records(rows, columns=["label", "size", "counted", "formula"])
        table.attrs["units"] = {"size": "tokens", "counted": "keys and groups a query", "formula": "keys and groups a query"}
        visible = alone.allowed(queries).sum(-1).double().mean()
        return Result(study=self, arrays={"exact": np.array(float(visible))}, tables={"counts": table})


def mean_read(attended: HierarchicalMap, queries: Int[Tensor, "r"]) -> float:
    """Keys and groups that the first head reads, the mean over some queries. Cost: the queries' lists."""
    keys = attended.reading.entries(queries, torch.tensor([0])).keys[0]
    return float((keys >= 0).sum(-1).double().mean())


_Formula = Callable[[bool], float]

TWO, THREE, BLOCKS = "two levels", "three levels", "near fine, far coarse"


def _settings(n: int) -> list[tuple[str, int, Mechanism, _Formula]]:
    sizes = [1 << power for power in range(1, 14) if 1 << power < n]
    """Label, size, mechanism and formula of each setting that is counted."""
    settings: list[tuple[str, int, Mechanism, _Formula]] = []
    for size in sizes:
        two = mechanism("hierarchical", groups="fanout", levels=2, fanout=size)
        settings.append((TWO, size, two, partial(read_in_two_levels, n, size)))
    for size in sizes:
        if size**2 < n:
            three = mechanism("hierarchical", groups="fanout", levels=3, fanout=size)
            settings.append((THREE, size, three, partial(read_in_three_levels, n, size)))
    for size in sizes:
        if 2 * size < n:
            blocks = mechanism("hierarchical", variant="near_far", block=size)
            settings.append((BLOCKS, size, blocks, partial(read_near_far, n, size)))
    return settings
